//! Limits on v1 hierarchies.
//!
//! Values are the OCI's; 0 means "not asked for" where runc takes it so. Orders matter when limits of a
//! running container change: memory never exceeds memory+swap at any moment, quota and period must fit the
//! parent together.

use dhow_spec::oci_runtime::{LinuxBlockIo, LinuxCpu, LinuxMemory, LinuxWeightDevice};
use dhow_sys::rustix::io::Errno;

use crate::Result;
use crate::group::Cgroup;
use crate::layout::Hierarchy;
use crate::limit::Limit;
use crate::resources::Step;

const MEMORY: &str = "memory.limit_in_bytes";
const SWAP: &str = "memory.memsw.limit_in_bytes";

pub(crate) fn memory(memory: &LinuxMemory) -> Step<impl FnOnce(&Cgroup, &Hierarchy) -> Result<()>> {
    let nothing = memory_limits(memory) == (None, None)
        && memory.reservation().unwrap_or(0) == 0
        && memory.kernel_tcp().unwrap_or(0) == 0
        && memory.swappiness().is_none()
        && !memory.disable_oom_killer().unwrap_or(false);
    if nothing {
        return Step::Nothing;
    }
    let limit = Limit::bytes("memory limit", memory.limit().unwrap_or(-1));
    Step::Run(limit, move |group: &Cgroup, place: &Hierarchy| {
        set_memory_and_swap(group, place, memory)?;
        let others = [
            ("memory reservation", "memory.soft_limit_in_bytes", memory.reservation()),
            ("TCP memory limit", "memory.kmem.tcp.limit_in_bytes", memory.kernel_tcp()),
        ];
        for (what, file, bytes) in others {
            if let Some(bytes) = bytes.filter(|bytes| *bytes != 0) {
                group.set(place, file, &bytes.to_string(), &Limit::bytes(what, bytes))?;
            }
        }
        set_swappiness(group, place, memory.swappiness())?;
        if memory.disable_oom_killer().unwrap_or(false) {
            group.set(place, "memory.oom_control", "1", &Limit::new("OOM killer", "off"))?;
        }
        Ok(())
    })
}

/// Memory, and memory plus swap, each if asked for. Unlimited memory implies unlimited swap.
fn memory_limits(memory: &LinuxMemory) -> (Option<i64>, Option<i64>) {
    let limit = memory.limit().filter(|bytes| *bytes != 0);
    let swap = memory.swap().filter(|bytes| *bytes != 0);
    match (limit, swap) {
        (Some(bytes), None) if bytes < 0 => (limit, Some(-1)),
        both => both,
    }
}

/// The kernel demands memory <= memory+swap after each write: lowering writes memory first, raising swap
/// first. Memory first is tried; EINVAL says that it was the other case.
fn set_memory_and_swap(group: &Cgroup, place: &Hierarchy, memory: &LinuxMemory) -> Result<()> {
    let (limit, swap) = memory_limits(memory);
    if let (Some(limit), Some(swap)) = (limit, swap)
        && swap >= 0
        && (limit < 0 || swap < limit)
    {
        let shown = crate::limit::show_bytes(limit);
        return Err(Limit::bytes("memory plus swap limit", swap)
            .out_of_range(format!("it includes the memory limit, which is {shown}")));
    }
    if let Some(bytes) = limit {
        let memory_limit = Limit::bytes("memory limit", bytes);
        match group.try_set(place, MEMORY, &bytes.to_string()) {
            Ok(()) => {}
            Err(Errno::INVAL) if swap.is_some() => {
                set_swap(group, place, swap)?;
                return group.set(place, MEMORY, &bytes.to_string(), &memory_limit);
            }
            Err(errno) => return Err(group.refused(place, MEMORY, &memory_limit, errno)),
        }
    }
    set_swap(group, place, swap)
}

/// Without swap accounting (swapaccount=0) the file does not exist and the limit is discarded, as Docker
/// does.
fn set_swap(group: &Cgroup, place: &Hierarchy, swap: Option<i64>) -> Result<()> {
    let Some(bytes) = swap else { return Ok(()) };
    match group.try_set(place, SWAP, &bytes.to_string()) {
        Ok(()) | Err(Errno::NOENT) => Ok(()),
        Err(errno) => {
            Err(group.refused(place, SWAP, &Limit::bytes("memory plus swap limit", bytes), errno))
        }
    }
}

/// Docker and runc carry "not asked for" as -1, which is the largest u64 here.
fn set_swappiness(group: &Cgroup, place: &Hierarchy, percent: Option<u64>) -> Result<()> {
    match percent {
        None | Some(u64::MAX) => Ok(()),
        Some(percent) => {
            let limit = Limit::new("swappiness", percent);
            if percent > 100 {
                return Err(limit.out_of_range("it is 0 to 100"));
            }
            group.set(place, "memory.swappiness", &percent.to_string(), &limit)
        }
    }
}

pub(crate) fn cpu(cpu: &LinuxCpu) -> Step<impl FnOnce(&Cgroup, &Hierarchy) -> Result<()>> {
    let Some(first) = first_cpu_limit(cpu) else { return Step::Nothing };
    Step::Run(first, move |group: &Cgroup, place: &Hierarchy| {
        if let Some(shares) = cpu.shares().filter(|shares| *shares != 0) {
            let limit = check_shares(shares)?;
            group.set(place, "cpu.shares", &shares.to_string(), &limit)?;
        }
        if let Some(idle) = cpu.idle() {
            group.set(place, "cpu.idle", &idle.to_string(), &Limit::new("CPU idle", idle))?;
        }
        set_quota(group, place, cpu)?;
        let others = [
            ("CPU burst", "cpu.cfs_burst_us", cpu.burst().map(|time| time.to_string())),
            (
                "real-time period",
                "cpu.rt_period_us",
                cpu.realtime_period().filter(|time| *time != 0).map(|time| time.to_string()),
            ),
            (
                "real-time runtime",
                "cpu.rt_runtime_us",
                cpu.realtime_runtime().filter(|time| *time != 0).map(|time| time.to_string()),
            ),
        ];
        for (what, file, raw) in others {
            if let Some(raw) = raw {
                group.set(place, file, &raw, &Limit::microseconds(what, &raw))?;
            }
        }
        Ok(())
    })
}

/// What to name when there is no cpu controller; None if nothing is asked of it.
pub(crate) fn first_cpu_limit(cpu: &LinuxCpu) -> Option<Limit> {
    let some = |number: Option<u64>| number.filter(|number| *number != 0);
    let signed = |number: Option<i64>| number.filter(|number| *number != 0);
    signed(cpu.quota())
        .map(|time| Limit::microseconds("CPU quota", time))
        .or_else(|| some(cpu.period()).map(|time| Limit::microseconds("CPU period", time)))
        .or_else(|| some(cpu.shares()).map(|shares| Limit::new("CPU shares", shares)))
        .or_else(|| some(cpu.burst()).map(|time| Limit::microseconds("CPU burst", time)))
        .or_else(|| cpu.idle().map(|idle| Limit::new("CPU idle", idle)))
        .or_else(|| {
            some(cpu.realtime_period()).map(|time| Limit::microseconds("real-time period", time))
        })
        .or_else(|| {
            signed(cpu.realtime_runtime())
                .map(|time| Limit::microseconds("real-time runtime", time))
        })
}

/// The kernel clamps shares without a word; a user wants to know.
pub(crate) fn check_shares(shares: u64) -> Result<Limit> {
    let limit = Limit::new("CPU shares", shares);
    if (2..=262_144).contains(&shares) {
        Ok(limit)
    } else {
        Err(limit.out_of_range("they are 2 to 262144"))
    }
}

/// A new period may not fit the old quota within the parent's, so after EINVAL it is written again
/// behind the new quota.
fn set_quota(group: &Cgroup, place: &Hierarchy, cpu: &LinuxCpu) -> Result<()> {
    const PERIOD: &str = "cpu.cfs_period_us";
    let quota = cpu.quota().filter(|quota| *quota != 0);
    let mut period_again = false;
    let period = cpu.period().filter(|period| *period != 0);
    let limit = Limit::microseconds("CPU period", period.unwrap_or(0));
    let raw = period.unwrap_or(0).to_string();
    if period.is_some() {
        match group.try_set(place, PERIOD, &raw) {
            Ok(()) => {}
            Err(Errno::INVAL) if quota.is_some() => period_again = true,
            Err(errno) => return Err(group.refused(place, PERIOD, &limit, errno)),
        }
    }
    if let Some(quota) = quota {
        let limit = Limit::microseconds("CPU quota", quota);
        group.set(place, "cpu.cfs_quota_us", &quota.max(-1).to_string(), &limit)?;
    }
    if period_again { group.set(place, PERIOD, &raw, &limit) } else { Ok(()) }
}

/// The same files on v1 and cgroup2.
pub(crate) fn cpuset(cpu: &LinuxCpu) -> Step<impl FnOnce(&Cgroup, &Hierarchy) -> Result<()>> {
    let sets = [
        ("CPU set", "cpuset.cpus", cpu.cpus().as_deref().unwrap_or_default()),
        ("memory node set", "cpuset.mems", cpu.mems().as_deref().unwrap_or_default()),
    ];
    let Some((what, _, value)) = sets.iter().find(|(_, _, value)| !value.is_empty()) else {
        return Step::Nothing;
    };
    Step::Run(Limit::new(what, value), move |group: &Cgroup, place: &Hierarchy| {
        for (what, file, value) in sets.iter().filter(|(_, _, value)| !value.is_empty()) {
            group.set(place, file, value, &Limit::new(what, value))?;
        }
        Ok(())
    })
}

pub(crate) fn block_io(io: &LinuxBlockIo) -> Step<impl FnOnce(&Cgroup, &Hierarchy) -> Result<()>> {
    let Some(first) = first_io_limit(io) else { return Step::Nothing };
    Step::Run(first, move |group: &Cgroup, place: &Hierarchy| {
        refuse_leaf_weight(group, io)?;
        if let Some(weight) = io.weight().filter(|weight| *weight != 0) {
            let files = ["blkio.bfq.weight", "blkio.weight"];
            let limit = Limit::new("block I/O weight", weight);
            set_first(group, place, &files, &weight.to_string(), &limit)?;
        }
        for device in io.weight_device().iter().flatten() {
            let Some(weight) = device.weight() else { continue };
            let raw = format!("{}:{} {weight}", device.major(), device.minor());
            let files = ["blkio.bfq.weight_device", "blkio.weight_device"];
            set_first(group, place, &files, &raw, &Limit::new("block I/O weight", &raw))?;
        }
        let throttles = [
            ("read_bps", io.throttle_read_bps_device()),
            ("write_bps", io.throttle_write_bps_device()),
            ("read_iops", io.throttle_read_iops_device()),
            ("write_iops", io.throttle_write_iops_device()),
        ];
        for (name, devices) in throttles {
            for device in devices.iter().flatten() {
                let raw = format!("{}:{} {}", device.major(), device.minor(), device.rate());
                let file = format!("blkio.throttle.{name}_device");
                group.set(place, &file, &raw, &Limit::new("block I/O rate", &raw))?;
            }
        }
        Ok(())
    })
}

/// What to name when there is no block I/O controller; None if nothing is asked of it.
pub(crate) fn first_io_limit(io: &LinuxBlockIo) -> Option<Limit> {
    let weights = [io.weight(), io.leaf_weight()];
    let throttles = [
        io.throttle_read_bps_device(),
        io.throttle_write_bps_device(),
        io.throttle_read_iops_device(),
        io.throttle_write_iops_device(),
    ];
    if let Some(weight) = weights.into_iter().flatten().find(|weight| *weight != 0) {
        return Some(Limit::new("block I/O weight", weight));
    }
    if let Some(device) = io.weight_device().iter().flatten().next() {
        let shown = format!("of device {}:{}", device.major(), device.minor());
        return Some(Limit::new("block I/O weight", shown));
    }
    let device = throttles.into_iter().flatten().flatten().next()?;
    Some(Limit::new("block I/O rate", device.rate()))
}

/// Leaf weights went with the CFQ scheduler in Linux 5.0.
pub(crate) fn refuse_leaf_weight(group: &Cgroup, io: &LinuxBlockIo) -> Result<()> {
    let of_devices = io.weight_device().iter().flatten().filter_map(LinuxWeightDevice::leaf_weight);
    match io.leaf_weight().into_iter().chain(of_devices).find(|weight| *weight != 0) {
        Some(weight) => {
            let limit = Limit::new("block I/O leaf weight", weight);
            Err(group.unsupported(&limit, "the kernel has had none since Linux 5.0"))
        }
        None => Ok(()),
    }
}

/// Writes to the first of these files that exists.
pub(crate) fn set_first(
    group: &Cgroup,
    place: &Hierarchy,
    files: &[&str],
    raw: &str,
    limit: &Limit,
) -> Result<()> {
    let mut last = Errno::NOENT;
    for file in files {
        match group.try_set(place, file, raw) {
            Ok(()) => return Ok(()),
            Err(errno) => last = errno,
        }
        if last != Errno::NOENT {
            break;
        }
    }
    Err(group.refused(place, files.last().copied().unwrap_or_default(), limit, last))
}
