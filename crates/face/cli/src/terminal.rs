//! The terminal that a person sits at: raw mode while a container's terminal is attached, its size.

use std::io::{IsTerminal, stderr, stdin, stdout};

use dhow_sys::rustix::termios::{self, OptionalActions, Termios};

/// Keeps the terminal in raw mode; puts it back as it was when dropped.
#[derive(Debug)]
pub(crate) struct Raw(Termios);

impl Raw {
    /// Puts the terminal of standard input into raw mode; `None` if there is none.
    pub(crate) fn enter() -> Option<Self> {
        let before = termios::tcgetattr(stdin()).ok()?;
        let mut raw = before.clone();
        raw.make_raw();
        termios::tcsetattr(stdin(), OptionalActions::Now, &raw).ok()?;
        Some(Self(before))
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        // The terminal may be gone; then nobody is left to mind.
        let _ = termios::tcsetattr(stdin(), OptionalActions::Drain, &self.0);
    }
}

/// Rows and columns of the terminal that output goes to.
pub(crate) fn size() -> Option<(u16, u16)> {
    let size = termios::tcgetwinsize(stdout()).ok()?;
    (size.ws_row > 0).then_some((size.ws_row, size.ws_col))
}

/// Whether somebody types.
pub(crate) fn stdin_is_terminal() -> bool {
    stdin().is_terminal()
}

/// Whether somebody reads as it comes.
pub(crate) fn stdout_is_terminal() -> bool {
    stdout().is_terminal()
}

/// Whether somebody reads what is said beside the output.
pub(crate) fn stderr_is_terminal() -> bool {
    stderr().is_terminal()
}
