//! The mount API by descriptors. rustix has fsopen, fsmount, open_tree and move_mount, re-exported here;
//! mount_setattr stands below.
//!
//! Why descriptors: a mount made by fsmount or cloned by open_tree is attached to an opened target by
//! move_mount, so that no path of an image is resolved twice (CVE-2021-30465).

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::ptr;

use rustix::io::Result;
pub use rustix::mount::{
    FsMountFlags, FsOpenFlags, FsPickFlags, MountAttrFlags, MoveMountFlags, OpenTreeFlags,
    UnmountFlags, fsconfig_create, fsconfig_reconfigure, fsconfig_set_flag, fsconfig_set_string,
    fsmount, fsopen, fspick, move_mount, open_tree, unmount,
};

use crate::process::check;

/// How a mount passes mounts and unmounts beneath it on to its peers (mount_namespaces(7)).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Propagation {
    /// Both ways.
    Shared,
    /// Only from its peers to it.
    Slave,
    /// Not at all.
    Private,
    /// Not at all, and it cannot be bound elsewhere.
    Unbindable,
}

impl Propagation {
    fn bits(self) -> u64 {
        match self {
            Self::Shared => libc::MS_SHARED,
            Self::Slave => libc::MS_SLAVE,
            Self::Private => libc::MS_PRIVATE,
            Self::Unbindable => libc::MS_UNBINDABLE,
        }
    }
}

/// A change of a mount's attributes: those of `clear` go, then those of `set` come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AttributeChange {
    /// Attributes to set.
    pub set: MountAttrFlags,
    /// Attributes to clear; all of `MOUNT_ATTR__ATIME` when one of the access time modes is set.
    pub clear: MountAttrFlags,
}

impl Default for AttributeChange {
    fn default() -> Self {
        Self { set: MountAttrFlags::empty(), clear: MountAttrFlags::empty() }
    }
}

impl AttributeChange {
    /// Whether nothing changes.
    pub fn is_empty(self) -> bool {
        self.set.is_empty() && self.clear.is_empty()
    }
}

/// Changes attributes of the mount whose root `mount` is, and with `recursive` of all mounts beneath it
/// (mount_setattr(2), Linux 5.12).
pub fn change_attributes(
    mount: BorrowedFd<'_>,
    change: AttributeChange,
    recursive: bool,
) -> Result<()> {
    let attributes = libc::mount_attr {
        attr_set: u64::from(change.set.bits()),
        attr_clr: u64::from(change.clear.bits()),
        propagation: 0,
        userns_fd: 0,
    };
    set_attributes(mount, &attributes, recursive)
}

/// As [`change_attributes`] for this one mount, and nothing passes between it and its peers any more.
pub fn change_attributes_privately(mount: BorrowedFd<'_>, change: AttributeChange) -> Result<()> {
    let attributes = libc::mount_attr {
        attr_set: u64::from(change.set.bits()),
        attr_clr: u64::from(change.clear.bits()),
        propagation: Propagation::Private.bits(),
        userns_fd: 0,
    };
    set_attributes(mount, &attributes, false)
}

/// Changes the propagation of the mount whose root `mount` is, and with `recursive` of all beneath it.
pub fn change_propagation(
    mount: BorrowedFd<'_>,
    propagation: Propagation,
    recursive: bool,
) -> Result<()> {
    let attributes = libc::mount_attr {
        attr_set: 0,
        attr_clr: 0,
        propagation: propagation.bits(),
        userns_fd: 0,
    };
    set_attributes(mount, &attributes, recursive)
}

/// Shows the files of the detached mount `mount`, and with `recursive` of all beneath it, with the ids that
/// `user_namespace` maps theirs to (mount_setattr(2), "ID-mapped mounts", Linux 5.12). Errors: EINVAL if the
/// file system cannot do that, or if the mount has an id mapping or is attached already; EPERM without
/// CAP_SYS_ADMIN in the file system's own user namespace.
pub fn map_ids(
    mount: BorrowedFd<'_>,
    user_namespace: BorrowedFd<'_>,
    recursive: bool,
) -> Result<()> {
    let attributes = libc::mount_attr {
        attr_set: libc::MOUNT_ATTR_IDMAP,
        attr_clr: 0,
        propagation: 0,
        userns_fd: user_namespace.as_raw_fd() as u64,
    };
    set_attributes(mount, &attributes, recursive)
}

fn set_attributes(
    mount: BorrowedFd<'_>,
    attributes: &libc::mount_attr,
    recursive: bool,
) -> Result<()> {
    let flags = libc::AT_EMPTY_PATH | if recursive { libc::AT_RECURSIVE } else { 0 };
    // SAFETY: the path is a static empty text, the kernel reads a mount_attr of the size given, and the
    // descriptor is borrowed for the call.
    check(unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            mount.as_raw_fd(),
            c"".as_ptr(),
            flags,
            ptr::from_ref(attributes),
            std::mem::size_of::<libc::mount_attr>(),
        )
    })
}

/// Attaches the detached `mount` onto the opened `target`.
pub fn attach(mount: BorrowedFd<'_>, target: BorrowedFd<'_>) -> Result<()> {
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
    move_mount(mount, c"", target, c"", flags)
}

/// A detached copy of the mount at `of` (a descriptor), with `recursive` of those beneath it as well.
pub fn clone_tree(of: impl AsFd, recursive: bool) -> Result<OwnedFd> {
    let mut flags = OpenTreeFlags::OPEN_TREE_CLONE
        | OpenTreeFlags::OPEN_TREE_CLOEXEC
        | OpenTreeFlags::AT_EMPTY_PATH;
    if recursive {
        flags |= OpenTreeFlags::AT_RECURSIVE;
    }
    open_tree(of, c"", flags)
}

/// Whether an overlay takes its layers one by one, as `lowerdir+` (Linux 6.7). Told by uname(2): an older
/// kernel that is tried logs a line of complaint each time. With a distribution's changes an older one may
/// be able to as well; there a list of layers does.
pub fn overlay_takes_layers_singly() -> bool {
    at_least(rustix::system::uname().release().to_bytes(), (6, 7))
}

/// Whether a kernel's release, such as `6.1.0-18-amd64`, is `wanted` or a later one.
fn at_least(release: &[u8], wanted: (u32, u32)) -> bool {
    let mut numbers = release.split(|byte| !byte.is_ascii_digit()).map(|digits| {
        digits.iter().fold(0, |number: u32, digit| {
            number.saturating_mul(10).saturating_add(u32::from(digit - b'0'))
        })
    });
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0)) >= wanted
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn releases_compare_by_number() {
        for newer in ["6.7.0", "6.18.44-fc-v669", "6.7-rc1", "6.10.0-1-cloud-amd64", "10.0"] {
            assert!(at_least(newer.as_bytes(), (6, 7)), "{newer}");
        }
        for older in ["6.6.99", "6.1.0-18-amd64", "5.15.0-101-generic", "6", "2.6.60", "", "x"] {
            assert!(!at_least(older.as_bytes(), (6, 7)), "{older}");
        }
    }
}
