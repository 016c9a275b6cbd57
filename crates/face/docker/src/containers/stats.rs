//! `GET /containers/{id}/stats`: one sample, or one each second.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use dhow_docker_wire::container::{
    BlkioEntry, BlkioStats, CpuStats, CpuUsage, MemoryStats, NetworkStats, PidsStats, Stats,
    Throttling,
};
use dhow_engine::{View, now_ns};
use dhow_error::{Error, Kind, Result};

use crate::answer::{self, Answer};
use crate::request::Request;
use crate::{Services, time};

/// Time between samples.
const INTERVAL: Duration = Duration::from_secs(1);

/// Nanoseconds of a tick in /proc/stat: the unit is 1/100 s on every architecture (proc(5)).
const TICK_NS: u64 = 10_000_000;

/// Streams samples, or tells one. Without `one-shot` that one has another before it, for rates.
pub(crate) async fn stats(
    services: &Arc<Services>,
    request: Request,
    name: &str,
) -> Result<Answer> {
    let id = services.engine.resolve(name)?;
    if !request.query.flag("stream", true) {
        let mut stats = sample(services, &id).await?;
        if !request.query.flag("one-shot", false) && stats.cpu_stats != CpuStats::default() {
            tokio::time::sleep(INTERVAL).await;
            stats = after(&stats, sample(services, &id).await?);
        }
        return Ok(answer::ok(&stats));
    }
    let mut stats = sample(services, &id).await?;
    let services = Arc::clone(services);
    Ok(answer::stream("application/json", move |writer| async move {
        while writer.line(&stats).await.is_ok() {
            tokio::time::sleep(INTERVAL).await;
            match sample(&services, &id).await {
                Ok(next) => stats = after(&stats, next),
                // The container was removed.
                Err(_) => return,
            }
        }
    }))
}

/// `next`, with what is needed of the sample before.
fn after(previous: &Stats, next: Stats) -> Stats {
    Stats { precpu_stats: previous.cpu_stats.clone(), preread: previous.read.clone(), ..next }
}

/// One sample; a container that does not run uses nothing.
async fn sample(services: &Services, id: &str) -> Result<Stats> {
    let view = services.engine.inspect(id).await?;
    let empty = Stats {
        read: time::NEVER.to_owned(),
        preread: time::NEVER.to_owned(),
        name: format!("/{}", view.name),
        id: view.id.clone(),
        ..Stats::default()
    };
    if !view.state.status.is_live() {
        return Ok(empty);
    }
    let used = match services.engine.stats(id).await {
        Ok(used) => used,
        // It ended between the two questions.
        Err(error) if matches!(error.kind(), Kind::Conflict | Kind::NotFound) => return Ok(empty),
        Err(error) => return Err(error),
    };
    let machine = tokio::task::spawn_blocking(move || Machine::read(&view))
        .await
        .map_err(|error| Error::caused(Kind::Internal, "cannot look at the machine", error))?;
    let io = |op: &str, value| BlkioEntry { op: op.to_owned(), value, ..BlkioEntry::default() };
    Ok(Stats {
        read: time::rfc3339(now_ns()),
        pids_stats: PidsStats { current: used.pids, limit: used.pids_limit.unwrap_or(0) },
        blkio_stats: BlkioStats {
            io_service_bytes_recursive: vec![
                io("read", used.io.read_bytes),
                io("write", used.io.write_bytes),
            ],
            io_serviced_recursive: Vec::new(),
        },
        cpu_stats: CpuStats {
            cpu_usage: CpuUsage {
                total_usage: used.cpu_ns,
                percpu_usage: Vec::new(),
                usage_in_kernelmode: used.cpu_system_ns,
                usage_in_usermode: used.cpu_user_ns,
            },
            system_cpu_usage: machine.cpu_ns,
            online_cpus: machine.cpus,
            throttling_data: Throttling {
                periods: used.throttling.periods,
                throttled_periods: used.throttling.throttled_periods,
                throttled_time: used.throttling.throttled_ns,
            },
        },
        memory_stats: MemoryStats {
            usage: used.memory_bytes,
            max_usage: used.memory_peak_bytes.unwrap_or(0),
            stats: used.memory_details.into_iter().collect(),
            failcnt: used.memory_failures,
            limit: used.memory_limit_bytes.unwrap_or(machine.memory_bytes),
        },
        networks: machine.interfaces,
        ..empty
    })
}

/// What only the machine knows.
struct Machine {
    cpu_ns: u64,
    cpus: u32,
    memory_bytes: u64,
    interfaces: BTreeMap<String, NetworkStats>,
}

impl Machine {
    /// Reads files of /proc; blocks.
    fn read(view: &View) -> Self {
        let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
        let cpus = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        let interfaces = if view.endpoint.is_some() && view.pid > 0 {
            interfaces(&read(&format!("/proc/{}/net/dev", view.pid)))
        } else {
            BTreeMap::new()
        };
        Self {
            cpu_ns: cpu_ns(&read("/proc/stat")),
            cpus: u32::try_from(cpus).unwrap_or(1),
            memory_bytes: memory_bytes(&read("/proc/meminfo")),
            interfaces,
        }
    }
}

/// All CPU time since boot, in nanoseconds: user to softirq in the first line of /proc/stat.
fn cpu_ns(stat: &str) -> u64 {
    let line = stat.lines().next().unwrap_or_default();
    let ticks = line.split_whitespace().skip(1).take(7).filter_map(|text| text.parse::<u64>().ok());
    ticks.sum::<u64>().saturating_mul(TICK_NS)
}

fn memory_bytes(meminfo: &str) -> u64 {
    let total = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:"));
    let kib = total.and_then(|text| text.trim().trim_end_matches(" kB").parse::<u64>().ok());
    kib.unwrap_or(0).saturating_mul(1024)
}

/// Counters of each interface but loopback, in a text such as /proc/net/dev.
fn interfaces(text: &str) -> BTreeMap<String, NetworkStats> {
    let lines = text.lines().filter_map(|line| line.split_once(':'));
    let counters = lines.map(|(name, counters)| {
        let counters: Vec<u64> =
            counters.split_whitespace().map(|text| text.parse().unwrap_or(0)).collect();
        let at = |index: usize| counters.get(index).copied().unwrap_or(0);
        let stats = NetworkStats {
            rx_bytes: at(0),
            rx_packets: at(1),
            rx_errors: at(2),
            rx_dropped: at(3),
            tx_bytes: at(8),
            tx_packets: at(9),
            tx_errors: at(10),
            tx_dropped: at(11),
        };
        (name.trim().to_owned(), stats)
    });
    counters.filter(|(name, _)| name != "lo").collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_of_proc_read() {
        assert_eq!(cpu_ns("cpu  1 2 3 4 5 6 7 100 100\ncpu0 9\n"), 28 * TICK_NS);
        assert_eq!(memory_bytes("MemTotal:       1024 kB\nMemFree: 1 kB\n"), 1 << 20);
        let text = "Inter-| Receive | Transmit\n face |bytes\n    lo: 1 1 0 0 0 0 0 0 1 1 0 0 0 0 0 0\n  \
                    eth0: 10 2 0 0 0 0 0 0 20 3 0 1 0 0 0 0\n";
        let interfaces = interfaces(text);
        assert_eq!(interfaces.len(), 1);
        let stats = &interfaces["eth0"];
        assert_eq!((stats.rx_bytes, stats.tx_bytes, stats.tx_dropped), (10, 20, 1));
        assert_eq!(cpu_ns(""), 0);
    }
}
