//! Masked and read-only paths (OCI runtime specification, config-linux.md).
//!
//! A masked file is covered by /dev/null, a masked directory by an empty read-only tmpfs. What covers is
//! taken from descriptors that were checked, never from the container's own /dev (CVE-2025-31133).

use std::cell::Cell;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use dhow_sys::beneath;
use dhow_sys::mount::{AttributeChange, MountAttrFlags, attach, change_attributes, clone_tree};
use dhow_sys::rustix::fs::{FileType, Mode, OFlags, fstat, makedev, open};
use dhow_sys::rustix::io::Errno;

use crate::failure::{Doing, Failure, PlanError};
use crate::filesystem;
use crate::text::inner_path;

/// What covers masked paths.
#[derive(Debug)]
pub(crate) struct Covers {
    /// The host's /dev/null, opened as a place.
    null: OwnedFd,
    empty: OwnedFd,
    /// Whether `empty` is attached already. Before Linux 6.15 only an attached mount can be cloned, so the
    /// first masked directory gets the tmpfs itself and the others get clones of it.
    empty_is_attached: Cell<bool>,
}

impl Covers {
    /// Takes the host's /dev/null, checked to be it, and an empty tmpfs. Before the root is left.
    pub(crate) fn open() -> Result<Self, Failure> {
        let doing = || "cannot prepare /dev/null for masked paths";
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let null = open(c"/dev/null", flags, Mode::empty()).doing(doing)?;
        let status = fstat(&null).doing(doing)?;
        let is_device = FileType::from_raw_mode(status.st_mode) == FileType::CharacterDevice;
        if !is_device || status.st_rdev != makedev(1, 3) {
            return Err(Failure::new(
                Errno::NXIO,
                "cannot mask paths: /dev/null is not the device",
            ));
        }
        let data = [(c"nr_inodes", c"1"), (c"mode", c"755")];
        let what = || "masked paths".to_owned();
        let read_only = MountAttrFlags::MOUNT_ATTR_RDONLY;
        let empty = filesystem::make(c"tmpfs", Some(c"tmpfs"), data, read_only, what)?;
        Ok(Self { null, empty, empty_is_attached: Cell::new(false) })
    }

    /// Covers `path` beneath `root`, if there is one.
    pub(crate) fn mask(&self, root: BorrowedFd<'_>, path: &str) -> Result<(), Failure> {
        let doing = || format!("cannot mask {path}");
        let Some(place) = existing(root, path).doing(doing)? else { return Ok(()) };
        let is_directory = beneath::is_directory(&place).doing(doing)?;
        if is_directory && !self.empty_is_attached.replace(true) {
            return attach(self.empty.as_fd(), place.as_fd()).doing(doing);
        }
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
