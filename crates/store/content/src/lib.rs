//! Blobs by digest: what came from outside, verified once, kept until removed.
//!
//! ```text
//!   root/blobs/sha256/<64 hex>    complete, verified, durable; never changed, only removed
//!   root/ingest/<random>          being written; locked (flock) by its writer
//!
//!   ingest() ─write*─► finish(): size and digest right? ─► fsync ─► rename ─► fsync of the folder
//!                          └─ no, or dropped, or disk full ─► unlinked, its space given back at once
//! ```
//!
//! Many blobs that come together are a [`Batch`], which waits for the disk once for all of them.
//!
//! Invariants: a name under `blobs/` is the digest of what is behind it, and was on the disk before it
//! got that name, so that SIGKILL and power loss leave either nothing or everything. What a killed
//! writer left in `ingest/` is removed when the store is opened; an ingest that is still being written,
//! by whomever, is recognised by its lock and left alone. Any number of ingests of the same content may
//! run at once: the first one to finish wins, and the others find it there.
//!
//! Folders have mode 0700, blobs 0600. Everything is synchronous.

mod batch;
mod error;
mod ingest;

use std::fs::{self, DirBuilder, File};
use std::io::{self, Read};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use dhow_spec::Digest;

pub use batch::{Batch, Synced};
pub use error::{ContentError, Result};
pub use ingest::Ingest;

use error::at;

/// A folder of blobs. Cloning it is cheap and gives the same store.
#[derive(Debug, Clone)]
pub struct Content {
    folders: Arc<Folders>,
}

#[derive(Debug)]
struct Folders {
    blobs: PathBuf,
    ingest: PathBuf,
}

impl Content {
    /// Opens the store in `root`, creating it where it is missing, and removes stale ingests.
    pub fn open(root: impl AsRef<Path>) -> Result<Self> {
        let root = root.as_ref();
        let folders = Folders { blobs: root.join("blobs/sha256"), ingest: root.join("ingest") };
        for folder in [&folders.blobs, &folders.ingest] {
            let mut builder = DirBuilder::new();
            builder.recursive(true).mode(0o700).create(folder).map_err(at("create", folder))?;
        }
        ingest::remove_stale(&folders.ingest)?;
        Ok(Self { folders: Arc::new(folders) })
    }

    /// Whether the blob is here.
    pub fn has(&self, digest: &Digest) -> Result<bool> {
        Ok(self.size(digest)?.is_some())
    }

    /// The size of the blob in bytes, if it is here.
    pub fn size(&self, digest: &Digest) -> Result<Option<u64>> {
        let path = self.path(digest);
        match fs::symlink_metadata(&path) {
            Ok(metadata) => Ok(Some(metadata.len())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(at("look at", &path)(error)),
        }
    }

    /// The blob, open for reading; [`ContentError::NotFound`] if it is not here.
    pub fn blob(&self, digest: &Digest) -> Result<File> {
        let path = self.path(digest);
        File::open(&path).map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => ContentError::NotFound(*digest),
            _ => at("open", &path)(error),
        })
    }

    /// The whole of a small blob, such as a manifest, and verified again. [`ContentError::TooLarge`]
    /// beyond `limit` bytes, [`ContentError::Digest`] if the disk has changed it.
    pub fn read(&self, digest: &Digest, limit: u64) -> Result<Vec<u8>> {
        let mut content = Vec::new();
        let file = self.blob(digest)?;
        file.take(limit.saturating_add(1))
            .read_to_end(&mut content)
            .map_err(at("read", &self.path(digest)))?;
        if content.len() as u64 > limit {
            return Err(ContentError::TooLarge { digest: *digest, limit });
        }
        let found = Digest::of(&content);
        if found != *digest {
            return Err(ContentError::Digest { expected: *digest, found });
        }
        Ok(content)
    }

    /// Where the blob is or would be.
    pub fn path(&self, digest: &Digest) -> PathBuf {
        self.folders.blobs.join(digest.hex())
    }

    /// Begins to take in a blob.
    pub fn ingest(&self) -> Result<Ingest> {
        Ingest::begin(&self.folders.ingest, &self.folders.blobs)
    }

    /// Begins to take in many blobs that become durable together.
    pub fn batch(&self) -> Batch {
        Batch::new(self.folders.blobs.clone())
    }

    /// Takes in a small blob as a whole.
    pub fn put(&self, content: &[u8]) -> Result<Digest> {
        let digest = Digest::of(content);
        if self.size(&digest)? == Some(content.len() as u64) {
            return Ok(digest);
        }
        let mut ingest = self.ingest()?;
        ingest.take_in(content)?;
        ingest.finish(Some(&digest), Some(content.len() as u64))
    }

    /// Removes the blob; says whether it was here. Whoever has it open reads on.
    pub fn remove(&self, digest: &Digest) -> Result<bool> {
        let path = self.path(digest);
        match fs::remove_file(&path) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(at("remove", &path)(error)),
        }
    }

    /// All blobs and their sizes in bytes, in no order. What is not named like a blob is passed over.
    pub fn list(&self) -> Result<Vec<(Digest, u64)>> {
        let folder = &self.folders.blobs;
        let mut found = Vec::new();
        for entry in fs::read_dir(folder).map_err(at("list", folder))? {
            let entry = entry.map_err(at("list", folder))?;
            let digest =
                entry.file_name().to_str().and_then(|hex| format!("sha256:{hex}").parse().ok());
            let (Some(digest), Ok(metadata)) = (digest, entry.metadata()) else { continue };
            found.push((digest, metadata.len()));
        }
        Ok(found)
    }
}
