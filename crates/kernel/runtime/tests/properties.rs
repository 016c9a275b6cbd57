//! Small properties of a process: schedule, priorities, memory, personality, labels, clocks.

#![allow(clippy::unwrap_used)]

mod stage;

use std::fs;

use serde_json::{Value, json};
use stage::Stage;

/// A field of /proc/PID/stat, counted as proc(5) does.
fn stat_field(field: usize) -> String {
    // The name has no space in it.
    format!("set -- $(cat /proc/self/stat); shift {}; echo $1", field - 1)
}

fn fails_with(stage: &Stage, message: &str) {
    let error = stage.try_run().err().unwrap();
    assert_eq!(error.message(), message);
}

/// Shows: config/scheduler-1
#[test]
fn the_scheduler() {
    let script = [stat_field(19), stat_field(40), stat_field(41)].join("; ");
    let run = |scheduler: Value| {
        Stage::new(&script).set("/process/scheduler", scheduler).try_run().map(|output| output.out)
    };
    assert_eq!(run(json!({ "policy": "SCHED_BATCH", "nice": 7 })).unwrap(), "7\n0\n3\n");
    assert_eq!(run(json!({ "policy": "SCHED_OTHER", "nice": -5 })).unwrap(), "-5\n0\n0\n");
    assert_eq!(run(json!({ "policy": "SCHED_IDLE" })).unwrap(), "0\n0\n5\n");
    // Real time may have no share in a cgroup; then that is said.
    match run(json!({ "policy": "SCHED_RR", "priority": 3 })) {
        Ok(out) => assert_eq!(out, "0\n3\n2\n"),
        Err(error) => {
            assert_eq!(error.message(), "cannot set process.scheduler: operation not permitted");
        }
    }
    let error = run(json!({ "policy": "SCHED_FIFO", "priority": 0 })).unwrap_err();
    assert_eq!(error.message(), "cannot set process.scheduler: invalid argument");
    let error = run(json!({ "policy": "SCHED_ISO" })).unwrap_err();
    assert_eq!(error.message(), "process.scheduler.policy: Linux has no SCHED_ISO");
}

#[test]
fn a_deadline() {
    // The shell cannot fork with a deadline: it only looks at itself.
    let script = "read a < /proc/self/stat; set -- $a; shift 40; echo $1";
    let scheduler = json!({ "policy": "SCHED_DEADLINE",
        "runtime": 1_000_000, "deadline": 10_000_000, "period": 10_000_000 });
    let stage = Stage::new(script).set("/process/scheduler", scheduler.clone());
    match stage.try_run() {
        Ok(output) => assert_eq!(output.out, "6\n", "{}", output.err),
        // No bandwidth is left for it on this machine, or its CPUs are not all of them.
        Err(error) => {
            assert!(error.message().starts_with("cannot set process.scheduler"), "{error}");
        }
    }
    let stage = Stage::new("exec sleep 100");
    let running = stage.start();
    let mut process = stage.process(&["/bin/true"]);
    process["scheduler"] = scheduler;
    let error = stage.exec(&running, &process).err().unwrap();
    assert!(error.message().starts_with("process.scheduler.policy: SCHED_DEADLINE"), "{error}");
    process["scheduler"] = json!({ "policy": "SCHED_BATCH", "nice": 3 });
    process["args"] = json!(["/bin/sh", "-c", stat_field(41)]);
    assert_eq!(stage.exec(&running, &process).unwrap().out, "3\n");
    stage::kill(&running);
}

#[test]
fn the_io_priority() {
    let stage = Stage::new("busybox ionice -p $$")
        .set("/process/ioPriority", json!({ "class": "IOPRIO_CLASS_BE", "priority": 6 }));
    assert_eq!(stage.run().out, "best-effort: prio 6\n");
    let stage = stage.set("/process/ioPriority", json!({ "class": "IOPRIO_CLASS_IDLE" }));
    assert_eq!(stage.run().out, "idle\n");
    let stage =
        stage.set("/process/ioPriority", json!({ "class": "IOPRIO_CLASS_RT", "priority": 8 }));
    fails_with(&stage, "process.ioPriority.priority is not from 0 to 7");
}

/// Shows: config-linux/memory-policy-1
#[test]
fn the_memory_policy() {
    let stage = Stage::new(
        "grep -c 'bind.*:0 ' /proc/self/numa_maps > /n; test $(cat /n) -gt 2 && echo bound",
    )
    .set(
        "/linux/memoryPolicy",
        json!({ "mode": "MPOL_BIND", "nodes": "0", "flags": ["MPOL_F_STATIC_NODES"] }),
    );
    let output = stage.run();
    let without_numa = !std::path::Path::new("/proc/self/numa_maps").exists();
    assert!(output.out == "bound\n" || without_numa, "{}{}", output.out, output.err);
    let stage = stage.set("/linux/memoryPolicy", json!({ "mode": "MPOL_BIND", "nodes": "0-x" }));
    fails_with(&stage, "linux.memoryPolicy.nodes: \"0-x\" is no list of nodes such as 0-3,7");
    let stage = stage.set("/linux/memoryPolicy", json!({ "mode": "MPOL_DEFAULT", "nodes": "0" }));
    fails_with(&stage, "cannot set linux.memoryPolicy: invalid argument");
}

#[test]
fn the_personality() {
    let stage =
        Stage::new("busybox uname -m").set("/linux/personality", json!({ "domain": "LINUX32" }));
    assert_eq!(stage.run().out, "i686\n");
    let running =
        Stage::new("exec sleep 100").set("/linux/personality", json!({ "domain": "LINUX32" }));
    let first = running.start();
    let process = running.process(&["/bin/busybox", "uname", "-m"]);
    assert_eq!(running.exec(&first, &process).unwrap().out, "i686\n", "an exec has it too");
    stage::kill(&first);
    let stage = stage
        .set("/linux/personality", json!({ "domain": "LINUX", "flags": ["ADDR_NO_RANDOMIZE"] }));
    fails_with(&stage, "linux.personality.flags: there are no flags of a personality");
}

#[test]
fn the_domain_name() {
    let output =
        Stage::new("cat /proc/sys/kernel/domainname").set("/domainname", json!("example.org"));
    assert_eq!(output.run().out, "example.org\n");
}

#[test]
fn the_cpus_of_an_exec() {
    let stage = Stage::new("exec sleep 100");
    let running = stage.start();
    let mut process = stage.process(&["/bin/grep", "Cpus_allowed_list", "/proc/self/status"]);
    let all = stage.exec(&running, &process).unwrap().out;
    process["execCPUAffinity"] = json!({ "initial": "0", "final": "0" });
    assert_eq!(stage.exec(&running, &process).unwrap().out, "Cpus_allowed_list:\t0\n");
    // We are where we were.
    process.as_object_mut().unwrap().remove("execCPUAffinity");
    assert_eq!(stage.exec(&running, &process).unwrap().out, all);
    process["execCPUAffinity"] = json!({ "final": "1000" });
    let error = stage.exec(&running, &process).err().unwrap();
    assert_eq!(error.message(), "cannot set process.execCPUAffinity.final: invalid argument");
    stage::kill(&running);
}

/// Shows: config-linux/intel-rdt-1
#[test]
fn labels_that_the_machine_does_not_know() {
    let has = |path: &str| std::path::Path::new(path).exists();
    if !has("/sys/fs/selinux/enforce") {
        let stage =
            Stage::new("true").set("/process/selinuxLabel", json!("system_u:system_r:x_t:s0"));
        fails_with(&stage, "process.selinuxLabel: SELinux is not enabled on this machine");
        let stage = Stage::new("true").set("/linux/mountLabel", json!("system_u:object_r:x_t:s0"));
        fails_with(&stage, "linux.mountLabel: SELinux is not enabled on this machine");
    }
    if !has("/sys/module/apparmor/parameters/enabled") {
        let stage = Stage::new("true").set("/process/apparmorProfile", json!("docker-default"));
        fails_with(&stage, "process.apparmorProfile: AppArmor is not enabled on this machine");
    }
    if !has("/sys/fs/resctrl/schemata") {
        let stage = Stage::new("true").set("/linux/intelRdt", json!({ "closID": "x" }));
        fails_with(&stage, "linux.intelRdt: resctrl is not enabled on this machine");
    }
}

/// Shows: config/rlimits-2
#[test]
fn all_limits_of_resources() {
    let limits: Vec<Value> = [
        "AS",
        "CORE",
        "CPU",
        "DATA",
        "FSIZE",
        "LOCKS",
        "MEMLOCK",
        "MSGQUEUE",
        "NICE",
        "NOFILE",
        "NPROC",
        "RSS",
        "RTPRIO",
        "RTTIME",
        "SIGPENDING",
        "STACK",
    ]
    .iter()
    .map(|name| {
        let (soft, hard) = if matches!(*name, "NICE" | "RTPRIO" | "MSGQUEUE" | "CORE") {
            (0_u64, 0_u64)
        } else if *name == "NOFILE" || *name == "SIGPENDING" || *name == "NPROC" {
            (1000, 1001)
        } else {
            (1_u64 << 32, (1_u64 << 32) + 4096)
        };
        json!({ "type": format!("RLIMIT_{name}"), "soft": soft, "hard": hard })
    })
    .collect();
    let output =
        Stage::new("cat /proc/self/limits").set("/process/rlimits", Value::Array(limits)).run();
    for line in [
        "Max cpu time              4294967296           4294971392",
        "Max stack size            4294967296           4294971392",
        "Max open files            1000                 1001",
        "Max nice priority         0                    0",
        "Max realtime timeout      4294967296           4294971392",
    ] {
        assert!(output.out.contains(line), "{line} is not in {}", output.out);
    }
}

/// Shows: config/rlimits-3
#[test]
fn a_limit_twice() {
    let limit = json!({ "type": "RLIMIT_NOFILE", "soft": 5, "hard": 5 });
    let stage = Stage::new("true").set("/process/rlimits", json!([limit, limit]));
    fails_with(&stage, "process.rlimits: limit nofile is there twice");
}

/// Shows: config-linux/masked-1, config-linux/read-only-1
#[test]
fn hidden_paths_are_absolute() {
    let stage = Stage::new("true").set("/linux/maskedPaths", json!(["proc/kcore"]));
    fails_with(&stage, "masked path \"proc/kcore\" is not an absolute path");
    let stage = Stage::new("true").set("/linux/readonlyPaths", json!(["proc/sys"]));
    fails_with(&stage, "read-only path \"proc/sys\" is not an absolute path");
}

/// Shows: config-linux/devices-2
#[test]
fn another_file_at_a_devices_path() {
    let stage = Stage::new("true").set(
        "/linux/devices",
        json!([{ "path": "/etc/passwd", "type": "c", "major": 1, "minor": 3 }]),
    );
    fails_with(&stage, "cannot make device /etc/passwd: file exists");
}

/// Shows: config/oom-score-1, config/oom-score-2
/// Shows: config/oom-score-2
#[test]
fn without_a_score_it_stays() {
    let ours = fs::read_to_string("/proc/self/oom_score_adj").unwrap();
    let mut stage = Stage::new("cat /proc/self/oom_score_adj");
    stage.spec["process"].as_object_mut().unwrap().remove("oomScoreAdj");
    assert_eq!(stage.run().out, ours);
    assert_eq!(stage.set("/process/oomScoreAdj", json!(77)).run().out, "77\n");
}

#[test]
fn ambient_capabilities_survive_another_user() {
    let sets = json!(["CAP_NET_RAW", "CAP_CHOWN"]);
    let stage = Stage::new("grep -E 'Cap(Amb|Eff)' /proc/self/status")
        .set("/process/user", json!({ "uid": 1000, "gid": 1000 }))
        .set(
            "/process/capabilities",
            json!({ "bounding": sets, "permitted": sets, "inheritable": sets, "effective": sets,
                    "ambient": ["CAP_NET_RAW"] }),
        );
    assert_eq!(stage.run().out, "CapEff:\t0000000000002000\nCapAmb:\t0000000000002000\n");
}

#[test]
fn no_new_privileges() {
    let stage = Stage::new("grep NoNewPrivs /proc/self/status");
    assert_eq!(stage.run().out, "NoNewPrivs:\t0\n");
    let stage = stage.set("/process/noNewPrivileges", json!(true));
    assert_eq!(stage.run().out, "NoNewPrivs:\t1\n");
}

fn with_clocks(mut stage: Stage, offsets: Value) -> Stage {
    let namespaces = stage.spec["linux"]["namespaces"].as_array_mut().unwrap();
    namespaces.push(json!({ "type": "time" }));
    stage.set("/linux/timeOffsets", offsets)
}

#[test]
fn clocks_with_an_offset() {
    let script = "cat /proc/self/timens_offsets; cut=$(busybox cut -d. -f1 /proc/uptime); test $cut -gt 86400 && echo late";
    let offsets =
        json!({ "monotonic": { "secs": 100, "nanosecs": 5 }, "boottime": { "secs": 864_000 } });
    let stage = with_clocks(Stage::new(&format!("{script}; exec sleep 100")), offsets.clone());
    let running = stage.start();
    let output = stage.exec(&running, &stage.process(&["/bin/sh", "-c", script])).unwrap();
    let words: Vec<&str> = output.out.split_whitespace().collect();
    assert_eq!(
        words,
        ["monotonic", "100", "5", "boottime", "864000", "0", "late"],
        "{}",
        output.err
    );
    let link = |pid: &str| fs::read_link(format!("/proc/{pid}/ns/time")).unwrap();
    assert_ne!(link(&running.pid.to_string()), link("self"));
    // Another container joins them.
    let joined = Stage::new("readlink /proc/self/ns/time");
    let mut joined = joined;
    joined.spec["linux"]["namespaces"]
        .as_array_mut()
        .unwrap()
        .push(json!({ "type": "time", "path": format!("/proc/{}/ns/time", running.pid) }));
    let seen = joined.run();
    assert_eq!(seen.out.trim_end(), link(&running.pid.to_string()).to_str().unwrap());
    stage::kill(&running);

    let stage = with_clocks(Stage::new("true"), json!({ "realtime": { "secs": 1 } }));
    fails_with(&stage, "linux.timeOffsets: there is no clock \"realtime\"");
    let stage = Stage::new("true").set("/linux/timeOffsets", offsets);
    fails_with(&stage, "linux.timeOffsets needs a new time namespace in linux.namespaces");
}

/// Shows: config-linux/namespaces-1, config-linux/namespaces-3
/// Shows: config-linux/namespaces-3
#[test]
fn a_namespace_of_another_kind_is_refused() {
    let mut stage = Stage::new("true");
    stage.spec["linux"]["namespaces"] = json!([{ "type": "mount" }, { "type": "network" }, { "type": "uts" }, { "type": "ipc", "path": "/proc/self/ns/uts" }]);
    fails_with(&stage, "cannot join ipc namespace /proc/self/ns/uts: invalid argument");
    stage.spec["linux"]["namespaces"][3]["path"] = json!("proc/self/ns/ipc");
    fails_with(&stage, "linux.namespaces: path proc/self/ns/ipc is not absolute");
}
