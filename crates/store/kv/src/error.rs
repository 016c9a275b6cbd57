//! What can go wrong in the store of objects.

use std::path::PathBuf;
use std::sync::Arc;

use dhow_error::{Classify, Kind};

/// A failure of the store.
#[derive(Debug, Clone, thiserror::Error)]
pub enum KvError {
    /// A transaction found another state than it expected, and changed nothing.
    #[error("{key:?} was changed by someone else")]
    Expectation {
        /// The first key that was not as expected.
        key: String,
    },
    /// A key, a value or a transaction is too large for some backend.
    #[error("cannot store {what}: {size} exceeds the limit of {limit}")]
    TooLarge {
        /// What it is: `key`, `value of "x"`, `transaction`.
        what: String,
        /// How large it is, in bytes or operations.
        size: usize,
        /// How large it may be.
        limit: usize,
    },
    /// Another process has the store open.
    #[error("cannot open {}: it is in use by another daemon", path.display())]
    Locked {
        /// The store's file.
        path: PathBuf,
    },
    /// The file is not one of ours or is damaged.
    #[error("cannot open {}: the file is damaged or not a dhow store ({reason})", path.display())]
    Corrupt {
        /// The store's file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The file was written by a newer version.
    #[error("cannot open {}: it has format {found}, this version knows up to {known}", path.display())]
    Newer {
        /// The store's file.
        path: PathBuf,
        /// The format of the file.
        found: u64,
        /// The newest format that this version reads.
        known: u64,
    },
    /// The disk or the kernel refused.
    #[error("cannot {operation} {}", path.display())]
    Io {
        /// What was being done: `create`, `read`, `write`.
        operation: &'static str,
        /// The store's file.
        path: PathBuf,
        /// Why.
        #[source]
        source: Arc<dyn std::error::Error + Send + Sync>,
    },
    /// The store was closed while the answer was awaited.
    #[error("the store is closed")]
    Closed,
    /// The watcher was too slow and has missed changes: watch and read again.
    #[error("changes came faster than they were read")]
    Lagged,
}

impl Classify for KvError {
    fn kind(&self) -> Kind {
        match self {
            Self::Expectation { .. } | Self::Locked { .. } => Kind::Conflict,
            Self::TooLarge { .. } => Kind::Invalid,
            Self::Newer { .. } => Kind::Unsupported,
            Self::Io { source, .. } if is_full(source.as_ref()) => Kind::Exhausted,
            Self::Corrupt { .. } | Self::Io { .. } | Self::Closed | Self::Lagged => Kind::Internal,
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            Self::Locked { .. } => {
                Some("stop the other daemon, or give this one its own --root".to_owned())
            }
            Self::Corrupt { path, .. } => Some(format!(
                "restore {0} from a backup, or move it away to start with an empty store",
                path.display()
            )),
            Self::Newer { .. } => Some("start the version of dhow that wrote it".to_owned()),
            _ => None,
        }
    }
}

/// Whether the disk being full is somewhere in the chain of `error`.
fn is_full(error: &(dyn std::error::Error + 'static)) -> bool {
    let mut next = Some(error);
    while let Some(error) = next {
        let io = match error.downcast_ref::<redb::Error>() {
            Some(redb::Error::Io(io)) => Some(io),
            _ => error.downcast_ref::<std::io::Error>(),
        };
        if io.is_some_and(|io| io.kind() == std::io::ErrorKind::StorageFull) {
            return true;
        }
        next = error.source();
    }
    false
}
