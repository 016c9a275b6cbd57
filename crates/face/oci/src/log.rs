//! Where failures and warnings are told: a log file in the form that container engines read, and standard
//! error.
//!
//! ```text
//!   text   time="2026-01-02T15:04:05Z" level=error msg="container does not exist"
//!   json   {"level":"error","msg":"container does not exist","time":"2026-01-02T15:04:05Z"}
//! ```

use std::fs::OpenOptions;
use std::io::Write;
use std::path::PathBuf;
use std::time::SystemTime;

use serde_json::json;

use crate::time;

/// How a line of the log looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Format {
    /// `key=value` for people.
    #[default]
    Text,
    /// An object a line for programs.
    Json,
}

/// Where to tell what happens. It is opened anew for every line: most runs tell nothing.
#[derive(Debug, Default)]
pub(crate) struct Log {
    /// The file; standard error without.
    pub(crate) path: Option<PathBuf>,
    /// How a line looks.
    pub(crate) format: Format,
    /// Whether steps are told too.
    pub(crate) debug: bool,
}

impl Log {
    /// Tells why the command failed; on standard error too.
    pub(crate) fn error(&self, message: &str) {
        self.tell("error", message);
        if self.path.is_some() {
            say(message);
        }
    }

    /// Tells of something that could not be done as asked.
    pub(crate) fn warning(&self, message: &str) {
        self.tell("warning", message);
    }

    /// Tells of a step, if steps are told.
    pub(crate) fn debug(&self, message: impl FnOnce() -> String) {
        if self.debug {
            self.tell("debug", &message());
        }
    }

    fn tell(&self, level: &str, message: &str) {
        let line = line(self.format, level, message, SystemTime::now());
        let Some(path) = &self.path else { return say(&line) };
        let opened = OpenOptions::new().append(true).create(true).open(path);
        match opened.and_then(|mut file| file.write_all(format!("{line}\n").as_bytes())) {
            Ok(()) => {}
            Err(error) => say(&format!("cannot write the log {}: {error}", path.display())),
        }
    }
}

fn say(line: &str) {
    // Nobody is left to tell if standard error is closed.
    let _ = writeln!(std::io::stderr().lock(), "{line}");
}

fn line(format: Format, level: &str, message: &str, now: SystemTime) -> String {
    let time = time::seconds(now);
    match format {
        Format::Json => json!({ "level": level, "msg": message, "time": time }).to_string(),
        Format::Text => format!("time={time:?} level={level} msg={message:?}"),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn lines_are_as_engines_read_them() {
        let then = SystemTime::UNIX_EPOCH + Duration::from_secs(1_767_323_045);
        assert_eq!(
            line(Format::Text, "error", "no \"x\"", then),
            r#"time="2026-01-02T03:04:05Z" level=error msg="no \"x\"""#
        );
        assert_eq!(
            line(Format::Json, "warning", "no \"x\"", then),
            r#"{"level":"warning","msg":"no \"x\"","time":"2026-01-02T03:04:05Z"}"#
        );
    }
}
