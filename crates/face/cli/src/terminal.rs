//! The terminal that a person sits at: raw mode while a container's terminal is attached, its size.

use std::io::{BufRead, IsTerminal, Write, stderr, stdin, stdout};

use dhow_sys::rustix::termios::{self, LocalModes, OptionalActions, Termios};
use dhow_sys::tty::{self, RawMode};

/// What is typed is not shown, until dropped.
#[derive(Debug)]
pub(crate) struct Hidden(Termios);

impl Drop for Hidden {
    fn drop(&mut self) {
        let _ = termios::tcsetattr(stdin(), OptionalActions::Flush, &self.0);
    }
}

/// Does not show what is typed, until the guard is dropped; `None` if there is no terminal.
pub(crate) fn hide_typing() -> Option<Hidden> {
    let before = termios::tcgetattr(stdin()).ok()?;
    let mut hidden = before.clone();
    hidden.local_modes.remove(LocalModes::ECHO);
    termios::tcsetattr(stdin(), OptionalActions::Flush, &hidden).ok()?;
    Some(Hidden(before))
}

/// Puts the terminal of standard input into raw mode until the guard is dropped; `None` if there is no
/// terminal.
pub(crate) fn raw() -> Option<RawMode> {
    RawMode::enter(stdin()).ok()
}

/// Rows and columns of the terminal that output goes to.
pub(crate) fn size() -> Option<(u16, u16)> {
    let size = tty::window_size(stdout()).ok()?;
    (size.rows > 0).then_some((size.rows, size.cols))
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

/// Asks whoever types whether to go on. Nobody there means no.
pub(crate) fn confirm(question: &str) -> std::io::Result<bool> {
    let mut stdout = stdout();
    write!(stdout, "{question} [y/N] ")?;
    stdout.flush()?;
    let mut answer = String::new();
    stdin().lock().read_line(&mut answer)?;
    Ok(answer.trim().eq_ignore_ascii_case("y"))
}
