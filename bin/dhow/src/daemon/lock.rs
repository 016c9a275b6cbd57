//! One daemon per run folder: a lock that the kernel drops with its holder (flock(2)).

use std::fs::{self, File, TryLockError};
use std::path::Path;

use dhow_error::{Error, Kind, Result};

/// Held while the daemon lives.
#[derive(Debug)]
pub(crate) struct Lock(#[expect(dead_code, reason = "holding it is what it is for")] File);

impl Lock {
    /// Takes the lock of a run folder.
    ///
    /// Errors: a conflict if another daemon has it.
    pub(crate) fn take(run: &Path) -> Result<Self> {
        let path = run.join("daemon.lock");
        let cannot = |error: std::io::Error| {
            Error::caused(Kind::Internal, format!("cannot lock {}", path.display()), error)
        };
        let file = File::create(&path).map_err(cannot)?;
        match file.try_lock() {
            Ok(()) => Ok(Self(file)),
            Err(TryLockError::Error(error)) => Err(cannot(error)),
            Err(TryLockError::WouldBlock) => {
                Err(Error::conflict(format!("a daemon already runs in {}", run.display()))
                    .with_hint("give this one other folders with --root and --run"))
            }
        }
    }

    /// Removes the file, when nobody will need it for a while.
    pub(crate) fn remove(run: &Path) {
        let _ = fs::remove_file(run.join("daemon.lock"));
    }
}
