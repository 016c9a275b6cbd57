//! The mounts of a container: Docker's defaults, the files below `/etc`, and what was asked for.
//!
//! Outer mounts come before inner ones. What a user mounts on a default's place replaces the default.

use std::path::{Path, PathBuf};

use dhow_error::Result;
use dhow_spec::oci_runtime::{Mount, MountBuilder};

use super::{Plan, broken};
use crate::spec::{MountKind, NamespaceMode};
use crate::view::MountView;

/// Size of `/dev/shm` unless another is asked for.
const SHM_BYTES: i64 = 64 << 20;

/// All mounts in the order in which they are made.
pub(super) fn build(plan: &Plan<'_>) -> Result<Vec<Mount>> {
    let mut mounts = defaults(plan)?;
    let mut inner = etc_files(plan)?;
    for view in plan.mounts {
        inner.push(user_mount(view)?);
    }
    let own: Vec<PathBuf> =
        plan.mounts.iter().map(|view| PathBuf::from(&view.mount.target)).collect();
    mounts.retain(|mount| !own.contains(mount.destination()));
    let depth = |mount: &Mount| mount.destination().components().count();
    inner.sort_by_key(depth);
    mounts.extend(inner);
    Ok(mounts)
}

fn defaults(plan: &Plan<'_>) -> Result<Vec<Mount>> {
    let security = &plan.spec.security;
    let mut mounts = vec![
        mount("/proc", "proc", "proc", &["nosuid", "noexec", "nodev"])?,
        mount("/dev", "tmpfs", "tmpfs", &["nosuid", "strictatime", "mode=755", "size=65536k"])?,
        mount(
            "/dev/pts",
            "devpts",
            "devpts",
            &["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"],
        )?,
        mount("/sys", "sysfs", "sysfs", &guarded(security.privileged))?,
        mount("/sys/fs/cgroup", "cgroup", "cgroup", &guarded(security.privileged))?,
    ];
    if security.ipc == NamespaceMode::Host {
        mounts.push(mount("/dev/mqueue", "bind", "/dev/mqueue", &["rbind", "rprivate"])?);
        mounts.push(mount("/dev/shm", "bind", "/dev/shm", &["rbind", "rprivate"])?);
    } else {
        let size = plan.spec.limits.shm_bytes.filter(|bytes| *bytes > 0).unwrap_or(SHM_BYTES);
        let size = format!("size={size}");
        mounts.push(mount("/dev/mqueue", "mqueue", "mqueue", &["nosuid", "noexec", "nodev"])?);
        let options = ["nosuid", "noexec", "nodev", "mode=1777", &size];
        mounts.push(mount("/dev/shm", "tmpfs", "shm", &options)?);
    }
    Ok(mounts)
}

/// What `/sys` and `/sys/fs/cgroup` are mounted with.
fn guarded(privileged: bool) -> Vec<&'static str> {
    let mut options = vec!["nosuid", "noexec", "nodev"];
    if !privileged {
        options.push("ro");
    }
    options
}

/// The files that name the container, unless the user mounts something there.
fn etc_files(plan: &Plan<'_>) -> Result<Vec<Mount>> {
    let files = [
        ("/etc/resolv.conf", &plan.etc.resolv_conf),
        ("/etc/hostname", &plan.etc.hostname),
        ("/etc/hosts", &plan.etc.hosts),
    ];
    let taken = |path: &str| plan.mounts.iter().any(|view| view.mount.target == path);
    files
        .into_iter()
        .filter(|(target, _)| !taken(target))
        .map(|(target, source)| {
            let mut options = vec!["rbind", "rprivate"];
            // As Docker: with a read-only root these cannot be written either.
            if plan.spec.security.read_only_rootfs {
                options.push("ro");
            }
            mount(target, "bind", source, &options)
        })
        .collect()
}

fn user_mount(view: &MountView) -> Result<Mount> {
    let target = view.mount.target.as_str();
    let access = if view.mount.read_only { "ro" } else { "rw" };
    match &view.mount.kind {
        MountKind::Bind { propagation, non_recursive, .. } => {
            let bind = if *non_recursive { "bind" } else { "rbind" };
            mount(target, "bind", &view.source, &[bind, &propagation.to_string(), access])
        }
        MountKind::Volume { .. } => {
            mount(target, "bind", &view.source, &["rbind", "rprivate", access])
        }
        MountKind::Tmpfs { options } => {
            let mut all = vec!["noexec", "nosuid", "nodev"];
            for option in options {
                // `exec` undoes `noexec`, and so on.
                let opposite = format!("no{option}");
                all.retain(|known| *known != opposite && *known != option);
                all.push(option);
            }
            mount(target, "tmpfs", "tmpfs", &all)
        }
    }
}

fn mount(target: &str, typ: &str, source: impl AsRef<Path>, options: &[&str]) -> Result<Mount> {
    MountBuilder::default()
        .destination(target)
        .typ(typ)
        .source(source.as_ref())
        .options(options.iter().map(ToString::to_string).collect::<Vec<_>>())
        .build()
        .map_err(broken)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec;

    #[test]
    fn tmpfs_options_undo_the_defaults() {
        let asked = spec::Mount::from_tmpfs("/run", "exec,size=64m,nodev").unwrap();
        let made = user_mount(&MountView { mount: asked, source: PathBuf::new() }).unwrap();
        assert_eq!(made.options().as_deref().unwrap(), ["nosuid", "exec", "size=64m", "nodev"]);
    }

    #[test]
    fn binds_carry_propagation_and_access() {
        let asked = spec::Mount::from_bind("/srv:/data:ro,rshared").unwrap();
        let made = user_mount(&MountView { mount: asked, source: "/srv".into() }).unwrap();
        assert_eq!(made.options().as_deref().unwrap(), ["rbind", "rshared", "ro"]);
    }
}
