//! Limits on v1 hierarchies.
//!
//! Values are the OCI's; 0 means "not asked for" where runc takes it so. Orders matter when limits of a
//! running container change: memory never exceeds memory+swap at any moment.

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
        && memory.swappiness().is_none()
        && !memory.disable_oom_killer().unwrap_or(false);
    if nothing {
        return Step::Nothing;
    }
    let limit = Limit::bytes("memory limit", memory.limit().unwrap_or(-1));
    Step::Run(limit, move |group: &Cgroup, place: &Hierarchy| {
        set_memory_and_swap(group, place, memory)?;
        if let Some(bytes) = memory.reservation().filter(|bytes| *bytes != 0) {
            let limit = Limit::bytes("memory reservation", bytes);
            group.set(place, "memory.soft_limit_in_bytes", &bytes.to_string(), &limit)?;
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
            let weight = device_weight(device)?;
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

/// The weight of a device's entry, which is there for it.
pub(crate) fn device_weight(device: &LinuxWeightDevice) -> Result<u16> {
    device.weight().ok_or_else(|| {
        let shown = format!("of device {}:{}", device.major(), device.minor());
        Limit::new("block I/O weight", shown).out_of_range("the entry has no weight")
    })
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
