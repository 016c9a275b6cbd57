//! `dhow oci update`: other limits for a container that is there.

use std::fs;
use std::io::Write;
use std::process::Stdio;

use anyhow::{Context, Result, ensure};
use dhow_tests::Bundle;
use dhow_tests::bundle::eventually;
use serde_json::{Value, json};

use super::limits::{bundle, check, running};

pub(super) fn update(bundle: &Bundle, flags: &[&str]) -> Result<()> {
    bundle.ok(&[&["update"], flags, &[bundle.id()]].concat()).map(drop)
}

/// `update` with resources on standard input: what it says if it fails.
pub(super) fn update_from_stdin(bundle: &Bundle, resources: &Value) -> Result<()> {
    let mut command = bundle.command(&["update", "--resources", "-", bundle.id()])?;
    let mut child = command.stdin(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
    let mut stdin = child.stdin.take().context("no standard input")?;
    stdin.write_all(resources.to_string().as_bytes())?;
    drop(stdin);
    let output = child.wait_with_output()?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Ok(())
}

#[test]
fn a_running_container_is_updated_by_flags() -> Result<()> {
    let bundle = running(json!({ "memory": { "limit": 64 << 20, "swap": 64 << 20 } }))?;
    let memory = |limit: u64, swap: u64| {
        let (v1, v2) = (swap.to_string(), (swap - limit).to_string());
        let limit = limit.to_string();
        check(
            &bundle,
            &[
                ("memory", "memory.limit_in_bytes", &limit, "memory.max", &limit),
                ("memory", "memory.memsw.limit_in_bytes", &v1, "memory.swap.max", &v2),
            ],
        )
    };
    // Raised: swap has to go first. Lowered: memory has to.
    for (limit, swap) in [(128, 256), (32, 32), (512, 512), (16, 100)] {
        let (limit_text, swap_text) = (format!("{limit}m"), format!("{swap}MiB"));
        update(&bundle, &["--memory", &limit_text, "--memory-swap", &swap_text])?;
        memory(limit << 20, swap << 20)?;
    }
    // One alone; their sum stays.
    update(&bundle, &["--memory", "20971520"])?;
    memory(20 << 20, 100 << 20)?;
    update(&bundle, &["--memory-swap=120m"])?;
    memory(20 << 20, 120 << 20)?;
    update(
        &bundle,
        &[
            "--cpu-share",
            "256",
            "--cpu-quota",
            "30000",
            "--cpu-period",
            "60000",
            "--cpu-burst",
            "10000",
            "--cpuset-cpus",
            "0",
            "--cpuset-mems",
            "0",
            "--pids-limit",
            "9",
            "--memory-reservation",
            "8m",
        ],
    )?;
    update(&bundle, &["--cpu-period", "50000"])?;
    check(
        &bundle,
        &[
            ("cpu", "cpu.shares", "256", "cpu.weight", "35"),
            ("cpu", "cpu.cfs_quota_us", "30000", "cpu.max", "30000 50000"),
            ("cpu", "cpu.cfs_period_us", "50000", "cpu.max", "30000 50000"),
            ("cpu", "cpu.cfs_burst_us", "10000", "cpu.max.burst", "10000"),
            ("cpuset", "cpuset.cpus", "0", "cpuset.cpus", "0"),
            ("cpuset", "cpuset.mems", "0", "cpuset.mems", "0"),
            ("pids", "pids.max", "9", "pids.max", "9"),
            ("memory", "memory.soft_limit_in_bytes", "8388608", "memory.low", "8388608"),
        ],
    )?;
    update(
        &bundle,
        &["--cpu-idle", "1", "--pids-limit", "-1", "--cpu-quota", "-1", "--memory", "-1"],
    )?;
    check(
        &bundle,
        &[
            ("cpu", "cpu.idle", "1", "cpu.idle", "1"),
            ("cpu", "cpu.cfs_quota_us", "-1", "cpu.max", "max 50000"),
            ("pids", "pids.max", "max", "pids.max", "max"),
            ("memory", "memory.limit_in_bytes", "9223372036854771712", "memory.max", "max"),
            (
                "memory",
                "memory.memsw.limit_in_bytes",
                "9223372036854771712",
                "memory.swap.max",
                "max",
            ),
        ],
    )?;
    update(&bundle, &["--cpu-idle", "0", "--cpu-share", "512", "--pids-limit", "0"])?;
    check(
        &bundle,
        &[
            ("cpu", "cpu.shares", "512", "cpu.weight", "59"),
            ("pids", "pids.max", "1", "pids.max", "1"),
        ],
    )?;
    bundle.leave_nothing()
}

#[test]
fn a_running_container_is_updated_by_a_file() -> Result<()> {
    let bundle = running(json!({}))?;
    let resources = json!({ "memory": { "limit": 48 << 20 }, "pids": { "limit": 12 } });
    update_from_stdin(&bundle, &resources)?;
    fs::write(bundle.path("r.json"), json!({ "cpu": { "shares": 2048 } }).to_string())?;
    let path = bundle.path("r.json");
    // Flags beside a file do not count.
    update(&bundle, &["-r", &path.to_string_lossy(), "--memory", "1m"])?;
    check(
        &bundle,
        &[
            ("memory", "memory.limit_in_bytes", "50331648", "memory.max", "50331648"),
            ("pids", "pids.max", "12", "pids.max", "12"),
            ("cpu", "cpu.shares", "2048", "cpu.weight", "174"),
        ],
    )?;
    let error = update_from_stdin(&bundle, &json!({ "memory": { "limit": "much" } })).unwrap_err();
    assert!(
        error.to_string().contains("the resources from standard input are malformed"),
        "{error}"
    );
    bundle.leave_nothing()
}

/// Shows: config-linux/memory-1
#[test]
fn an_update_that_fails_changes_nothing_and_says_why() -> Result<()> {
    let keep = "x=$(head -c 8000000 /dev/zero | tr '\\0' x); echo; while :; do sleep 1000; done";
    let bundle = bundle(&["sh", "-c", keep], json!({}))?;
    bundle.start()?;
    eventually("kept", || Ok(!bundle.said()?.is_empty()))?;
    let cgroup = bundle.cgroup();
    // cgroup2 would kill, unless it is asked to look first.
    let few = json!({
        "memory": { "limit": 4 << 20, "checkBeforeUpdate": true }, "pids": { "limit": 12 },
    });
    let error = update_from_stdin(&bundle, &few).unwrap_err().to_string();
    let said = format!(
        "cannot set memory limit 4 MiB on {cgroup}: device or resource busy; hint: already uses "
    );
    assert!(error.contains(&said), "{error}");
    let output = bundle.oci(&[
        "update",
        "--cpu-share",
        "300",
        "--pids-limit",
        "5",
        "--cpuset-cpus",
        "4000",
        bundle.id(),
    ])?;
    assert!(
        output.stderr.contains(&format!("cannot set CPU set 4000 on {cgroup}: ")),
        "{output:?}"
    );
    assert!(output.stderr.contains("; hint: the parent has 0"), "{output:?}");
    let output = bundle.oci(&["update", "--memory", "64m", "--memory-swap", "32m", bundle.id()])?;
    assert!(output.stderr.contains("it includes the memory limit, which is 64 MiB"), "{output:?}");
    check(
        &bundle,
        &[
            ("memory", "memory.limit_in_bytes", "9223372036854771712", "memory.max", "max"),
            ("cpu", "cpu.shares", "1024", "cpu.weight", "100"),
            ("pids", "pids.max", "max", "pids.max", "max"),
        ],
    )?;
    bundle.leave_nothing()
}

#[test]
fn odd_updates() -> Result<()> {
    let bundle = running(json!({}))?;
    update(&bundle, &["--kernel-memory", "4m", "--kernel-memory-tcp=4m"])?;
    update(&bundle, &[])?;
    for (flags, said) in [
        (&["--memory", "much"][..], "for --memory; hint: give bytes"),
        (&["--cpu-share", "-1"], "--cpu-share"),
        (&["--l3-cache-schema", "L3:0=f"], "Intel RDT is not supported"),
        (&["--resources", "/nosuch"], "cannot read resources from /nosuch"),
        (&["--nosuch"], "nosuch"),
    ] {
        let output = bundle.oci(&[&["update"], flags, &[bundle.id()]].concat())?;
        assert_eq!(output.code, 1, "{output:?}");
        assert!(output.stderr.contains(said), "{output:?}");
    }
    let missing = bundle.oci(&["update", "--pids-limit", "5", "nosuch"])?;
    assert!(missing.stderr.contains("container does not exist"), "{missing:?}");
    bundle.ok(&["kill", bundle.id(), "KILL"])?;
    bundle.wait_for("stopped")?;
    let stopped = bundle.oci(&["update", "--pids-limit", "5", bundle.id()])?;
    assert!(stopped.stderr.contains("container not running"), "{stopped:?}");
    let stopped = bundle.oci(&["events", "--stats", bundle.id()])?;
    assert!(stopped.stderr.contains("is not running"), "{stopped:?}");
    bundle.leave_nothing()
}

#[test]
fn a_created_container_is_updated_too() -> Result<()> {
    let bundle = bundle(&["sleep", "1000"], json!({}))?;
    bundle.create()?;
    update(&bundle, &["--pids-limit", "7"])?;
    bundle.ok(&["start", bundle.id()])?;
    check(&bundle, &[("pids", "pids.max", "7", "pids.max", "7")])?;
    bundle.leave_nothing()
}
