//! How a verb fails: one line, perhaps a hint, and an exit code.

use std::io::Write;

/// Why a verb failed.
#[derive(Debug)]
pub(crate) struct Failure {
    /// What failed, on one line.
    pub(crate) message: String,
    /// What to do next.
    pub(crate) hint: Option<String>,
    /// The HTTP status, if the daemon said so.
    pub(crate) status: u16,
    /// What the process ends with.
    pub(crate) exit_code: u8,
}

impl Failure {
    /// A failure of the CLI's own.
    pub(crate) fn new(message: impl Into<String>) -> Self {
        Self { message: message.into(), hint: None, status: 0, exit_code: 1 }
    }

    /// The end of the work, with this exit code, of which nobody needs to be told: the reader of our
    /// output has gone away.
    pub(crate) fn silent(exit_code: u8) -> Self {
        Self { exit_code, ..Self::new("") }
    }

    /// The same with a hint.
    pub(crate) fn with_hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// The same with another exit code.
    pub(crate) fn with_exit_code(mut self, exit_code: u8) -> Self {
        self.exit_code = exit_code;
        self
    }

    /// Whether the daemon does not know what was named.
    pub(crate) fn is_not_found(&self) -> bool {
        self.status == 404
    }

    /// Prints the line and the hint to standard error.
    pub(crate) fn print(&self) {
        if self.message.is_empty() {
            return;
        }
        let mut stderr = std::io::stderr().lock();
        // Nothing can be done if standard error is closed.
        let _ = writeln!(stderr, "dhow: {}", self.message);
        if let Some(hint) = &self.hint {
            let _ = writeln!(stderr, "hint: {hint}");
        }
    }
}

impl<E: Into<anyhow::Error>> From<E> for Failure {
    fn from(error: E) -> Self {
        Self::new(format!("{:#}", error.into()))
    }
}
