//! `events`: what a container uses, and when its memory runs out, as lines of JSON.
//!
//! ```text
//!   {"type":"stats","id":"it","data":{...}}     now (--stats) or every --interval
//!   {"type":"oom","id":"it"}                     each time
//! ```
//!
//! It ends with the container. The shape is the one that runc's users read.

use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use dhow_cgroup::{IoEntry, MemoryCounter, OomWatch, Pressure, Report};
use dhow_error::{Error, Kind, Result};
use dhow_sys::event::{Interest, Poller};
use dhow_sys::process::Reason;
use dhow_sys::rustix::io::Errno;
use serde_json::{Map, Value, json};

use super::{Command, PLAIN};
use crate::container::{Container, Status};
use crate::globals::Globals;
use crate::words::{Flag, Words};

const INTERVAL: &str = "5s";

pub(super) const COMMAND: Command = Command {
    name: "events",
    about: "tell what a container uses, and when its memory runs out",
    flags: &[
        Flag::value("interval", "time between two reports, such as 500ms or 1m30s (default: 5s)"),
        Flag::switch("stats", "tell what is used now, and end"),
    ],
    run,
    ..PLAIN
};

fn run(globals: &Globals, words: &Words) -> Result<u8> {
    let container = Container::load(&globals.root, words.first()?)?;
    let interval = words.value("interval").unwrap_or(INTERVAL);
    let interval = duration(interval)
        .ok_or_else(|| Error::invalid(format!("invalid value {interval:?} for --interval")))?;
    if interval.is_zero() {
        return Err(Error::invalid("duration interval must be greater than 0"));
    }
    let id = &container.record.id;
    if container.status()? == Status::Stopped {
        return Err(Error::conflict(format!("container with id {id} is not running")));
    }
    if words.is_on("stats") {
        tell_stats(id, &container.cgroup()?.report()?)?;
    } else {
        follow(&container, interval)?;
    }
    Ok(0)
}

/// Tells events until the container's first process ends.
fn follow(container: &Container, interval: Duration) -> Result<()> {
    let lost = |errno: Errno| {
        Error::caused(Kind::Internal, "cannot wait for the container's events", Reason(errno))
    };
    let (id, group) = (&container.record.id, container.cgroup()?);
    // A process that ended since has nothing more to tell.
    let Some(process) = container.process()? else { return Ok(()) };
    let mut watch = group.watch_oom()?;
    let mut poller = Poller::new(2).map_err(lost)?;
    let (end, oom) = (0, 1);
    let mut interests = [Interest::NONE; 2];
    poller.set(process.as_fd(), end, &mut interests[0], Interest::READ).map_err(lost)?;
    poller.set(watch.as_fd(), oom, &mut interests[1], Interest::READ).map_err(lost)?;
    let mut ready = Vec::new();
    let mut next = Instant::now() + interval;
    loop {
        poller
            .wait(&mut ready, Some(next.saturating_duration_since(Instant::now())))
            .map_err(lost)?;
        if ready.iter().any(|event| event.token == oom) {
            tell_oom(id, &mut watch)?;
        }
        if ready.iter().any(|event| event.token == end) {
            // What killed it may have been told of while it was being killed.
            return tell_oom(id, &mut watch);
        }
        if Instant::now() >= next {
            next += interval;
            tell_stats(id, &group.report()?)?;
        }
    }
}

fn tell_oom(id: &str, watch: &mut OomWatch) -> Result<()> {
    (0..watch.take()?).try_for_each(|_| crate::say(&json!({ "type": "oom", "id": id }).to_string()))
}

fn tell_stats(id: &str, report: &Report) -> Result<()> {
    crate::say(&json!({ "type": "stats", "id": id, "data": data(report) }).to_string())
}

fn data(report: &Report) -> Value {
    let mut data = json!({
        "cpu": cpu(report),
        "cpuset": cpuset(report),
        "memory": memory(report),
        "pids": { "current": report.pids, "limit": report.pids_limit.unwrap_or(0) },
        "blkio": block_io(report),
        "hugetlb": huge_pages(report),
        "intel_rdt": {},
        "network_interfaces": null,
    });
    if !report.rdma.is_empty() {
        let device = |it: &dhow_cgroup::RdmaUse| json!({ "device": it.device, "hca_handles": it.handles, "hca_objects": it.objects });
        data["rdma"] = report.rdma.iter().map(device).collect();
    }
    data
}

fn cpu(report: &Report) -> Value {
    let cpu = &report.cpu;
    let mut usage = json!({ "total": cpu.total_ns, "kernel": cpu.kernel_ns, "user": cpu.user_ns });
    for (name, list) in [
        ("percpu", &cpu.by_processor_ns),
        ("percpu_kernel", &cpu.kernel_by_processor_ns),
        ("percpu_user", &cpu.user_by_processor_ns),
    ] {
        if !list.is_empty() {
            usage[name] = json!(list);
        }
    }
    let throttling = json!({
        "periods": cpu.throttling.periods,
        "throttledPeriods": cpu.throttling.throttled_periods,
        "throttledTime": cpu.throttling.throttled_ns,
    });
    with_pressure(json!({ "usage": usage, "throttling": throttling }), cpu.pressure.as_ref())
}

fn cpuset(report: &Report) -> Value {
    let set = &report.cpuset;
    let mut told = Map::new();
    for (name, list) in [("cpus", &set.cpus), ("mems", &set.mems)] {
        if !list.is_empty() {
            told.insert(name.to_owned(), json!(list));
        }
    }
    told.extend(set.flags.iter().map(|(name, value)| ((*name).to_owned(), json!(value))));
    Value::Object(told)
}

fn memory(report: &Report) -> Value {
    let memory = &report.memory;
    let counter = |it: &MemoryCounter| json!({ "limit": it.limit, "usage": it.usage, "max": it.max, "failcnt": it.failures });
    let pairs = |list: &[(String, u64)]| -> Map<String, Value> {
        list.iter().map(|(name, value)| (name.clone(), json!(value))).collect()
    };
    let told = json!({
        "cache": memory.cache,
        "usage": counter(&memory.usage),
        "swap": counter(&memory.swap),
        "kernel": counter(&memory.kernel),
        "kernelTCP": counter(&memory.kernel_tcp),
        "raw": pairs(&memory.details),
        "event_count": pairs(&memory.events),
    });
    with_pressure(told, memory.pressure.as_ref())
}

fn block_io(report: &Report) -> Value {
    let io = &report.io;
    let entry = |it: &IoEntry| json!({ "major": it.major, "minor": it.minor, "op": it.operation, "value": it.value });
    let mut told = json!({});
    for (name, list) in [
        ("ioServiceBytesRecursive", &io.bytes),
        ("ioServicedRecursive", &io.operations),
        ("ioQueueRecursive", &io.queued),
        ("ioServiceTimeRecursive", &io.service_time_ns),
        ("ioWaitTimeRecursive", &io.wait_time_ns),
        ("ioMergedRecursive", &io.merged),
        ("ioTimeRecursive", &io.time_ms),
        ("sectorsRecursive", &io.sectors),
    ] {
        if !list.is_empty() {
            told[name] = list.iter().map(entry).collect();
        }
    }
    with_pressure(told, io.pressure.as_ref())
}

fn huge_pages(report: &Report) -> Map<String, Value> {
    let told = |it: &dhow_cgroup::HugePageUse| json!({ "usage": it.usage, "max": it.max, "failcnt": it.failures });
    report.huge_pages.iter().map(|(size, it)| (size.clone(), told(it))).collect()
}

fn with_pressure(mut told: Value, pressure: Option<&Pressure>) -> Value {
    if let Some(pressure) = pressure {
        let stall = |it: &dhow_cgroup::Stall| json!({ "avg10": it.avg10, "avg60": it.avg60, "avg300": it.avg300, "total": it.total });
        told["psi"] = json!({ "some": stall(&pressure.some), "full": stall(&pressure.full) });
    }
    told
}

/// A duration as Go writes them: numbers with units, such as `1m30s`, `1.5h`, `500ms`. Negative ones are none.
fn duration(text: &str) -> Option<Duration> {
    let mut rest = text.strip_prefix('+').unwrap_or(text);
    if rest == "0" {
        return Some(Duration::ZERO);
    }
    let mut sum = Duration::ZERO;
    while !rest.is_empty() {
        let digits = rest.find(|it: char| !it.is_ascii_digit() && it != '.')?;
        let (number, after) = rest.split_at_checked(digits)?;
        let end = after.find(|it: char| it.is_ascii_digit() || it == '.').unwrap_or(after.len());
        let (unit, next) = after.split_at_checked(end)?;
        let seconds = match unit {
            "ns" => 1e-9,
            "us" | "µs" | "μs" => 1e-6,
            "ms" => 1e-3,
            "s" => 1.0,
            "m" => 60.0,
            "h" => 3600.0,
            _ => return None,
        };
        let part = Duration::try_from_secs_f64(number.parse::<f64>().ok()? * seconds).ok()?;
        sum = sum.checked_add(part)?;
        rest = next;
    }
    (!text.is_empty()).then_some(sum)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_those_of_go() {
        for (text, milliseconds) in
            [("5s", 5000), ("1m30s", 90_000), ("500ms", 500), ("1.5s", 1500), ("0", 0), ("0s", 0)]
        {
            assert_eq!(duration(text), Some(Duration::from_millis(milliseconds)), "{text}");
        }
        for bad in ["", "5", "-5s", "s", "5x", "1..5s", "99999999999999999999h"] {
            assert_eq!(duration(bad), None, "{bad}");
        }
    }

    #[test]
    fn a_report_has_the_shape_that_is_read() {
        let mut report = Report::default();
        report.memory.usage.usage = 7;
        report.memory.details.push(("rss".to_owned(), 3));
        report.cpu.pressure = Some(Pressure::default());
        report.io.bytes.push(IoEntry {
            major: 8,
            operation: "Read".to_owned(),
            ..IoEntry::default()
        });
        report.huge_pages.push(("2MB".to_owned(), dhow_cgroup::HugePageUse::default()));
        let told = data(&report);
        for (pointer, expected) in [
            ("/memory/usage/usage", json!(7)),
            ("/memory/raw/rss", json!(3)),
            ("/cpu/psi/some/avg10", json!(0.0)),
            ("/cpu/throttling/throttledPeriods", json!(0)),
            ("/blkio/ioServiceBytesRecursive/0/op", json!("Read")),
            ("/hugetlb/2MB/failcnt", json!(0)),
            ("/pids/current", json!(0)),
            ("/network_interfaces", Value::Null),
        ] {
            assert_eq!(told.pointer(pointer), Some(&expected), "{pointer}");
        }
        assert!(told.get("rdma").is_none() && told["memory"].get("psi").is_none());
    }
}
