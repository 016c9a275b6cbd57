//! What a cgroup uses, read from its files.

use dhow_sys::rustix::io::Errno;

use crate::Result;
use crate::control;
use crate::controller::Controller;
use crate::group::{Cgroup, control_error};
use crate::layout::Hierarchy;

/// v1 has no word for "unlimited": it is the largest number of whole pages.
const V1_UNLIMITED: u64 = 0x7fff_ffff_ffff_0000;

/// Use of resources at one moment. What no controller measures is zero or None.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Stats {
    /// Memory charged, page cache included, in bytes.
    pub memory_bytes: u64,
    /// Page cache that the kernel would give up first (`inactive_file`), in bytes. Docker shows
    /// `memory_bytes` less this.
    pub memory_inactive_file_bytes: u64,
    /// The memory limit in bytes; None is unlimited.
    pub memory_limit_bytes: Option<u64>,
    /// The highest `memory_bytes` ever, where the kernel records it.
    pub memory_peak_bytes: Option<u64>,
    /// How often the limit was hit.
    pub memory_failures: u64,
    /// All lines of memory.stat (v1's `total_` ones where they exist, as the file has them).
    pub memory_details: Vec<(String, u64)>,
    /// CPU time used, in nanoseconds.
    pub cpu_ns: u64,
    /// CPU time in user mode, in nanoseconds.
    pub cpu_user_ns: u64,
    /// CPU time in the kernel, in nanoseconds.
    pub cpu_system_ns: u64,
    /// What the CPU quota did.
    pub throttling: Throttling,
    /// Tasks (threads count).
    pub pids: u64,
    /// The limit on tasks; None is unlimited.
    pub pids_limit: Option<u64>,
    /// Block I/O, summed over devices.
    pub io: Io,
}

/// What the CPU quota did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Throttling {
    /// Periods with runnable tasks.
    pub periods: u64,
    /// Of those, in how many the quota ran out.
    pub throttled_periods: u64,
    /// For how long in all, in nanoseconds.
    pub throttled_ns: u64,
}

/// Block I/O.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Io {
    /// Bytes read.
    pub read_bytes: u64,
    /// Bytes written.
    pub write_bytes: u64,
    /// Read operations.
    pub reads: u64,
    /// Write operations.
    pub writes: u64,
}

impl Cgroup {
    /// What the cgroup uses now. About a dozen small reads.
    ///
    /// # Errors
    /// [`crate::CgroupError::Control`] when a file that exists cannot be read. Absent files count as zero.
    pub fn stats(&self) -> Result<Stats> {
        let mut stats = Stats::default();
        self.memory(&mut stats)?;
        self.cpu(&mut stats)?;
        self.pids(&mut stats)?;
        self.io(&mut stats)?;
        Ok(stats)
    }

    /// How many processes the kernel's OOM killer has taken from it. Zero without a memory controller.
    ///
    /// # Errors
    /// [`crate::CgroupError::Control`] when the counter's file exists and cannot be read.
    pub fn oom_kills(&self) -> Result<u64> {
        let text = if let Some(v1) = self.layout.v1(Controller::Memory) {
            self.text(v1, "memory.oom_control")?
        } else if let Some(v2) = self.layout.unified(Controller::Memory) {
            self.text(v2, "memory.events")?
        } else {
            return Ok(0);
        };
        Ok(control::keyed(&text, "oom_kill").unwrap_or(0))
    }

    fn memory(&self, stats: &mut Stats) -> Result<()> {
        let (inactive, details);
        if let Some(v1) = self.layout.v1(Controller::Memory) {
            stats.memory_bytes = self.number(v1, "memory.usage_in_bytes")?.unwrap_or(0);
            let limit = self.number(v1, "memory.limit_in_bytes")?;
            stats.memory_limit_bytes = limit.filter(|limit| *limit < V1_UNLIMITED);
            stats.memory_peak_bytes = self.number(v1, "memory.max_usage_in_bytes")?;
            stats.memory_failures = self.number(v1, "memory.failcnt")?.unwrap_or(0);
            (inactive, details) = ("total_inactive_file", self.text(v1, "memory.stat")?);
        } else if let Some(v2) = self.layout.unified(Controller::Memory) {
            stats.memory_bytes = self.number(v2, "memory.current")?.unwrap_or(0);
            stats.memory_limit_bytes =
                self.number(v2, "memory.max")?.filter(|limit| *limit != u64::MAX);
            stats.memory_peak_bytes = self.number(v2, "memory.peak")?;
            let events = self.text(v2, "memory.events")?;
            stats.memory_failures = control::keyed(&events, "max").unwrap_or(0);
            (inactive, details) = ("inactive_file", self.text(v2, "memory.stat")?);
        } else {
            return Ok(());
        }
        stats.memory_inactive_file_bytes = control::keyed(&details, inactive).unwrap_or(0);
        stats.memory_details =
            control::pairs(&details).map(|(key, value)| (key.to_owned(), value)).collect();
        Ok(())
    }

    fn cpu(&self, stats: &mut Stats) -> Result<()> {
        if let Some(v1) = self.layout.v1(Controller::Cpuacct) {
            stats.cpu_ns = self.number(v1, "cpuacct.usage")?.unwrap_or(0);
            stats.cpu_user_ns = self.number(v1, "cpuacct.usage_user")?.unwrap_or(0);
            stats.cpu_system_ns = self.number(v1, "cpuacct.usage_sys")?.unwrap_or(0);
        }
        if let Some(v1) = self.layout.v1(Controller::Cpu) {
            let text = self.text(v1, "cpu.stat")?;
            stats.throttling = throttling(&text, "throttled_time", 1);
        } else if let Some(v2) = self.layout.cgroup2() {
            // cpu.stat's usage is there without the cpu controller too.
            let text = self.text(v2, "cpu.stat")?;
            let ns = |key| control::keyed(&text, key).unwrap_or(0).saturating_mul(1000);
            stats.throttling = throttling(&text, "throttled_usec", 1000);
            if self.layout.v1(Controller::Cpuacct).is_none() {
                stats.cpu_ns = ns("usage_usec");
                stats.cpu_user_ns = ns("user_usec");
                stats.cpu_system_ns = ns("system_usec");
            }
        }
        Ok(())
    }

    fn pids(&self, stats: &mut Stats) -> Result<()> {
        let pids = self.layout.v1(Controller::Pids).or(self.layout.unified(Controller::Pids));
        if let Some(hierarchy) = pids {
            stats.pids = self.number(hierarchy, "pids.current")?.unwrap_or(0);
            stats.pids_limit =
                self.number(hierarchy, "pids.max")?.filter(|limit| *limit != u64::MAX);
        } else {
            stats.pids = self.procs()?.len() as u64;
        }
        Ok(())
    }

    fn io(&self, stats: &mut Stats) -> Result<()> {
        if let Some(v1) = self.layout.v1(Controller::Io) {
            let bytes = self.text(v1, "blkio.throttle.io_service_bytes_recursive")?;
            let operations = self.text(v1, "blkio.throttle.io_serviced_recursive")?;
            (stats.io.read_bytes, stats.io.write_bytes) = sum_v1(&bytes);
            (stats.io.reads, stats.io.writes) = sum_v1(&operations);
        } else if let Some(v2) = self.layout.unified(Controller::Io) {
            stats.io = sum_v2(&self.text(v2, "io.stat")?);
        }
        Ok(())
    }

    pub(crate) fn text(&self, hierarchy: &Hierarchy, name: &str) -> Result<String> {
        let file = self.file(hierarchy, name);
        match control::read(&file) {
            Err(Errno::NOENT | Errno::NODEV | Errno::OPNOTSUPP) => Ok(String::new()),
            other => other.map_err(|errno| control_error("read", &file, errno)),
        }
    }

    pub(crate) fn number(&self, hierarchy: &Hierarchy, name: &str) -> Result<Option<u64>> {
        let file = self.file(hierarchy, name);
        match control::read_number(&file) {
            Ok(number) => Ok(Some(number)),
            Err(Errno::NOENT | Errno::NODEV | Errno::OPNOTSUPP) => Ok(None),
            Err(errno) => Err(control_error("read", &file, errno)),
        }
    }
}

pub(crate) fn throttling(text: &str, time_key: &str, unit_ns: u64) -> Throttling {
    Throttling {
        periods: control::keyed(text, "nr_periods").unwrap_or(0),
        throttled_periods: control::keyed(text, "nr_throttled").unwrap_or(0),
        throttled_ns: control::keyed(text, time_key).unwrap_or(0).saturating_mul(unit_ns),
    }
}

/// Reads and writes of "8:0 Read 4096" lines.
fn sum_v1(text: &str) -> (u64, u64) {
    let sum = |operation| {
        text.lines()
            .filter_map(|line| {
                let mut words = line.split_whitespace().skip(1);
                (words.next()? == operation).then(|| words.next()?.parse::<u64>().ok())?
            })
            .fold(0, u64::saturating_add)
    };
    (sum("Read"), sum("Write"))
}

/// The sums of "8:0 rbytes=1 wbytes=2 rios=3 wios=4 ..." lines.
fn sum_v2(text: &str) -> Io {
    let mut io = Io::default();
    for (key, value) in text.split_whitespace().filter_map(|word| word.split_once('=')) {
        let Ok(value) = value.parse::<u64>() else { continue };
        let field = match key {
            "rbytes" => &mut io.read_bytes,
            "wbytes" => &mut io.write_bytes,
            "rios" => &mut io.reads,
            "wios" => &mut io.writes,
            _ => continue,
        };
        *field = field.saturating_add(value);
    }
    io
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn block_io_is_summed_over_devices() {
        let v1 = "8:0 Read 10\n8:0 Write 5\n8:0 Total 15\n8:16 Read 1\nTotal 16\n";
        assert_eq!(sum_v1(v1), (11, 5));
        let v2 =
            "8:0 rbytes=10 wbytes=5 rios=2 wios=1 dbytes=0\n8:16 rbytes=1 wbytes=0 rios=1 wios=0\n";
        assert_eq!(sum_v2(v2), Io { read_bytes: 11, write_bytes: 5, reads: 3, writes: 1 });
    }
}
