//! The devices of a container and the rules of its devices cgroup.
//!
//! The runtime makes the usual nodes (`/dev/null` and so on) by itself; here come the rules that allow
//! them, and nodes and rules for what was asked for. A privileged container gets every device of the
//! host's `/dev` and no rule that denies.

use std::fs;
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use dhow_error::{Error, Kind, Result};
use dhow_spec::oci_runtime::{
    LinuxDevice, LinuxDeviceBuilder, LinuxDeviceCgroup, LinuxDeviceCgroupBuilder, LinuxDeviceType,
};
use dhow_sys::rustix::fs::{major, minor};

use super::broken;
use crate::spec::Security;

/// Character devices that every container may use: null, zero, full, random, urandom, tty, console, ptmx
/// and all pseudo-terminals.
const USUAL: [(i64, Option<i64>); 9] = [
    (1, Some(3)),
    (1, Some(5)),
    (1, Some(7)),
    (1, Some(8)),
    (1, Some(9)),
    (5, Some(0)),
    (5, Some(1)),
    (5, Some(2)),
    (136, None),
];

/// Folders of the host's `/dev` that are not devices of the machine.
const SKIPPED: [&str; 7] = ["pts", "shm", "fd", "mqueue", ".lxc", ".lxd-mounts", ".udev"];

/// How deep below `/dev` devices are looked for.
const DEPTH: u32 = 8;

/// What a container gets.
#[derive(Debug)]
pub(super) struct Devices {
    /// Nodes to make.
    pub(super) nodes: Vec<LinuxDevice>,
    /// Rules of the devices cgroup.
    pub(super) rules: Vec<LinuxDeviceCgroup>,
}

/// Looks up the devices on the host.
///
/// Errors: not found for one that is not there, invalid for one that is none.
pub(super) fn resolve(security: &Security) -> Result<Devices> {
    let mut nodes = Vec::new();
    if security.privileged {
        let dev = Path::new("/dev");
        walk(dev, dev, DEPTH, &mut nodes)?;
        let everything = rule(true, LinuxDeviceType::A, None, None, "rwm")?;
        return Ok(Devices { nodes, rules: vec![everything] });
    }
    let mut rules = vec![
        rule(false, LinuxDeviceType::A, None, None, "rwm")?,
        rule(true, LinuxDeviceType::C, None, None, "m")?,
        rule(true, LinuxDeviceType::B, None, None, "m")?,
    ];
    for (major, minor) in USUAL {
        rules.push(rule(true, LinuxDeviceType::C, Some(major), minor, "rwm")?);
    }
    for device in &security.devices {
        let first = nodes.len();
        let gather = match fs::metadata(&device.host) {
            Ok(data) if data.is_dir() => walk(&device.host, &device.container, DEPTH, &mut nodes),
            Ok(data) => node(&device.container, &data).and_then(|found| {
                let node = found.ok_or_else(|| not_a_device(&device.host))?;
                nodes.push(node);
                Ok(())
            }),
            Err(error) => Err(unreadable(&device.host, error)),
        };
        gather?;
        for node in nodes.get(first..).unwrap_or_default() {
            let (major, minor) = (Some(node.major()), Some(node.minor()));
            rules.push(rule(true, node.typ(), major, minor, &device.permissions)?);
        }
    }
    for text in &security.device_cgroup_rules {
        rules.push(parse_rule(text)?);
    }
    Ok(Devices { nodes, rules })
}

/// All devices below `folder`, as if it were `target`. What goes away meanwhile is left out.
fn walk(folder: &Path, target: &Path, depth: u32, nodes: &mut Vec<LinuxDevice>) -> Result<()> {
    if depth == 0 {
        return Ok(());
    }
    for entry in fs::read_dir(folder).map_err(|error| unreadable(folder, error))? {
        let Ok(entry) = entry else { continue };
        let Ok(data) = entry.path().symlink_metadata() else { continue };
        let (name, path) = (entry.file_name(), entry.path());
        let inside = target.join(&name);
        if data.is_dir() {
            if !SKIPPED.iter().any(|skipped| name == *skipped) {
                walk(&path, &inside, depth - 1, nodes)?;
            }
        } else if name != "console" {
            nodes.extend(node(&inside, &data)?);
        }
    }
    Ok(())
}

/// The node at `path` in the container for what `data` describes; `None` if that is no device.
fn node(path: &Path, data: &fs::Metadata) -> Result<Option<LinuxDevice>> {
    let typ = if data.file_type().is_char_device() {
        LinuxDeviceType::C
    } else if data.file_type().is_block_device() {
        LinuxDeviceType::B
    } else {
        return Ok(None);
    };
    LinuxDeviceBuilder::default()
        .path(PathBuf::from(path))
        .typ(typ)
        .major(i64::from(major(data.rdev())))
        .minor(i64::from(minor(data.rdev())))
        .file_mode(data.mode() & 0o7777)
        .uid(data.uid())
        .gid(data.gid())
        .build()
        .map(Some)
        .map_err(broken)
}

/// Reads `c 1:3 rwm`, where a number may be `*`.
fn parse_rule(text: &str) -> Result<LinuxDeviceCgroup> {
    let invalid = || {
        let text: String = text.chars().take(100).collect();
        Error::invalid(format!("invalid device cgroup rule format: '{text}'"))
    };
    let mut words = text.split_whitespace();
    let (Some(typ), Some(numbers), Some(access), None) =
        (words.next(), words.next(), words.next(), words.next())
    else {
        return Err(invalid());
    };
    let typ = match typ {
        "a" => LinuxDeviceType::A,
        "b" => LinuxDeviceType::B,
        "c" => LinuxDeviceType::C,
        _ => return Err(invalid()),
    };
    let number = |text: &str| match text {
        "*" => Ok(None),
        digits => {
            digits.parse::<u32>().map(|number| Some(i64::from(number))).map_err(|_| invalid())
        }
    };
    let (major, minor) = numbers.split_once(':').ok_or_else(invalid)?;
    if !access.bytes().all(|byte| b"rwm".contains(&byte)) {
        return Err(invalid());
    }
    rule(true, typ, number(major)?, number(minor)?, access)
}

fn rule(
    allow: bool,
    typ: LinuxDeviceType,
    major: Option<i64>,
    minor: Option<i64>,
    access: &str,
) -> Result<LinuxDeviceCgroup> {
    let mut builder = LinuxDeviceCgroupBuilder::default().allow(allow).typ(typ).access(access);
    if let Some(major) = major {
        builder = builder.major(major);
    }
    if let Some(minor) = minor {
        builder = builder.minor(minor);
    }
    builder.build().map_err(broken)
}

fn unreadable(path: &Path, error: io::Error) -> Error {
    let kind = match error.kind() {
        io::ErrorKind::NotFound => Kind::NotFound,
        _ => Kind::Internal,
    };
    let message =
        format!("error gathering device information while adding custom device {}", path.display());
    Error::caused(kind, message, error)
}

fn not_a_device(path: &Path) -> Error {
    Error::invalid(format!(
        "error gathering device information: {} is not a device",
        path.display()
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::DeviceMapping;

    #[test]
    fn a_device_is_looked_up_and_allowed() {
        let mapping: DeviceMapping = "/dev/null:/dev/hole:r".parse().unwrap();
        let security = Security { devices: vec![mapping], ..Security::default() };
        let devices = resolve(&security).unwrap();
        assert_eq!(devices.nodes.len(), 1);
        assert_eq!((devices.nodes[0].major(), devices.nodes[0].minor()), (1, 3));
        let last = devices.rules.last().unwrap();
        assert_eq!(last.access().as_deref(), Some("r"));
        assert!(!devices.rules[0].allow());
    }

    #[test]
    fn what_is_no_device_is_refused() {
        for (path, kind) in [("/dev/nosuch", Kind::NotFound), ("/etc/passwd", Kind::Invalid)] {
            let security = Security { devices: vec![path.parse().unwrap()], ..Security::default() };
            assert_eq!(resolve(&security).unwrap_err().kind(), kind);
        }
    }

    #[test]
    fn rules_read() {
        let parsed = parse_rule("c 10:* rw").unwrap();
        assert_eq!((parsed.major(), parsed.minor()), (Some(10), None));
        for bad in ["", "c", "x 1:2 r", "c 1 r", "c 1:2 z", "c 1:2 r m", "c -1:2 r"] {
            assert!(parse_rule(bad).is_err(), "{bad}");
        }
    }
}
