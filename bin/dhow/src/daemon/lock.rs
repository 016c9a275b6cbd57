//! One daemon per run folder: a lock that the kernel drops with its holder (flock(2)), on the file that
//! holds the daemon's pid.

use std::fs::{self, File, TryLockError};
use std::io::Write;
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
        let path = run.join("daemon.pid");
        let cannot = |error: std::io::Error| {
            Error::caused(Kind::Internal, format!("cannot lock {}", path.display()), error)
        };
        // Not truncated: the pid in it may be that of a daemon that holds the lock.
        let options = File::options().write(true).create(true).truncate(false).open(&path);
        let mut file = options.map_err(cannot)?;
        match file.try_lock() {
            Ok(()) => {
                file.set_len(0).map_err(cannot)?;
                writeln!(file, "{}", std::process::id()).map_err(cannot)?;
                Ok(Self(file))
            }
            Err(TryLockError::Error(error)) => Err(cannot(error)),
            Err(TryLockError::WouldBlock) => {
                Err(Error::conflict(format!("a daemon already runs in {}", run.display()))
                    .with_hint("give this one other folders with --root and --run"))
            }
        }
    }

    /// Removes the file, when nobody will need it for a while.
    pub(crate) fn remove(run: &Path) {
        let _ = fs::remove_file(run.join("daemon.pid"));
    }
}
