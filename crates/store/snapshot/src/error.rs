//! What can go wrong with layers.

use std::io;
use std::path::{Path, PathBuf};

use dhow_error::{Classify, Kind};
use dhow_spec::Digest;

/// A result of this store.
pub type Result<T, E = SnapshotError> = std::result::Result<T, E>;

/// A failure of the store of layers.
#[derive(Debug, thiserror::Error)]
pub enum SnapshotError {
    /// There is no such layer.
    #[error("no such layer: {0}")]
    NoLayer(Digest),
    /// The container has no writable folder.
    #[error("container {0} has no writable folder")]
    NoWritable(String),
    /// The container has a writable folder already.
    #[error("container {0} has a writable folder already")]
    WritableExists(String),
    /// The chain id is not that of the parents and the digest.
    #[error("layer has chain id {expected}, not {found}")]
    Chain {
        /// The chain id that follows from parents and digest.
        expected: Digest,
        /// The one that was given.
        found: Digest,
    },
    /// The uncompressed content is something else.
    #[error("layer is corrupt: its content has digest {found}, expected {expected}")]
    DiffId {
        /// The digest that was promised.
        expected: Digest,
        /// The digest of what came.
        found: Digest,
    },
    /// The content is damaged, is no archive, or exceeds a limit as a whole.
    #[error("cannot unpack layer {layer}")]
    Archive {
        /// The digest of the layer, or `<unknown>`.
        layer: String,
        /// What is wrong with it.
        #[source]
        source: io::Error,
    },
    /// The content could not be read from where it comes.
    #[error("cannot read layer {layer}")]
    Read {
        /// The digest of the layer, or `<unknown>`.
        layer: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// One entry is refused or could not be created.
    #[error("cannot unpack layer {layer}: entry {entry:?}")]
    Entry {
        /// The digest of the layer, or `<unknown>`.
        layer: String,
        /// The entry's name.
        entry: String,
        /// What is wrong with it.
        #[source]
        problem: Problem,
    },
    /// A file cannot be packed into a layer.
    #[error("cannot pack {entry:?}")]
    Pack {
        /// The file, relative to the folder that is packed.
        entry: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The disk or the kernel refused.
    #[error("cannot {operation} {}", path.display())]
    Io {
        /// What was being done: `create`, `rename`, `sync`.
        operation: &'static str,
        /// To what.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
}

/// What is wrong with an entry of a layer.
#[derive(Debug, thiserror::Error)]
pub enum Problem {
    /// The name or link has `..` in it.
    #[error("its name leads out of the layer")]
    Escapes,
    /// The name cannot be one.
    #[error("its name is not valid")]
    Name,
    /// Something on the way to it is no folder.
    #[error("{0:?} is not a folder")]
    NotFolder(String),
    /// A hard link's target is neither in the layer nor in those below it, or is a folder.
    #[error("it is a hard link to {0:?}, which is not there")]
    NoTarget(String),
    /// The layer tries to set what only overlayfs may.
    #[error("extended attribute {0:?} is not allowed in a layer")]
    Attribute(String),
    /// An entry of a kind that layers do not have.
    #[error("entries of type {0:?} are not supported")]
    Kind(char),
    /// It exceeds a limit.
    #[error("{what} exceeds the limit of {limit}")]
    Limit {
        /// What does.
        what: &'static str,
        /// The limit.
        limit: u64,
    },
    /// The disk or the kernel refused.
    #[error("cannot {operation} it")]
    Io {
        /// What was being done.
        operation: &'static str,
        /// Why.
        #[source]
        source: io::Error,
    },
}

impl Problem {
    /// Makes a refusal of the kernel one of an entry.
    pub(crate) fn io<E: Into<io::Error>>(operation: &'static str) -> impl FnOnce(E) -> Self {
        move |source| Self::Io { operation, source: source.into() }
    }
}

impl Classify for SnapshotError {
    fn kind(&self) -> Kind {
        match self {
            Self::NoLayer(_) | Self::NoWritable(_) => Kind::NotFound,
            Self::WritableExists(_) => Kind::Conflict,
            Self::Entry { problem: Problem::Io { source, .. }, .. }
            | Self::Read { source, .. }
            | Self::Pack { source, .. }
            | Self::Io { source, .. } => kind_of(source),
            Self::Entry { .. } | Self::DiffId { .. } | Self::Archive { .. } => Kind::Invalid,
            Self::Chain { .. } => Kind::Internal,
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            Self::DiffId { .. } | Self::Archive { .. } => {
                Some("the layer was damaged on its way: fetch the image again".to_owned())
            }
            Self::NoLayer(_) => Some("pull or load the image again".to_owned()),
            _ if self.kind() == Kind::Exhausted => Some("free some space on the disk".to_owned()),
            _ => None,
        }
    }
}

fn kind_of(error: &io::Error) -> Kind {
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Kind::Exhausted,
        _ => Kind::Internal,
    }
}

/// Makes an I/O error say what was being done to what.
pub(crate) fn at<E: Into<io::Error>>(
    operation: &'static str,
    path: &Path,
) -> impl FnOnce(E) -> SnapshotError {
    move |source| SnapshotError::Io { operation, path: path.to_owned(), source: source.into() }
}

/// A name for people: what is not UTF-8 is replaced.
pub(crate) fn shown(name: &[u8]) -> String {
    String::from_utf8_lossy(name.get(..200).unwrap_or(name)).into_owned()
}
