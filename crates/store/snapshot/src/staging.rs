//! Folders in `tmp/`: where a layer grows until it is complete, and where a tree goes to die.
//!
//! ```text
//!   begin ─► locked ─► publish: sync, rename to its place, fsync the place
//!                └───► dropped: removed
//!   remove_aside: rename into tmp/ ─► removed
//! ```
//!
//! Whoever works in such a folder holds a lock (flock) on it. A folder without one was left by a process
//! that died, and is removed at the next start.

use std::fs::{self, DirBuilder, File, TryLockError};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use dhow_sys::rustix::fs::{CWD, RenameFlags, fsync, renameat_with, syncfs};
use dhow_sys::rustix::io::Errno;

use crate::error::{Result, at};
use crate::layer::{self, LayerInfo};
use crate::remove::remove_tree;
use crate::unpack::Sync;

/// Makes names unique within the process; the pid makes them so beyond it.
static COUNTER: AtomicU64 = AtomicU64::new(0);

/// A locked folder in `tmp/`, removed when dropped.
#[derive(Debug)]
pub(crate) struct Staging {
    path: PathBuf,
    /// Open, and locked, as long as somebody works here.
    lock: File,
    /// Whether the folder is no longer ours to remove.
    gone: bool,
}

impl Staging {
    /// A new, empty folder with mode 0700 in `tmp`.
    pub(crate) fn begin(tmp: &Path) -> Result<Self> {
        loop {
            let path = unique(tmp);
            match DirBuilder::new().mode(0o700).create(&path) {
                Ok(()) => {}
                // Left by a process which had this one's id.
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => continue,
                Err(error) => return Err(at("create", &path)(error)),
            }
            // Who took the folder for stale before it was locked has removed it.
            match lock(&path) {
                Ok(lock) => return Ok(Self { path, lock, gone: false }),
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(at("lock", &path)(error)),
            }
        }
    }

    /// Where it is.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Says that the folder was renamed and is to stay.
    pub(crate) fn moved_away(mut self) {
        self.gone = true;
    }

    /// Makes the layer in this folder durable and gives it its place. That another thread was faster
    /// with the same layer is fine: ours is dropped.
    pub(crate) fn publish(self, place: &Path, info: &LayerInfo, sync: Sync) -> Result<()> {
        layer::write_info(&self.path, info)?;
        match &sync {
            Sync::Each(kept) => {
                for fd in kept {
                    fsync(fd).map_err(at("sync", &self.path))?;
                }
                fsync(&self.lock).map_err(at("sync", &self.path))?;
            }
            Sync::Filesystem => syncfs(&self.lock).map_err(at("sync", &self.path))?,
        }
        let layers = place.parent().unwrap_or(place);
        match renameat_with(CWD, &self.path, CWD, place, RenameFlags::NOREPLACE) {
            Ok(()) => self.moved_away(),
            Err(Errno::EXIST) => drop(self),
            Err(error) => return Err(at("rename", &self.path)(error)),
        }
        File::open(layers).and_then(|layers| layers.sync_all()).map_err(at("sync", layers))
    }
}

impl Drop for Staging {
    fn drop(&mut self) {
        if !self.gone
            && let Err(error) = remove_tree(&self.path)
        {
            tracing::warn!(path = %self.path.display(), %error, "cannot remove a temporary folder");
        }
    }
}

/// Takes a tree out of sight at once and then removes it; says whether it was there.
pub(crate) fn remove_aside(path: &Path, tmp: &Path) -> Result<bool> {
    // The lock goes with the folder, so that nobody else takes it for stale meanwhile.
    let lock = match lock(path) {
        Ok(lock) => lock,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        Err(error) => return Err(at("lock", path)(error)),
    };
    let aside = unique(tmp);
    match fs::rename(path, &aside) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        Err(error) => return Err(at("remove", path)(error)),
    }
    drop(Staging { path: aside, lock, gone: false });
    Ok(true)
}

/// Removes the folders that nobody works in any more.
pub(crate) fn remove_stale(tmp: &Path) -> Result<()> {
    for entry in fs::read_dir(tmp).map_err(at("list", tmp))? {
        let path = entry.map_err(at("list", tmp))?.path();
        let file = match File::open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => return Err(at("open", &path)(error)),
        };
        match file.try_lock() {
            Ok(()) => remove_tree(&path).map_err(at("remove", &path))?,
            Err(TryLockError::WouldBlock) => {}
            Err(TryLockError::Error(error)) => return Err(at("lock", &path)(error)),
        }
    }
    Ok(())
}

fn unique(tmp: &Path) -> PathBuf {
    tmp.join(format!("{}-{}", std::process::id(), COUNTER.fetch_add(1, Ordering::Relaxed)))
}

/// The folder, open and locked; [`io::ErrorKind::NotFound`] if it is gone, or went meanwhile.
fn lock(path: &Path) -> io::Result<File> {
    let file = File::open(path)?;
    file.lock()?;
    let (ours, there) = (file.metadata()?, fs::symlink_metadata(path)?);
    if (ours.dev(), ours.ino()) != (there.dev(), there.ino()) {
        return Err(io::ErrorKind::NotFound.into());
    }
    Ok(file)
}
