//! Letting go of the root's file system when the container has ended.
//!
//! The last to let go of an overlay waits until the disk that it lies on is synced, which takes from one
//! millisecond to seconds. Nobody who waits for the exit, for the output or for the shim has to wait for
//! that, only the next container in the same state folder. So a child of the shim does it, and it has the
//! folder's lock until then:
//!
//! ```text
//!   shim   fork ─► closes the root ─► a byte ────► removes the control group ─► closes the pipe ─► ends
//!   child          waits for the byte ─► closes the root (sync) ─► waits for the end ─► unlocks ─► ends
//! ```
//!
//! The child holds nothing else, so that no client of the shim waits for its end.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use dhow_sys::namespace::Namespaces;
use dhow_sys::rustix::fs::{FlockOperation, flock};
use dhow_sys::rustix::io::Result;
use dhow_sys::rustix::stdio;
use dhow_sys::{event, process, seal};

use crate::state::StateFolder;

/// A child that lets go of a root, and of the folder's lock when this is dropped.
#[derive(Debug)]
pub(crate) struct Release {
    _until: OwnedFd,
}

impl Release {
    /// Has a child let go of `root`. Without one (no memory, no processes) it is done here, and `None` says
    /// that the folder is still to be unlocked.
    pub(crate) fn start(root: OwnedFd, folder: &StateFolder) -> Option<Self> {
        let (wait, until) = event::pipe().ok()?;
        process::clone3(Namespaces::NONE, None, || {
            u8::from(let_go(root.as_fd(), folder.as_fd(), wait.as_fd()).is_err())
        })
        .ok()?;
        drop(root);
        // A child that is gone has let go of everything.
        let _ = event::write_some(&until, b"r");
        Some(Self { _until: until })
    }
}

/// The child. Whatever fails, its end lets go of all that it holds.
fn let_go(root: BorrowedFd<'_>, folder: BorrowedFd<'_>, wait: BorrowedFd<'_>) -> Result<()> {
    stdio::dup2_stdin(root)?;
    stdio::dup2_stdout(folder)?;
    stdio::dup2_stderr(wait)?;
    seal::close_inherited()?;
    let mut byte = [0];
    event::read_some(stdio::stderr(), &mut byte)?;
    stdio::dup2_stdin(stdio::stderr())?;
    event::read_some(stdio::stderr(), &mut byte)?;
    flock(stdio::stdout(), FlockOperation::Unlock)
}

#[cfg(test)]
mod tests {
    use std::fs::File;

    use dhow_sys::rustix::io::Errno;

    use super::*;

    #[test]
    fn the_lock_is_held_until_the_end() {
        let folder = tempfile::tempdir().unwrap();
        let state = StateFolder::open(folder.path()).unwrap();
        let other = File::open(folder.path()).unwrap();
        let (root, probe) = event::pipe().unwrap();
        let release = Release::start(root, &state).unwrap();
        drop(state);
        let attempt = || flock(&other, FlockOperation::NonBlockingLockExclusive);
        assert_eq!(attempt(), Err(Errno::WOULDBLOCK));
        // The root is let go of: nobody reads any more.
        while event::write_some(&probe, b"x") != Err(Errno::PIPE) {
            std::thread::yield_now();
        }
        assert_eq!(attempt(), Err(Errno::WOULDBLOCK));
        drop(release);
        flock(&other, FlockOperation::LockExclusive).unwrap();
    }
}
