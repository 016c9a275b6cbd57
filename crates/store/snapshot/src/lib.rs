//! Layers, unpacked once and shared, and the writable folders of containers on top of them.
//!
//! ```text
//!   root/layers/<64 hex of the chain id>/fs           what the layer adds, as overlayfs wants it
//!                                       /layer.json   LayerInfo
//!   root/writable/<container id>/{upper,work}         what a container writes
//!   root/tmp/<random>/                                being unpacked, or being removed; locked (flock)
//!
//!   unpack():  reader ─► inflate (own thread) ─► hash ─► tar ─► tmp/<random>/fs
//!              digest right? ─► sync ─► rename to layers/ ─► fsync of layers/
//!                    └─ no, or any failure ─► tmp/<random> removed
//! ```
//!
//! A layer is keyed by its chain id (OCI image specification, config.md, "Layer ChainID"), since what it
//! means depends on the layers below it. In `fs`, a removed file is a character device 0:0 and a folder
//! that hides the one below it has the attribute `trusted.overlay.opaque=y` (the kernel's
//! filesystems/overlayfs.rst).
//!
//! # What is durable
//!
//! A folder under `layers/` is complete, was verified, and was on the disk before it got its name: files
//! and folders of a small layer (at most 32 of each) are fsynced one by one, a larger one is synced by
//! one `syncfs` of the filesystem. No file is synced while unpacking. So an answered
//! [`Snapshots::unpack`] survives SIGKILL and power loss, and an interrupted one leaves nothing but a
//! folder in `tmp/`, which the next [`Snapshots::open`] removes. What containers write is not synced by
//! us; creating and discarding a writable folder is atomic, and neither is synced.
//!
//! # What is trusted
//!
//! Nothing that comes in: a layer is unpacked with `openat2(2)` beneath its folder, never through
//! a symbolic link that leads out of it, and within [`Limits`]. Trees that containers wrote are removed
//! and packed without following links or crossing mounts. Everything is synchronous.

mod archive;
mod chain;
mod create;
mod error;
mod layer;
mod lower;
mod pack;
mod pax;
mod place;
mod remove;
mod staging;
mod stream;
mod unpack;
mod usage;
mod writable;
mod xattr;

use std::fs::DirBuilder;
use std::io::Read;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use dhow_spec::{ContainerId, Digest};

pub use chain::{chain_id, chain_ids};
pub use error::{Problem, Result, SnapshotError};
pub use layer::{Imported, LayerInfo};
pub use pack::{PackOptions, Packed, pack};
pub use unpack::Limits;
pub use usage::{Usage, usage};
pub use writable::Writable;

use error::at;
use staging::Staging;
use unpack::{Job, Unpacked};

/// A folder of layers and writable folders. Cloning it is cheap and gives the same store; any number of
/// threads may use it at once.
#[derive(Debug, Clone)]
pub struct Snapshots {
    folders: Arc<Folders>,
    limits: Limits,
}

#[derive(Debug)]
struct Folders {
    layers: PathBuf,
    writable: PathBuf,
    tmp: PathBuf,
}

impl Snapshots {
    /// Opens the store in `root`, creating it (mode 0700) where it is missing, and removes what
    /// interrupted work left in it.
    pub fn open(root: impl AsRef<Path>) -> Result<Self> {
        Self::open_with(root, Limits::default())
    }

    /// As [`open`](Self::open), with other limits for what is unpacked.
    pub fn open_with(root: impl AsRef<Path>, limits: Limits) -> Result<Self> {
        let root = root.as_ref();
        let folders = Folders {
            layers: root.join("layers"),
            writable: root.join("writable"),
            tmp: root.join("tmp"),
        };
        for folder in [&folders.layers, &folders.writable, &folders.tmp] {
            let mut builder = DirBuilder::new();
            builder.recursive(true).mode(0o700).create(folder).map_err(at("create", folder))?;
        }
        staging::remove_stale(&folders.tmp)?;
        Ok(Self { folders: Arc::new(folders), limits })
    }

    /// Whether the layer is here.
    pub fn has(&self, chain: &Digest) -> Result<bool> {
        let path = self.layer(chain);
        path.try_exists().map_err(at("look at", &path))
    }

    /// What is known of the layer; [`SnapshotError::NoLayer`] if it is not here.
    pub fn info(&self, chain: &Digest) -> Result<LayerInfo> {
        layer::read_info(&self.layer(chain), chain)
    }

    /// Unpacks a layer: a tar archive that is plain or compressed by gzip or zstd, which its first bytes
    /// tell. `parents` are the chain ids of the layers below it, bottom first, and must be here. `diff_id`
    /// is the digest of the uncompressed archive.
    ///
    /// If the layer is here already, `reader` is not read. Errors name the layer and, where there is
    /// one, the entry: [`SnapshotError::DiffId`] if the content is something else,
    /// [`SnapshotError::Archive`] if it is no archive, [`SnapshotError::Entry`] for an entry that is refused
    /// or cannot be created, [`SnapshotError::Chain`] if `chain` does not follow from the others.
    pub fn unpack(
        &self,
        chain: &Digest,
        parents: &[Digest],
        reader: impl Read + Send,
        diff_id: &Digest,
    ) -> Result<LayerInfo> {
        let due = chain_id(parents.last(), diff_id);
        if due != *chain {
            return Err(SnapshotError::Chain { expected: due, found: *chain });
        }
        if self.has(chain)? {
            return self.info(chain);
        }
        let unpacked = self.unpack_aside(parents, reader, Some(diff_id))?;
        unpacked.staging.publish(&self.layer(chain), &unpacked.info, unpacked.sync)?;
        Ok(unpacked.info)
    }

    /// Unpacks a layer whose digest nobody has told, and tells it. Otherwise as [`unpack`](Self::unpack).
    pub fn import(&self, parents: &[Digest], reader: impl Read + Send) -> Result<Imported> {
        let unpacked = self.unpack_aside(parents, reader, None)?;
        let info = unpacked.info;
        let chain = chain_id(parents.last(), &info.diff_id);
        unpacked.staging.publish(&self.layer(&chain), &info, unpacked.sync)?;
        Ok(Imported { chain, diff_id: info.diff_id, info })
    }

    fn unpack_aside(
        &self,
        parents: &[Digest],
        reader: impl Read + Send,
        diff_id: Option<&Digest>,
    ) -> Result<Unpacked> {
        let lower = self.lower_dirs(parents)?;
        let staging = Staging::begin(&self.folders.tmp)?;
        unpack::run(Job { staging, lower: &lower, limits: &self.limits, diff_id }, reader)
    }

    /// Removes the layer; says whether it was here. The caller knows that nothing uses it.
    pub fn remove(&self, chain: &Digest) -> Result<bool> {
        staging::remove_aside(&self.layer(chain), &self.folders.tmp)
    }

    /// The chain ids of all layers, in no order.
    pub fn list(&self) -> Result<Vec<Digest>> {
        layer::list(&self.folders.layers)
    }

    /// The folders of these layers (bottom first) as overlayfs wants them: topmost first.
    /// [`SnapshotError::NoLayer`] if one is not here.
    pub fn lower_dirs(&self, chains: &[Digest]) -> Result<Vec<PathBuf>> {
        let folder = |chain: &Digest| {
            let path = self.layer(chain).join(layer::FS);
            match path.try_exists() {
                Ok(true) => Ok(path),
                Ok(false) => Err(SnapshotError::NoLayer(*chain)),
                Err(error) => Err(at("look at", &path)(error)),
            }
        };
        chains.iter().rev().map(folder).collect()
    }

    /// Creates the writable folders of a container, owned by root with mode 0755 as the root of a
    /// filesystem is. [`SnapshotError::WritableExists`] if it has some.
    pub fn create_writable(&self, id: &ContainerId) -> Result<Writable> {
        writable::create(&self.folders.writable, &self.folders.tmp, id)
    }

    /// The writable folders of a container; [`SnapshotError::NoWritable`] if it has none.
    pub fn writable(&self, id: &ContainerId) -> Result<Writable> {
        writable::find(&self.folders.writable, id)
    }

    /// Removes the writable folders of a container and all that is in them; says whether it had some.
    /// They are gone at once; what follows only gives the space back, and is done by the next
    /// [`open`](Self::open) if it is interrupted.
    pub fn discard_writable(&self, id: &ContainerId) -> Result<bool> {
        staging::remove_aside(&self.folders.writable.join(id.as_str()), &self.folders.tmp)
    }

    /// The containers that have writable folders, in no order.
    pub fn writables(&self) -> Result<Vec<ContainerId>> {
        writable::list(&self.folders.writable)
    }

    fn layer(&self, chain: &Digest) -> PathBuf {
        self.folders.layers.join(chain.hex())
    }
}
