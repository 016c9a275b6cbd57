//! A pseudo-terminal, as a person's terminal emulator holds one.

use std::os::fd::OwnedFd;

use anyhow::Result;
use dhow_sys::tty::{self, WindowSize};

/// Opens one of this size: the person's end, and the program's.
///
/// # Errors
/// If the kernel has no pseudo-terminals left.
pub fn open(rows: u16, cols: u16) -> Result<(OwnedFd, OwnedFd)> {
    let pty = tty::open()?;
    tty::set_window_size(&pty.master, WindowSize { rows, cols })?;
    Ok((pty.master, pty.slave))
}
