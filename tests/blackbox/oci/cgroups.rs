//! Where containers' control groups are: `cgroupsPath` absolute, relative and empty; groups that are there.

use std::fs;

use anyhow::Result;
use dhow_tests::Bundle;
use serde_json::{Value, json};

use super::limits::{file, is_v1, read, running};

/// Where cgroups are mounted.
pub(super) fn trees() -> Result<Vec<String>> {
    let mounts = fs::read_to_string("/proc/self/mounts")?;
    let words = mounts.lines().map(|line| line.split(' ').collect::<Vec<_>>());
    let is_cgroup = |words: &Vec<&str>| matches!(words.get(2), Some(&("cgroup" | "cgroup2")));
    Ok(words.filter(is_cgroup).filter_map(|words| Some((*words.get(1)?).to_owned())).collect())
}

/// Shows: config-linux/cgroups-path-1
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

/// Shows: config-linux/cgroups-path-2
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

/// Shows: config-linux/cgroups-1
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

/// Shows: runtime/delete-3
#[test]
fn an_empty_cgroup_that_is_there_is_used() -> Result<()> {
    let bundle = Bundle::new(&["true"])?;
    for tree in trees()? {
        fs::create_dir(format!("{tree}{}", bundle.cgroup()))?;
    }
    assert_eq!(bundle.run()?.code, 0);
    bundle.nothing_left()
}
