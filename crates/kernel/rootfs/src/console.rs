//! A terminal for the container's process, of the container's own devpts.
//!
//! The path /dev/pts/ptmx is an image's word; so what it leads to is checked to be the multiplexer device
//! of a devpts before it is used, and the other end is asked of the device itself (TIOCGPTPEER), not of a
//! path (CVE-2025-52565).

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use dhow_sys::beneath;
use dhow_sys::mount::{attach, clone_tree};
use dhow_sys::rustix::fs::{FsWord, Mode, OFlags, PROC_SUPER_MAGIC, fstat, fstatfs, makedev};
use dhow_sys::rustix::io::Errno;
use dhow_sys::rustix::pty::{OpenptFlags, ioctl_tiocgptpeer, unlockpt};

use crate::failure::{Doing, Failure};

/// devpts's number (statfs(2)).
const DEVPTS_SUPER_MAGIC: FsWord = 0x1cd1;

/// Both ends of a terminal.
#[derive(Debug)]
pub struct Console {
    /// Ours.
    pub master: OwnedFd,
    /// The process's.
    pub slave: OwnedFd,
}

impl Console {
    /// Opens a new terminal of the devpts beneath `root`. Done in the container's mount namespace.
    pub fn open(root: BorrowedFd<'_>) -> Result<Self, Failure> {
        let doing = || "cannot open a terminal of the container's /dev/pts";
        let flags = OFlags::RDWR | OFlags::NOCTTY;
        let place = beneath::open(root, b"dev/pts/ptmx", OFlags::PATH).doing(doing)?;
        let is_devpts = fstatfs(&place).doing(doing)?.f_type == DEVPTS_SUPER_MAGIC;
        if !is_devpts || fstat(&place).doing(doing)?.st_rdev != makedev(5, 2) {
            return Err(Failure::new(Errno::NXIO, doing()));
        }
        let master = beneath::open(root, b"dev/pts/ptmx", flags).doing(doing)?;
        let same = fstat(&master).doing(doing)?.st_dev == fstat(&place).doing(doing)?.st_dev;
        if !same {
            return Err(Failure::new(Errno::NXIO, doing()));
        }
        unlockpt(&master).doing(doing)?;
        let peer = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
        let slave = ioctl_tiocgptpeer(&master, peer).doing(doing)?;
        Ok(Self { master, slave })
    }

    /// Puts the process's end at /dev/console as well.
    pub(crate) fn bind(&self, root: BorrowedFd<'_>) -> Result<(), Failure> {
        let doing = || "cannot make /dev/console";
        let place = console_of(root).doing(doing)?;
        let tree = clone_tree(&self.slave, false).doing(doing)?;
        attach(tree.as_fd(), place.as_fd()).doing(doing)
    }
}

/// The place of /dev/console, made where it is missing. A link there would have the terminal cover whatever it
/// leads to, such as a file of /proc by which somebody is confined later (CVE-2025-52565).
fn console_of(root: BorrowedFd<'_>) -> Result<OwnedFd, Errno> {
    let (dev, name) = beneath::make_parent(root, b"dev/console", Mode::from_raw_mode(0o755))?;
    if fstatfs(&dev)?.f_type == PROC_SUPER_MAGIC {
        return Err(Errno::NXIO);
    }
    match beneath::open_direct(dev.as_fd(), name, OFlags::PATH) {
        Err(Errno::NOENT) => beneath::make_file(dev.as_fd(), name, Mode::from_raw_mode(0o755)),
        other => other,
    }
}
