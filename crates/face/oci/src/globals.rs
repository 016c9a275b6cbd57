//! What stands before the command: where state lies, where failures are told.

use std::cell::Cell;
use std::path::{Path, PathBuf};

use dhow_error::{Error, Kind, Result};
use dhow_runtime::LaunchError;

use crate::log::{Format, Log};
use crate::words::{Flag, FlagsEnd, Words};

/// The flags before the command.
pub(crate) const FLAGS: &[Flag] = &[
    Flag::switch("debug", "tell every step in the log"),
    Flag::value("log", "the log file (default: standard error)"),
    Flag::value("log-format", "the log's format: text or json (default: text)"),
    Flag::value("root", "the folder of the containers' state"),
    Flag::value("criu", "accepted and ignored"),
    Flag::switch("systemd-cgroup", "not there: cgroups are made by dhow itself"),
    Flag::value("rootless", "ignore permissions on cgroups: true, false or auto (default: auto)"),
    Flag::switch("version", "tell the version").short("v"),
];

/// The flags before the command, read.
#[derive(Debug)]
pub(crate) struct Globals {
    /// The folder of the containers' state.
    pub(crate) root: PathBuf,
    /// Where to tell what happens.
    pub(crate) log: Log,
    /// Whether to tell the version.
    pub(crate) version: bool,
    /// Whether help was asked for.
    pub(crate) help: bool,
    /// The command and its words.
    pub(crate) rest: Vec<String>,
    /// Whether we are the sealed binary.
    pub(crate) sealed: bool,
    /// Whether the command cannot be done but by that.
    pub(crate) wants_seal: Cell<bool>,
}

impl Globals {
    /// A start's failure; takes note if it is that we are not sealed.
    pub(crate) fn not_started(&self, error: LaunchError) -> Error {
        self.wants_seal.set(error.wants_seal());
        Error::from(error).context("unable to start container process")
    }

    /// Reads the words after the program's name; `default_root` is where state lies if they do not say.
    ///
    /// Errors: invalid, with the log as far as it is known by then.
    pub(crate) fn read(words: &[String], default_root: &Path) -> Result<Self, (Log, Error)> {
        let words = Words::read(FLAGS, FlagsEnd::AtArgument, words)
            .map_err(|error| (Log::default(), error))?;
        let format = match words.value("log-format").unwrap_or("text") {
            "text" | "" => Format::Text,
            "json" => Format::Json,
            other => {
                let message = format!("invalid log-format: {other}");
                return Err((Log::default(), Error::invalid(message)));
            }
        };
        let path = words.value("log").filter(|path| !path.is_empty()).map(PathBuf::from);
        let log = Log { path, format, debug: words.is_on("debug") };
        if words.is_on("systemd-cgroup") {
            let error = Error::new(Kind::Unsupported, "the systemd cgroup driver is not there yet")
                .with_hint("leave out --systemd-cgroup: use the cgroupfs driver");
            return Err((log, error));
        }
        if let Some(rootless) = words.value("rootless")
            && !matches!(rootless, "auto" | "true" | "false" | "1" | "0" | "")
        {
            let error = Error::invalid(format!("invalid value {rootless:?} for --rootless"));
            return Err((log, error));
        }
        let root =
            words.value("root").filter(|root| !root.is_empty()).map_or(default_root, Path::new);
        Ok(Self {
            root: root.into(),
            log,
            version: words.is_on("version"),
            help: words.help,
            rest: words.arguments,
            sealed: false,
            wants_seal: Cell::new(false),
        })
    }
}
