//! cgroups on the machine that runs the tests, as root: what a container would notice.
//!
//! Every test has a path of its own and removes it. Tests of v1 move the calling thread only; whole
//! processes that are moved are children.
#![allow(clippy::disallowed_methods, reason = "tests start processes to put into cgroups")]
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::fs;
use std::io::Write;
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Command, Stdio};

use dhow_cgroup::{Cgroup, CgroupError, Controller, Layout, Mode};
use dhow_error::{Classify, Kind, chain};
use dhow_spec::oci_runtime::{
    LinuxCpuBuilder, LinuxDeviceCgroup, LinuxDeviceType, LinuxHugepageLimitBuilder,
    LinuxMemoryBuilder, LinuxNetworkBuilder, LinuxPidsBuilder, LinuxResources,
    LinuxResourcesBuilder,
};

/// A cgroup that goes away with the test, also when it fails.
struct Scratch {
    layout: Layout,
    group: Cgroup,
    parent: String,
}

impl Scratch {
    fn new(name: &str) -> Self {
        let layout = Layout::detect().unwrap();
        let parent = format!("/dhow-test-{}-{name}", std::process::id());
        let group = layout.create(&format!("{parent}/box")).unwrap();
        Self { layout, group, parent }
    }

    fn read(&self, controller: &str, file: &str) -> String {
        let path = format!("/sys/fs/cgroup/{controller}{}/{file}", self.group.path());
        fs::read_to_string(path).unwrap().trim().to_owned()
    }

    /// Whether the memory controller is v1's, where these tests look for its files.
    fn has_v1(&self) -> bool {
        self.layout.mode() != Mode::V2
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let killed = self.group.kill();
        let destroyed = self.group.destroy();
        let parent = self.layout.remove_parent(&self.parent);
        if !std::thread::panicking() {
            killed.unwrap();
            destroyed.unwrap();
            assert!(parent.unwrap(), "the parent is left behind");
            assert!(!self.group.exists());
        }
    }
}

/// A shell that waits for a line before it runs `script`.
fn waiting_shell(script: &str) -> Child {
    Command::new("/bin/sh")
        .args(["-c", &format!("read line; {script}")])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

fn go(child: &mut Child) {
    child.stdin.take().unwrap().write_all(b"\n").unwrap();
}

fn memory(limit: i64, swap: i64) -> LinuxResources {
    let memory = LinuxMemoryBuilder::default().limit(limit).swap(swap).build().unwrap();
    LinuxResourcesBuilder::default().memory(memory).build().unwrap()
}

#[test]
fn limits_arrive_in_the_kernel() {
    let scratch = Scratch::new("limits");
    if !scratch.has_v1() {
        return;
    }
    let cpu = LinuxCpuBuilder::default()
        .shares(512_u64)
        .quota(50_000_i64)
        .period(200_000_u64)
        .cpus("0")
        .build()
        .unwrap();
    let resources = LinuxResourcesBuilder::default()
        .memory(
            LinuxMemoryBuilder::default()
                .limit(64_i64 << 20)
                .reservation(32_i64 << 20)
                .swap(64_i64 << 20)
                .swappiness(10_u64)
                .build()
                .unwrap(),
        )
        .cpu(cpu)
        .pids(LinuxPidsBuilder::default().limit(17_i64).build().unwrap())
        .build()
        .unwrap();
    scratch.group.apply(&resources).unwrap();
    assert_eq!(scratch.read("memory", "memory.limit_in_bytes"), "67108864");
    assert_eq!(scratch.read("memory", "memory.memsw.limit_in_bytes"), "67108864");
    assert_eq!(scratch.read("memory", "memory.soft_limit_in_bytes"), "33554432");
    assert_eq!(scratch.read("memory", "memory.swappiness"), "10");
    assert_eq!(scratch.read("cpu", "cpu.shares"), "512");
    assert_eq!(scratch.read("cpu", "cpu.cfs_quota_us"), "50000");
    assert_eq!(scratch.read("cpu", "cpu.cfs_period_us"), "200000");
    assert_eq!(scratch.read("cpuset", "cpuset.cpus"), "0");
    assert_eq!(scratch.read("pids", "pids.max"), "17");

    let stats = scratch.group.stats().unwrap();
    assert_eq!(stats.memory_limit_bytes, Some(64 << 20));
    assert_eq!(stats.pids_limit, Some(17));
}

#[test]
fn memory_and_swap_are_raised_and_lowered() {
    let scratch = Scratch::new("memsw");
    if !scratch.has_v1() {
        return;
    }
    for (limit, swap) in [(64, 128), (256, 512), (16, 16), (512, 512)] {
        scratch.group.apply(&memory(limit << 20, swap << 20)).unwrap();
        let limit_now = scratch.read("memory", "memory.limit_in_bytes");
        assert_eq!(limit_now, (limit << 20).to_string());
        assert_eq!(scratch.read("memory", "memory.memsw.limit_in_bytes"), (swap << 20).to_string());
    }
    scratch.group.apply(&memory(-1, 0)).unwrap();
    let stats = scratch.group.stats().unwrap();
    assert_eq!(stats.memory_limit_bytes, None);

    let error = scratch.group.apply(&memory(64 << 20, 32 << 20)).unwrap_err();
    assert_eq!(error.kind(), Kind::Invalid);
    assert_eq!(
        error.to_string(),
        "memory plus swap limit 32 MiB is out of range: it includes the memory limit, which is 64 MiB"
    );
}

#[test]
fn what_cannot_be_set_is_named_with_value_path_and_hint() {
    let scratch = Scratch::new("faults");
    if !scratch.has_v1() {
        return;
    }
    let cpu = LinuxCpuBuilder::default().cpus("4000").build().unwrap();
    let resources = LinuxResourcesBuilder::default().cpu(cpu).build().unwrap();
    let error = scratch.group.apply(&resources).unwrap_err();
    let path = scratch.group.path();
    let text = chain(&error);
    assert!(text.starts_with(&format!("cannot set CPU set 4000 on {path}: ")), "{text}");
    assert!(error.hint().unwrap().starts_with("the parent has 0"), "{:?}", error.hint());

    // A controller that no hierarchy has, on v1 and hybrid machines without net_cls.
    if !scratch.layout.supports(Controller::NetCls) {
        let network = LinuxNetworkBuilder::default().class_id(7_u32).build().unwrap();
        let resources = LinuxResourcesBuilder::default().network(network).build().unwrap();
        let error = scratch.group.apply(&resources).unwrap_err();
        assert_eq!(error.kind(), Kind::Unsupported);
        assert_eq!(
            error.to_string(),
            format!(
                "cannot set network class 7 on {path}: the net_cls controller is not available"
            )
        );
        assert!(error.hint().unwrap().contains("net_cls"), "{:?}", error.hint());
    }
}

/// On a hybrid machine a controller may be left to cgroup2: it is enabled down the path when wanted.
#[test]
fn huge_pages_are_limited_wherever_their_controller_is() {
    let scratch = Scratch::new("huge");
    if !scratch.layout.supports(Controller::Hugetlb) || scratch.layout.mode() == Mode::V2 {
        return;
    }
    let root = "/sys/fs/cgroup/unified/cgroup.subtree_control";
    let before = fs::read_to_string(root).unwrap_or_default();
    let huge = LinuxHugepageLimitBuilder::default().page_size("2MB").limit(4_i64 << 20);
    let resources = LinuxResourcesBuilder::default()
        .hugepage_limits(vec![huge.build().unwrap()])
        .build()
        .unwrap();
    scratch.group.apply(&resources).unwrap();
    let v1 = format!("/sys/fs/cgroup/hugetlb{}/hugetlb.2MB.limit_in_bytes", scratch.group.path());
    let v2 = format!("/sys/fs/cgroup/unified{}/hugetlb.2MB.max", scratch.group.path());
    let value = fs::read_to_string(v1).or_else(|_| fs::read_to_string(v2)).unwrap();
    assert_eq!(value.trim(), "4194304");
    drop(scratch);
    if !before.contains("hugetlb") {
        // Refused if somebody else has come to use it meanwhile.
        let _ = fs::write(root, "-hugetlb");
    }
}

#[test]
fn a_limit_below_what_is_in_use_is_refused() {
    let scratch = Scratch::new("busy");
    if !scratch.has_v1() {
        return;
    }
    // A shell that keeps 20 MiB in a variable, and says so.
    let mut child = waiting_shell("x=$(head -c 20000000 /dev/zero | tr '\\0' x); echo; read line");
    scratch.group.add(child.id() as i32).unwrap();
    child.stdin.as_mut().unwrap().write_all(b"\n").unwrap();
    let mut byte = [0];
    std::io::Read::read_exact(child.stdout.as_mut().unwrap(), &mut byte).unwrap();
    let error = scratch.group.apply(&memory(4 << 20, 4 << 20)).unwrap_err();
    let text = chain(&error).to_lowercase();
    assert!(text.contains("cannot set memory limit 4 mib on"), "{text}");
    assert!(text.contains("resource busy"), "{text}");
    assert!(error.hint().unwrap().starts_with("already uses "), "{:?}", error.hint());
    scratch.group.kill().unwrap();
    child.wait().unwrap();
}

#[test]
fn a_thread_moves_itself_in_without_the_global_lock() {
    let scratch = Scratch::new("entry");
    let entry = scratch.group.entry().unwrap();
    assert_eq!(entry.directory().is_some(), scratch.layout.mode() != Mode::V1);
    let membership = std::thread::spawn(move || {
        entry.enter().unwrap();
        fs::read_to_string("/proc/thread-self/cgroup").unwrap()
    })
    .join()
    .unwrap();
    let inside = membership.lines().filter(|line| line.ends_with(scratch.group.path())).count();
    let v1 = membership.lines().filter(|line| !line.starts_with("0::")).count();
    assert_eq!(inside, v1, "{membership}");
}

#[test]
fn a_process_is_added_everywhere_and_killed() {
    let scratch = Scratch::new("kill");
    let mut child = waiting_shell("exit 3");
    let pid = child.id() as i32;
    scratch.group.add(pid).unwrap();
    let membership = fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap();
    assert!(membership.lines().all(|line| line.ends_with(scratch.group.path())), "{membership}");
    assert_eq!(scratch.group.procs().unwrap(), [pid]);
    assert!(!scratch.layout.remove_parent(&scratch.parent).unwrap());
    scratch.group.kill().unwrap();
    assert_eq!(child.wait().unwrap().signal(), Some(9));
    assert_eq!(scratch.group.procs().unwrap(), [0_i32; 0]);
}

#[test]
fn frozen_processes_stand_still_and_can_be_killed() {
    let scratch = Scratch::new("freeze");
    let mut child = waiting_shell("exit 3");
    scratch.group.add(child.id() as i32).unwrap();
    scratch.group.freeze().unwrap();
    go(&mut child);
    assert!(child.try_wait().unwrap().is_none());
    scratch.group.thaw().unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(3));

    let mut child = waiting_shell("exit 3");
    scratch.group.add(child.id() as i32).unwrap();
    scratch.group.freeze().unwrap();
    scratch.group.kill().unwrap();
    assert_eq!(child.wait().unwrap().signal(), Some(9));
}

#[test]
fn the_oom_killer_is_counted() {
    let scratch = Scratch::new("oom");
    if !scratch.layout.supports(Controller::Memory) {
        return;
    }
    scratch.group.apply(&memory(16 << 20, 16 << 20)).unwrap();
    assert_eq!(scratch.group.oom_kills().unwrap(), 0);
    let mut child = waiting_shell("exec tail /dev/zero");
    scratch.group.add(child.id() as i32).unwrap();
    go(&mut child);
    assert_eq!(child.wait().unwrap().signal(), Some(9));
    assert_eq!(scratch.group.oom_kills().unwrap(), 1);
}

#[test]
fn devices_are_denied_but_for_those_allowed() {
    let scratch = Scratch::new("devices");
    if !scratch.has_v1() {
        return;
    }
    let mut deny = LinuxDeviceCgroup::default();
    deny.set_access(Some("rwm".into()));
    let mut null = LinuxDeviceCgroup::default();
    null.set_allow(true).set_typ(Some(LinuxDeviceType::C)).set_major(Some(1)).set_minor(Some(3));
    null.set_access(Some("rw".into()));
    let resources = LinuxResourcesBuilder::default().devices(vec![deny, null]).build().unwrap();
    scratch.group.apply(&resources).unwrap();
    assert_eq!(scratch.read("devices", "devices.list"), "c 1:3 rw");
    let entry = scratch.group.entry().unwrap();
    let (null, zero) = std::thread::spawn(move || {
        entry.enter().unwrap();
        (fs::File::open("/dev/null").is_ok(), fs::File::open("/dev/zero").is_ok())
    })
    .join()
    .unwrap();
    assert!(null && !zero);
}

#[test]
fn cgroups_made_inside_go_with_it() {
    let scratch = Scratch::new("nested");
    let inner = scratch.layout.create(&format!("{}/a/b", scratch.group.path())).unwrap();
    let mut child = waiting_shell("exit 3");
    inner.add(child.id() as i32).unwrap();
    assert_eq!(scratch.group.procs().unwrap(), [child.id() as i32]);
    scratch.group.kill().unwrap();
    child.wait().unwrap();
    scratch.group.destroy().unwrap();
    assert!(!inner.exists());
    scratch.group.destroy().unwrap();
}

#[test]
fn a_cpuset_is_filled_from_its_parent() {
    let scratch = Scratch::new("cpuset");
    if !scratch.has_v1() {
        return;
    }
    let root = fs::read_to_string("/sys/fs/cgroup/cpuset/cpuset.mems").unwrap();
    assert_eq!(scratch.read("cpuset", "cpuset.mems"), root.trim());
    let second = scratch.layout.create(&format!("{}/second", scratch.parent)).unwrap();
    let file = format!("/sys/fs/cgroup/cpuset{}/cpuset.mems", second.path());
    assert_eq!(fs::read_to_string(file).unwrap(), root);
    second.destroy().unwrap();
}

#[test]
fn an_existing_directory_is_used() {
    let scratch = Scratch::new("reuse");
    let again = scratch.layout.create(scratch.group.path()).unwrap();
    assert!(again.exists());
    assert!(matches!(scratch.layout.create("/../x"), Err(CgroupError::BadPath { .. })));
}

#[test]
fn somebody_elses_cgroup_is_not_taken() {
    let scratch = Scratch::new("taken");
    let mut child = waiting_shell("exit 3");
    scratch.group.add(child.id() as i32).unwrap();
    let error = scratch.layout.create(scratch.group.path()).unwrap_err();
    assert_eq!(error.kind(), Kind::Conflict);
    assert_eq!(
        error.to_string(),
        format!("cgroup {} is not empty: it has 1 process", scratch.group.path())
    );
    go(&mut child);
    assert_eq!(child.wait().unwrap().code(), Some(3));
    scratch.group.freeze().unwrap();
    let error = scratch.layout.create(scratch.group.path()).unwrap_err();
    assert!(matches!(error, CgroupError::Frozen { .. }), "{error:?}");
    assert!(scratch.group.exists());
    scratch.group.thaw().unwrap();
    scratch.layout.create(scratch.group.path()).unwrap();
}

#[test]
fn an_update_changes_all_or_nothing() {
    let scratch = Scratch::new("update");
    if !scratch.has_v1() {
        return;
    }
    scratch.group.apply(&memory(64 << 20, 64 << 20)).unwrap();
    let cpu = LinuxCpuBuilder::default().shares(512_u64).quota(20_000_i64).build().unwrap();
    let resources = LinuxResourcesBuilder::default().cpu(cpu).build().unwrap();
    scratch.group.update(&resources).unwrap();
    let mut wanted = memory(32 << 20, 48 << 20);
    let cpu = LinuxCpuBuilder::default()
        .shares(256_u64)
        .quota(30_000_i64)
        .period(50_000_u64)
        .cpus("4000")
        .build()
        .unwrap();
    wanted.set_cpu(Some(cpu.clone()));
    scratch.group.update(&wanted).unwrap_err();
    let read = |controller, file| scratch.read(controller, file);
    assert_eq!(read("memory", "memory.limit_in_bytes"), (64 << 20).to_string());
    assert_eq!(read("memory", "memory.memsw.limit_in_bytes"), (64 << 20).to_string());
    assert_eq!(read("cpu", "cpu.shares"), "512");
    assert_eq!(read("cpu", "cpu.cfs_quota_us"), "20000");
    assert_eq!(read("cpu", "cpu.cfs_period_us"), "100000");

    // A burst beyond the old quota waits for the new one; an idle cgroup has no shares.
    let cpu = LinuxCpuBuilder::default().quota(60_000_i64).burst(50_000_u64).idle(1_i64);
    let resources = LinuxResourcesBuilder::default().cpu(cpu.build().unwrap()).build().unwrap();
    scratch.group.update(&resources).unwrap();
    assert_eq!(read("cpu", "cpu.cfs_burst_us"), "50000");
    assert_eq!(read("cpu", "cpu.idle"), "1");
    let cpu = LinuxCpuBuilder::default().idle(0_i64).shares(300_u64).build().unwrap();
    let resources = LinuxResourcesBuilder::default().cpu(cpu).build().unwrap();
    scratch.group.update(&resources).unwrap();
    assert_eq!(read("cpu", "cpu.shares"), "300");
}

#[test]
fn the_oom_killer_is_heard() {
    let scratch = Scratch::new("heard");
    if !scratch.layout.supports(Controller::Memory) {
        return;
    }
    scratch.group.apply(&memory(16 << 20, 16 << 20)).unwrap();
    let mut watch = scratch.group.watch_oom().unwrap();
    assert_eq!(watch.take().unwrap(), 0);
    let mut child = waiting_shell("exec tail /dev/zero");
    scratch.group.add(child.id() as i32).unwrap();
    go(&mut child);
    assert_eq!(child.wait().unwrap().signal(), Some(9));
    assert!(watch.take().unwrap() > 0);
    assert_eq!(watch.take().unwrap(), 0);
    scratch.group.destroy().unwrap();
    assert_eq!(watch.take().unwrap(), 0);
}

#[test]
fn a_report_tells_what_is_used() {
    let scratch = Scratch::new("report");
    let mut child = waiting_shell("x=$(head -c 5000000 /dev/zero | tr '\\0' x); echo; read line");
    scratch.group.add(child.id() as i32).unwrap();
    child.stdin.as_mut().unwrap().write_all(b"\n").unwrap();
    let mut byte = [0];
    std::io::Read::read_exact(child.stdout.as_mut().unwrap(), &mut byte).unwrap();
    let report = scratch.group.report().unwrap();
    assert_eq!(report.pids, 1);
    assert!(report.cpu.total_ns > 0);
    if scratch.has_v1() {
        assert!(report.memory.usage.usage > 4_000_000, "{report:?}");
        assert!(report.memory.usage.max >= report.memory.usage.usage);
        let sum: u64 = report.cpu.by_processor_ns.iter().sum();
        assert!(sum >= report.cpu.total_ns);
        assert!(!report.cpuset.cpus.is_empty());
        assert!(report.memory.details.iter().any(|(key, value)| key == "rss" && *value > 0));
    }
    if scratch.layout.mode() != Mode::V1 {
        assert!(report.memory.pressure.is_some(), "{report:?}");
    }
    scratch.group.kill().unwrap();
    child.wait().unwrap();
}
