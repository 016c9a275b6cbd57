//! Hooks: when, where, with what they run, and what becomes of the container when one fails.

use std::fs;
use std::os::unix::fs::MetadataExt;

use anyhow::{Context, Result, ensure};
use dhow_tests::Bundle;
use serde_json::{Value, json};

const KINDS: [&str; 6] =
    ["prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop"];

/// A hook whose script runs with the variable WORD.
fn hook(word: &str, script: &str) -> Value {
    json!({"path": "/bin/sh", "args": ["sh", "-c", script], "env": [format!("WORD={word}")]})
}

/// What the hooks wrote to the bundle's file.
fn log(bundle: &Bundle) -> Vec<String> {
    let text = fs::read_to_string(bundle.path("log")).unwrap_or_default();
    text.lines().map(str::to_owned).collect()
}

/// A bundle whose root is writable and has the host's log bound in, so that hooks inside and outside write
/// to one file.
fn bundle(arguments: &[&str]) -> Result<Bundle> {
    let bundle = Bundle::new(arguments)?;
    fs::write(bundle.path("log"), "")?;
    let log = bundle.path("log");
    bundle
        .mount(json!({"destination": log, "type": "bind", "source": log, "options": ["bind"]}))?;
    bundle.change(|config| config["root"]["readonly"] = json!(false))?;
    Ok(bundle)
}

/// Shows: config/hooks-3, config/hooks-6
#[test]
fn hooks_run_in_their_order() -> Result<()> {
    let bundle = bundle(&["true"])?;
    let script = format!("echo $WORD >> {}", bundle.path("log").display());
    bundle.change(|config| {
        for kind in KINDS {
            let both = ["1", "2"].map(|number| hook(&format!("{kind}{number}"), &script));
            config["hooks"][kind] = json!(both);
        }
    })?;
    let order = |kinds: &[&str]| -> Vec<String> {
        kinds.iter().flat_map(|kind| [format!("{kind}1"), format!("{kind}2")]).collect()
    };
    bundle.create()?;
    assert_eq!(log(&bundle), order(&KINDS[..3]));
    bundle.ok(&["start", bundle.id()])?;
    assert_eq!(log(&bundle), order(&KINDS[..5]));
    bundle.wait_for("stopped")?;
    bundle.ok(&["delete", bundle.id()])?;
    assert_eq!(log(&bundle), order(&KINDS));
    fs::write(bundle.path("log"), "")?;
    bundle.run()?.ok()?;
    assert_eq!(log(&bundle), order(&KINDS));
    bundle.nothing_left()
}

/// Shows: config/hooks-4, runtime/state-4
#[test]
fn hooks_are_told_the_state() -> Result<()> {
    let bundle = bundle(&["sleep", "100"])?;
    let script = format!("cat >> {0}; echo >> {0}", bundle.path("log").display());
    bundle.change(|config| {
        config["annotations"] = json!({"org.example.key": "its value"});
        for kind in KINDS {
            config["hooks"][kind] = json!([hook("", &script)]);
        }
    })?;
    bundle.start()?;
    let pid = bundle.pid()?;
    bundle.ok(&["delete", "--force", bundle.id()])?;
    let states: Vec<Value> =
        log(&bundle).iter().map(|line| Ok(serde_json::from_str(line)?)).collect::<Result<_>>()?;
    let want = [
        ("creating", json!(pid)),
        ("creating", json!(pid)),
        // In its own pid namespace.
        ("creating", json!(1)),
        ("created", json!(1)),
        ("running", json!(pid)),
        ("stopped", Value::Null),
    ];
    assert_eq!(states.len(), want.len(), "{states:?}");
    for (state, (status, pid)) in states.iter().zip(want) {
        assert_eq!((&state["status"], &state["pid"]), (&json!(status), &pid), "{state}");
        assert_eq!(state["id"], bundle.id());
        assert_eq!(state["bundle"], json!(bundle.shown()));
        assert_eq!(state["ociVersion"], "1.3.0");
        assert_eq!(state["annotations"], json!({"org.example.key": "its value"}));
    }
    bundle.nothing_left()
}

/// Shows: config/hooks-5, config/hooks-7, config/hooks-8, config/hooks-9, config/hooks-10
#[test]
fn hooks_run_where_they_belong() -> Result<()> {
    let bundle = bundle(&["sleep", "100"])?;
    let rootfs = bundle.path("rootfs");
    // Its mount namespace, whether the host's bundle is seen, whether the container's own /dev is on the
    // path of its root, what is in the root.
    let script = format!(
        "echo $(stat -Lc %i /proc/self/ns/mnt) $(test -e {1}/config.json && echo host) \
         $(test -e {0}/dev/ptmx && echo mounted) $(test -e /mark && echo inside) >> {1}/log",
        rootfs.display(),
        bundle.shown(),
    );
    fs::write(rootfs.join("mark"), "")?;
    bundle.change(|config| {
        for kind in KINDS {
            config["hooks"][kind] = json!([hook("", &script)]);
        }
    })?;
    bundle.start()?;
    let namespace = fs::metadata(format!("/proc/{}/ns/mnt", bundle.pid()?))?.ino();
    let ours = fs::metadata("/proc/self/ns/mnt")?.ino();
    bundle.ok(&["delete", "--force", bundle.id()])?;
    let host = format!("{ours} host");
    assert_eq!(
        log(&bundle),
        [
            host.clone(),
            host.clone(),
            format!("{namespace} host mounted"),
            format!("{namespace} inside"),
            host.clone(),
            host,
        ]
    );
    bundle.nothing_left()
}

#[test]
fn a_hook_has_its_own_arguments_and_environment_only() -> Result<()> {
    let bundle = bundle(&["true"])?;
    let script = format!("(echo $0 $1; env) > {}", bundle.path("log").display());
    let hook = json!({
        "path": "/bin/sh",
        "args": ["its-name", "-c", script, "zero", "one"],
        "env": ["A=1", "B=two words"],
    });
    bundle.change(|config| config["hooks"] = json!({"createRuntime": [hook]}))?;
    bundle.run()?.ok()?;
    // A shell adds where it is.
    let mut said = log(&bundle);
    said.retain(|line| !line.contains("PWD="));
    said.sort();
    assert_eq!(said, ["A=1", "B=two words", "zero one"]);
    bundle.nothing_left()
}

/// Shows: runtime/lifecycle-4
#[test]
fn a_failing_hook_ends_the_creation() -> Result<()> {
    for kind in &KINDS[..3] {
        let bundle = bundle(&["true"])?;
        let note = format!("echo $WORD >> {}", bundle.path("log").display());
        bundle.change(|config| {
            config["hooks"][kind] = json!([hook("", "echo because; exit 3"), hook("later", &note)]);
            config["hooks"]["poststop"] = json!([hook("poststop", &note)]);
        })?;
        let output = bundle.oci(&["create", "--bundle", &bundle.shown(), bundle.id()])?;
        ensure!(output.code == 1, "{output:?}");
        let want = format!("{kind} hook /bin/sh failed with exit code 3: because");
        ensure!(output.stderr.contains(&want), "{output:?}");
        assert_eq!(log(&bundle), ["poststop"], "{kind}");
        ensure!(bundle.oci(&["state", bundle.id()])?.code == 1);
        bundle.nothing_left()?;
    }
    Ok(())
}

/// Shows: runtime/lifecycle-5, runtime/lifecycle-7
#[test]
fn a_failing_hook_of_the_start_ends_the_container() -> Result<()> {
    for kind in ["startContainer", "poststart"] {
        let bundle = bundle(&["sleep", "100"])?;
        let note = format!("echo $WORD >> {}", bundle.path("log").display());
        bundle.change(|config| {
            config["hooks"][kind] = json!([hook("", "echo because; exit 3"), hook("later", &note)]);
            config["hooks"]["poststop"] = json!([hook("poststop", &note)]);
        })?;
        let want = format!("{kind} hook /bin/sh failed with exit code 3: because");
        bundle.create()?;
        let output = bundle.oci(&["start", bundle.id()])?;
        ensure!(output.code == 1 && output.stderr.contains(&want), "{output:?}");
        assert_eq!(log(&bundle), ["poststop"], "{kind}");
        ensure!(bundle.oci(&["state", bundle.id()])?.code == 1);
        bundle.nothing_left()?;
        let output = bundle.run()?;
        ensure!(output.code == 1 && output.stderr.contains(&want), "{output:?}");
        assert_eq!(log(&bundle), ["poststop", "poststop"], "{kind}");
        bundle.nothing_left()?;
    }
    Ok(())
}

/// Shows: runtime/lifecycle-9
#[test]
fn a_failing_poststop_hook_is_only_told() -> Result<()> {
    let bundle = bundle(&["true"])?;
    let note = format!("echo $WORD >> {}", bundle.path("log").display());
    bundle.change(|config| {
        config["hooks"]["poststop"] = json!([hook("", "exit 3"), hook("later", &note)]);
    })?;
    bundle.start()?;
    bundle.wait_for("stopped")?;
    let output = bundle.oci(&["delete", bundle.id()])?;
    ensure!(output.code == 0, "{output:?}");
    ensure!(output.stderr.contains("poststop hook /bin/sh failed with exit code 3"), "{output:?}");
    assert_eq!(log(&bundle), ["later"]);
    bundle.nothing_left()
}

#[test]
fn a_hook_that_takes_too_long_is_killed() -> Result<()> {
    for kind in ["createRuntime", "createContainer", "startContainer"] {
        let bundle = bundle(&["true"])?;
        let mut slow = hook("", "sleep 1000");
        slow["timeout"] = json!(1);
        bundle.change(|config| config["hooks"][kind] = json!([slow]))?;
        let output = bundle.run()?;
        let want =
            format!("{kind} hook /bin/sh was killed: it took longer than its timeout of 1 s");
        ensure!(output.code == 1 && output.stderr.contains(&want), "{output:?}");
        bundle.nothing_left()?;
    }
    Ok(())
}

/// Shows: config/hooks-1, config/hooks-2
/// Shows: config/hooks-2
#[test]
fn hooks_that_cannot_be_are_refused_before_anything_is_made() -> Result<()> {
    let cases = [
        (json!({"path": "bin/sh"}), "hooks.poststop[0].path: "),
        (json!({"path": "/bin/sh", "timeout": 0}), "hooks.poststop[0].timeout"),
        (json!({"path": "/bin/sh", "timeout": -5}), "hooks.poststop[0].timeout"),
        (
            json!({"path": "/bin/sh", "timeout": "1s"}),
            "config.json: hooks.poststop[0].timeout: invalid type",
        ),
    ];
    let bundle = bundle(&["true"])?;
    for (hook, said) in cases {
        bundle.change(|config| config["hooks"] = json!({"poststop": [hook]}))?;
        let output = bundle.run()?;
        ensure!(output.code == 1 && output.stderr.contains(said), "{said}: {output:?}");
        bundle.nothing_left()?;
    }
    Ok(())
}

/// What a container's own hook sees of the runtime is not the host's binary.
#[test]
fn cve_2019_5736_the_runtime_is_sealed_while_hooks_run_in_the_container() -> Result<()> {
    let bundle = bundle(&["true"])?;
    let script = format!(
        "echo x >> /proc/1/exe; stat -Lc '%d %i' /proc/1/exe >> {}",
        bundle.path("log").display()
    );
    bundle.change(|config| config["hooks"] = json!({"startContainer": [hook("", &script)]}))?;
    let binary = dhow_tests::daemon::binary()?;
    let before = fs::read(&binary)?;
    bundle.run()?;
    ensure!(fs::read(&binary)? == before, "the binary was changed");
    let host = fs::metadata(&binary)?;
    let seen = log(&bundle).pop().context("the hook saw nothing")?;
    assert_ne!(seen, format!("{} {}", host.dev(), host.ino()));
    bundle.nothing_left()
}
