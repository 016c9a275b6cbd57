//! Limits on cgroup2, and enabling controllers.
//!
//! A controller's files appear in a cgroup when its parent has the controller in
//! `cgroup.subtree_control`, which in turn needs its parent's, up to the root. A cgroup that has processes
//! of its own cannot enable any ("no internal processes"); the root is exempt. Containers are leaves
//! under a parent without processes, so the rule holds by construction.

use dhow_spec::oci_runtime::{LinuxBlockIo, LinuxMemory};
use dhow_sys::rustix::io::Errno;

use crate::Result;
use crate::control;
use crate::controller::Controllers;
use crate::group::{Cgroup, prefixes};
use crate::layout::Hierarchy;
use crate::limit::{Limit, number_or_max, show_bytes};
use crate::resources::Step;
use crate::v1::{device_weight, first_io_limit, refuse_leaf_weight, set_first};

/// Makes those of the tree's controllers available in cgroup `path`. Nothing is an error here: what could
/// not be enabled is missed, with its name, when a limit of it is set.
pub(crate) fn enable_controllers(tree: &Hierarchy, path: &str, wanted: Controllers) {
    let here = control::read(&[&tree.directory(path), "/cgroup.controllers"].concat());
    let here = Controllers::parse(here.unwrap_or_default().split_whitespace());
    let wanted = wanted.without(here);
    if wanted.is_empty() {
        return;
    }
    let words: Vec<String> =
        wanted.iter().map(|controller| format!("+{}", controller.unified_name())).collect();
    for ancestor in std::iter::once("").chain(prefixes(path).filter(|prefix| *prefix != path)) {
        let file = [&tree.directory(ancestor), "/cgroup.subtree_control"].concat();
        if control::write(&file, &words.join(" ")).is_err() {
            // All or nothing for the kernel: one that cannot be had (cpu with real-time processes about)
            // must not take the others with it.
            for word in &words {
                let _ = control::write(&file, word);
            }
        }
    }
}

pub(crate) fn memory(memory: &LinuxMemory) -> Step<impl FnOnce(&Cgroup, &Hierarchy) -> Result<()>> {
    let limit = memory.limit().filter(|bytes| *bytes != 0);
    let swap = memory.swap().filter(|bytes| *bytes != 0);
    let reservation = memory.reservation().filter(|bytes| *bytes != 0);
    let Some(first) = limit.or(swap).or(reservation) else { return Step::Nothing };
    let first = Limit::bytes("memory limit", first);
    let check = memory.check_before_update().unwrap_or(false);
    Step::Run(first, move |group: &Cgroup, place: &Hierarchy| {
        let swap_bytes = swap_only(limit, swap)?;
        if let (true, Some(bytes @ 0..)) = (check, limit) {
            refuse_below_use(group, place, bytes)?;
        }
        if let Some(bytes) = swap_bytes {
            set_swap(group, place, bytes)?;
        }
        let others = [
            ("memory limit", "memory.max", limit),
            ("memory reservation", "memory.low", reservation),
        ];
        for (what, file, bytes) in others {
            if let Some(bytes) = bytes {
                group.set(place, file, &number_or_max(bytes), &Limit::bytes(what, bytes))?;
            }
        }
        Ok(())
    })
}

/// The OCI counts memory plus swap, cgroup2 swap alone; -1 is unlimited.
fn swap_only(limit: Option<i64>, swap: Option<i64>) -> Result<Option<i64>> {
    let bad =
        |swap, why: String| Err(Limit::bytes("memory plus swap limit", swap).out_of_range(why));
    match (limit, swap) {
        (Some(..=-1), None) | (_, Some(..=-1)) => Ok(Some(-1)),
        (_, None) => Ok(None),
        (None | Some(..=-1), Some(swap)) => bad(swap, "it needs a memory limit beside it".into()),
        (Some(limit), Some(swap)) if swap < limit => {
            bad(swap, format!("it includes the memory limit, which is {}", show_bytes(limit)))
        }
        (Some(limit), Some(swap)) => Ok(Some(swap - limit)),
    }
}

/// A kernel without swap has no such file; the limit is then discarded, as Docker does.
fn set_swap(group: &Cgroup, place: &Hierarchy, bytes: i64) -> Result<()> {
    const FILE: &str = "memory.swap.max";
    match group.try_set(place, FILE, &number_or_max(bytes)) {
        // ENOENT without the controller too: then the memory limit says so better.
        Ok(()) | Err(Errno::NOENT) => Ok(()),
        Err(errno) => Err(group.refused(place, FILE, &Limit::bytes("swap limit", bytes), errno)),
    }
}

/// cgroup2 takes a limit below what is in use and kills; `checkBeforeUpdate` asks to refuse instead.
fn refuse_below_use(group: &Cgroup, place: &Hierarchy, bytes: i64) -> Result<()> {
    let file = group.file(place, "memory.current");
    let used = control::read_number(&file).unwrap_or(0);
    if i64::try_from(used).is_ok_and(|used| used <= bytes) {
        return Ok(());
    }
    Err(group.refused(place, "memory.max", &Limit::bytes("memory limit", bytes), Errno::BUSY))
}

pub(crate) fn block_io(io: &LinuxBlockIo) -> Step<impl FnOnce(&Cgroup, &Hierarchy) -> Result<()>> {
    let Some(first) = first_io_limit(io) else { return Step::Nothing };
    Step::Run(first, move |group: &Cgroup, place: &Hierarchy| {
        refuse_leaf_weight(group, io)?;
        if let Some(weight) = io.weight().filter(|weight| *weight != 0) {
            set_io_weight(group, place, weight)?;
        }
        for device in io.weight_device().iter().flatten() {
            let weight = device_weight(device)?;
            let raw = format!("{}:{} {weight}", device.major(), device.minor());
            group.set(place, "io.bfq.weight", &raw, &Limit::new("block I/O weight", &raw))?;
        }
        let throttles = [
            ("rbps", io.throttle_read_bps_device()),
            ("wbps", io.throttle_write_bps_device()),
            ("riops", io.throttle_read_iops_device()),
            ("wiops", io.throttle_write_iops_device()),
        ];
        for (key, devices) in throttles {
            for device in devices.iter().flatten() {
                let rate = match device.rate() {
                    0 => "max".to_owned(),
                    rate => rate.to_string(),
                };
                let raw = format!("{}:{} {key}={rate}", device.major(), device.minor());
                group.set(place, "io.max", &raw, &Limit::new("block I/O rate", &raw))?;
            }
        }
        Ok(())
    })
}

/// BFQ takes v1's 10 to 1000 as it is; io.cost's 1 to 10000 is stretched from it.
fn set_io_weight(group: &Cgroup, place: &Hierarchy, weight: u16) -> Result<()> {
    let limit = Limit::new("block I/O weight", weight);
    if !(10..=1000).contains(&weight) {
        return Err(limit.out_of_range("it is 10 to 1000"));
    }
    match group.try_set(place, "io.bfq.weight", &weight.to_string()) {
        Ok(()) => Ok(()),
        Err(Errno::NOENT) => {
            let stretched = 1 + (u32::from(weight) - 10) * 9999 / 990;
            set_first(group, place, &["io.weight"], &stretched.to_string(), &limit)
        }
        Err(errno) => Err(group.refused(place, "io.bfq.weight", &limit, errno)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn swap_is_what_exceeds_memory() {
        assert_eq!(swap_only(Some(100), Some(300)).unwrap(), Some(200));
        assert_eq!(swap_only(Some(100), Some(100)).unwrap(), Some(0));
        assert_eq!(swap_only(Some(100), Some(-1)).unwrap(), Some(-1));
        assert_eq!(swap_only(Some(-1), None).unwrap(), Some(-1));
        assert_eq!(swap_only(Some(100), None).unwrap(), None);
        assert!(swap_only(None, Some(100)).is_err());
        assert!(swap_only(Some(100), Some(99)).is_err());
    }

    mod on_a_fake_tree {
        use std::fs;

        use dhow_error::{Classify, Kind};
        use dhow_spec::oci_runtime::{LinuxCpuBuilder, LinuxMemoryBuilder, LinuxPidsBuilder};
        use dhow_spec::oci_runtime::{LinuxResources, LinuxResourcesBuilder};
        use tempfile::TempDir;

        use crate::controller::Controllers;
        use crate::group::Cgroup;
        use crate::layout::{Hierarchy, Layout};

        const FILES: [&str; 10] = [
            "memory.max",
            "memory.swap.max",
            "memory.low",
            "cpu.max",
            "cpu.weight",
            "cpuset.cpus",
            "cpuset.mems",
            "pids.max",
            "cgroup.procs",
            "memory.events",
        ];

        /// A tree whose root and /dhow have the files the kernel would make; the container's own come
        /// with `files`.
        fn tree(files: &[&str]) -> (TempDir, Cgroup) {
            let root = tempfile::tempdir().unwrap();
            for directory in ["", "dhow", "dhow/box"] {
                let directory = root.path().join(directory);
                fs::create_dir_all(&directory).unwrap();
                fs::write(directory.join("cgroup.subtree_control"), "").unwrap();
            }
            for file in files {
                fs::write(root.path().join("dhow/box").join(file), "").unwrap();
            }
            let unified = Hierarchy {
                mount: root.path().to_str().unwrap().to_owned(),
                root: "/".to_owned(),
                label: String::new(),
                controllers: Controllers::parse(["cpu", "cpuset", "io", "memory", "pids"]),
            };
            let layout = Layout::from_hierarchies(vec![], Some(unified));
            let group = layout.create("/dhow/box").unwrap();
            (root, group)
        }

        fn read(root: &TempDir, file: &str) -> String {
            fs::read_to_string(root.path().join("dhow/box").join(file)).unwrap()
        }

        fn resources() -> LinuxResources {
            let memory = LinuxMemoryBuilder::default()
                .limit(64_i64 << 20)
                .swap(96_i64 << 20)
                .reservation(1_i64 << 20)
                .build()
                .unwrap();
            let cpu = LinuxCpuBuilder::default()
                .shares(2_u64)
                .quota(50_000_i64)
                .cpus("0-1")
                .mems("0")
                .build()
                .unwrap();
            let pids = LinuxPidsBuilder::default().limit(-1_i64).build().unwrap();
            LinuxResourcesBuilder::default().memory(memory).cpu(cpu).pids(pids).build().unwrap()
        }

        #[test]
        fn limits_are_translated() {
            let (root, group) = tree(&FILES);
            group.apply(&resources()).unwrap();
            let want = [
                ("memory.max", "67108864"),
                ("memory.swap.max", "33554432"),
                ("memory.low", "1048576"),
                ("cpu.max", "50000 100000"),
                ("cpu.weight", "1"),
                ("cpuset.cpus", "0-1"),
                ("cpuset.mems", "0"),
                ("pids.max", "max"),
            ];
            for (file, value) in want {
                assert_eq!(read(&root, file), value, "{file}");
            }
        }

        #[test]
        fn controllers_are_enabled_above_the_container_only() {
            let (root, _) = tree(&[]);
            let all = "+cpu +cpuset +memory +blkio +pids".replace("blkio", "io");
            for (directory, want) in [("", all.as_str()), ("dhow", all.as_str()), ("dhow/box", "")]
            {
                let file = root.path().join(directory).join("cgroup.subtree_control");
                assert_eq!(fs::read_to_string(file).unwrap(), want, "{directory:?}");
            }
        }

        #[test]
        fn a_controller_that_is_not_enabled_is_said_with_those_that_are() {
            let (root, group) = tree(&["memory.max", "memory.low"]);
            fs::write(root.path().join("dhow/box/cgroup.controllers"), "memory\n").unwrap();
            let error = group.apply(&resources()).unwrap_err();
            assert_eq!(error.to_string(), "cannot set CPU shares 2 on /dhow/box");
            assert!(error.hint().unwrap().starts_with("enabled for this cgroup are: memory;"));
        }

        #[test]
        fn an_absent_controller_is_named() {
            let (_root, group) = tree(&FILES);
            let huge = dhow_spec::oci_runtime::LinuxHugepageLimitBuilder::default()
                .page_size("2MB")
                .limit(2_i64 << 20)
                .build()
                .unwrap();
            let wanted =
                LinuxResourcesBuilder::default().hugepage_limits(vec![huge]).build().unwrap();
            let error = group.apply(&wanted).unwrap_err();
            assert_eq!(error.kind(), Kind::Unsupported);
            assert_eq!(
                error.to_string(),
                "cannot set huge page limit 2 MiB on /dhow/box: the hugetlb controller is not available"
            );
        }

        #[test]
        fn raw_values_stay_in_the_cgroup() {
            let (_root, group) = tree(&FILES);
            for file in ["../memory.max", "x/y.z", "memory"] {
                let values = std::collections::HashMap::from([(file.to_owned(), "1".to_owned())]);
                let wanted = LinuxResourcesBuilder::default().unified(values).build().unwrap();
                assert_eq!(group.apply(&wanted).unwrap_err().kind(), Kind::Invalid, "{file}");
            }
        }

        #[test]
        fn use_is_read_from_the_files() {
            let (root, group) = tree(&[]);
            let files = [
                ("memory.current", "4096\n"),
                ("memory.max", "max\n"),
                ("memory.stat", "anon 1\ninactive_file 512\n"),
                ("memory.events", "low 0\nhigh 0\nmax 7\noom 2\noom_kill 3\noom_group_kill 0\n"),
                ("cpu.stat", "usage_usec 5\nuser_usec 2\nsystem_usec 3\nnr_throttled 1\n"),
                ("pids.current", "4\n"),
                ("pids.max", "9\n"),
                ("io.stat", "8:0 rbytes=1 wbytes=2 rios=3 wios=4\n"),
            ];
            for (file, text) in files {
                fs::write(root.path().join("dhow/box").join(file), text).unwrap();
            }
            let stats = group.stats().unwrap();
            assert_eq!((stats.memory_bytes, stats.memory_inactive_file_bytes), (4096, 512));
            assert_eq!((stats.memory_limit_bytes, stats.memory_failures), (None, 7));
            assert_eq!((stats.cpu_ns, stats.cpu_user_ns, stats.cpu_system_ns), (5000, 2000, 3000));
            assert_eq!(stats.throttling.throttled_periods, 1);
            assert_eq!((stats.pids, stats.pids_limit), (4, Some(9)));
            assert_eq!((stats.io.read_bytes, stats.io.writes), (1, 4));
            assert_eq!(group.oom_kills().unwrap(), 3);
        }
    }
}
