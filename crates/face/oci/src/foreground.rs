//! A container in the foreground: its signals, its terminal, its end.
//!
//! ```text
//!   our terminal (raw) ──thread──► master        SIGWINCH: the master gets our terminal's size
//!   our standard output ◄─thread── master        other signals: on to the container's first process
//! ```

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::thread::JoinHandle;

use dhow_error::{Error, Kind, Result};
use dhow_runtime::Running;
use dhow_sys::event::send_signal;
use dhow_sys::process::{Reason, wait_signal};
use dhow_sys::rustix::io::Errno;
use dhow_sys::rustix::process::{WaitOptions, WaitStatus, getpid, set_child_subreaper, wait};
use dhow_sys::tty::{self, RawMode};

const SIGCHLD: i32 = 17;
const SIGURG: i32 = 23;
const SIGWINCH: i32 = 28;

/// Makes us the parent of what the container's processes leave behind.
pub(crate) fn adopt_orphans() -> Result<()> {
    set_child_subreaper(Some(getpid())).map_err(|errno| {
        Error::caused(Kind::Internal, "cannot adopt the container's orphans", Reason(errno))
    })
}

/// Stays with a container until its first process ends: that one's code, 128 and the signal if one ended it.
/// Every signal must be blocked.
pub(crate) fn stay(mut running: Running) -> Result<u8> {
    let terminal = running.console.take().map(Terminal::show).transpose()?;
    let code = loop {
        match wait_signal() {
            Ok(SIGCHLD) => {
                if let Some(code) = reap(running.pid)? {
                    break code;
                }
            }
            // Go's runtime wakes its threads with it; nobody means it.
            Ok(SIGURG) | Err(Errno::INTR) => {}
            Ok(SIGWINCH) if terminal.is_some() => {
                terminal.iter().for_each(Terminal::fit);
            }
            // A container that has just ended needs no signal.
            Ok(signal) => drop(send_signal(running.pidfd.as_fd(), signal)),
            Err(errno) => return Err(lost(errno)),
        }
    };
    if let Some(terminal) = terminal {
        terminal.finish();
    }
    Ok(code)
}

/// Takes in all ended children; the first process's code if it is among them.
fn reap(first: i32) -> Result<Option<u8>> {
    loop {
        match wait(WaitOptions::NOHANG) {
            Ok(Some((pid, status))) if pid.as_raw_nonzero().get() == first => {
                return Ok(Some(code_of(status)));
            }
            Ok(Some(_)) | Err(Errno::INTR) => {}
            Ok(None) => return Ok(None),
            Err(errno) => return Err(lost(errno)),
        }
    }
}

fn code_of(status: WaitStatus) -> u8 {
    let signal = || status.terminating_signal().map(|signal| signal + 128);
    status.exit_status().or_else(signal).and_then(|code| u8::try_from(code).ok()).unwrap_or(255)
}

fn lost(errno: Errno) -> Error {
    Error::caused(Kind::Internal, "cannot wait for the container", Reason(errno))
}

/// The container's terminal, shown on ours.
struct Terminal {
    master: OwnedFd,
    output: JoinHandle<()>,
    /// Our terminal as it is to be again.
    _raw: Option<RawMode>,
}

impl Terminal {
    fn show(master: OwnedFd) -> Result<Self> {
        let failed = |error: std::io::Error| {
            Error::caused(Kind::Internal, "cannot show the container's terminal", error)
        };
        let stdin = std::io::stdin();
        let raw = if tty::is_terminal(&stdin) {
            Some(RawMode::enter(&stdin).map_err(|errno| failed(errno.into()))?)
        } else {
            None
        };
        let (from, to) = (master.try_clone().map_err(failed)?, master.try_clone().map_err(failed)?);
        let output = std::thread::spawn(move || show(File::from(from)));
        // Never waited for: nobody can tell when our input ends.
        std::thread::spawn(move || feed(File::from(to)));
        let terminal = Self { master, output, _raw: raw };
        terminal.fit();
        Ok(terminal)
    }

    /// Gives the container's terminal the size of ours, if we have one.
    fn fit(&self) {
        // A terminal of no size is one that does not know it: then the configuration's stays.
        if let Ok(size) = tty::window_size(std::io::stdin())
            && size.rows > 0
        {
            // A container that has just ended has no use for it.
            let _ = tty::set_window_size(&self.master, size);
        }
    }

    /// Shows what is left.
    fn finish(self) {
        let _ = self.output.join();
    }
}

/// Shows what the container writes, until nobody has its terminal open (EIO) or ours is gone.
fn show(mut from: File) {
    let mut stdout = std::io::stdout().lock();
    let mut buffer = [0; 8192];
    loop {
        match from.read(&mut buffer) {
            Ok(0) => return,
            Ok(length) => {
                let bytes = buffer.get(..length).unwrap_or_default();
                if stdout.write_all(bytes).and_then(|()| stdout.flush()).is_err() {
                    return;
                }
            }
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(_) => return,
        }
    }
}

/// Feeds the container what is typed.
fn feed(mut to: File) {
    let mut stdin = std::io::stdin().lock();
    // Either end may go away at any moment, and nothing is left to do then.
    let _ = std::io::copy(&mut stdin, &mut to);
}
