//! Many blobs taken in together, so that the disk is waited for once and not for each of them.
//!
//! ```text
//!   add(ingest): size and digest right? ─► kept under its first name, locked
//!   sync():    syncfs of the filesystem (or fsync, if they are few) ─► Synced
//!   publish(): rename of each ─► fsync of the folder
//! ```
//!
//! Invariant: as with a single ingest, a blob has its name only once it is verified and on the disk. A
//! batch that is dropped on the way, or whose process is killed, leaves nothing.

use std::fs::File;
use std::io;
use std::path::PathBuf;

use dhow_spec::Digest;
use dhow_sys::rustix::fs::syncfs;

use crate::error::{Result, at};
use crate::ingest::{Ingest, sync_folder};

/// How many are synced one by one: `syncfs` waits for what others have written, too.
const FEW: usize = 4;

/// Verified blobs without names.
#[derive(Debug)]
pub struct Batch {
    blobs: PathBuf,
    ingests: Vec<(Digest, Ingest)>,
}

/// Verified blobs on the disk, still without names.
#[derive(Debug)]
pub struct Synced(Batch);

impl Batch {
    /// How many blobs a batch should hold: each keeps a file open.
    pub const FULL: usize = 256;

    pub(crate) fn new(blobs: PathBuf) -> Self {
        Self { blobs, ingests: Vec::new() }
    }

    /// How many blobs wait for their names.
    pub fn len(&self) -> usize {
        self.ingests.len()
    }

    /// Whether there is nothing to be done.
    pub fn is_empty(&self) -> bool {
        self.ingests.is_empty()
    }

    /// Verifies what was taken in against what was promised and keeps it.
    ///
    /// [`ContentError::Size`](crate::ContentError::Size) and
    /// [`ContentError::Digest`](crate::ContentError::Digest) if it is something else; the rest of the
    /// batch stays.
    pub fn add(
        &mut self,
        mut ingest: Ingest,
        expected: Option<&Digest>,
        expected_size: Option<u64>,
    ) -> Result<Digest> {
        let digest = ingest.verify(expected, expected_size)?;
        self.ingests.push((digest, ingest));
        Ok(digest)
    }

    /// Makes all of them durable.
    pub fn sync(self) -> Result<Synced> {
        if self.ingests.len() <= FEW {
            self.ingests.iter().try_for_each(|(_, ingest)| ingest.sync())?;
        } else {
            File::open(&self.blobs)
                .and_then(|folder| syncfs(&folder).map_err(io::Error::from))
                .map_err(at("sync the filesystem of", &self.blobs))?;
        }
        Ok(Synced(self))
    }
}

impl Synced {
    /// Gives them their names; tells their digests in the order in which they came, doubles included.
    pub fn publish(self) -> Result<Vec<Digest>> {
        let Batch { blobs, ingests } = self.0;
        let mut digests = Vec::with_capacity(ingests.len());
        for (digest, ingest) in ingests {
            ingest.name(&digest)?;
            digests.push(digest);
        }
        if !digests.is_empty() {
            sync_folder(&blobs)?;
        }
        Ok(digests)
    }
}
