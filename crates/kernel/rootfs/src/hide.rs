//! Masked and read-only paths (OCI runtime specification, config-linux.md).
//!
//! A masked file is covered by /dev/null, a masked directory by an empty read-only tmpfs. What covers is
//! taken from descriptors that were checked, never from the container's own /dev (CVE-2025-31133).

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use dhow_sys::beneath;
use dhow_sys::mount::{
    AttributeChange, MountAttrFlags, attach, change_attributes, clone_tree, open_tree,
};
use dhow_sys::rustix::fs::{CWD, FileType, OFlags, fstat, makedev};
use dhow_sys::rustix::io::Errno;

use crate::failure::{Doing, Failure, PlanError};
use crate::filesystem;
use crate::text::inner_path;

/// What covers masked paths: detached mounts that are cloned for each.
#[derive(Debug)]
pub(crate) struct Covers {
    null: OwnedFd,
    empty: OwnedFd,
}

impl Covers {
    /// Takes the host's /dev/null, checked to be it, and an empty tmpfs. Before the root is left.
    pub(crate) fn open() -> Result<Self, Failure> {
        use dhow_sys::mount::OpenTreeFlags;
        let doing = || "cannot prepare /dev/null for masked paths";
        let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
        let null = open_tree(CWD, c"/dev/null", flags).doing(doing)?;
        let status = fstat(&null).doing(doing)?;
        let is_device = FileType::from_raw_mode(status.st_mode) == FileType::CharacterDevice;
        if !is_device || status.st_rdev != makedev(1, 3) {
            return Err(Failure::new(
                Errno::NXIO,
                "cannot mask paths: /dev/null is not the device",
            ));
        }
        let data = [
            (c"size".to_owned(), Some(c"0".to_owned())),
            (c"nr_inodes".to_owned(), Some(c"1".to_owned())),
            (c"mode".to_owned(), Some(c"755".to_owned())),
        ];
        let what = || "masked paths".to_owned();
        let read_only = MountAttrFlags::MOUNT_ATTR_RDONLY;
        let empty = filesystem::make(c"tmpfs", Some(c"tmpfs"), &data, read_only, what)?;
        Ok(Self { null, empty })
    }

    /// Covers `path` beneath `root`, if there is one.
    pub(crate) fn mask(&self, root: BorrowedFd<'_>, path: &str) -> Result<(), Failure> {
        let doing = || format!("cannot mask {path}");
        let Some(place) = existing(root, path).doing(doing)? else { return Ok(()) };
        let is_directory = beneath::is_directory(&place).doing(doing)?;
        let cover = if is_directory { &self.empty } else { &self.null };
        let copy = clone_tree(cover, false).doing(doing)?;
        attach(copy.as_fd(), place.as_fd()).doing(doing)
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
    paths.into_iter().flatten().map(|path| inner_path(what, Path::new(path))).collect()
}

fn existing(root: BorrowedFd<'_>, path: &str) -> Result<Option<OwnedFd>, Errno> {
    match beneath::open(root, path.as_bytes(), OFlags::PATH) {
        Ok(place) => Ok(Some(place)),
        Err(Errno::NOENT | Errno::NOTDIR) => Ok(None),
        Err(errno) => Err(errno),
    }
}
