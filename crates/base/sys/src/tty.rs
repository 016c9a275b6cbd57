//! Terminals: raw mode that always ends, window sizes, pseudo-terminals.

use std::os::fd::{AsFd, OwnedFd};

use rustix::io::Result;
use rustix::pty::OpenptFlags;
use rustix::termios::{OptionalActions, Termios, Winsize};

/// The size of a terminal in characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WindowSize {
    /// Lines.
    pub rows: u16,
    /// Columns.
    pub cols: u16,
}

/// Whether `descriptor` is a terminal.
pub fn is_terminal(descriptor: impl AsFd) -> bool {
    rustix::termios::isatty(descriptor)
}

/// The size of a terminal. Errors: `ENOTTY` when it is none.
pub fn window_size(terminal: impl AsFd) -> Result<WindowSize> {
    let size = rustix::termios::tcgetwinsize(terminal)?;
    Ok(WindowSize { rows: size.ws_row, cols: size.ws_col })
}

/// Sets the size of a terminal; its foreground processes get SIGWINCH when it changes. Works on either
/// end of a pseudo-terminal. Errors: `ENOTTY` when it is none.
pub fn set_window_size(terminal: impl AsFd, size: WindowSize) -> Result<()> {
    let size = Winsize { ws_row: size.rows, ws_col: size.cols, ws_xpixel: 0, ws_ypixel: 0 };
    rustix::termios::tcsetwinsize(terminal, size)
}

/// A terminal in raw mode (cfmakeraw(3)); dropping this restores what was before.
#[derive(Debug)]
pub struct RawMode {
    terminal: OwnedFd,
    before: Termios,
}

impl RawMode {
    /// Puts `terminal` into raw mode. Errors: `ENOTTY` when it is none.
    pub fn enter(terminal: impl AsFd) -> Result<Self> {
        let before = rustix::termios::tcgetattr(&terminal)?;
        let terminal = rustix::io::fcntl_dupfd_cloexec(&terminal, 3)?;
        let mut raw = before.clone();
        raw.make_raw();
        rustix::termios::tcsetattr(&terminal, OptionalActions::Drain, &raw)?;
        Ok(Self { terminal, before })
    }
}

impl Drop for RawMode {
    fn drop(&mut self) {
        // A terminal that is gone needs no restoring.
        let _ = rustix::termios::tcsetattr(&self.terminal, OptionalActions::Drain, &self.before);
    }
}

/// A pseudo-terminal: what is written to one end is read from the other.
#[derive(Debug)]
pub struct Pty {
    /// The end of the program that shows the terminal.
    pub master: OwnedFd,
    /// The end of the program that runs in it.
    pub slave: OwnedFd,
}

/// A new pseudo-terminal of this mount namespace's /dev/ptmx, nobody's controlling terminal.
pub fn open() -> Result<Pty> {
    let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
    let master = rustix::pty::openpt(flags)?;
    rustix::pty::unlockpt(&master)?;
    let slave = peer(&master)?;
    Ok(Pty { master, slave })
}

/// The other end of `master`, opened without a path and so from whatever devpts it belongs to
/// (TIOCGPTPEER, Linux 4.13).
pub fn peer(master: impl AsFd) -> Result<OwnedFd> {
    let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
    rustix::pty::ioctl_tiocgptpeer(master, flags)
}

#[cfg(test)]
mod tests {
    use rustix::termios::{LocalModes, tcgetattr};

    use super::*;

    #[test]
    fn raw_mode_ends_with_its_guard() {
        let pty = open().unwrap();
        let echo =
            |modes: &OwnedFd| tcgetattr(modes).unwrap().local_modes.contains(LocalModes::ECHO);
        assert!(echo(&pty.slave));
        let guard = RawMode::enter(&pty.slave).unwrap();
        assert!(!echo(&pty.slave));
        drop(guard);
        assert!(echo(&pty.slave));
    }

    #[test]
    fn both_ends_see_one_size() {
        let pty = open().unwrap();
        let size = WindowSize { rows: 31, cols: 117 };
        set_window_size(&pty.master, size).unwrap();
        assert_eq!(window_size(&pty.slave), Ok(size));
        assert!(is_terminal(&pty.slave));
        let (pipe, _other) = crate::event::pipe().unwrap();
        assert!(!is_terminal(&pipe));
        assert!(RawMode::enter(&pipe).is_err());
    }
}
