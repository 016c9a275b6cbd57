//! A container's limits in the OCI's terms.

use dhow_error::Result;
use dhow_spec::oci_runtime::{
    LinuxBlockIo, LinuxBlockIoBuilder, LinuxCpu, LinuxDeviceCgroup, LinuxMemory, LinuxPidsBuilder,
    LinuxResources,
};

use super::broken;
use crate::spec::Limits;

/// The period that `--cpus` is counted in.
const PERIOD_US: u64 = 100_000;

/// The limits and the device rules. What is not asked for is absent, so that nothing is written for it.
pub(super) fn build(limits: &Limits, rules: Vec<LinuxDeviceCgroup>) -> Result<LinuxResources> {
    let mut resources = LinuxResources::default();
    resources.set_devices(Some(rules));
    resources.set_memory(memory(limits));
    resources.set_cpu(cpu(limits));
    // 0 and -1 both mean no limit in Docker's requests.
    if let Some(limit) = limits.pids.filter(|limit| *limit > 0) {
        resources.set_pids(Some(LinuxPidsBuilder::default().limit(limit).build().map_err(broken)?));
    }
    resources.set_block_io(block_io(limits)?);
    Ok(resources)
}

fn memory(limits: &Limits) -> Option<LinuxMemory> {
    let given = |value: Option<i64>| value.filter(|value| *value != 0);
    let mut memory = LinuxMemory::default();
    let limit = given(limits.memory_bytes);
    memory.set_limit(limit);
    // As much swap again as memory, unless something else is asked for.
    let swap = given(limits.memory_swap_bytes);
    memory.set_swap(swap.or_else(|| limit.map(|bytes| bytes.saturating_mul(2))));
    memory.set_reservation(given(limits.memory_reservation_bytes));
    let swappiness = limits.memory_swappiness.and_then(|value| u64::try_from(value).ok());
    memory.set_swappiness(swappiness);
    memory.set_disable_oom_killer(limits.oom_kill_disable.then_some(true));
    (memory != LinuxMemory::default()).then_some(memory)
}

fn cpu(limits: &Limits) -> Option<LinuxCpu> {
    let mut cpu = LinuxCpu::default();
    cpu.set_shares(limits.cpu_shares.filter(|shares| *shares != 0));
    if let Some(nano) = limits.nano_cpus.filter(|nano| *nano != 0) {
        cpu.set_period(Some(PERIOD_US));
        cpu.set_quota(Some(nano / (1_000_000_000 / PERIOD_US as i64)));
    } else {
        cpu.set_period(limits.cpu_period_us.filter(|period| *period != 0));
        cpu.set_quota(limits.cpu_quota_us.filter(|quota| *quota != 0));
    }
    let list = |list: &String| Some(list.trim().to_owned()).filter(|list| !list.is_empty());
    cpu.set_cpus(list(&limits.cpuset_cpus));
    cpu.set_mems(list(&limits.cpuset_mems));
    (cpu != LinuxCpu::default()).then_some(cpu)
}

fn block_io(limits: &Limits) -> Result<Option<LinuxBlockIo>> {
    let Some(weight) = limits.blkio_weight.filter(|weight| *weight != 0) else { return Ok(None) };
    LinuxBlockIoBuilder::default().weight(weight).build().map(Some).map_err(broken)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_asked_is_nothing_written() {
        let resources = build(&Limits::default(), Vec::new()).unwrap();
        assert!(resources.memory().is_none() && resources.cpu().is_none());
        assert!(resources.pids().is_none() && resources.block_io().is_none());
    }

    #[test]
    fn limits_translate() {
        let limits = Limits {
            memory_bytes: Some(64 << 20),
            nano_cpus: Some(1_500_000_000),
            pids: Some(10),
            ..Limits::default()
        };
        let resources = build(&limits, Vec::new()).unwrap();
        let memory = resources.memory().as_ref().unwrap();
        assert_eq!((memory.limit(), memory.swap()), (Some(64 << 20), Some(128 << 20)));
        let cpu = resources.cpu().as_ref().unwrap();
        assert_eq!((cpu.quota(), cpu.period()), (Some(150_000), Some(100_000)));
        assert_eq!(resources.pids().as_ref().unwrap().limit(), 10);
    }
}
