//! The right to a bridge: one daemon at a time, until it ends, however it ends.
//!
//! It is a lock (flock(2)) on a file of the bridge in sysfs that only root may open, `bridge/flush`. So it
//! comes and goes with the bridge, belongs to the bridge's network namespace, and leaves no file behind;
//! and no container on the host's network can hold it: containers see sysfs read-only. sysfs is mounted
//! anew, detached, since the one at `/sys` may be another network namespace's.

use std::fs::{File, TryLockError};
use std::io;

use dhow_sys::rustix::fs::{Mode, OFlags, openat};
use dhow_sys::rustix::io::Errno;
use dhow_sys::rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, fsconfig_create, fsmount, fsopen,
};

use crate::error::Error;

/// Held while a daemon uses its bridge.
#[derive(Debug)]
pub(crate) struct Claim {
    _file: File,
}

impl Claim {
    /// Claims the bridge of this name; `None` if there is none.
    ///
    /// Errors: [`Error::BridgeInUse`] if another daemon has it.
    pub(crate) fn take(bridge: &str) -> Result<Option<Self>, Error> {
        let failed = |source: io::Error| Error::Claim { bridge: bridge.to_owned(), source };
        let file = match open(bridge) {
            Ok(file) => file,
            Err(Errno::NOENT) => return Ok(None),
            Err(errno) => return Err(failed(errno.into())),
        };
        match file.try_lock() {
            Ok(()) => Ok(Some(Self { _file: file })),
            Err(TryLockError::WouldBlock) => Err(Error::BridgeInUse { bridge: bridge.to_owned() }),
            Err(TryLockError::Error(source)) => Err(failed(source)),
        }
    }
}

/// Opens the file that is locked.
fn open(bridge: &str) -> Result<File, Errno> {
    let context = fsopen("sysfs", FsOpenFlags::FSOPEN_CLOEXEC)?;
    fsconfig_create(&context)?;
    let attributes = MountAttrFlags::MOUNT_ATTR_NOSUID
        | MountAttrFlags::MOUNT_ATTR_NODEV
        | MountAttrFlags::MOUNT_ATTR_NOEXEC;
    let sysfs = fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, attributes)?;
    let path = format!("class/net/{bridge}/bridge/flush");
    let flags = OFlags::WRONLY | OFlags::CLOEXEC;
    Ok(File::from(openat(sysfs, path, flags, Mode::empty())?))
}
