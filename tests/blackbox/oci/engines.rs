//! Others' engines with dhow as their runtime: each leads a container through its whole life.

use std::fs;

use anyhow::{Context, Result};
use dhow_tests::engines::{Containerd, Docker, Engine, Podman};

/// A memory limit, and another.
const LIMIT: u64 = 64 << 20;
const MORE: u64 = 128 << 20;

/// The memory limit of a process's control group, as the host sees it.
fn limit_of(pid: u32) -> Result<u64> {
    let groups = fs::read_to_string(format!("/proc/{pid}/cgroup"))?;
    let path = |controllers: &str| {
        let mut lines = groups.lines().filter_map(|line| line.split_once(':')?.1.split_once(':'));
        lines.find(|line| line.0.split(',').any(|it| it == controllers)).map(|line| line.1)
    };
    let file = match path("memory") {
        Some(path) => format!("/sys/fs/cgroup/memory{path}/memory.limit_in_bytes"),
        None => format!("/sys/fs/cgroup{}/memory.max", path("").context("no cgroup")?),
    };
    Ok(fs::read_to_string(&file).with_context(|| file)?.trim().parse()?)
}

/// Everything that an engine's user does with a container.
fn life(engine: impl Engine) -> Result<()> {
    let run = engine.run("echo out; echo err >&2; exit 7")?;
    assert_eq!((run.code, run.stdout.as_str()), (7, "out\n"), "{run:?}");
    assert!(run.stderr.contains("err"), "{run:?}");

    engine.start(LIMIT)?;
    assert_eq!(engine.status()?, "running");
    assert_eq!(limit_of(engine.pid()?)?, LIMIT);
    let seen = engine.exec(&["cat", "/proc/1/cmdline"])?.ok()?;
    assert!(seen.contains("1000"), "{seen:?}");
    let failed = engine.exec(&["sh", "-c", "exit 9"])?;
    assert_eq!(failed.code, 9, "{failed:?}");

    engine.change("pause")?;
    assert_eq!(engine.status()?, "paused");
    engine.change("resume")?;
    assert_eq!(engine.status()?, "running");
    engine.update(MORE)?;
    assert_eq!(limit_of(engine.pid()?)?, MORE);

    engine.change("kill")?;
    assert_ne!(engine.status()?, "running");
    engine.change("remove")?;
    engine.leave_nothing()
}

#[test]
fn containerd_leads_a_container_through_its_life() -> Result<()> {
    life(Containerd::start()?)
}

#[test]
fn dockerd_leads_a_container_through_its_life() -> Result<()> {
    life(Docker::start()?)
}

#[test]
fn podman_leads_a_container_through_its_life() -> Result<()> {
    life(Podman::start()?)
}
