//! Rules of the OCI runtime specification that belong to no feature of their own: what a configuration must
//! not say, what a change of it later does, what an operation needs.

use std::fs;

use anyhow::{Context, Result};
use dhow_tests::Bundle;
use serde_json::{Value, json};

/// Puts `value` at a place of the configuration; null takes away what is there.
fn put(config: &mut Value, pointer: &str, value: Value) {
    let (parent, key) = pointer.rsplit_once('/').unwrap_or_default();
    let Some(parent) = config.pointer_mut(parent) else { return };
    match (parent, value) {
        (Value::Object(parent), Value::Null) => drop(parent.remove(key)),
        (Value::Array(parent), value) => parent.push(value),
        (parent, value) => parent[key] = value,
    }
}

/// Every create with one of these values fails, and leaves nothing.
fn refused(cases: &[(&str, Value)]) -> Result<()> {
    for (pointer, value) in cases {
        let bundle = Bundle::new(&["true"])?;
        bundle.change(|config| put(config, pointer, value.clone()))?;
        let create = ["create", "--bundle", &bundle.shown(), bundle.id()];
        let failed = bundle.detached(&create)?;
        assert_ne!(failed.code, 0, "{pointer} {value}: {failed:?}");
        assert!(!failed.stderr.is_empty(), "{pointer} {value} is refused without a word");
        bundle.nothing_left().with_context(|| format!("{pointer} {value}"))?;
    }
    Ok(())
}

/// Shows: config/version-1, config/root-1, config/root-2, config/process-1, config/process-3, config/process-4
/// Shows: config/rlimits-1, config/hooks-1, config/annotations-1, config/values-1, runtime/start-3
#[test]
fn configurations_that_cannot_be() -> Result<()> {
    let hook = json!({"createRuntime": [{"path": "bin/true"}]});
    refused(&[
        ("/ociVersion", json!("one")),
        ("/root", Value::Null),
        ("/root/path", json!("nosuch")),
        ("/root/path", json!("config.json")),
        ("/process", Value::Null),
        ("/process/cwd", json!("tmp")),
        ("/process/args", json!([])),
        ("/process/rlimits", json!([{"type": "RLIMIT_NOSUCH", "soft": 1, "hard": 1}])),
        ("/hooks", hook),
        ("/annotations", json!({"": "x"})),
        ("/annotations", json!({"x": 1})),
        ("/linux/rootfsPropagation", json!("nosuch")),
        ("/linux/seccomp", json!({"defaultAction": "SCMP_ACT_NOSUCH"})),
    ])
}

/// Shows: config-linux/namespaces-1, config-linux/namespaces-6, config-linux/cgroups-path-3, config-linux/cpu-1
/// Shows: config-linux/intel-rdt-1, config-linux/seccomp-1, config-linux/seccomp-2, config-linux/seccomp-5
/// Shows: config-linux/masked-1, config-linux/read-only-1, config-linux/net-devices-3, config-linux/net-devices-5
#[test]
fn linux_configurations_that_cannot_be() -> Result<()> {
    let seccomp = |rule: Value| json!({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [rule]});
    refused(&[
        ("/linux/namespaces/-", json!({"type": "time", "path": "proc/self/ns/time"})),
        ("/linux/namespaces/-", json!({"type": "pid"})),
        ("/linux/cgroupsPath", json!("/a\u{0}b")),
        ("/linux/resources", json!({"cpu": {"quota": 10_000, "period": 100_000, "burst": 20_000}})),
        ("/linux/intelRdt", json!({"closID": "x"})),
        (
            "/linux/seccomp",
            seccomp(json!({"names": ["chmod"], "action": "SCMP_ACT_ALLOW", "errnoRet": 5})),
        ),
        ("/linux/seccomp", seccomp(json!({"names": [], "action": "SCMP_ACT_ERRNO"}))),
        ("/linux/seccomp", json!({"defaultAction": "SCMP_ACT_ALLOW", "listenerMetadata": "x"})),
        ("/linux/maskedPaths", json!(["proc/kcore"])),
        ("/linux/readonlyPaths", json!(["proc/sys"])),
        ("/linux/netDevices", json!({"a/b": {}})),
        ("/linux/netDevices", json!({"dhow-nosuch": {}})),
    ])
}

/// Shows: config/process-2, config/extensibility-1, runtime/lifecycle-3, runtime/lifecycle-6
#[test]
fn what_has_no_effect() -> Result<()> {
    let bundle = Bundle::new(&["sh", "-c", "echo before"])?;
    bundle.change(|config| {
        config["process"]["consoleSize"] = json!({"height": 10, "width": 20});
        config["nosuch"] = json!({"deep": [1]});
        config["process"]["nosuch"] = json!(true);
        config["annotations"] = json!({"org.opencontainers.nosuch": "x"});
    })?;
    bundle.create()?;
    assert_eq!(bundle.said()?, "");
    bundle.args(&["sh", "-c", "echo after"])?;
    fs::remove_file(bundle.path("config.json"))?;
    bundle.ok(&["start", bundle.id()])?;
    bundle.wait_for("stopped")?;
    assert_eq!(bundle.said()?, "before\n");
    bundle.leave_nothing()
}

/// Shows: config/oom-score-1, config/capabilities-1, config/mount-options-3, config/mount-options-4
#[test]
fn what_has_an_effect() -> Result<()> {
    let bundle =
        Bundle::new(&["sh", "-c", "cat /proc/self/oom_score_adj; grep ' /it' /proc/mounts"])?;
    bundle.change(|config| {
        config["process"]["oomScoreAdj"] = json!(700);
        for set in ["bounding", "permitted", "effective"] {
            put(config, &format!("/process/capabilities/{set}/-"), json!("CAP_NOSUCH"));
        }
        config["root"]["readonly"] = json!(false);
    })?;
    for (number, options) in [
        &["noatime", "nodiratime", "sync", "dirsync", "silent", "iversion"][..],
        &["atime", "diratime", "relatime", "async", "loud", "noiversion", "defaults"],
        &["strictatime", "lazytime"],
        &["nostrictatime", "norelatime", "nolazytime"],
    ]
    .into_iter()
    .enumerate()
    {
        let destination = format!("/it{number}");
        bundle.mount(
            json!({"destination": destination, "type": "tmpfs", "source": "tmpfs", "options": options}),
        )?;
    }
    let output = bundle.run()?;
    assert!(output.stderr.contains("CAP_NOSUCH"), "{output:?}");
    let said = output.ok()?;
    let lines: Vec<&str> = said.lines().collect();
    assert_eq!((lines.len(), lines.first()), (5, Some(&"700")), "{said}");
    let has = |number: usize, wanted: &[&str]| {
        let line = lines.iter().find(|line| line.contains(&format!("/it{number} ")));
        let options = line.and_then(|line| line.split(' ').nth(3)).unwrap_or_default();
        let options: Vec<&str> = options.split(',').collect();
        wanted.iter().all(|it| options.contains(it))
    };
    assert!(has(0, &["noatime", "sync", "dirsync"]), "{said}");
    assert!(has(1, &["relatime"]), "{said}");
    assert!(!has(2, &["relatime"]) && has(2, &["lazytime"]), "{said}");
    bundle.nothing_left()
}

/// Shows: runtime/create-1, runtime/create-2, runtime/create-3
#[test]
fn creates_that_cannot_be() -> Result<()> {
    let bundle = Bundle::new(&["true"])?;
    let shown = bundle.shown();
    for words in [
        &["create", "--bundle", &shown][..],
        &["create", "--bundle", "/nosuch", bundle.id()],
        &["create", "--bundle", &shown, ""],
        &["create", "--bundle", &shown, ".."],
        &["create", "--bundle", &shown, "a/b"],
        &["create", "--bundle", &shown, "a b"],
    ] {
        assert_ne!(bundle.detached(words)?.code, 0, "{words:?}");
        bundle.nothing_left()?;
    }
    bundle.change(|config| config["linux"]["sysctl"] = json!({"net.core.nosuch": "1"}))?;
    assert_ne!(bundle.detached(&["create", "--bundle", &shown, bundle.id()])?.code, 0);
    bundle.nothing_left()
}
