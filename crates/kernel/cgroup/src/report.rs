//! Everything that the kernel counts of a cgroup, as `events` of the OCI runtime tells it.
//!
//! [`crate::Stats`] is the dozen of numbers that are asked for every second; this is the rest with it,
//! by device, processor and page size. What no controller measures is zero, empty or None.

use crate::Result;
use crate::control;
use crate::controller::Controller;
use crate::group::Cgroup;
use crate::layout::Hierarchy;
use crate::stats::{Throttling, throttling};

/// One second in clock ticks, the unit of cpuacct.stat (proc(5)): the same on every architecture.
const TICK_NS: u64 = 10_000_000;

/// The flags of a v1 cpuset: what they are called, and their files.
const FLAGS: [(&str, &str); 9] = [
    ("cpu_exclusive", "cpuset.cpu_exclusive"),
    ("mem_hardwall", "cpuset.mem_hardwall"),
    ("mem_exclusive", "cpuset.mem_exclusive"),
    ("memory_migrate", "cpuset.memory_migrate"),
    ("memory_spread_page", "cpuset.memory_spread_page"),
    ("memory_spread_slab", "cpuset.memory_spread_slab"),
    ("memory_pressure", "cpuset.memory_pressure"),
    ("sched_load_balance", "cpuset.sched_load_balance"),
    ("sched_relax_domain_level", "cpuset.sched_relax_domain_level"),
];

/// What a cgroup uses, in full.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Report {
    /// CPU time.
    pub cpu: CpuUse,
    /// Where it may run.
    pub cpuset: CpusetUse,
    /// Memory.
    pub memory: MemoryUse,
    /// Tasks now.
    pub pids: u64,
    /// The limit on tasks; None is unlimited.
    pub pids_limit: Option<u64>,
    /// Block I/O.
    pub io: IoUse,
    /// Huge pages by size, such as "2MB".
    pub huge_pages: Vec<(String, HugePageUse)>,
    /// RDMA resources in use by device.
    pub rdma: Vec<RdmaUse>,
}

/// CPU time, in nanoseconds.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct CpuUse {
    /// In all.
    pub total_ns: u64,
    /// In the kernel.
    pub kernel_ns: u64,
    /// In user mode.
    pub user_ns: u64,
    /// In all, by processor (v1).
    pub by_processor_ns: Vec<u64>,
    /// In the kernel, by processor (v1).
    pub kernel_by_processor_ns: Vec<u64>,
    /// In user mode, by processor (v1).
    pub user_by_processor_ns: Vec<u64>,
    /// What the quota did.
    pub throttling: Throttling,
    /// Time lost for want of a processor.
    pub pressure: Option<Pressure>,
}

/// The cpuset's state. The flags exist on v1 only, and are zero elsewhere.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct CpusetUse {
    /// Processors.
    pub cpus: Vec<u16>,
    /// Memory nodes.
    pub mems: Vec<u16>,
    /// The flags by their file's name without `cpuset.`.
    pub flags: Vec<(&'static str, i64)>,
}

/// One kind of memory.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct MemoryCounter {
    /// The limit in bytes, as the kernel has it: without one a very large number.
    pub limit: u64,
    /// Bytes in use.
    pub usage: u64,
    /// The most that ever was in use.
    pub max: u64,
    /// How often the limit was hit.
    pub failures: u64,
}

/// Memory, in bytes.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct MemoryUse {
    /// Page cache.
    pub cache: u64,
    /// All memory.
    pub usage: MemoryCounter,
    /// Memory and swap together.
    pub swap: MemoryCounter,
    /// Memory that the kernel needs for it (v1).
    pub kernel: MemoryCounter,
    /// TCP buffers (v1).
    pub kernel_tcp: MemoryCounter,
    /// All lines of memory.stat.
    pub details: Vec<(String, u64)>,
    /// All lines of memory.events (cgroup2), or what v1 has of them.
    pub events: Vec<(String, u64)>,
    /// Time lost for want of memory.
    pub pressure: Option<Pressure>,
}

/// Block I/O of one device in one direction or of one kind.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct IoEntry {
    /// The device's major number.
    pub major: u64,
    /// The device's minor number.
    pub minor: u64,
    /// "Read", "Write" and others; empty where a file does not tell them apart.
    pub operation: String,
    /// The count.
    pub value: u64,
}

/// Block I/O.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct IoUse {
    /// Bytes.
    pub bytes: Vec<IoEntry>,
    /// Operations.
    pub operations: Vec<IoEntry>,
    /// Operations waiting (v1, BFQ with debugging; so are those below).
    pub queued: Vec<IoEntry>,
    /// Time between dispatch and completion, in nanoseconds.
    pub service_time_ns: Vec<IoEntry>,
    /// Time in queues, in nanoseconds.
    pub wait_time_ns: Vec<IoEntry>,
    /// Operations merged into others.
    pub merged: Vec<IoEntry>,
    /// Time that the device was theirs, in milliseconds.
    pub time_ms: Vec<IoEntry>,
    /// Sectors.
    pub sectors: Vec<IoEntry>,
    /// Time lost waiting for devices.
    pub pressure: Option<Pressure>,
}

/// Huge pages of one size, in bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct HugePageUse {
    /// Reserved (Linux 5.7) or in use.
    pub usage: u64,
    /// The most that ever was (v1).
    pub max: u64,
    /// How often the limit was hit.
    pub failures: u64,
}

/// What is in use of one RDMA device.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RdmaUse {
    /// The device.
    pub device: String,
    /// Handles.
    pub handles: u64,
    /// Objects.
    pub objects: u64,
}

/// Pressure stall information (the kernel's accounting/psi).
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Pressure {
    /// Time in which some tasks stood still.
    pub some: Stall,
    /// Time in which all did.
    pub full: Stall,
}

/// One line of pressure stall information.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Stall {
    /// Per cent of the last 10 seconds.
    pub avg10: f64,
    /// Per cent of the last minute.
    pub avg60: f64,
    /// Per cent of the last five minutes.
    pub avg300: f64,
    /// In all, in microseconds.
    pub total: u64,
}

impl Cgroup {
    /// Everything that the kernel counts of the cgroup. About forty small reads.
    ///
    /// # Errors
    /// [`crate::CgroupError::Control`] when a file that exists cannot be read. Absent files count as zero.
    pub fn report(&self) -> Result<Report> {
        let basics = self.stats()?;
        Ok(Report {
            cpu: self.cpu_use()?,
            cpuset: self.cpuset_use()?,
            memory: self.memory_use()?,
            pids: basics.pids,
            pids_limit: basics.pids_limit,
            io: self.io_use()?,
            huge_pages: self.huge_page_use()?,
            rdma: self.rdma_use()?,
        })
    }

    fn cpu_use(&self) -> Result<CpuUse> {
        let mut cpu = CpuUse { pressure: self.pressure("cpu.pressure")?, ..CpuUse::default() };
        if let Some(v1) = self.layout.v1(Controller::Cpuacct) {
            let ticks = self.text(v1, "cpuacct.stat")?;
            let ns = |key| control::keyed(&ticks, key).unwrap_or(0).saturating_mul(TICK_NS);
            cpu.total_ns = self.count(v1, "cpuacct.usage")?;
            (cpu.user_ns, cpu.kernel_ns) = (ns("user"), ns("system"));
            cpu.by_processor_ns = numbers(&self.text(v1, "cpuacct.usage_percpu")?);
            (cpu.user_by_processor_ns, cpu.kernel_by_processor_ns) =
                by_processor(&self.text(v1, "cpuacct.usage_all")?);
        } else if let Some(v2) = self.layout.cgroup2() {
            let text = self.text(v2, "cpu.stat")?;
            let ns = |key| control::keyed(&text, key).unwrap_or(0).saturating_mul(1000);
            cpu.total_ns = ns("usage_usec");
            (cpu.user_ns, cpu.kernel_ns) = (ns("user_usec"), ns("system_usec"));
        }
        cpu.throttling = if let Some(v1) = self.layout.v1(Controller::Cpu) {
            throttling(&self.text(v1, "cpu.stat")?, "throttled_time", 1)
        } else if let Some(v2) = self.layout.unified(Controller::Cpu) {
            throttling(&self.text(v2, "cpu.stat")?, "throttled_usec", 1000)
        } else {
            Throttling::default()
        };
        Ok(cpu)
    }

    fn cpuset_use(&self) -> Result<CpusetUse> {
        if let Some(v1) = self.layout.v1(Controller::Cpuset) {
            let mut flags = Vec::with_capacity(FLAGS.len());
            for (name, file) in FLAGS {
                flags.push((name, self.text(v1, file)?.trim().parse().unwrap_or(0)));
            }
            let list = |name| self.text(v1, name).map(|text| ranges(&text));
            return Ok(CpusetUse { cpus: list("cpuset.cpus")?, mems: list("cpuset.mems")?, flags });
        }
        let flags = FLAGS.iter().map(|(name, _)| (*name, 0)).collect();
        let Some(v2) = self.layout.unified(Controller::Cpuset) else {
            return Ok(CpusetUse { flags, ..CpusetUse::default() });
        };
        let list = |name| self.text(v2, name).map(|text| ranges(&text));
        let (cpus, mems) = (list("cpuset.cpus.effective")?, list("cpuset.mems.effective")?);
        Ok(CpusetUse { cpus, mems, flags })
    }

    fn memory_use(&self) -> Result<MemoryUse> {
        let pressure = self.pressure("memory.pressure")?;
        if let Some(v1) = self.layout.v1(Controller::Memory) {
            let details = self.text(v1, "memory.stat")?;
            return Ok(MemoryUse {
                cache: control::keyed(&details, "cache").unwrap_or(0),
                usage: self.counter_v1(v1, "memory")?,
                swap: self.counter_v1(v1, "memory.memsw")?,
                kernel: self.counter_v1(v1, "memory.kmem")?,
                kernel_tcp: self.counter_v1(v1, "memory.kmem.tcp")?,
                details: pairs(&details),
                events: pairs(&self.text(v1, "memory.oom_control")?),
                pressure,
            });
        }
        let Some(v2) = self.layout.unified(Controller::Memory) else {
            return Ok(MemoryUse { pressure, ..MemoryUse::default() });
        };
        let details = self.text(v2, "memory.stat")?;
        let events = self.text(v2, "memory.events")?;
        let mut usage = self.counter_v2(v2, "memory")?;
        usage.failures = control::keyed(&events, "max").unwrap_or(0);
        let alone = self.counter_v2(v2, "memory.swap")?;
        // v1 counts memory and swap together, and so does everybody who reads this.
        let swap = MemoryCounter {
            limit: alone.limit.saturating_add(usage.limit),
            usage: alone.usage.saturating_add(usage.usage),
            max: 0,
            failures: 0,
        };
        Ok(MemoryUse {
            cache: control::keyed(&details, "file").unwrap_or(0),
            usage,
            swap,
            details: pairs(&details),
            events: pairs(&events),
            pressure,
            ..MemoryUse::default()
        })
    }

    fn counter_v1(&self, place: &Hierarchy, name: &str) -> Result<MemoryCounter> {
        Ok(MemoryCounter {
            limit: self.count(place, &[name, ".limit_in_bytes"].concat())?,
            usage: self.count(place, &[name, ".usage_in_bytes"].concat())?,
            max: self.count(place, &[name, ".max_usage_in_bytes"].concat())?,
            failures: self.count(place, &[name, ".failcnt"].concat())?,
        })
    }

    fn counter_v2(&self, place: &Hierarchy, name: &str) -> Result<MemoryCounter> {
        Ok(MemoryCounter {
            limit: self.count(place, &[name, ".max"].concat())?,
            usage: self.count(place, &[name, ".current"].concat())?,
            max: self.count(place, &[name, ".peak"].concat())?,
            failures: 0,
        })
    }

    fn io_use(&self) -> Result<IoUse> {
        let pressure = self.pressure("io.pressure")?;
        if let Some(v1) = self.layout.v1(Controller::Io) {
            let list = |name: &str| -> Result<Vec<IoEntry>> {
                let file = format!("blkio.bfq.{name}_recursive");
                Ok(entries_v1(&self.text(v1, &file)?))
            };
            // BFQ counts what it schedules, throttling everything.
            let counted = |name: &str| -> Result<Vec<IoEntry>> {
                let found = list(name)?;
                if !found.is_empty() {
                    return Ok(found);
                }
                let file = format!("blkio.throttle.{name}_recursive");
                Ok(entries_v1(&self.text(v1, &file)?))
            };
            return Ok(IoUse {
                bytes: counted("io_service_bytes")?,
                operations: counted("io_serviced")?,
                queued: list("io_queued")?,
                service_time_ns: list("io_service_time")?,
                wait_time_ns: list("io_wait_time")?,
                merged: list("io_merged")?,
                time_ms: list("time")?,
                sectors: list("sectors")?,
                pressure,
            });
        }
        let mut io = IoUse { pressure, ..IoUse::default() };
        if let Some(v2) = self.layout.unified(Controller::Io) {
            (io.bytes, io.operations) = entries_v2(&self.text(v2, "io.stat")?);
        }
        Ok(io)
    }

    fn huge_page_use(&self) -> Result<Vec<(String, HugePageUse)>> {
        let v1 = self.layout.v1(Controller::Hugetlb);
        let Some(place) = v1.or(self.layout.unified(Controller::Hugetlb)) else {
            return Ok(Vec::new());
        };
        let mut found = Vec::new();
        for size in huge_page_sizes() {
            let (now, max) = if v1.is_some() {
                ("usage_in_bytes", "max_usage_in_bytes")
            } else {
                ("current", "")
            };
            let reserved = format!("hugetlb.{size}.rsvd.");
            let plain = format!("hugetlb.{size}.");
            let mut prefix = &reserved;
            let mut usage = self.number(place, &[prefix, now].concat())?;
            if usage.is_none() {
                prefix = &plain;
                usage = self.number(place, &[prefix, now].concat())?;
            }
            // Not there: the controller is not enabled for this cgroup.
            let Some(usage) = usage else { continue };
            let (max, failures) = if v1.is_some() {
                let max = self.count(place, &[prefix, max].concat())?;
                (max, self.count(place, &[prefix, "failcnt"].concat())?)
            } else {
                let events = self.text(place, &[&plain, "events"].concat())?;
                (0, control::keyed(&events, "max").unwrap_or(0))
            };
            found.push((size, HugePageUse { usage, max, failures }));
        }
        Ok(found)
    }

    fn rdma_use(&self) -> Result<Vec<RdmaUse>> {
        let v1 = self.layout.v1(Controller::Rdma);
        match v1.or(self.layout.unified(Controller::Rdma)) {
            Some(place) => Ok(rdma(&self.text(place, "rdma.current")?)),
            None => Ok(Vec::new()),
        }
    }

    /// Pressure is measured in the cgroup2 tree, also where its controllers are v1's.
    fn pressure(&self, file: &str) -> Result<Option<Pressure>> {
        match self.layout.cgroup2() {
            Some(tree) => Ok(pressure(&self.text(tree, file)?)),
            None => Ok(None),
        }
    }

    fn count(&self, place: &Hierarchy, name: &str) -> Result<u64> {
        Ok(self.number(place, name)?.unwrap_or(0))
    }
}

fn pairs(text: &str) -> Vec<(String, u64)> {
    control::pairs(text).map(|(key, value)| (key.to_owned(), value)).collect()
}

fn numbers(text: &str) -> Vec<u64> {
    text.split_whitespace().filter_map(|word| word.parse().ok()).collect()
}

/// User and system time of "cpu user system" lines below a heading.
fn by_processor(text: &str) -> (Vec<u64>, Vec<u64>) {
    text.lines()
        .skip(1)
        .filter_map(|line| {
            let mut words = line.split_whitespace().skip(1);
            Some((words.next()?.parse::<u64>().ok()?, words.next()?.parse::<u64>().ok()?))
        })
        .unzip()
}

/// "0-2,5" as its members.
fn ranges(text: &str) -> Vec<u16> {
    let range = |part: &str| -> Option<std::ops::RangeInclusive<u16>> {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        Some(first.parse().ok()?..=last.parse().ok()?)
    };
    text.trim().split(',').filter_map(range).flatten().collect()
}

/// "8:0 Read 4096" and "8:0 4096" lines; the sum of all devices, "Total 4096", is left out.
fn entries_v1(text: &str) -> Vec<IoEntry> {
    let entry = |line: &str| {
        let (device, rest) = line.split_once(' ')?;
        let (major, minor) = device.split_once(':')?;
        let (operation, value) = rest.split_once(' ').unwrap_or(("", rest));
        Some(IoEntry {
            major: major.parse().ok()?,
            minor: minor.parse().ok()?,
            operation: operation.to_owned(),
            value: value.trim().parse().ok()?,
        })
    };
    text.lines().filter_map(entry).collect()
}

/// Bytes and operations of "8:0 rbytes=1 wbytes=2 rios=3 wios=4 ..." lines, in v1's words.
fn entries_v2(text: &str) -> (Vec<IoEntry>, Vec<IoEntry>) {
    let (mut bytes, mut operations) = (Vec::new(), Vec::new());
    for line in text.lines() {
        let mut words = line.split_whitespace();
        let device = words.next().and_then(|word| word.split_once(':'));
        let Some((Ok(major), Ok(minor))) = device.map(|(a, b)| (a.parse(), b.parse())) else {
            continue;
        };
        for (key, value) in words.filter_map(|word| word.split_once('=')) {
            let (list, operation) = match key {
                "rbytes" => (&mut bytes, "Read"),
                "wbytes" => (&mut bytes, "Write"),
                "rios" => (&mut operations, "Read"),
                "wios" => (&mut operations, "Write"),
                _ => continue,
            };
            let Ok(value) = value.parse() else { continue };
            list.push(IoEntry { major, minor, operation: operation.to_owned(), value });
        }
    }
    (bytes, operations)
}

/// The sizes of huge pages that the kernel has, in the control files' words.
fn huge_page_sizes() -> Vec<String> {
    let Ok(entries) = std::fs::read_dir("/sys/kernel/mm/hugepages") else { return Vec::new() };
    let mut kib: Vec<u64> = entries
        .flatten()
        .filter_map(|entry| {
            let name = entry.file_name().into_string().ok()?;
            name.strip_prefix("hugepages-")?.strip_suffix("kB")?.parse().ok()
        })
        .collect();
    kib.sort_unstable();
    kib.into_iter().map(huge_page_name).collect()
}

fn huge_page_name(kib: u64) -> String {
    match kib {
        kib if kib >= 1 << 20 => format!("{}GB", kib >> 20),
        kib if kib >= 1 << 10 => format!("{}MB", kib >> 10),
        kib => format!("{kib}KB"),
    }
}

/// "mlx4_0 hca_handle=2 hca_object=2000" lines.
fn rdma(text: &str) -> Vec<RdmaUse> {
    let device = |line: &str| {
        let mut words = line.split_whitespace();
        let mut device = RdmaUse { device: words.next()?.to_owned(), ..RdmaUse::default() };
        for (key, value) in words.filter_map(|word| word.split_once('=')) {
            let value = value.parse().unwrap_or(u64::MAX);
            match key {
                "hca_handle" => device.handles = value,
                "hca_object" => device.objects = value,
                _ => {}
            }
        }
        Some(device)
    };
    text.lines().filter_map(device).collect()
}

/// "some avg10=0.00 avg60=0.00 avg300=0.00 total=0" and "full ..." lines; None without any.
fn pressure(text: &str) -> Option<Pressure> {
    let stall = |name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(name))?;
        let value = |key: &str| {
            line.split_whitespace().find_map(|word| word.strip_prefix(key)?.strip_prefix('='))
        };
        let average = |key| value(key).and_then(|text| text.parse().ok()).unwrap_or(0.0);
        Some(Stall {
            avg10: average("avg10"),
            avg60: average("avg60"),
            avg300: average("avg300"),
            total: value("total").and_then(|text| text.parse().ok()).unwrap_or(0),
        })
    };
    let some = stall("some ")?;
    Some(Pressure { some, full: stall("full ").unwrap_or_default() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_are_read() {
        assert_eq!(ranges("0-2,5\n"), [0, 1, 2, 5]);
        assert_eq!(ranges("\n"), [0_u16; 0]);
        assert_eq!(by_processor("cpu user system\n0 1 2\n1 3 4\n"), (vec![1, 3], vec![2, 4]));
        assert_eq!(
            (huge_page_name(64), huge_page_name(2048), huge_page_name(1 << 20)),
            ("64KB".to_owned(), "2MB".to_owned(), "1GB".to_owned())
        );
    }

    #[test]
    fn block_io_is_told_by_device() {
        let entry = |minor, operation: &str, value| IoEntry {
            major: 8,
            minor,
            operation: operation.to_owned(),
            value,
        };
        let v1 = "8:0 Read 10\n8:0 Write 5\n8:16 7\nTotal 22\n";
        assert_eq!(entries_v1(v1), [entry(0, "Read", 10), entry(0, "Write", 5), entry(16, "", 7)]);
        let v2 = "8:0 rbytes=10 wbytes=5 rios=2 wios=1 dbytes=0\n8:16 \n";
        let (bytes, operations) = entries_v2(v2);
        assert_eq!(bytes, [entry(0, "Read", 10), entry(0, "Write", 5)]);
        assert_eq!(operations, [entry(0, "Read", 2), entry(0, "Write", 1)]);
    }

    #[test]
    fn pressure_is_read() {
        let text = "some avg10=1.50 avg60=0.25 avg300=0.00 total=5884\n\
                    full avg10=0.00 avg60=0.00 avg300=0.00 total=3650\n";
        let some = Stall { avg10: 1.5, avg60: 0.25, avg300: 0.0, total: 5884 };
        let full = Stall { total: 3650, ..Stall::default() };
        assert_eq!(pressure(text), Some(Pressure { some, full }));
        assert_eq!(pressure(""), None);
    }

    #[test]
    fn rdma_is_told_by_device() {
        let found = rdma("mlx4_0 hca_handle=2 hca_object=2000\nocrdma1 hca_handle=max\n");
        assert_eq!((found[0].device.as_str(), found[0].handles), ("mlx4_0", 2));
        assert_eq!((found[0].objects, found[1].handles), (2000, u64::MAX));
    }
}
