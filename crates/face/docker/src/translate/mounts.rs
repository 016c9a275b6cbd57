//! Mounts: binds in their short form, mounts in their long one, and tmpfs.
//!
//! The two forms differ in what a missing source means: a bind makes it, a mount is refused. So the
//! engine's `create` tells later which form a mount had.

use std::path::PathBuf;

use dhow_docker_wire::container::{BindOptions, HostConfig, Mount as WireMount, MountPoint};
use dhow_engine::MountView;
use dhow_engine::spec::{Mount, MountKind, Propagation};
use dhow_error::{Error, Result};

use super::not_offered;
use crate::query::quoted;

/// Mounts in the engine's words.
pub(super) fn read(host: &HostConfig) -> Result<Vec<Mount>> {
    let binds = host.binds.iter().map(|bind| Ok(Mount::from_bind(bind)?));
    let long = host.mounts.iter().map(mount);
    let tmpfs = host.tmpfs.iter().map(|(target, options)| Ok(Mount::from_tmpfs(target, options)?));
    binds.chain(long).chain(tmpfs).collect()
}

fn mount(wire: &WireMount) -> Result<Mount> {
    if wire.target.is_empty() {
        return Err(Error::invalid("invalid mount config: field Target must not be empty"));
    }
    let kind = match wire.kind.as_str() {
        "bind" => bind(wire)?,
        "volume" => volume(wire)?,
        "tmpfs" => return tmpfs(wire),
        "image" | "cluster" | "npipe" => {
            return Err(not_offered(format!("a mount of type {}", wire.kind)));
        }
        other => return Err(Error::invalid(format!("mount type unknown: {}", quoted(other)))),
    };
    // The short form's reader cleans and checks the target.
    let target = Mount::from_bind(&wire.target).ok().filter(|_| !wire.target.contains(':'));
    let target = target.map(|mount| mount.target).ok_or_else(|| {
        Error::invalid(format!(
            "invalid mount target {}: must be an absolute path",
            quoted(&wire.target)
        ))
    })?;
    Ok(Mount { target, kind, read_only: wire.read_only })
}

fn bind(wire: &WireMount) -> Result<MountKind> {
    if !wire.source.starts_with('/') {
        return Err(Error::invalid(format!(
            "invalid mount config for type \"bind\": invalid mount path: {} mount path must be absolute",
            quoted(&wire.source)
        )));
    }
    let options = wire.bind_options.clone().unwrap_or_default();
    if options.read_only_force_recursive {
        return Err(not_offered("making mounts below a read-only one read-only, too"));
    }
    let propagation = match options.propagation.as_str() {
        "" => Propagation::default(),
        text => text.parse()?,
    };
    Ok(MountKind::Bind {
        source: PathBuf::from(&wire.source),
        propagation,
        create: options.create_mountpoint,
        non_recursive: options.non_recursive,
    })
}

fn volume(wire: &WireMount) -> Result<MountKind> {
    let options = wire.volume_options.clone().unwrap_or_default();
    if !options.subpath.is_empty() {
        return Err(not_offered("mounting a folder within a volume"));
    }
    if options.driver_config.is_some_and(|driver| {
        !matches!(driver.name.as_str(), "" | "local") || !driver.options.is_empty()
    }) {
        return Err(not_offered("a volume driver or its options"));
    }
    if !wire.source.is_empty() {
        // The short form's reader knows what a volume may be called.
        let read = Mount::from_bind(&format!("{}:/volume", wire.source))?;
        if !matches!(&read.kind, MountKind::Volume { name, .. } if *name == wire.source) {
            return Err(Error::invalid(format!("invalid volume name {}", quoted(&wire.source))));
        }
    }
    Ok(MountKind::Volume {
        name: wire.source.clone(),
        no_copy: options.no_copy,
        anonymous: wire.source.is_empty(),
    })
}

fn tmpfs(wire: &WireMount) -> Result<Mount> {
    if !wire.source.is_empty() {
        return Err(Error::invalid(
            "invalid mount config for type \"tmpfs\": source must be empty",
        ));
    }
    let options = wire.tmpfs_options.clone().unwrap_or_default();
    let mut words: Vec<String> = options.options.iter().map(|words| words.join("=")).collect();
    if options.size_bytes != 0 {
        words.push(format!("size={}", options.size_bytes));
    }
    if options.mode != 0 {
        words.push(format!("mode={:o}", options.mode));
    }
    let mut mount = Mount::from_tmpfs(&wire.target, &words.join(","))?;
    mount.read_only |= wire.read_only;
    Ok(mount)
}

/// Mounts as Docker tells them, each in the form that reads back as the same.
pub(super) fn write(mounts: &[Mount], host: &mut HostConfig) {
    for mount in mounts {
        let target = mount.target.clone();
        match &mount.kind {
            MountKind::Bind { source, propagation, create: true, non_recursive } => {
                let mut options = Vec::new();
                options.extend(mount.read_only.then(|| "ro".to_owned()));
                options.extend(non_recursive.then(|| "bind".to_owned()));
                if *propagation != Propagation::default() {
                    options.push(propagation.to_string());
                }
                host.binds.push(short(&source.display().to_string(), &target, &options));
            }
            MountKind::Volume { anonymous: true, .. } => {}
            MountKind::Volume { name, no_copy, .. } => {
                let mut options = Vec::new();
                options.extend(mount.read_only.then(|| "ro".to_owned()));
                options.extend(no_copy.then(|| "nocopy".to_owned()));
                host.binds.push(short(name, &target, &options));
            }
            MountKind::Tmpfs { options } => {
                let mut options = options.clone();
                if mount.read_only && !options.iter().any(|option| option == "ro") {
                    options.push("ro".to_owned());
                }
                host.tmpfs.insert(target, options.join(","));
            }
            MountKind::Bind { source, propagation, create: false, non_recursive } => {
                let is_default = *propagation == Propagation::default();
                let options = BindOptions {
                    propagation: if is_default { String::new() } else { propagation.to_string() },
                    non_recursive: *non_recursive,
                    ..BindOptions::default()
                };
                let plain = options == BindOptions::default();
                host.mounts.push(WireMount {
                    kind: "bind".to_owned(),
                    source: source.display().to_string(),
                    target,
                    read_only: mount.read_only,
                    bind_options: if plain { None } else { Some(options) },
                    ..WireMount::default()
                });
            }
        }
    }
}

fn short(source: &str, target: &str, options: &[String]) -> String {
    let options = options.join(",");
    let colon = if options.is_empty() { "" } else { ":" };
    format!("{source}:{target}{colon}{options}")
}

/// A mount of a container, for lists and details.
pub(super) fn point(view: &MountView) -> MountPoint {
    let source = view.source.display().to_string();
    let (kind, name, driver, propagation) = match &view.mount.kind {
        MountKind::Bind { propagation, .. } => ("bind", String::new(), "", propagation.to_string()),
        MountKind::Volume { name, .. } => ("volume", name.clone(), "local", String::new()),
        MountKind::Tmpfs { .. } => ("tmpfs", String::new(), "", String::new()),
    };
    MountPoint {
        kind: kind.to_owned(),
        name,
        source,
        destination: view.mount.target.clone(),
        driver: driver.to_owned(),
        mode: if view.mount.read_only { "ro".to_owned() } else { String::new() },
        rw: !view.mount.read_only,
        propagation,
    }
}
