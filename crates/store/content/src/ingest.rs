//! One blob being taken in, from the first byte to its name.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use dhow_spec::{Digest, Hasher};

use crate::error::{ContentError, Result, at};

/// Makes names unique within the process; the pid makes them so beyond it.
static COUNTER: AtomicU64 = AtomicU64::new(0);

/// A blob that is being written. Dropped without [`finish`](Ingest::finish), it leaves nothing.
#[derive(Debug)]
pub struct Ingest {
    /// `None` once a write has failed: the file is gone already.
    file: Option<File>,
    path: PathBuf,
    blobs: PathBuf,
    hasher: Hasher,
    written: u64,
}

impl Ingest {
    /// Begins a new file in the folder `ingest`, which will end in `blobs`.
    pub(crate) fn begin(ingest: &Path, blobs: &Path) -> Result<Self> {
        loop {
            let number = COUNTER.fetch_add(1, Ordering::Relaxed);
            let path = ingest.join(format!("{}-{number}", std::process::id()));
            let opened = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path);
            let file = match opened {
                Ok(file) => file,
                // Left by a process which had this one's id.
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => continue,
                Err(error) => return Err(at("create", &path)(error)),
            };
            // From here on nobody takes it for stale. Who did between the two calls, removed it, and the
            // link count says so.
            file.lock().map_err(at("lock", &path))?;
            if is_linked(&file).map_err(at("look at", &path))? {
                let (blobs, hasher) = (blobs.to_owned(), Hasher::default());
                return Ok(Self { file: Some(file), path, blobs, hasher, written: 0 });
            }
        }
    }

    /// How many bytes have been taken in.
    pub fn written(&self) -> u64 {
        self.written
    }

    /// Takes in all of `content`. After a failure the ingest is given up and its space is free again.
    pub fn take_in(&mut self, content: &[u8]) -> Result<()> {
        let file = self.file.as_mut().ok_or(ContentError::Failed)?;
        if let Err(error) = file.write_all(content) {
            let error = at("write", &self.path)(error);
            self.give_up();
            return Err(error);
        }
        self.hasher.update(content);
        self.written += content.len() as u64;
        Ok(())
    }

    /// Verifies what was taken in against what was promised, makes it durable and gives it its name.
    /// The digest is returned in any case of success.
    ///
    /// [`ContentError::Size`] and [`ContentError::Digest`] if it is something else; nothing is left then.
    pub fn finish(
        mut self,
        expected: Option<&Digest>,
        expected_size: Option<u64>,
    ) -> Result<Digest> {
        let found = self.verify(expected, expected_size)?;
        let blobs = self.blobs.clone();
        if !self.is_there(&found) {
            self.sync()?;
            self.name(&found)?;
        }
        // Another ingest that was faster may not have reached its last fsync yet.
        sync_folder(&blobs)?;
        Ok(found)
    }

    /// Holds what was taken in against what was promised; tells its digest. Nothing more can be taken in.
    pub(crate) fn verify(
        &mut self,
        expected: Option<&Digest>,
        expected_size: Option<u64>,
    ) -> Result<Digest> {
        if self.file.is_none() {
            return Err(ContentError::Failed);
        }
        if let Some(expected) = expected_size
            && expected != self.written
        {
            return Err(ContentError::Size { expected, found: self.written });
        }
        let found = std::mem::take(&mut self.hasher).finish();
        if let Some(&expected) = expected
            && expected != found
        {
            return Err(ContentError::Digest { expected, found });
        }
        Ok(found)
    }

    /// Makes the file durable.
    pub(crate) fn sync(&self) -> Result<()> {
        let file = self.file.as_ref().ok_or(ContentError::Failed)?;
        file.sync_all().map_err(at("sync", &self.path))
    }

    /// Gives the file its name, unless another ingest was faster. Whoever calls it has verified the file
    /// and made it durable, and syncs the folder.
    pub(crate) fn name(mut self, digest: &Digest) -> Result<()> {
        if !self.is_there(digest) {
            let target = self.blobs.join(digest.hex());
            fs::rename(&self.path, &target).map_err(at("rename", &self.path))?;
            self.file = None;
        }
        Ok(())
    }

    /// Whether the same blob has its name already.
    fn is_there(&self, digest: &Digest) -> bool {
        let target = self.blobs.join(digest.hex());
        fs::symlink_metadata(target).is_ok_and(|there| there.len() == self.written)
    }

    /// Removes the file, if it still has its first name.
    fn give_up(&mut self) {
        if let Some(file) = self.file.take() {
            let removed = fs::remove_file(&self.path);
            // The space is given back now even if the name cannot be removed.
            let emptied = file.set_len(0);
            if let Err(error) = removed.and(emptied) {
                tracing::warn!(path = %self.path.display(), %error, "cannot remove an ingest");
            }
        }
    }
}

impl Write for Ingest {
    fn write(&mut self, content: &[u8]) -> io::Result<usize> {
        self.take_in(content).map_err(|error| match error {
            ContentError::Io { source, .. } => source,
            other => io::Error::other(other),
        })?;
        Ok(content.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for Ingest {
    fn drop(&mut self) {
        self.give_up();
    }
}

/// Removes what killed writers left in the folder `ingest`.
pub(crate) fn remove_stale(ingest: &Path) -> Result<()> {
    for entry in fs::read_dir(ingest).map_err(at("list", ingest))? {
        let path = entry.map_err(at("list", ingest))?.path();
        match lock_stale(&path) {
            // Removed under the lock, so that its writer, if it has only just begun, sees that.
            Ok(Some(_lock)) => fs::remove_file(&path)
                .or_else(|error| if is_gone(&error) { Ok(()) } else { Err(error) })
                .map_err(at("remove", &path))?,
            Ok(None) => {}
            Err(error) if is_gone(&error) => {}
            Err(error) => return Err(at("look at", &path)(error)),
        }
    }
    Ok(())
}

/// The file, locked, if nobody is writing it any more.
fn lock_stale(path: &Path) -> io::Result<Option<File>> {
    let file = OpenOptions::new().write(true).open(path)?;
    match file.try_lock() {
        Ok(()) => Ok(Some(file)),
        Err(TryLockError::WouldBlock) => Ok(None),
        Err(TryLockError::Error(error)) => Err(error),
    }
}

fn is_gone(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::NotFound
}

fn is_linked(file: &File) -> io::Result<bool> {
    use std::os::unix::fs::MetadataExt;
    Ok(file.metadata()?.nlink() > 0)
}

pub(crate) fn sync_folder(folder: &Path) -> Result<()> {
    File::open(folder).and_then(|folder| folder.sync_all()).map_err(at("sync", folder))
}
