//! Containers that are really started: what they are, and what they see of themselves and the host.

#![allow(clippy::unwrap_used)]

mod stage;

use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::fd::{AsFd, OwnedFd};

use dhow_runtime::Stdio;
use serde_json::json;
use stage::Stage;

#[test]
fn output_and_code_come_back() {
    let output = Stage::new("echo hello; echo oops >&2; exit 7").run();
    assert_eq!((output.out.as_str(), output.err.as_str(), output.code), ("hello\n", "oops\n", 7));
}

/// Shows: config-linux/namespaces-4
#[test]
fn every_namespace_is_its_own() {
    let names = ["mnt", "net", "uts", "pid", "ipc", "cgroup"];
    let output =
        Stage::new("cd /proc/self/ns; for n in mnt net uts pid ipc cgroup; do readlink $n; done")
            .run();
    let inside: Vec<&str> = output.out.lines().collect();
    assert_eq!(inside.len(), names.len(), "{}", output.err);
    for (name, link) in names.iter().zip(inside) {
        let host = fs::read_link(format!("/proc/self/ns/{name}")).unwrap();
        assert_ne!(host.to_str().unwrap(), link, "{name}");
    }
}

/// Shows: config-linux/namespaces-5
#[test]
fn absent_namespaces_are_the_hosts() {
    let stage = Stage::new("for n in pid ipc uts; do readlink /proc/self/ns/$n; done")
        .set("/linux/namespaces", json!([{ "type": "mount" }]))
        .set("/linux/sysctl", json!({}))
        .set("/hostname", json!(null));
    let output = stage.run();
    let expected = ["pid", "ipc", "uts"]
        .map(|name| fs::read_link(format!("/proc/self/ns/{name}")).unwrap().display().to_string());
    assert_eq!(output.out.lines().collect::<Vec<_>>(), expected, "{}", output.err);
}

/// Shows: config-linux/namespaces-2
#[test]
fn a_given_network_and_namespaces_by_path_are_joined() {
    let other = Stage::new("sleep 100");
    let running = other.start();
    let namespace = |name: &str| format!("/proc/{}/ns/{name}", running.pid);
    let mut stage =
        Stage::new("readlink /proc/1/ns/net; readlink /proc/self/ns/ipc; ps | grep -c 'sleep 100'")
            .set(
                "/linux/namespaces",
                json!([
                    { "type": "mount" }, { "type": "network" }, { "type": "uts" },
                    { "type": "ipc", "path": namespace("ipc") },
                    { "type": "pid", "path": namespace("pid") },
                ]),
            );
    stage.netns = Some(File::open(namespace("net")).unwrap().into());
    let output = stage.run();
    let link = |name: &str| fs::read_link(namespace(name)).unwrap().display().to_string();
    let lines: Vec<&str> = output.out.lines().collect();
    assert_eq!(lines[..2], [link("net"), link("ipc")], "{}", output.err);
    assert_ne!(lines[2], "0");
    stage::kill(&running);
}

#[test]
fn cve_2016_9962_the_processes_of_a_tracer_are_not_joined() {
    let traces = json!(["CAP_SYS_PTRACE"]);
    let other = Stage::new("exec sleep 100").set("/process/capabilities/bounding", traces);
    let running = other.start();
    let pid = format!("/proc/{}/ns/pid", running.pid);
    let stage = Stage::new("true").set(
        "/linux/namespaces",
        json!([{ "type": "mount" }, { "type": "ipc" }, { "type": "network" }, { "type": "pid", "path": pid }]),
    );
    let error = stage.set("/hostname", json!(null)).try_run().err().unwrap();
    assert!(error.message().contains("may trace"), "{error:?}");
    stage::kill(&running);
}

#[test]
fn a_new_network_has_lo_up() {
    let output = Stage::new("ip -o link show lo; ip -o link | wc -l").run();
    assert!(output.out.contains(",UP"), "{}{}", output.out, output.err);
}

#[test]
fn names_processes_and_cgroup_are_its_own() {
    let output = Stage::new(
        "hostname; echo $$; cat /proc/self/cgroup | grep -v ':/$'; ls /proc | grep -c '^[0-9]'",
    )
    .run();
    let lines: Vec<&str> = output.out.lines().collect();
    assert_eq!(lines[..2], ["stage", "1"], "{}", output.out);
    // No cgroup line is left that does not end in `:/`; then comes the number of processes.
    assert!(lines[2].parse::<u32>().unwrap() <= 4, "{}", output.out);
}

/// Shows: config/rlimits-2
#[test]
fn limits_hold() {
    let stage = Stage::new("ulimit -n; umask; cat /proc/self/oom_score_adj")
        .set("/process/rlimits", json!([{ "type": "RLIMIT_NOFILE", "soft": 500, "hard": 600 }]));
    let output = stage.set("/process/oomScoreAdj", json!(123)).run();
    assert_eq!(output.out, "500\n0022\n123\n");
}

#[test]
fn what_cannot_be_is_lowered_with_a_warning() {
    let stage = Stage::new("true").set(
        "/process/rlimits",
        json!([{ "type": "RLIMIT_NOFILE", "soft": 1_048_576_000, "hard": 1_048_576_000_000_u64 }]),
    );
    let running = stage.start();
    assert!(running.warnings.iter().any(|text| text.starts_with("limit nofile lowered to")));
    assert_eq!(stage::wait(&running), 0);
}

#[test]
fn sysctls_are_set() {
    let output = Stage::new("cat /proc/sys/net/ipv4/ip_unprivileged_port_start").run();
    assert_eq!(output.out, "0\n");
}

/// Shows: config-linux/default-devices-2
#[test]
fn a_terminal_is_its_own() {
    let stage = Stage::new(
        "tty; stty size; test -c /dev/console && echo console; read line; echo \"got $line\"",
    );
    let running = stage.launch_with(Stdio::Console).unwrap();
    let mut master = File::from(running.console.as_ref().unwrap().try_clone().unwrap());
    master.write_all(b"hi\n").unwrap();
    let mut text = Vec::new();
    // EIO is how a terminal says that its other end is closed.
    let _ = master.read_to_end(&mut text);
    let text = String::from_utf8(text).unwrap().replace('\r', "");
    assert_eq!(stage::wait(&running), 0);
    for part in ["/dev/pts/0\n", "33 77\n", "console\n", "got hi\n"] {
        assert!(text.contains(part), "{text}");
    }
}

#[test]
fn the_users_stdout_can_be_opened_again() {
    let stage = Stage::new("echo again > /dev/stdout; echo twice > /dev/stderr")
        .set("/process/user", json!({ "uid": 1000, "gid": 1000 }));
    let output = stage.run();
    assert_eq!((output.out.as_str(), output.err.as_str()), ("again\n", "twice\n"));
}

#[test]
fn it_dies_with_the_thread_that_started_it() {
    let stage = Stage::new("sleep 100").set("/process/user", json!({ "uid": 1000, "gid": 1000 }));
    let stage = std::thread::spawn(move || {
        let running = stage.start();
        (stage, running)
    });
    let (_stage, running) = stage.join().unwrap();
    assert_eq!(stage::wait(&running), 137);
}

#[test]
fn the_trace_goes_forward() {
    let stage = Stage::new("true");
    let running = stage.start();
    assert_eq!(stage::wait(&running), 0);
    let names: Vec<&str> = running.trace.iter().map(|(step, _)| step.as_str()).collect();
    assert_eq!((names[0], *names.last().unwrap()), ("begin", "exec"));
    assert!(names.contains(&"mounts") && names.contains(&"clone"));
}

#[test]
fn a_pidfd_is_that_of_the_process() {
    let stage = Stage::new("sleep 100");
    let running = stage.start();
    let pidfd: &OwnedFd = &running.pidfd;
    let info = fs::read_to_string(format!(
        "/proc/self/fdinfo/{}",
        std::os::fd::AsRawFd::as_raw_fd(&pidfd.as_fd())
    ))
    .unwrap();
    assert!(info.contains(&format!("Pid:\t{}", running.pid)), "{info}");
    assert_eq!(stage::kill(&running), 137);
}
