//! Masked and read-only paths (OCI runtime specification, config-linux.md).
//!
//! A masked file is covered by /dev/null, a masked directory by an empty read-only tmpfs. What covers is
//! taken from descriptors that were checked, never from the container's own /dev (CVE-2025-31133).

use std::cell::Cell;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use dhow_sys::beneath;
use dhow_sys::mount::{
    AttributeChange, MountAttrFlags, OpenTreeFlags, Propagation, attach, change_attributes,
    change_propagation, clone_tree, open_tree,
};
use dhow_sys::rustix::fs::{CWD, FileType, OFlags, fstat, makedev};
use dhow_sys::rustix::io::Errno;

use crate::failure::{Doing, Failure, PlanError};
use crate::filesystem;
use crate::text::inner_path;

/// What covers masked paths.
#[derive(Debug)]
pub(crate) struct Covers {
    /// The host's /dev/null.
    null: Cover,
    /// An empty tmpfs.
    empty: Cover,
}

/// A detached mount. Before Linux 6.15 only an attached one can be cloned, so the first path gets the mount
/// itself and the others get clones of it.
#[derive(Debug)]
struct Cover {
    mount: OwnedFd,
    is_attached: Cell<bool>,
}

impl Covers {
    /// Takes the host's /dev/null, checked to be it, and an empty tmpfs. Before the host's tree is left.
    pub(crate) fn open() -> Result<Self, Failure> {
        let doing = || "cannot prepare /dev/null for masked paths";
        let flags = OpenTreeFlags::OPEN_TREE_CLONE
            | OpenTreeFlags::OPEN_TREE_CLOEXEC
            | OpenTreeFlags::AT_SYMLINK_NOFOLLOW;
        let null = open_tree(CWD, c"/dev/null", flags).doing(doing)?;
        let status = fstat(&null).doing(doing)?;
        let is_device = FileType::from_raw_mode(status.st_mode) == FileType::CharacterDevice;
        if !is_device || status.st_rdev != makedev(1, 3) {
            return Err(Failure::new(
                Errno::NXIO,
                "cannot mask paths: /dev/null is not the device",
            ));
        }
        change_propagation(null.as_fd(), Propagation::Private, false).doing(doing)?;
        let data = [(c"nr_inodes", c"1"), (c"mode", c"755")];
        let what = || "masked paths".to_owned();
        let read_only = MountAttrFlags::MOUNT_ATTR_RDONLY;
        let empty = filesystem::make(c"tmpfs", Some(c"tmpfs"), data, read_only, what)?;
        Ok(Self { null: Cover::new(null), empty: Cover::new(empty) })
    }

    /// Covers `path` beneath `root`, if there is one.
    pub(crate) fn mask(&self, root: BorrowedFd<'_>, path: &str) -> Result<(), Failure> {
        let doing = || format!("cannot mask {path}");
        let Some(place) = existing(root, path).doing(doing)? else { return Ok(()) };
        let is_directory = beneath::is_directory(&place).doing(doing)?;
        let cover = if is_directory { &self.empty } else { &self.null };
        cover.put_on(place.as_fd()).doing(doing)
    }
}

impl Cover {
    fn new(mount: OwnedFd) -> Self {
        Self { mount, is_attached: Cell::new(false) }
    }

    fn put_on(&self, place: BorrowedFd<'_>) -> Result<(), Errno> {
        if !self.is_attached.replace(true) {
            return attach(self.mount.as_fd(), place);
        }
        attach(clone_tree(&self.mount, false)?.as_fd(), place)
    }
}

/// Makes `path` beneath `root` read-only with all mounts beneath it, if there is one.
pub(crate) fn make_read_only(root: BorrowedFd<'_>, path: &str) -> Result<(), Failure> {
    let doing = || format!("cannot make {path} read-only");
    let Some(place) = existing(root, path).doing(doing)? else { return Ok(()) };
    let copy = clone_tree(&place, true).doing(doing)?;
    set_read_only(copy.as_fd(), true).doing(doing)?;
    attach(copy.as_fd(), place.as_fd()).doing(doing)
}

/// Makes the mount at `mount` read-only.
pub(crate) fn set_read_only(mount: BorrowedFd<'_>, recursive: bool) -> Result<(), Errno> {
    let change =
        AttributeChange { set: MountAttrFlags::MOUNT_ATTR_RDONLY, clear: MountAttrFlags::empty() };
    change_attributes(mount, change, recursive)
}

/// The specification's list, cleaned.
pub(crate) fn prepare(
    what: &'static str,
    paths: Option<&Vec<String>>,
) -> Result<Vec<String>, PlanError> {
    let prepare = |path: &String| {
        if !path.starts_with('/') {
            return Err(PlanError::Relative { what, path: path.clone() });
        }
        inner_path(what, Path::new(path))
    };
    paths.into_iter().flatten().map(prepare).collect()
}

fn existing(root: BorrowedFd<'_>, path: &str) -> Result<Option<OwnedFd>, Errno> {
    match beneath::open(root, path.as_bytes(), OFlags::PATH) {
        Ok(place) => Ok(Some(place)),
        Err(Errno::NOENT | Errno::NOTDIR) => Ok(None),
        Err(errno) => Err(errno),
    }
}
