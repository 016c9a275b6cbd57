//! Reading containers' logs.

use dhow_error::Result;
use tokio::sync::mpsc;

/// Which stream a line came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stream {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

/// A line of a log, or a part of one that is longer than 16 KiB.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogEntry {
    /// Where it came from.
    pub stream: Stream,
    /// When it was written, in nanoseconds since the UNIX epoch.
    pub time_ns: u64,
    /// The bytes with the line feed that ended them, if one did.
    pub bytes: Vec<u8>,
}

/// The entries of a log, in order. Dropping it ends the reading.
#[derive(Debug)]
pub struct LogStream {
    entries: mpsc::Receiver<Result<LogEntry>>,
}

impl LogStream {
    pub(crate) fn new(entries: mpsc::Receiver<Result<LogEntry>>) -> Self {
        Self { entries }
    }

    /// The next entry; `None` at the end. Cancel-safe.
    pub async fn next(&mut self) -> Option<Result<LogEntry>> {
        self.entries.recv().await
    }
}
