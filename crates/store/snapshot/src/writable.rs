//! The two folders that overlayfs needs for what a container writes.

use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use dhow_spec::ContainerId;
use dhow_sys::rustix::fs::{CWD, RenameFlags, renameat_with};
use dhow_sys::rustix::io::Errno;

use crate::error::{Result, SnapshotError, at};
use crate::staging::Staging;

/// Where a container writes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Writable {
    /// What the container has changed; its overlay's `upperdir`.
    pub upper: PathBuf,
    /// Scratch space of overlayfs, on the same filesystem; its overlay's `workdir`.
    pub work: PathBuf,
}

impl Writable {
    fn of(folder: &Path) -> Self {
        Self { upper: folder.join("upper"), work: folder.join("work") }
    }
}

/// Makes both folders appear at once.
pub(crate) fn create(writable: &Path, tmp: &Path, id: &ContainerId) -> Result<Writable> {
    let target = writable.join(id.as_str());
    let staging = Staging::begin(tmp)?;
    let Writable { upper, work } = Writable::of(staging.path());
    for (folder, mode) in [(&upper, 0o755), (&work, 0o700)] {
        DirBuilder::new().mode(mode).create(folder).map_err(at("create", folder))?;
    }
    match renameat_with(CWD, staging.path(), CWD, &target, RenameFlags::NOREPLACE) {
        Ok(()) => {
            staging.moved_away();
            Ok(Writable::of(&target))
        }
        Err(Errno::EXIST) => Err(SnapshotError::WritableExists(id.short().to_owned())),
        Err(error) => Err(at("create", &target)(error)),
    }
}

/// The folders of `id`, which must be there.
pub(crate) fn find(writable: &Path, id: &ContainerId) -> Result<Writable> {
    let folder = writable.join(id.as_str());
    match fs::symlink_metadata(&folder) {
        Ok(_) => Ok(Writable::of(&folder)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            Err(SnapshotError::NoWritable(id.short().to_owned()))
        }
        Err(error) => Err(at("look at", &folder)(error)),
    }
}

/// All containers that have folders.
pub(crate) fn list(writable: &Path) -> Result<Vec<ContainerId>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(writable).map_err(at("list", writable))? {
        let name = entry.map_err(at("list", writable))?.file_name();
        found.extend(name.to_str().and_then(|id| id.parse::<ContainerId>().ok()));
    }
    Ok(found)
}
