//! What can go wrong with blobs.

use std::io;
use std::path::{Path, PathBuf};

use dhow_error::{Classify, Kind};
use dhow_spec::Digest;

/// A result of this store.
pub type Result<T, E = ContentError> = std::result::Result<T, E>;

/// A failure of the store of blobs.
#[derive(Debug, thiserror::Error)]
pub enum ContentError {
    /// There is no such blob.
    #[error("no such blob: {0}")]
    NotFound(Digest),
    /// The content is not what was promised.
    #[error("content has digest {found}, expected {expected}")]
    Digest {
        /// The digest that was promised.
        expected: Digest,
        /// The digest of what came.
        found: Digest,
    },
    /// There is more or less content than was promised.
    #[error("content has {found} bytes, expected {expected}")]
    Size {
        /// The bytes that were promised.
        expected: u64,
        /// The bytes that came.
        found: u64,
    },
    /// The blob is larger than the reader takes.
    #[error("blob {digest} exceeds the limit of {limit} bytes")]
    TooLarge {
        /// The blob.
        digest: Digest,
        /// The limit.
        limit: u64,
    },
    /// An earlier write has failed, and the ingest was given up.
    #[error("cannot go on with an ingest that has failed")]
    Failed,
    /// The disk or the kernel refused.
    #[error("cannot {operation} {}", path.display())]
    Io {
        /// What was being done: `create`, `write`, `rename`.
        operation: &'static str,
        /// To what.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
}

impl Classify for ContentError {
    fn kind(&self) -> Kind {
        match self {
            Self::NotFound(_) => Kind::NotFound,
            Self::Digest { .. } | Self::Size { .. } | Self::TooLarge { .. } => Kind::Invalid,
            Self::Io { source, .. }
                if matches!(
                    source.kind(),
                    io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded
                ) =>
            {
                Kind::Exhausted
            }
            Self::Failed | Self::Io { .. } => Kind::Internal,
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            Self::Digest { .. } | Self::Size { .. } => {
                Some("the content was damaged on its way: fetch it again".to_owned())
            }
            _ => None,
        }
    }
}

/// Makes an I/O error say what was being done to what.
pub(crate) fn at(operation: &'static str, path: &Path) -> impl FnOnce(io::Error) -> ContentError {
    move |source| ContentError::Io { operation, path: path.to_owned(), source }
}
