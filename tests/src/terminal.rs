//! A pseudo-terminal, as a person's terminal emulator holds one.

use std::fs::File;
use std::io::{ErrorKind, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;

use anyhow::{Context, Result};
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

/// The one descriptor that somebody sends over a socket.
///
/// # Errors
/// If none comes.
pub fn receive(from: &UnixStream) -> Result<OwnedFd> {
    let message = dhow_sys::fdpass::receive(from, &mut [0; 64])?;
    message.descriptors.into_iter().next().context("no descriptor was sent")
}

/// Types `input`, and gives all that is shown until `last` is, or until nobody has the terminal any more.
///
/// # Errors
/// Those of reading and writing.
pub fn converse(master: OwnedFd, input: &[u8], last: &str) -> Result<String> {
    let mut terminal = File::from(master);
    terminal.write_all(input)?;
    let mut shown = Vec::new();
    let mut buffer = [0; 4096];
    while !String::from_utf8_lossy(&shown).contains(last) {
        match terminal.read(&mut buffer) {
            Ok(0) => break,
            Ok(length) => shown.extend_from_slice(buffer.get(..length).unwrap_or_default()),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            // EIO: nobody has the other end open.
            Err(error) if error.raw_os_error() == Some(5) => break,
            Err(error) => return Err(error.into()),
        }
    }
    Ok(String::from_utf8_lossy(&shown).into_owned())
}
