//! Changing the limits of a running container.
//!
//! ```text
//!   what stands now is noted ─► the request is completed ─► limits are set
//!                                                             └ one refused: what stood is put back
//! ```
//!
//! A request may name one half of what cgroup2 keeps in one value: memory without swap, a period without
//! its quota. The other half is what the kernel has, whoever put it there.
//!
//! Devices are not touched, as with runc: something else may have added some since.

use dhow_spec::oci_runtime::{LinuxCpu, LinuxMemory, LinuxResources};

use crate::controller::Controller;
use crate::group::Cgroup;
use crate::layout::Hierarchy;
use crate::{Result, control, resources};

/// Files of one value each that an update may write, by the controller that has them. Those of the other
/// version do not exist and are passed over.
const FILES: &[(Controller, &[&str])] = &[
    (
        Controller::Memory,
        &[
            "memory.limit_in_bytes",
            "memory.memsw.limit_in_bytes",
            "memory.soft_limit_in_bytes",
            "memory.swappiness",
            "memory.max",
            "memory.swap.max",
            "memory.low",
        ],
    ),
    (
        Controller::Cpu,
        &[
            "cpu.idle",
            "cpu.shares",
            "cpu.cfs_quota_us",
            "cpu.cfs_period_us",
            "cpu.cfs_burst_us",
            "cpu.rt_runtime_us",
            "cpu.rt_period_us",
            "cpu.weight",
            "cpu.max",
            "cpu.max.burst",
        ],
    ),
    (Controller::Cpuset, &["cpuset.cpus", "cpuset.mems"]),
    (Controller::Pids, &["pids.max"]),
];

impl Cgroup {
    /// Changes limits of a running container: those that are given, in the OCI's terms as with
    /// [`Cgroup::apply`]. All or none: if one is refused, those of memory, cpu, cpuset and pids are put
    /// back. Devices are left as they are.
    ///
    /// # Errors
    /// As [`Cgroup::apply`].
    pub fn update(&self, wanted: &LinuxResources) -> Result<()> {
        self.place.check()?;
        let before = self.values(wanted);
        let mut wanted = wanted.clone();
        if let Some(memory) = wanted.memory() {
            let memory = self.complete_memory(*memory);
            wanted.set_memory(Some(memory));
        }
        if let Some(cpu) = wanted.cpu() {
            let cpu = self.complete_cpu(cpu.clone());
            wanted.set_cpu(Some(cpu));
        }
        let result = resources::apply_limits(self, &wanted);
        if result.is_err() {
            restore(&before);
        }
        result
    }

    /// Files that may be written, with what they hold.
    fn values(&self, wanted: &LinuxResources) -> Vec<(String, String)> {
        let is_wanted = |controller| match controller {
            Controller::Memory => wanted.memory().is_some(),
            Controller::Pids => wanted.pids().is_some(),
            _ => wanted.cpu().is_some(),
        };
        let mut values = Vec::new();
        for (controller, files) in FILES.iter().filter(|(controller, _)| is_wanted(*controller)) {
            let place = self.layout.v1(*controller).or(self.layout.unified(*controller));
            for name in place.iter().flat_map(|_| files.iter()) {
                let Some(place) = place else { continue };
                let file = self.file(place, name);
                if let Ok(text) = control::read(&file) {
                    values.push((file, text.trim().to_owned()));
                }
            }
        }
        values
    }

    /// The tree whose limits of `controller` are set together, if it is cgroup2.
    fn tree(&self, controller: Controller) -> Option<&Hierarchy> {
        if self.layout.v1(controller).is_some() { None } else { self.layout.unified(controller) }
    }

    /// The OCI limits memory plus swap, cgroup2 swap alone: with one of memory and swap changed, their sum
    /// stays or is reached.
    fn complete_memory(&self, mut memory: LinuxMemory) -> LinuxMemory {
        let Some(tree) = self.tree(Controller::Memory) else { return memory };
        let given = |bytes: Option<i64>| bytes.filter(|bytes| *bytes != 0);
        let limited = |name| {
            let number = control::read_number(&self.file(tree, name)).ok()?;
            i64::try_from(number).ok()
        };
        match (given(memory.limit()), given(memory.swap())) {
            (Some(0..), None) => {
                let sum = limited("memory.max").zip(limited("memory.swap.max"));
                memory.set_swap(sum.map(|(limit, swap)| limit.saturating_add(swap)));
            }
            (None, Some(0..)) => {
                memory.set_limit(limited("memory.max"));
            }
            _ => {}
        }
        memory
    }

    /// cgroup2 has quota and period in one file.
    fn complete_cpu(&self, mut cpu: LinuxCpu) -> LinuxCpu {
        let Some(tree) = self.tree(Controller::Cpu) else { return cpu };
        let given = (
            cpu.quota().is_some_and(|quota| quota != 0),
            cpu.period().is_some_and(|period| period != 0),
        );
        if given.0 == given.1 {
            return cpu;
        }
        let text = control::read(&self.file(tree, "cpu.max")).unwrap_or_default();
        let Some((quota, period)) = text.trim().split_once(' ') else { return cpu };
        if given.0 {
            cpu.set_period(period.parse().ok());
        } else {
            // "max" is no number: without a quota there is none.
            cpu.set_quota(quota.parse().ok());
        }
        cpu
    }
}

/// Writes the values back that differ. Some fit only once others are back, so each has a second chance;
/// nothing else can be done about one that does not.
fn restore(before: &[(String, String)]) {
    for (file, value) in before.iter().chain(before) {
        if control::read(file).is_ok_and(|now| now.trim() != value) {
            let _ = control::write(file, value);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use dhow_spec::oci_runtime::{LinuxPidsBuilder, LinuxResourcesBuilder};

    use super::*;
    use crate::controller::Controllers;
    use crate::layout::Layout;

    /// A cgroup2 directory with these files.
    fn group(files: &[(&str, &str)]) -> (tempfile::TempDir, Cgroup) {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir_all(root.path().join("box")).unwrap();
        for (file, text) in files {
            fs::write(root.path().join("box").join(file), text).unwrap();
        }
        let tree = Hierarchy {
            mount: root.path().to_str().unwrap().to_owned(),
            root: "/".to_owned(),
            label: String::new(),
            controllers: Controllers::parse(["cpu", "memory", "pids"]),
        };
        let group = Layout::from_hierarchies(vec![], Some(tree)).open("/box");
        (root, group)
    }

    fn memory(limit: Option<i64>, swap: Option<i64>) -> LinuxMemory {
        let mut memory = LinuxMemory::default();
        memory.set_limit(limit);
        memory.set_swap(swap);
        memory
    }

    #[test]
    fn the_other_half_is_what_the_kernel_has() {
        let files = [("memory.max", "100\n"), ("memory.swap.max", "50\n"), ("cpu.max", "5 1000\n")];
        let (_root, group) = group(&files);
        let both = |limit, swap| {
            let memory = group.complete_memory(memory(limit, swap));
            (memory.limit(), memory.swap())
        };
        assert_eq!(both(Some(120), None), (Some(120), Some(150)));
        assert_eq!(both(None, Some(300)), (Some(100), Some(300)));
        assert_eq!(both(Some(-1), None), (Some(-1), None));
        assert_eq!(both(None, Some(-1)), (None, Some(-1)));
        let mut cpu = LinuxCpu::default();
        cpu.set_period(Some(2000));
        assert_eq!(group.complete_cpu(cpu).quota(), Some(5));
        let mut cpu = LinuxCpu::default();
        cpu.set_quota(Some(7));
        assert_eq!(group.complete_cpu(cpu).period(), Some(1000));
    }

    #[test]
    fn without_limits_there_is_nothing_to_complete() {
        let files = [("memory.max", "max\n"), ("memory.swap.max", "max\n"), ("cpu.max", "max 9\n")];
        let (_root, group) = group(&files);
        assert_eq!(group.complete_memory(memory(Some(120), None)).swap(), None);
        let mut cpu = LinuxCpu::default();
        cpu.set_period(Some(2000));
        assert_eq!(group.complete_cpu(cpu).quota(), None);
    }

    #[test]
    fn what_stood_is_put_back_when_one_limit_is_refused() {
        let files = [("memory.max", "100\n"), ("memory.swap.max", "50\n"), ("memory.low", "max\n")];
        let (root, group) = group(&files);
        let wanted = LinuxResourcesBuilder::default()
            .memory(memory(Some(80), None))
            .pids(LinuxPidsBuilder::default().limit(7_i64).build().unwrap())
            .build()
            .unwrap();
        // There is no pids.max.
        group.update(&wanted).unwrap_err();
        let read = |file| fs::read_to_string(root.path().join("box").join(file)).unwrap();
        assert!(read("memory.max").starts_with("100"));
        assert!(read("memory.swap.max").starts_with("50"));
    }
}
