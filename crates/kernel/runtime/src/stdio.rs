//! A process's standard streams.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use dhow_error::Kind;
use dhow_rootfs::Console;
use dhow_sys::process::{Reason, StandardStream, install_standard};
use dhow_sys::rustix::fs::{FileType, Gid, Uid, fchown, fstat};
use dhow_sys::rustix::io::{Errno, fcntl_dupfd_cloexec};
use dhow_sys::rustix::process::ioctl_tiocsctty;
use dhow_sys::rustix::stdio::{stderr, stdin, stdout};
use dhow_sys::rustix::termios::{Winsize, isatty, tcsetwinsize};

use crate::channel::Sender;
use crate::error::LaunchError;
use crate::userns::HostIds;
use crate::{ConsoleSize, Stdio};

const STEP: &str = "stdio";
const ALL: [StandardStream; 3] =
    [StandardStream::Input, StandardStream::Output, StandardStream::Error];

/// Standard streams, ready to be installed.
#[derive(Debug)]
pub(crate) enum Streams {
    /// Descriptors, none of them 0, 1 or 2.
    Given([OwnedFd; 3]),
    /// A terminal to open.
    Console(Option<ConsoleSize>),
}

impl Streams {
    pub(crate) fn new(stdio: Stdio, size: Option<ConsoleSize>) -> Result<Self, LaunchError> {
        match stdio {
            Stdio::Console => Ok(Self::Console(size)),
            Stdio::Fds { stdin, stdout, stderr } => {
                Ok(Self::Given([lift(stdin)?, lift(stdout)?, lift(stderr)?]))
            }
        }
    }

    /// Makes the given descriptors this process's streams.
    pub(crate) fn install(&self) -> Result<(), LaunchError> {
        let Self::Given(streams) = self else { return Ok(()) };
        streams.iter().zip(ALL).try_for_each(|(stream, number)| {
            install_standard(stream.as_fd(), number)
                .map_err(|errno| failed("cannot install the standard streams", errno))
        })
    }

    /// The descriptors that [`Streams::install`] uses.
    pub(crate) fn descriptors(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        let given = match self {
            Self::Given(streams) => streams.as_slice(),
            Self::Console(_) => &[],
        };
        given.iter().map(AsFd::as_fd)
    }

    /// Gives the given pipes and terminals to the root of a user namespace, who can give them on there: whose
    /// owner and group are both mapped is his to give.
    pub(crate) fn hand_over(&self, root: HostIds) -> Result<(), LaunchError> {
        self.descriptors().try_for_each(|stream| {
            own_one(stream, root.uid, Some(root.gid))
                .map_err(|errno| failed("cannot hand over the standard streams", errno))
        })
    }

    /// Closes what has been installed, but for the standard streams themselves.
    pub(crate) fn close_spare(&mut self) {
        *self = Self::Console(None);
    }

    /// Makes a terminal the streams; sends its master to the parent.
    pub(crate) fn install_console(
        &self,
        console: Console,
        sender: &Sender,
    ) -> Result<(), LaunchError> {
        if let Self::Console(Some(size)) = self {
            let size = Winsize { ws_row: size.rows, ws_col: size.cols, ws_xpixel: 0, ws_ypixel: 0 };
            tcsetwinsize(&console.slave, size)
                .map_err(|errno| failed("cannot set the size of the terminal", errno))?;
        }
        sender
            .console(console.master.as_fd())
            .map_err(|errno| failed("cannot hand out the terminal", errno))?;
        let slave = lift(console.slave)?;
        ALL.into_iter().try_for_each(|number| {
            install_standard(slave.as_fd(), number)
                .map_err(|errno| failed("cannot install the terminal", errno))
        })
    }

    /// Makes the terminal that has been installed this session's.
    pub(crate) fn own_terminal() -> Result<(), LaunchError> {
        ioctl_tiocsctty(stdin())
            .map_err(|errno| failed("cannot make the terminal the session's", errno))
    }

    /// Gives pipes and terminals to the user, so that it can open /dev/stdout again.
    pub(crate) fn own(uid: u32) -> Result<(), LaunchError> {
        // Safe to borrow: nothing closes the standard streams between here and exec.
        for stream in [stdin(), stdout(), stderr()] {
            own_one(stream, uid, None)
                .map_err(|errno| failed("cannot hand over the standard streams", errno))?;
        }
        Ok(())
    }
}

fn own_one(stream: BorrowedFd<'_>, uid: u32, gid: Option<u32>) -> Result<(), Errno> {
    let status = fstat(stream)?;
    let handed_over = match FileType::from_raw_mode(status.st_mode) {
        FileType::Fifo | FileType::Socket => true,
        FileType::CharacterDevice => isatty(stream),
        _ => false,
    };
    let same = status.st_uid == uid && gid.is_none_or(|gid| status.st_gid == gid);
    if !handed_over || same {
        return Ok(());
    }
    match fchown(stream, Some(Uid::from_raw(uid)), gid.map(Gid::from_raw)) {
        // Somebody else's file system or terminal: it stays as it is.
        Err(Errno::PERM | Errno::ROFS | Errno::INVAL) => Ok(()),
        other => other,
    }
}

/// The same descriptor with a number above those of the standard streams.
fn lift(descriptor: OwnedFd) -> Result<OwnedFd, LaunchError> {
    if descriptor.as_raw_fd() > 2 {
        return Ok(descriptor);
    }
    fcntl_dupfd_cloexec(&descriptor, 3)
        .map_err(|errno| failed("cannot keep the standard streams apart", errno))
}

fn failed(message: &str, errno: Errno) -> LaunchError {
    LaunchError::new(STEP, Kind::Internal, format!("{message}: {}", Reason(errno)))
}
