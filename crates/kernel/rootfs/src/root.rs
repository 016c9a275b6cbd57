//! What a container's root file system is made of, and how it becomes the root.
//!
//! ```text
//!   fsopen(overlay) ─► fsmount ─┐                         ┌─► chroot       a namespace that began empty
//!                               ├─► a detached mount ─► onto "/"           (bare.rs)
//!   open_tree(dir, CLONE) ──────┘                         └─► pivot_root(".", ".") ─► old root gone
//!                                                             a copy of the host's, made a slave before
//! ```
//!
//! The detached mount is made by the parent where the kernel can do that, so that its file system can be
//! kept from being shut down, and synced, in the container's last moments.
//!
//! Invariants: nothing is ever attached in the host's mount namespace; layers' paths are the host's and
//! trusted, what is in them is not.

use std::ffi::{CStr, CString};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;

use dhow_sys::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MoveMountFlags, OpenTreeFlags, Propagation,
    UnmountFlags, change_propagation, fsconfig_create, fsconfig_set_string, fsmount, fsopen,
    move_mount, open_tree, overlay_takes_layers_singly, unmount,
};
use dhow_sys::rustix::fs::{CWD, Mode, OFlags, open};
use dhow_sys::rustix::io::Errno;
use dhow_sys::rustix::mount::{MountFlags, MountPropagationFlags, mount, mount_change};
use dhow_sys::rustix::process::{chdir, chroot, fchdir, pivot_root};
use serde::{Deserialize, Serialize};

use crate::failure::{Doing, Failure, PlanError};
use crate::filesystem::{complaint, decimal};
use crate::text::host_path;

/// Where a container's root comes from. All paths are the host's and absolute.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Root {
    /// An overlay of layers, attached only inside the container's mount namespace.
    Overlay {
        /// Read-only layers, topmost first; at least one.
        lower: Vec<PathBuf>,
        /// The container's writable layer.
        upper: PathBuf,
        /// The overlay's scratch folder, on the same file system as `upper`.
        work: PathBuf,
    },
    /// A directory as it is (an OCI bundle's `rootfs`).
    Dir(PathBuf),
}

/// The longest value that fsconfig(2) takes as a string.
const LONGEST_VALUE: usize = 255;

/// A checked root, ready for the child.
#[derive(Debug)]
pub(crate) enum PreparedRoot {
    Overlay { lower: Vec<CString>, upper: CString, work: CString },
    Dir(CString),
}

impl PreparedRoot {
    pub(crate) fn new(root: &Root) -> Result<Self, PlanError> {
        match root {
            Root::Dir(path) => Ok(Self::Dir(host_path("root", path)?)),
            Root::Overlay { lower, .. } if lower.is_empty() => Err(PlanError::NoLayers),
            Root::Overlay { lower, upper, work } => Ok(Self::Overlay {
                lower: lower
                    .iter()
                    .map(|layer| host_path("layer", layer))
                    .collect::<Result<_, _>>()?,
                upper: host_path("writable layer", upper)?,
                work: host_path("overlay scratch folder", work)?,
            }),
        }
    }

    /// The root as a detached mount. `None` on a kernel that can only make it at a path (before Linux 6.7
    /// an overlay takes its layers only as one string).
    pub(crate) fn make(&self) -> Result<Option<OwnedFd>, Failure> {
        match self {
            Self::Dir(path) => {
                let doing = || format!("cannot open root {}", path.to_string_lossy());
                let flags = OpenTreeFlags::OPEN_TREE_CLONE
                    | OpenTreeFlags::OPEN_TREE_CLOEXEC
                    | OpenTreeFlags::AT_RECURSIVE;
                let tree = open_tree(CWD, path.as_c_str(), flags).doing(doing)?;
                // Mounts of the host's go on to appear in it, and none of the container's on the host.
                change_propagation(tree.as_fd(), Propagation::Slave, true).doing(doing)?;
                Ok(Some(tree))
            }
            Self::Overlay { .. } if !overlay_takes_layers_singly() => Ok(None),
            Self::Overlay { lower, upper, work } => match overlay(lower, upper, work) {
                Ok(mount) => Ok(Some(mount)),
                Err(failure) if failure.errno() == Errno::INVAL => Ok(None),
                Err(failure) => Err(failure),
            },
        }
    }

    /// Makes and attaches the root inside this process's own mount namespace, a copy of the host's; gives
    /// it as an O_PATH descriptor.
    pub(crate) fn attach(&self) -> Result<OwnedFd, Failure> {
        if let Some(mount) = self.make()? {
            return onto_slash(mount);
        }
        let Self::Overlay { lower, upper, work } = self else {
            return Err(Failure::new(Errno::INVAL, "cannot attach the container's root"));
        };
        overlay_by_string(lower, upper, work).map_err(|failure| {
            // What was wrong may have been something else: that failure says more.
            let other = overlay_takes_layers_singly().then(|| overlay(lower, upper, work).err());
            other.flatten().unwrap_or(failure)
        })
    }
}

/// Takes the mount namespace's propagation from the host away: what happens here stays here.
pub(crate) fn leave_host_propagation() -> Result<(), Failure> {
    mount_change(c"/", MountPropagationFlags::DOWNSTREAM | MountPropagationFlags::REC)
        .doing(|| "cannot make the container's mounts slaves of the host's")
}

/// Makes `root` this process's root and lets go of the old one (pivot_root(2), "pivot_root(\".\", \".\")").
pub(crate) fn pivot(root: BorrowedFd<'_>) -> Result<(), Failure> {
    fchdir(root).doing(|| "cannot enter the container's root")?;
    pivot_root(c".", c".").doing(|| "cannot pivot to the container's root")?;
    // The old root now lies on top of the new one; "." is under it, and unmounting "." takes the top.
    unmount(c".", UnmountFlags::DETACH).doing(|| "cannot detach the host's root")?;
    chdir(c"/").doing(|| "cannot enter the container's root")
}

/// Makes `root`, which lies on "/" of a namespace that began empty, this process's root.
pub(crate) fn change(root: BorrowedFd<'_>) -> Result<(), Failure> {
    fchdir(root).and_then(|()| chroot(c".")).doing(|| "cannot change to the container's root")
}

/// Gives the root mount the propagation that the specification asks for.
pub(crate) fn propagate(
    root: BorrowedFd<'_>,
    (propagation, recursive): (Propagation, bool),
) -> Result<(), Failure> {
    change_propagation(root, propagation, recursive)
        .doing(|| "cannot set the propagation of the container's root")
}

/// Attaches a detached mount on "/".
pub(crate) fn onto_slash(mount: OwnedFd) -> Result<OwnedFd, Failure> {
    onto(mount, c"/")
}

/// Attaches a detached mount on a directory of the host's.
pub(crate) fn onto(mount: OwnedFd, path: &CStr) -> Result<OwnedFd, Failure> {
    move_mount(mount.as_fd(), c"", CWD, path, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)
        .doing(|| "cannot attach the container's root")?;
    Ok(mount)
}

/// The overlay as a detached mount, layer by layer (Linux 6.7).
fn overlay(lower: &[CString], upper: &CString, work: &CString) -> Result<OwnedFd, Failure> {
    let context = fsopen(c"overlay", FsOpenFlags::FSOPEN_CLOEXEC)
        .doing(|| "cannot open the overlay file system")?;
    // Descriptors of layers with long paths, which must stay open until the overlay exists.
    let mut held = Vec::new();
    set(&context, c"source", c"overlay")?;
    for layer in lower {
        set_path(&context, c"lowerdir+", layer, &mut held)?;
    }
    set_path(&context, c"upperdir", upper, &mut held)?;
    set_path(&context, c"workdir", work, &mut held)?;
    fsconfig_create(&context).map_err(|errno| {
        let layers = lower.len();
        let said = complaint(&context);
        Failure::new(errno, format!("cannot mount an overlay of {layers} layers{said}"))
    })?;
    fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, MountAttrFlags::empty())
        .doing(|| "cannot mount the overlay")
}

fn set(context: &OwnedFd, key: &std::ffi::CStr, value: &std::ffi::CStr) -> Result<(), Failure> {
    fsconfig_set_string(context, key, value).map_err(|errno| {
        let (key, value) = (key.to_string_lossy(), value.to_string_lossy());
        let said = complaint(context);
        Failure::new(errno, format!("cannot set {key} of the overlay to {value}{said}"))
    })
}

/// Sets a path, which may be longer than fsconfig takes: then through a descriptor's link.
fn set_path(
    context: &OwnedFd,
    key: &std::ffi::CStr,
    path: &CString,
    held: &mut Vec<OwnedFd>,
) -> Result<(), Failure> {
    if path.as_bytes().len() <= LONGEST_VALUE {
        return set(context, key, path);
    }
    let place = open_layer(path)?;
    let link = link_of(&place)?;
    held.push(place);
    set(context, key, &link)
}

/// The overlay by mount(2), with descriptors' links for layers so that 4,096 bytes are enough for as many
/// as the kernel takes. It lands on the writable layer's own path, in our mount namespace only.
fn overlay_by_string(
    lower: &[CString],
    upper: &CString,
    work: &CString,
) -> Result<OwnedFd, Failure> {
    let mut held = Vec::with_capacity(lower.len() + 2);
    let mut links = Vec::with_capacity(lower.len() + 2);
    for path in lower.iter().chain([upper, work]) {
        let place = open_layer(path)?;
        links.push(link_of(&place)?.to_string_lossy().into_owned());
        held.push(place);
    }
    let (layers, writable) = links.split_at(lower.len());
    let mut data = ["lowerdir=", &layers.join(":")].concat();
    for (key, link) in [",upperdir=", ",workdir="].into_iter().zip(writable) {
        data.push_str(key);
        data.push_str(link);
    }
    let data =
        CString::new(data).map_err(|_| Failure::new(Errno::INVAL, "cannot name the layers"))?;
    mount(c"overlay", upper.as_c_str(), c"overlay", MountFlags::empty(), data.as_c_str())
        .doing(|| format!("cannot mount an overlay of {} layers", lower.len()))?;
    open_layer(upper)
}

fn open_layer(path: &CString) -> Result<OwnedFd, Failure> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    open(path.as_c_str(), flags, Mode::empty())
        .doing(|| format!("cannot open layer {}", path.to_string_lossy()))
}

/// The /proc link of a descriptor of ours.
fn link_of(descriptor: &OwnedFd) -> Result<CString, Failure> {
    let mut digits = [0; 20];
    let number = decimal(descriptor.as_raw_fd().unsigned_abs().into(), &mut digits);
    CString::new([b"/proc/self/fd/", number].concat())
        .map_err(|_| Failure::new(Errno::INVAL, "cannot name a layer"))
}

#[cfg(test)]
mod tests {
    use dhow_sys::namespace::Namespaces;
    use dhow_sys::process::clone3;
    use dhow_sys::rustix::process::{WaitId, WaitIdOptions, waitid};

    use super::*;

    type Attach = fn(&[CString], &CString, &CString) -> Result<OwnedFd, Failure>;

    fn c_path(path: &std::path::Path) -> CString {
        host_path("path", path).unwrap()
    }

    /// Attaches 50 layers with paths too long for fsconfig, each with a file, and looks for all of them.
    fn all_layers_show(attach: Attach) {
        let dir = tempfile::tempdir().unwrap();
        let long = dir.path().join("x".repeat(150)).join("y".repeat(150));
        let mut lower = Vec::new();
        for layer in 0..50 {
            let path = long.join(layer.to_string());
            std::fs::create_dir_all(&path).unwrap();
            std::fs::write(path.join(format!("file{layer}")), "").unwrap();
            lower.push(c_path(&path));
        }
        for name in ["upper", "work"] {
            std::fs::create_dir(long.join(name)).unwrap();
        }
        let (upper, work) = (c_path(&long.join("upper")), c_path(&long.join("work")));
        let child = clone3(Namespaces::MOUNT, None, || {
            let seen = leave_host_propagation()
                .and_then(|()| attach(&lower, &upper, &work))
                .and_then(|root| pivot(root.as_fd()))
                .is_ok_and(|()| std::fs::read_dir("/").is_ok_and(|files| files.count() == 50));
            u8::from(!seen)
        })
        .unwrap();
        let status = waitid(WaitId::PidFd(child.pidfd.as_fd()), WaitIdOptions::EXITED).unwrap();
        assert_eq!(status.and_then(|status| status.exit_status()), Some(0));
    }

    #[test]
    fn many_layers_with_long_paths() {
        all_layers_show(|lower, upper, work| overlay(lower, upper, work).and_then(onto_slash));
    }

    #[test]
    fn many_layers_on_an_old_kernel() {
        all_layers_show(overlay_by_string);
    }

    #[test]
    fn an_overlay_needs_a_layer() {
        let path = PathBuf::from("/x");
        let root = Root::Overlay { lower: vec![], upper: path.clone(), work: path };
        assert_eq!(PreparedRoot::new(&root).unwrap_err(), PlanError::NoLayers);
    }
}
