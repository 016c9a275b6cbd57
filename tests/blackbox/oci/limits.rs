//! Limits of containers: what the kernel's files say of them, and what they do.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::Stdio;

use anyhow::{Context, Result};
use dhow_tests::Bundle;
use dhow_tests::bundle::eventually;
use serde_json::{Value, json};

use super::cgroups::trees;
use super::update::{update, update_from_stdin};

const ROOT: &str = "/sys/fs/cgroup";

/// Whether controllers are mounted one by one.
pub(super) fn is_v1() -> bool {
    Path::new(ROOT).join("memory").exists()
}

/// The file of a controller in the cgroup `path`: `v1` and `v2` are its names there.
pub(super) fn file(path: &str, controller: &str, v1: &str, v2: &str) -> PathBuf {
    let path = path.trim_start_matches('/');
    if is_v1() {
        Path::new(ROOT).join(controller).join(path).join(v1)
    } else {
        Path::new(ROOT).join(path).join(v2)
    }
}

pub(super) fn read(path: &Path) -> Result<String> {
    let text = fs::read_to_string(path).with_context(|| path.display().to_string())?;
    Ok(text.trim_end().to_owned())
}

/// Checks values: controller, file and value on v1, file and value on cgroup2.
pub(super) fn check(bundle: &Bundle, expected: &[(&str, &str, &str, &str, &str)]) -> Result<()> {
    for (controller, v1, v1_value, v2, v2_value) in expected {
        let path = file(&bundle.cgroup(), controller, v1, v2);
        let value = if is_v1() { v1_value } else { v2_value };
        assert_eq!(read(&path)?, *value, "{}", path.display());
    }
    Ok(())
}

/// A bundle with these resources.
pub(super) fn bundle(arguments: &[&str], resources: Value) -> Result<Bundle> {
    let bundle = Bundle::new(arguments)?;
    bundle.change(|config| merge(&mut config["linux"]["resources"], resources))?;
    Ok(bundle)
}

fn merge(into: &mut Value, from: Value) {
    if let Value::Object(from) = from {
        from.into_iter().for_each(|(key, value)| into[key] = value);
    }
}

/// A bundle that runs and waits.
pub(super) fn running(resources: Value) -> Result<Bundle> {
    let bundle = bundle(&["sleep", "1000"], resources)?;
    bundle.start()?;
    Ok(bundle)
}

fn stats(bundle: &Bundle) -> Result<Value> {
    Ok(serde_json::from_str(&bundle.ok(&["events", "--stats", bundle.id()])?)?)
}

#[test]
fn limits_of_the_configuration_reach_the_kernel() -> Result<()> {
    let bundle = running(json!({
        "memory": { "limit": 64 << 20, "swap": 96 << 20, "reservation": 32 << 20, "swappiness": 30 },
        "cpu": { "shares": 512, "quota": 50_000, "period": 200_000, "burst": 20_000, "cpus": "0" },
        "pids": { "limit": 17 },
    }))?;
    check(
        &bundle,
        &[
            ("memory", "memory.limit_in_bytes", "67108864", "memory.max", "67108864"),
            ("memory", "memory.memsw.limit_in_bytes", "100663296", "memory.swap.max", "33554432"),
            ("memory", "memory.soft_limit_in_bytes", "33554432", "memory.low", "33554432"),
            ("cpu", "cpu.shares", "512", "cpu.weight", "59"),
            ("cpu", "cpu.cfs_quota_us", "50000", "cpu.max", "50000 200000"),
            ("cpu", "cpu.cfs_period_us", "200000", "cpu.max", "50000 200000"),
            ("cpu", "cpu.cfs_burst_us", "20000", "cpu.max.burst", "20000"),
            ("cpuset", "cpuset.cpus", "0", "cpuset.cpus", "0"),
            ("pids", "pids.max", "17", "pids.max", "17"),
        ],
    )?;
    if is_v1() {
        let swappiness = file(&bundle.cgroup(), "memory", "memory.swappiness", "");
        assert_eq!(read(&swappiness)?, "30");
    }
    bundle.leave_nothing()
}

#[test]
fn nothing_asked_is_nothing_written() -> Result<()> {
    let bundle = running(json!({}))?;
    check(
        &bundle,
        &[
            ("memory", "memory.limit_in_bytes", "9223372036854771712", "memory.max", "max"),
            ("cpu", "cpu.cfs_quota_us", "-1", "cpu.max", "max 100000"),
            ("pids", "pids.max", "max", "pids.max", "max"),
        ],
    )?;
    bundle.leave_nothing()
}

#[test]
fn memory_is_enforced() -> Result<()> {
    let limit = json!({ "memory": { "limit": 16 << 20, "swap": 16 << 20 } });
    let bundle = bundle(&["tail", "/dev/zero"], limit)?;
    assert_eq!(bundle.run()?.code, 137);
    bundle.nothing_left()
}

#[test]
fn processes_are_counted() -> Result<()> {
    let forks = "for it in 1 2 3 4 5 6 7 8; do sleep 1 & done; wait";
    let bundle = bundle(&["sh", "-c", forks], json!({ "pids": { "limit": 4 } }))?;
    let output = bundle.run()?;
    assert!(output.stderr.contains("fork"), "{output:?}");
    bundle.nothing_left()
}

#[test]
fn a_quota_throttles() -> Result<()> {
    let spin = ["sh", "-c", "while :; do :; done"];
    let bundle = bundle(&spin, json!({ "cpu": { "quota": 5_000, "period": 50_000 } }))?;
    bundle.start()?;
    eventually("throttled", || {
        let periods = stats(&bundle)?["data"]["cpu"]["throttling"]["throttledPeriods"].as_u64();
        Ok(periods.context("no periods")? > 2)
    })?;
    bundle.leave_nothing()
}

/// Shows: config-linux/device-list-1
#[test]
fn devices_are_those_allowed() -> Result<()> {
    // The console (5:1) and null are every container's; kmsg (1:11) is only this one's, for reading.
    let script = "mknod /tmp/kmsg c 1 11; mknod /tmp/mem c 1 1; \
                  (: </tmp/kmsg) && echo read; (: >/tmp/kmsg) 2>/dev/null || echo unwritten; \
                  (: </tmp/mem) 2>/dev/null || echo denied; : >/dev/null && echo null";
    let devices = json!({ "devices": [
        { "allow": false, "access": "rwm" },
        { "allow": true, "type": "c", "major": 1, "minor": 11, "access": "rm" },
    ]});
    let bundle = bundle(&["sh", "-c", script], devices)?;
    bundle.change(|config| {
        config["root"]["readonly"] = json!(false);
        for set in ["bounding", "effective", "permitted"] {
            if let Some(list) = config["process"]["capabilities"][set].as_array_mut() {
                list.extend([json!("CAP_MKNOD"), json!("CAP_SYSLOG")]);
            }
        }
    })?;
    let output = bundle.run()?;
    assert_eq!(output.stdout, "read\nunwritten\ndenied\nnull\n", "{output:?}");
    bundle.nothing_left()
}

#[test]
fn stats_tell_what_is_used() -> Result<()> {
    let bundle = running(json!({ "memory": { "limit": 64 << 20 }, "pids": { "limit": 9 } }))?;
    let told = stats(&bundle)?;
    assert_eq!(told["type"], "stats");
    assert_eq!(told["id"], bundle.id());
    let data = &told["data"];
    assert_eq!(data["pids"], json!({ "current": 1, "limit": 9 }));
    assert_eq!(data["memory"]["usage"]["limit"], 64 << 20);
    for pointer in ["/memory/usage/usage", "/cpu/usage/total"] {
        assert!(data.pointer(pointer).and_then(Value::as_u64) > Some(0), "{pointer} of {data}");
    }
    for pointer in ["/memory/raw", "/memory/swap/limit", "/memory/kernel", "/hugetlb", "/blkio"] {
        assert!(data.pointer(pointer).is_some(), "{pointer} of {data}");
    }
    if Path::new(ROOT).join("cgroup.controllers").exists()
        || Path::new(ROOT).join("unified").exists()
    {
        assert!(data.pointer("/memory/psi/full/avg300").is_some(), "{data}");
    }
    bundle.leave_nothing()
}

#[test]
fn events_tell_of_stats_and_of_memory_that_runs_out() -> Result<()> {
    // The shell waits for a word before it runs out of memory, and after.
    let script = "mkfifo /tmp/f; exec 3<>/tmp/f; read line <&3; tail /dev/zero; read line <&3";
    let limit = json!({ "memory": { "limit": 16 << 20, "swap": 16 << 20 } });
    let bundle = bundle(&["sh", "-c", script], limit)?;
    bundle.change(|config| config["root"]["readonly"] = json!(false))?;
    bundle.start()?;
    let mut command = bundle.command(&["events", "--interval", "20ms", bundle.id()])?;
    let mut events = command.stdout(Stdio::piped()).spawn()?;
    let mut lines = BufReader::new(events.stdout.take().context("no output")?).lines();
    let mut next = || -> Result<Option<Value>> {
        lines.next().map(|line| Ok(serde_json::from_str(&line?)?)).transpose()
    };
    // Once it tells stats, it watches.
    assert_eq!(next()?.context("no stats")?["type"], "stats");
    let fifo = bundle.path("rootfs/tmp/f");
    eventually("a fifo", || Ok(fifo.exists()))?;
    fs::write(&fifo, "\n")?;
    let oom = loop {
        let event = next()?.context("no oom")?;
        if event["type"] != "stats" {
            break event;
        }
    };
    assert_eq!(oom, json!({ "type": "oom", "id": bundle.id() }));
    // The end of the container is its end.
    bundle.ok(&["kill", bundle.id(), "KILL"])?;
    while next()?.is_some() {}
    assert_eq!(events.wait()?.code(), Some(0));
    bundle.leave_nothing()
}

#[test]
fn features_are_told() -> Result<()> {
    let bundle = Bundle::new(&["true"])?;
    let features: Value = serde_json::from_str(&bundle.ok(&["features"])?)?;
    assert_eq!(features["ociVersionMin"], "1.0.0");
    assert_eq!(features["ociVersionMax"], "1.3.0");
    for pointer in ["/hooks", "/mountOptions", "/linux/namespaces", "/linux/seccomp/actions"] {
        let list = features.pointer(pointer).and_then(Value::as_array).context(pointer)?;
        assert!(list.len() > 5, "{pointer}: {list:?}");
    }
    assert_eq!(features["linux"]["cgroup"]["v1"], true);
    assert_eq!(features["linux"]["cgroup"]["systemd"], false);
    assert_eq!(bundle.oci(&["features", "x"])?.code, 1);
    Ok(())
}

/// Shows: config-linux/unified-1, config-linux/unified-2, config-linux/unified-3
#[test]
fn raw_values_of_cgroup2() -> Result<()> {
    let values = json!({ "unified": { "cgroup.max.descendants": "5" } });
    let bundle = bundle(&["sleep", "1000"], values)?;
    let trees = trees()?;
    let tree = trees.iter().find(|tree| Path::new(tree).join("cgroup.controllers").exists());
    let Some(tree) = tree else {
        let output = bundle.run()?;
        assert!(output.stderr.contains("this machine has cgroup v1 only"), "{output:?}");
        return bundle.nothing_left();
    };
    bundle.start()?;
    let file = format!("{tree}{}/cgroup.max.descendants", bundle.cgroup());
    assert_eq!(read(Path::new(&file))?, "5");
    update_from_stdin(&bundle, &json!({ "unified": { "cgroup.max.descendants": "6" } }))?;
    assert_eq!(read(Path::new(&file))?, "6");
    for (key, said) in [("../cgroup.procs", "is out of range"), ("memory", "is out of range")] {
        let error = update_from_stdin(&bundle, &json!({ "unified": { key: "1" } })).unwrap_err();
        assert!(error.to_string().contains(said), "{error}");
    }
    if is_v1() {
        let wanted = json!({ "unified": { "memory.high": "1000000" } });
        let error = update_from_stdin(&bundle, &wanted).unwrap_err();
        assert!(error.to_string().contains("memory is a v1 controller here"), "{error}");
    }
    bundle.leave_nothing()
}

#[test]
fn a_controller_that_is_not_mounted_is_missed_only_when_asked_for() -> Result<()> {
    if Path::new(ROOT).join("net_cls").exists() {
        return Ok(());
    }
    let bundle = bundle(&["true"], json!({ "network": { "classID": 7 } }))?;
    let output = bundle.run()?;
    assert_eq!(output.code, 1);
    let said = format!(
        "cannot set network class 7 on {}: the net_cls controller is not available; hint: ",
        bundle.cgroup()
    );
    assert!(output.stderr.contains(&said), "{output:?}");
    bundle
        .change(|config| config["linux"]["resources"]["network"] = json!({ "priorities": [] }))?;
    assert_eq!(bundle.run()?.code, 0);
    bundle.nothing_left()
}

#[test]
fn block_io_is_throttled_by_device() -> Result<()> {
    let Some(device) = some_disk()? else { return Ok(()) };
    let (major, minor) = device.split_once(':').context("no device number")?;
    let (major, minor): (u64, u64) = (major.parse()?, minor.parse()?);
    let rate = |rate: u64| json!([{ "major": major, "minor": minor, "rate": rate }]);
    let bundle = running(json!({ "blockIO": {
        "throttleReadBpsDevice": rate(1 << 20), "throttleWriteIOPSDevice": rate(50),
    }}))?;
    if is_v1() {
        let read_file = |name: &str| read(&file(&bundle.cgroup(), "blkio", name, ""));
        assert_eq!(read_file("blkio.throttle.read_bps_device")?, format!("{device} 1048576"));
        assert_eq!(read_file("blkio.throttle.write_iops_device")?, format!("{device} 50"));
    } else {
        let max = read(&file(&bundle.cgroup(), "", "", "io.max"))?;
        assert_eq!(max, format!("{device} rbps=1048576 wbps=max riops=max wiops=50"));
    }
    bundle.leave_nothing()
}

/// The number of a block device of this machine, as major:minor.
fn some_disk() -> Result<Option<String>> {
    let Ok(entries) = fs::read_dir("/sys/block") else { return Ok(None) };
    let mut names: Vec<_> = entries.flatten().map(|entry| entry.path()).collect();
    names.sort();
    names.first().map(|path| read(&path.join("dev"))).transpose()
}

#[test]
fn huge_pages_are_limited() -> Result<()> {
    let tree = trees()?.into_iter().find(|tree| tree.ends_with("/hugetlb"));
    let is_old = tree.is_some();
    let has_it = |tree: &String| {
        let names = fs::read_to_string(Path::new(tree).join("cgroup.controllers"));
        names.is_ok_and(|names| names.split_whitespace().any(|name| name == "hugetlb"))
    };
    let Some(tree) = tree.or(trees()?.into_iter().find(has_it)) else { return Ok(()) };
    let bundle = bundle(
        &["sleep", "1000"],
        json!({ "hugepageLimits": [{ "pageSize": "2MB", "limit": 4 << 20 }] }),
    )?;
    let (parent, path) = (bundle.cgroup(), format!("{}/box", bundle.cgroup()));
    bundle.change(|config| config["linux"]["cgroupsPath"] = json!(path))?;
    let control = format!("{tree}/cgroup.subtree_control");
    let before = fs::read_to_string(&control).unwrap_or_default();
    bundle.start()?;
    let suffix = if is_old { "limit_in_bytes" } else { "max" };
    for name in ["hugetlb.2MB", "hugetlb.2MB.rsvd"] {
        let file = format!("{tree}{path}/{name}.{suffix}");
        assert_eq!(read(Path::new(&file))?, (4 << 20).to_string(), "{file}");
    }
    let told = stats(&bundle)?;
    assert_eq!(told["data"]["hugetlb"]["2MB"]["usage"], 0, "{told}");
    bundle.ok(&["delete", "--force", bundle.id()])?;
    for tree in trees()? {
        fs::remove_dir(format!("{tree}{parent}"))?;
    }
    if !is_old && !before.contains("hugetlb") {
        // Refused if somebody else has come to use it meanwhile.
        let _ = fs::write(control, "-hugetlb");
    }
    bundle.nothing_left()
}

/// Shows: config-linux/block-io-1, config-linux/rdma-1
#[test]
fn what_the_kernel_does_not_have_is_named() -> Result<()> {
    let rate = json!([{ "major": 99, "minor": 99, "rate": 1000 }]);
    let cases = [
        (json!({ "blockIO": { "leafWeight": 300 } }), "cannot set block I/O leaf weight 300 on "),
        (
            json!({ "blockIO": { "throttleReadBpsDevice": rate } }),
            "cannot set block I/O rate 99:99 ",
        ),
        (
            json!({ "hugepageLimits": [{ "pageSize": "3MB", "limit": 3 << 20 }] }),
            "cannot set huge page limit 3 MiB on ",
        ),
        (
            json!({ "rdma": { "mlx5_1": {} } }),
            "rdma limit mlx5_1 is out of range: it needs hcaHandles or hcaObjects",
        ),
        (
            json!({ "blockIO": { "weightDevice": [{ "major": 8, "minor": 0 }] } }),
            "block I/O weight of device 8:0 is out of range: the entry has no weight",
        ),
        (
            json!({ "rdma": { "mlx5_1": { "hcaHandles": 3 } } }),
            "cannot set rdma limit mlx5_1 hca_handle=3 on ",
        ),
        (
            json!({ "memory": { "limit": 4 << 20, "swap": 2 << 20 } }),
            "memory plus swap limit 2 MiB is out of range",
        ),
    ];
    for (resources, said) in cases {
        let bundle = bundle(&["true"], resources)?;
        let output = bundle.run()?;
        assert_eq!(output.code, 1, "{said}: {output:?}");
        assert!(output.stderr.contains(said), "{said}: {output:?}");
        bundle.nothing_left()?;
    }
    Ok(())
}

/// Shows: config-linux/unified-4
#[test]
fn limits_of_one_version_only() -> Result<()> {
    let real_time = json!({ "cpu": { "realtimeRuntime": 1000, "realtimePeriod": 500_000 } });
    let bundle = bundle(&["sleep", "1000"], real_time)?;
    let file_of = |controller, name| file(&bundle.cgroup(), controller, name, name);
    if !is_v1() {
        let output = bundle.run()?;
        assert!(output.stderr.contains("cgroup2 has no real-time limits"), "{output:?}");
        return bundle.nothing_left();
    }
    if !Path::new(ROOT).join("cpu/cpu.rt_runtime_us").exists() {
        return Ok(());
    }
    bundle.change(|config| {
        config["linux"]["resources"]["memory"] = json!({ "disableOOMKiller": true });
    })?;
    bundle.start()?;
    assert_eq!(read(&file_of("cpu", "cpu.rt_period_us"))?, "500000");
    assert_eq!(read(&file_of("cpu", "cpu.rt_runtime_us"))?, "1000");
    // A shorter period than the old time waits for the new time.
    update(&bundle, &["--cpu-rt-period", "900", "--cpu-rt-runtime", "800"])?;
    assert_eq!(read(&file_of("cpu", "cpu.rt_period_us"))?, "900");
    assert!(read(&file_of("memory", "memory.oom_control"))?.contains("oom_kill_disable 1"));
    bundle.leave_nothing()
}

#[test]
fn no_processes_at_all_are_as_good_as_one() -> Result<()> {
    let bundle = running(json!({ "pids": { "limit": 0 } }))?;
    check(&bundle, &[("pids", "pids.max", "1", "pids.max", "1")])?;
    bundle.leave_nothing()?;
    let bundle = running(json!({ "pids": {} }))?;
    check(&bundle, &[("pids", "pids.max", "max", "pids.max", "max")])?;
    bundle.leave_nothing()
}

#[test]
fn weights_of_block_io() -> Result<()> {
    let bundle = bundle(&["sleep", "1000"], json!({ "blockIO": { "weight": 500 } }))?;
    let output = bundle.detached(&["run", "--detach", "--bundle", &bundle.shown(), bundle.id()])?;
    if output.code != 0 {
        let said = format!("cannot set block I/O weight 500 on {}: ", bundle.cgroup());
        assert!(output.stderr.contains(&said), "{output:?}");
        assert!(
            output.stderr.contains("hint: this kernel is built or booted without"),
            "{output:?}"
        );
        return bundle.nothing_left();
    }
    let weight = |name: &str, expected: &str| {
        let found =
            read(&file(&bundle.cgroup(), "blkio", &format!("blkio.{name}"), &format!("io.{name}")));
        found.is_ok_and(|text| text.ends_with(expected))
    };
    assert!(weight("bfq.weight", "500") || weight("weight", "500") || weight("weight", " 4950"));
    bundle.leave_nothing()
}
