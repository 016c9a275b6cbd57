//! A pseudo-terminal, as a person's terminal emulator holds one.

use std::os::fd::OwnedFd;

use anyhow::Result;
use dhow_sys::rustix::fs::{Mode, OFlags, open as open_file};
use dhow_sys::rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use dhow_sys::rustix::termios::{Winsize, tcsetwinsize};

/// Opens one of this size: the person's end, and the program's.
///
/// # Errors
/// If the kernel has no pseudo-terminals left.
pub fn open(rows: u16, columns: u16) -> Result<(OwnedFd, OwnedFd)> {
    let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC)?;
    grantpt(&master)?;
    unlockpt(&master)?;
    let name = ptsname(&master, Vec::new())?;
    let slave =
        open_file(name.as_c_str(), OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC, Mode::empty())?;
    tcsetwinsize(&master, Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 })?;
    Ok((master, slave))
}
