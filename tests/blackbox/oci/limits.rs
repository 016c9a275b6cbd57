//! Limits of containers: what the kernel's files say of them, and what they do.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::Stdio;

use anyhow::{Context, Result, ensure};
use dhow_tests::Bundle;
use dhow_tests::bundle::eventually;
use serde_json::{Value, json};

const ROOT: &str = "/sys/fs/cgroup";

/// Whether controllers are mounted one by one.
fn is_v1() -> bool {
    Path::new(ROOT).join("memory").exists()
}

/// The file of a controller in the cgroup `path`: `v1` and `v2` are its names there.
fn file(path: &str, controller: &str, v1: &str, v2: &str) -> PathBuf {
    let path = path.trim_start_matches('/');
    if is_v1() {
        Path::new(ROOT).join(controller).join(path).join(v1)
    } else {
        Path::new(ROOT).join(path).join(v2)
    }
}

fn read(path: &Path) -> Result<String> {
    let text = fs::read_to_string(path).with_context(|| path.display().to_string())?;
    Ok(text.trim_end().to_owned())
}

/// Checks values: controller, file and value on v1, file and value on cgroup2.
fn check(bundle: &Bundle, expected: &[(&str, &str, &str, &str, &str)]) -> Result<()> {
    for (controller, v1, v1_value, v2, v2_value) in expected {
        let path = file(&bundle.cgroup(), controller, v1, v2);
        let value = if is_v1() { v1_value } else { v2_value };
        assert_eq!(read(&path)?, *value, "{}", path.display());
    }
    Ok(())
}

/// A bundle with these resources.
fn bundle(arguments: &[&str], resources: Value) -> Result<Bundle> {
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
fn running(resources: Value) -> Result<Bundle> {
    let bundle = bundle(&["sleep", "1000"], resources)?;
    bundle.start()?;
    Ok(bundle)
}

fn update(bundle: &Bundle, flags: &[&str]) -> Result<()> {
    bundle.ok(&[&["update"], flags, &[bundle.id()]].concat()).map(drop)
}

/// `update` with resources on standard input: what it says if it fails.
fn update_from_stdin(bundle: &Bundle, resources: &Value) -> Result<()> {
    let mut command = bundle.command(&["update", "--resources", "-", bundle.id()])?;
    let mut child = command.stdin(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
    let mut stdin = child.stdin.take().context("no standard input")?;
    stdin.write_all(resources.to_string().as_bytes())?;
    drop(stdin);
    let output = child.wait_with_output()?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Ok(())
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

#[test]
fn absolute_cgroup_paths_count_from_the_root() -> Result<()> {
    let bundle = Bundle::new(&["sleep", "1000"])?;
    let (parent, path) =
        (bundle.cgroup(), format!("{}/../x/..{}/a/b", bundle.cgroup(), bundle.cgroup()));
    bundle.change(|config| config["linux"]["cgroupsPath"] = json!(path))?;
    bundle.start()?;
    let procs = file(&format!("{parent}/a/b"), "pids", "cgroup.procs", "cgroup.procs");
    assert_eq!(read(&procs)?, bundle.pid()?.to_string());
    bundle.ok(&["delete", "--force", bundle.id()])?;
    assert!(!procs.exists());
    // What was made above it stays, as it may be shared.
    for tree in trees()? {
        for below in ["/a", ""] {
            fs::remove_dir(format!("{tree}{parent}{below}"))?;
        }
    }
    bundle.nothing_left()
}

/// Where cgroups are mounted.
fn trees() -> Result<Vec<String>> {
    let mounts = fs::read_to_string("/proc/self/mounts")?;
    let words = mounts.lines().map(|line| line.split(' ').collect::<Vec<_>>());
    let is_cgroup = |words: &Vec<&str>| matches!(words.get(2), Some(&("cgroup" | "cgroup2")));
    Ok(words.filter(is_cgroup).filter_map(|words| Some((*words.get(1)?).to_owned())).collect())
}

#[test]
fn relative_cgroup_paths_count_from_our_own() -> Result<()> {
    for path in [Some("rel"), None] {
        let bundle = Bundle::new(&["sleep", "1000"])?;
        let name = path.map_or(bundle.id().to_owned(), |path| format!("{path}-{}", bundle.id()));
        let given = path.map(|_| format!("../../{name}"));
        bundle.change(|config| {
            config["linux"]["cgroupsPath"] = given.map_or(Value::Null, Value::String);
        })?;
        bundle.start()?;
        let membership = fs::read_to_string(format!("/proc/{}/cgroup", bundle.pid()?))?;
        let ours = fs::read_to_string("/proc/self/cgroup")?;
        for (container, own) in membership.lines().zip(ours.lines()) {
            let own = own.trim_end_matches('/');
            let expected = match own.rsplit_once('/') {
                Some((parent, _)) if !is_v1() => format!("{parent}/{name}"),
                _ => format!("{own}/{name}"),
            };
            assert_eq!(container, expected);
        }
        bundle.leave_nothing()?;
    }
    Ok(())
}

#[test]
fn a_cgroup_with_somebody_in_it_is_not_taken() -> Result<()> {
    let first = running(json!({}))?;
    let second = Bundle::new(&["true"])?;
    second.change(|config| config["linux"]["cgroupsPath"] = json!(first.cgroup()))?;
    let output = second.run()?;
    assert_eq!(output.code, 1, "{output:?}");
    let said = format!("cgroup {} is not empty: it has 1 process", first.cgroup());
    assert!(output.stderr.contains(&said), "{output:?}");
    assert!(output.stderr.contains("hint: each container needs a cgroup of its own"), "{output:?}");
    second.ok(&["delete", "--force", second.id()])?;
    assert_eq!(first.state()?["status"], "running");
    first.leave_nothing()
}

#[test]
fn an_empty_cgroup_that_is_there_is_used() -> Result<()> {
    let bundle = Bundle::new(&["true"])?;
    for tree in trees()? {
        fs::create_dir(format!("{tree}{}", bundle.cgroup()))?;
    }
    assert_eq!(bundle.run()?.code, 0);
    bundle.nothing_left()
}

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
