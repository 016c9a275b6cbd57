//! `spec`: a configuration to begin with.

use std::fs::OpenOptions;
use std::io::Write;
use std::path::Path;

use dhow_error::{Error, Kind, Result};
use dhow_sys::rustix::process::{getegid, geteuid};
use serde_json::{Value, json};

use super::{Command, PLAIN};
use crate::bundle::CONFIG;
use crate::globals::Globals;
use crate::words::{Flag, Words};

/// What the process may do.
const CAPABILITIES: [&str; 3] = ["CAP_AUDIT_WRITE", "CAP_KILL", "CAP_NET_BIND_SERVICE"];

pub(super) const COMMAND: Command = Command {
    name: "spec",
    usage: "",
    about: "write a config.json to begin with",
    flags: &[
        Flag::value("bundle", "the folder to write it to (default: .)").short("b"),
        Flag::switch("rootless", "for a user who is not root"),
    ],
    arguments: (0, 0),
    run,
    ..PLAIN
};

/// Writes the example into the bundle, unless there is a configuration.
fn run(_: &Globals, words: &Words) -> Result<u8> {
    let path = Path::new(words.value("bundle").unwrap_or(".")).join(CONFIG);
    let failed = |error: std::io::Error| {
        let hint = format!("remove {} first", path.display());
        let told = Error::caused(Kind::Conflict, format!("cannot write {}", path.display()), error);
        if path.exists() { told.with_hint(hint) } else { told }
    };
    let mut config = example();
    if words.is_on("rootless") {
        make_rootless(&mut config, geteuid().as_raw(), getegid().as_raw());
    }
    let mut text = serde_json::to_vec_pretty(&config)
        .map_err(|error| Error::caused(Kind::Internal, "cannot write the configuration", error))?;
    text.push(b'\n');
    let mut file = OpenOptions::new().write(true).create_new(true).open(&path).map_err(failed)?;
    file.write_all(&text).map_err(failed)?;
    Ok(0)
}

/// A shell in namespaces of its own, on a read-only root.
fn example() -> Value {
    json!({
        "ociVersion": crate::SPECIFICATION,
        "process": {
            "terminal": true,
            "user": { "uid": 0, "gid": 0 },
            "args": ["sh"],
            "env": [
                "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
                "TERM=xterm",
            ],
            "cwd": "/",
            "capabilities": {
                "bounding": CAPABILITIES,
                "effective": CAPABILITIES,
                "permitted": CAPABILITIES,
            },
            "rlimits": [{ "type": "RLIMIT_NOFILE", "hard": 1024, "soft": 1024 }],
            "noNewPrivileges": true,
        },
        "root": { "path": "rootfs", "readonly": true },
        "hostname": "dhow",
        "mounts": mounts(),
        "linux": {
            "resources": { "devices": [{ "allow": false, "access": "rwm" }] },
            "namespaces": [
                { "type": "pid" }, { "type": "network" }, { "type": "ipc" }, { "type": "uts" },
                { "type": "mount" }, { "type": "cgroup" },
            ],
            "maskedPaths": [
                "/proc/acpi", "/proc/asound", "/proc/kcore", "/proc/keys", "/proc/latency_stats",
                "/proc/timer_list", "/proc/timer_stats", "/proc/sched_debug", "/sys/firmware",
                "/proc/scsi",
            ],
            "readonlyPaths": [
                "/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger",
            ],
        },
    })
}

fn mounts() -> Value {
    let mount = |typ: &str, source: &str, destination: &str, options: &[&str]| json!({ "destination": destination, "type": typ, "source": source, "options": options });
    let devpts = ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"];
    let shm = ["nosuid", "noexec", "nodev", "mode=1777", "size=65536k"];
    json!([
        { "destination": "/proc", "type": "proc", "source": "proc" },
        mount("tmpfs", "tmpfs", "/dev", &["nosuid", "strictatime", "mode=755", "size=65536k"]),
        mount("devpts", "devpts", "/dev/pts", &devpts),
        mount("tmpfs", "shm", "/dev/shm", &shm),
        mount("mqueue", "mqueue", "/dev/mqueue", &["nosuid", "noexec", "nodev"]),
        mount("sysfs", "sysfs", "/sys", &["nosuid", "noexec", "nodev", "ro"]),
        mount(
            "cgroup",
            "cgroup",
            "/sys/fs/cgroup",
            &["nosuid", "noexec", "nodev", "relatime", "ro"],
        ),
    ])
}

/// Leaves out what only root may do, and maps the caller to the container's root.
fn make_rootless(config: &mut Value, uid: u32, gid: u32) {
    let linux = &mut config["linux"];
    if let Some(namespaces) = linux["namespaces"].as_array_mut() {
        // A network of its own could not be connected to anything.
        namespaces.retain(|namespace| namespace["type"] != "network");
        namespaces.push(json!({ "type": "user" }));
    }
    let mapping = |host: u32| json!([{ "containerID": 0, "hostID": host, "size": 1 }]);
    linux["uidMappings"] = mapping(uid);
    linux["gidMappings"] = mapping(gid);
    if let Some(linux) = linux.as_object_mut() {
        linux.remove("resources");
    }
    let Some(mounts) = config["mounts"].as_array_mut() else { return };
    mounts.retain(|mount| mount["type"] != "cgroup");
    for mount in mounts {
        if mount["destination"] == "/sys" {
            // A sysfs shows a network, which has to be of the same user namespace. The control groups below
            // it are read-only, too (CVE-2023-25809).
            *mount = json!({
                "destination": "/sys", "type": "none", "source": "/sys",
                "options": ["rbind", "nosuid", "noexec", "nodev", "ro", "rro"],
            });
        } else if let Some(options) = mount["options"].as_array_mut() {
            // Ids that are not mapped.
            options.retain(|option| {
                let option = option.as_str().unwrap_or_default();
                !option.starts_with("gid=") && !option.starts_with("uid=")
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use dhow_spec::oci_runtime::Spec;

    use super::*;

    #[test]
    fn examples_are_configurations() {
        let mut config = example();
        let spec: Spec = serde_json::from_value(config.clone()).unwrap();
        assert_eq!(spec.mounts().as_ref().map(Vec::len), Some(7));
        make_rootless(&mut config, 1000, 100);
        let spec: Spec = serde_json::from_value(config.clone()).unwrap();
        assert_eq!(spec.mounts().as_ref().map(Vec::len), Some(6));
        assert_eq!(config["linux"]["gidMappings"][0]["hostID"], 100);
        let text = config.to_string();
        assert!(!text.contains("gid=5") && !text.contains("\"network\""), "{text}");
    }
}
