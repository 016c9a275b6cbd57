//! Limits, as the kernel shows them.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use dhow_tests::{Daemon, images};

/// A file of a container's cgroup, wherever its controller is mounted.
fn cgroup_file(daemon: &Daemon, id: &str, v1: &str, v2: &str) -> Result<String> {
    let path = |controller: &str, file: &str| -> PathBuf {
        Path::new("/sys/fs/cgroup").join(controller).join(daemon.bridge()).join(id).join(file)
    };
    let (controller, _) = v1.split_once('.').context("a file without a controller")?;
    let first = fs::read_to_string(path(controller, v1));
    let text = first.or_else(|_| fs::read_to_string(path("", v2)))?;
    Ok(text.trim_end().to_owned())
}

#[test]
fn limits_reach_the_kernel() -> Result<()> {
    let daemon = Daemon::start()?;
    images::busybox(&daemon)?;
    let id = daemon.ok(&[
        "run",
        "-d",
        "-m",
        "64m",
        "--memory-swap",
        "64m",
        "--cpus",
        "0.5",
        "--cpuset-cpus",
        "0",
        "--pids-limit",
        "20",
        "busybox",
        "sleep",
        "100",
    ])?;
    let read = |v1, v2| cgroup_file(&daemon, &id, v1, v2);
    assert_eq!(read("memory.limit_in_bytes", "memory.max")?, (64 << 20).to_string());
    assert_eq!(read("pids.max", "pids.max")?, "20");
    assert_eq!(read("cpuset.cpus", "cpuset.cpus")?, "0");
    let quota = read("cpu.cfs_quota_us", "cpu.max")?;
    assert!(quota == "50000" || quota == "50000 100000", "{quota}");
    let alive = daemon.ok(&["exec", &id, "nproc"])?;
    assert_eq!(alive, "1");
    daemon.leave_nothing()
}

#[test]
fn the_limits_hold() -> Result<()> {
    let daemon = Daemon::start()?;
    images::busybox(&daemon)?;
    let hungry = [
        "run",
        "--name",
        "hungry",
        "-m",
        "16m",
        "--memory-swap",
        "16m",
        "busybox",
        "sh",
        "-c",
        "head -c 64m /dev/zero | tail | wc -c",
    ];
    let output = daemon.dhow(&hungry)?;
    // tail keeps everything in memory and is killed; the pipe goes on without it.
    let killed = daemon.ok(&["inspect", "-f", "{{.State.OOMKilled}}", "hungry"])?;
    assert_eq!(killed, "true", "{output:?}");
    let forks = "for it in 1 2 3 4 5 6 7 8 9 10 11 12; do sleep 1 & done; wait";
    let output =
        daemon.dhow(&["run", "--rm", "--pids-limit", "5", "busybox", "sh", "-c", forks])?;
    assert!(output.stderr.contains("fork"), "{output:?}");
    daemon.leave_nothing()
}

#[test]
fn ulimits_are_set_and_clamped() -> Result<()> {
    let daemon = Daemon::start()?;
    images::busybox(&daemon)?;
    let show = ["busybox", "sh", "-c", "ulimit -n; ulimit -Hn; ulimit -c"];
    let said = daemon.ok(&[
        &["run", "--rm", "--ulimit", "nofile=100:200", "--ulimit", "core=0"],
        &show[..],
    ]
    .concat())?;
    assert_eq!(said, "100\n200\n0");
    // More than this machine allows is clamped, not refused.
    let above = daemon
        .dhow(&[&["run", "--rm", "--ulimit", "nofile=1048576:1048576"], &show[..]].concat())?;
    assert_eq!(above.code, 0, "{}", above.stderr);
    daemon.leave_nothing()
}
