//! User namespaces, mapped ids, clocks and schedules of bundles.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, lchown};
use std::path::Path;

use anyhow::{Context, Result};
use dhow_tests::Bundle;
use dhow_tests::bundle::eventually;
use dhow_tests::engines::Podman;
use serde_json::{Value, json};

/// Who the containers' root is on the host.
const FIRST: u32 = 200_000;

/// A bundle with a user namespace, whose root file system is its root's.
fn bundle(arguments: &[&str]) -> Result<Bundle> {
    let bundle = Bundle::new(arguments)?;
    fs::set_permissions(bundle.path(""), fs::Permissions::from_mode(0o755))?;
    give(&bundle.path("rootfs"))?;
    bundle.change(|config| {
        let range = json!([{ "containerID": 0, "hostID": FIRST, "size": 65536 }]);
        config["linux"]["uidMappings"] = range.clone();
        config["linux"]["gidMappings"] = range;
        namespace(config, json!({ "type": "user" }));
    })?;
    Ok(bundle)
}

fn namespace(config: &mut Value, entry: Value) {
    if let Some(namespaces) = config["linux"]["namespaces"].as_array_mut() {
        namespaces.push(entry);
    }
}

fn give(path: &Path) -> Result<()> {
    lchown(path, Some(FIRST), Some(FIRST))?;
    if path.is_dir() && !path.is_symlink() {
        for entry in fs::read_dir(path)? {
            give(&entry?.path())?;
        }
    }
    Ok(())
}

#[test]
fn a_life_in_a_user_namespace() -> Result<()> {
    let script = "id -u; cat /proc/self/uid_map; cat /dev/null; echo made > /file; exec sleep 1000";
    let bundle = bundle(&["sh", "-c", script])?;
    bundle.change(|config| config["root"]["readonly"] = json!(false))?;
    bundle.create()?;
    assert_eq!(bundle.state()?["status"], "created");
    let pid = bundle.pid()?;
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    assert!(status.contains(&format!("Uid:\t{FIRST}\t{FIRST}\t")), "{status}");
    bundle.ok(&["start", bundle.id()])?;
    eventually("its output", || Ok(bundle.said()?.lines().count() == 2))?;
    let words = bundle.said()?.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
    assert_eq!(words, ["0", "0", "200000", "65536"]);
    assert_eq!(bundle.pid()?, pid, "what was created is what runs");
    eventually("its file", || Ok(bundle.path("rootfs/file").exists()))?;
    assert_eq!(fs::metadata(bundle.path("rootfs/file"))?.uid(), FIRST);
    let exec = bundle.exec(&["sh", "-c", "id -u; readlink /proc/self/ns/user"])?;
    let link = fs::read_link(format!("/proc/{pid}/ns/user"))?;
    assert_eq!(exec.ok()?, format!("0\n{}", link.display()));
    bundle.ok(&["kill", bundle.id(), "KILL"])?;
    bundle.wait_for("stopped")?;
    bundle.leave_nothing()
}

/// Shows: config/mount-options-7
#[test]
fn sources_of_the_bundle_with_mapped_ids() -> Result<()> {
    let bundle = bundle(&["sh", "-c", "stat -c '%u %g' /data/file /plain/file"])?;
    fs::create_dir(bundle.path("data"))?;
    fs::write(bundle.path("data/file"), "")?;
    chown(bundle.path("data/file"), Some(3), Some(4))?;
    // A source is relative to the bundle.
    bundle.mount(json!({ "type": "bind", "source": "data", "destination": "/data",
                         "options": ["rbind", "ridmap", "ro"] }))?;
    bundle.mount(json!({ "type": "bind", "source": "data", "destination": "/plain",
                         "options": ["bind"] }))?;
    for folder in ["rootfs/data", "rootfs/plain"] {
        fs::create_dir(bundle.path(folder))?;
    }
    assert_eq!(bundle.run()?.ok()?, "3 4\n65534 65534");
    bundle.nothing_left()
}

#[test]
fn clocks_and_schedules() -> Result<()> {
    let script = "cat /proc/self/timens_offsets; cut -d' ' -f41 /proc/self/stat; uname -m";
    let bundle = Bundle::new(&["sh", "-c", script])?;
    bundle.change(|config| {
        namespace(config, json!({ "type": "time" }));
        config["linux"]["timeOffsets"] = json!({ "boottime": { "secs": 1000 } });
        config["linux"]["personality"] = json!({ "domain": "LINUX32" });
        config["process"]["scheduler"] = json!({ "policy": "SCHED_BATCH", "nice": 1 });
    })?;
    let said = bundle.run()?.ok()?;
    let words: Vec<&str> = said.split_whitespace().collect();
    assert_eq!(words, ["monotonic", "0", "0", "boottime", "1000", "0", "3", "i686"]);
    bundle.nothing_left()
}

#[test]
fn podman_maps_users() -> Result<()> {
    let podman = Podman::start()?;
    let maps = ["--rm", "--uidmap", "0:300000:65536", "--gidmap", "0:300000:65536"];
    let script =
        "cat /proc/self/uid_map; id -u; stat -c %u /bin/busybox; echo x > /dev/null; ls /proc/sys";
    let ran = podman.run_with(&maps, &["sh", "-c", script])?;
    let said = ran.ok()?;
    let words: Vec<&str> = said.split_whitespace().take(5).collect();
    assert_eq!(words, ["0", "300000", "65536", "0", "0"], "{said}");
    Ok(())
}

/// Shows: config/values-1, runtime/create-3
#[test]
fn what_cannot_be_had_is_told_by_its_field() -> Result<()> {
    let cases: [(&str, &str, Value); 6] = [
        ("linux.uidMappings", "/linux/uidMappings", json!([])),
        ("linux.timeOffsets", "/linux/timeOffsets", json!({ "boottime": { "secs": 1 } })),
        ("linux.netDevices", "/linux/netDevices", json!({ "no such": {} })),
        (
            "process.ioPriority",
            "/process/ioPriority",
            json!({ "class": "IOPRIO_CLASS_BE", "priority": 9 }),
        ),
        (
            "linux.memoryPolicy.nodes",
            "/linux/memoryPolicy",
            json!({ "mode": "MPOL_BIND", "nodes": "x" }),
        ),
        (
            "linux.personality.flags",
            "/linux/personality",
            json!({ "domain": "LINUX", "flags": ["x"] }),
        ),
    ];
    for (field, pointer, value) in cases {
        let bundle = bundle(&["true"])?;
        bundle.change(|config| {
            let (parent, key) = pointer.rsplit_once('/').unwrap_or_default();
            if let Some(parent) = config.pointer_mut(parent) {
                parent[key] = value;
            }
        })?;
        let failed = bundle.oci(&["create", "--bundle", &bundle.shown(), bundle.id()])?;
        assert_eq!(failed.code, 1, "{failed:?}");
        assert!(failed.stderr.contains(field), "{field}: {}", failed.stderr);
        bundle.nothing_left().context(field)?;
    }
    Ok(())
}
