//! The state folder: its lock, its files.
//!
//! The lock (flock on the folder) belongs to the shim until the container's control group is gone. The
//! next container in the same folder has the same control group, so its shim waits for the lock.
//! Files appear whole: written beside, then renamed. Nothing is fsync'd: after a crash of the machine there
//! is no container whose state this could be.

use std::fs::File;
use std::io::Write;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use dhow_sys::fdpass;
use dhow_sys::rustix::fs::{self, AtFlags, FlockOperation, Mode, OFlags};
use dhow_sys::rustix::io::{Errno, Result, retry_on_intr};
use serde::Serialize;

use crate::protocol::{EXIT_FILE, SOCKET_FILE, STATE_FILE};

/// An open and locked state folder.
#[derive(Debug)]
pub(crate) struct StateFolder {
    folder: OwnedFd,
}

impl StateFolder {
    /// Opens the folder, waits for its lock and removes what the container before has left.
    pub(crate) fn open(path: &Path) -> Result<Self> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        let folder = fs::open(path, flags, Mode::empty())?;
        retry_on_intr(|| fs::flock(&folder, FlockOperation::LockExclusive))?;
        let state = Self { folder };
        for name in [SOCKET_FILE, STATE_FILE, EXIT_FILE] {
            state.remove(name)?;
        }
        Ok(state)
    }

    /// Its descriptor, which has the lock.
    pub(crate) fn as_fd(&self) -> BorrowedFd<'_> {
        self.folder.as_fd()
    }

    /// Listens on the control socket.
    pub(crate) fn listen(&self) -> Result<OwnedFd> {
        fdpass::listen_in(self.folder.as_fd(), SOCKET_FILE)
    }

    /// Writes a file whole or not at all.
    pub(crate) fn write<T: Serialize>(&self, name: &str, content: &T) -> std::io::Result<()> {
        let draft = format!(".{name}");
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::TRUNC | OFlags::CLOEXEC;
        let mut bytes = serde_json::to_vec(content)?;
        bytes.push(b'\n');
        let file = fs::openat(&self.folder, &draft, flags, Mode::RUSR | Mode::WUSR)?;
        let written = File::from(file)
            .write_all(&bytes)
            .and_then(|()| Ok(fs::renameat(&self.folder, &draft, &self.folder, name)?));
        if written.is_err() {
            let _ = self.remove(&draft);
        }
        written
    }

    /// Removes a file; an absent one is fine.
    pub(crate) fn remove(&self, name: &str) -> Result<()> {
        match fs::unlinkat(&self.folder, name, AtFlags::empty()) {
            Err(Errno::NOENT) => Ok(()),
            other => other,
        }
    }

    /// Lets the next shim have the folder. This one must not touch it any more.
    pub(crate) fn unlock(self) {
        // Children that are between fork and exec share the open file: closing would not be enough.
        let _ = fs::flock(&self.folder, FlockOperation::Unlock);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::Exit;

    #[test]
    fn files_of_the_container_before_are_gone_and_new_ones_are_whole() {
        let folder = tempfile::tempdir().unwrap();
        for name in [EXIT_FILE, STATE_FILE, SOCKET_FILE] {
            std::fs::write(folder.path().join(name), "old").unwrap();
        }
        let state = StateFolder::open(folder.path()).unwrap();
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
        let exit = Exit { code: 3, signal: None, oom_killed: false, finished_at_ns: 1 };
        state.write(EXIT_FILE, &exit).unwrap();
        assert_eq!(crate::client::read_exit(folder.path()).unwrap(), Some(exit));
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn the_folder_has_one_owner_at_a_time() {
        let folder = tempfile::tempdir().unwrap();
        let state = StateFolder::open(folder.path()).unwrap();
        let other = File::open(folder.path()).unwrap();
        let attempt = || fs::flock(&other, FlockOperation::NonBlockingLockExclusive);
        assert_eq!(attempt(), Err(Errno::WOULDBLOCK));
        state.unlock();
        assert_eq!(attempt(), Ok(()));
    }
}
