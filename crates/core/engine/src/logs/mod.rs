//! Reading containers' logs, which their shims write.
//!
//! The format is Docker's json-file: one JSON object a line, in `<id>-json.log` and, once rotated, in
//! `.1` (newest), `.2` and so on. What is read was written by another process and may be cut off at its
//! end (a shim that was killed): such lines are left out.
//!
//! ```text
//!   files, oldest first ─► from where the tail begins ─► entries ─► (follow) inotify ─► entries ─► end
//! ```
//!
//! Following ends with the container's run: its shim has written everything before anybody hears of the
//! exit.

mod files;
mod follow;
mod line;

use std::sync::Arc;

use dhow_error::{Error, Kind, Result};
use tokio::sync::mpsc;

use crate::container::Container;
use crate::options::LogOptions;
use files::Reader;

/// How many entries wait for a slow client.
const QUEUE: usize = 64;

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
    /// The next entry; `None` at the end. Cancel-safe.
    pub async fn next(&mut self) -> Option<Result<LogEntry>> {
        self.entries.recv().await
    }
}

/// Begins to read a container's log.
///
/// Errors: unsupported if none is kept.
pub(crate) fn read(container: Arc<Container>, options: LogOptions) -> Result<LogStream> {
    let path = container.log_path().ok_or_else(|| {
        Error::new(Kind::Unsupported, "configured logging driver does not support reading")
            .with_hint("create the container without --log-driver none")
    })?;
    if !options.stdout && !options.stderr {
        return Err(Error::invalid("Bad parameters: you must choose at least one stream"));
    }
    let (sender, entries) = mpsc::channel(QUEUE);
    let follower = options.follow.then(|| follow::Follower::new(&path)).transpose()?;
    tokio::spawn(async move {
        let wanted = Wanted::new(&options);
        let (past, history_sender) = (wanted.clone(), sender.clone());
        let history = tokio::task::spawn_blocking(move || {
            let mut reader = Reader::open(&path, options.tail)?;
            while let Some(entry) = reader.next()? {
                if past.is_over(&entry) {
                    return Ok(None);
                }
                if past.is_wanted(&entry) && history_sender.blocking_send(Ok(entry)).is_err() {
                    return Ok(None);
                }
            }
            Ok(Some(reader))
        });
        let result = match (history.await, follower) {
            (Ok(Ok(Some(reader))), Some(follower)) => {
                follower.run(reader, &container, &wanted, &sender).await
            }
            (Ok(Ok(_)), _) => Ok(()),
            (Ok(Err(error)), _) => Err(error),
            (Err(_), _) => Err(Error::internal("reading the log panicked")),
        };
        if let Err(error) = result {
            // A client that went away needs no message.
            let _ = sender.send(Err(error)).await;
        }
    });
    Ok(LogStream { entries })
}

/// Which entries a client wants.
#[derive(Debug, Clone)]
struct Wanted {
    stdout: bool,
    stderr: bool,
    since_ns: u64,
    until_ns: Option<u64>,
}

impl Wanted {
    fn new(options: &LogOptions) -> Self {
        Self {
            stdout: options.stdout,
            stderr: options.stderr,
            since_ns: options.since_ns.unwrap_or_default(),
            until_ns: options.until_ns.filter(|until| *until > 0),
        }
    }

    /// Whether nothing from here on is wanted.
    fn is_over(&self, entry: &LogEntry) -> bool {
        self.until_ns.is_some_and(|until| entry.time_ns > until)
    }

    fn is_wanted(&self, entry: &LogEntry) -> bool {
        let stream = match entry.stream {
            Stream::Stdout => self.stdout,
            Stream::Stderr => self.stderr,
        };
        stream && entry.time_ns >= self.since_ns && !self.is_over(entry)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_and_streams_select() {
        let options = LogOptions {
            stdout: true,
            since_ns: Some(10),
            until_ns: Some(20),
            ..LogOptions::default()
        };
        let wanted = Wanted::new(&options);
        let entry = |stream, time_ns| LogEntry { stream, time_ns, bytes: Vec::new() };
        assert!(wanted.is_wanted(&entry(Stream::Stdout, 10)));
        assert!(!wanted.is_wanted(&entry(Stream::Stdout, 9)));
        assert!(!wanted.is_wanted(&entry(Stream::Stderr, 15)));
        assert!(wanted.is_over(&entry(Stream::Stderr, 21)));
    }
}
