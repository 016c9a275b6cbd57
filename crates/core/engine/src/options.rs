//! What clients say with each verb.

use std::collections::BTreeMap;

use crate::spec::ConsoleSize;
use crate::state::Status;

/// A container was created.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Created {
    /// 64 hex digits.
    pub id: String,
    /// The name, given or made up.
    pub name: String,
    /// What was asked for and will not be so.
    pub warnings: Vec<String>,
}

/// How to stop a container.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct StopOptions {
    /// How long to wait before SIGKILL, in seconds; negative waits for ever. `None` takes the
    /// container's own.
    pub timeout_secs: Option<i64>,
    /// The first signal, by name or number. `None` takes the container's own.
    pub signal: Option<String>,
}

/// How to remove a container.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RemoveOptions {
    /// Kill it first if it runs.
    pub force: bool,
    /// Remove its anonymous volumes too.
    pub volumes: bool,
}

/// Which containers to list.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ListOptions {
    /// Also those that do not run.
    pub all: bool,
    /// The newest so many, whatever their state.
    pub limit: Option<usize>,
    /// Only those that match all of these.
    pub filters: Filters,
}

/// Conditions on containers. Values of one field are alternatives, fields are all required.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Filters {
    /// Beginnings of ids.
    pub id: Vec<String>,
    /// Parts of names; with a `^` in front the beginning, with a `$` behind the end.
    pub name: Vec<String>,
    /// States.
    pub status: Vec<Status>,
    /// `key` or `key=value`; all of them are required.
    pub label: Vec<String>,
    /// Images by reference or id.
    pub ancestor: Vec<String>,
    /// Exit codes of containers that ended.
    pub exited: Vec<i32>,
    /// Networks by name or id.
    pub network: Vec<String>,
    /// Volume names or paths in the container.
    pub volume: Vec<String>,
    /// Created before the container of this name or id.
    pub before: Option<String>,
    /// Created after the container of this name or id.
    pub since: Option<String>,
}

/// Which part of a log to read.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LogOptions {
    /// Standard output.
    pub stdout: bool,
    /// Standard error.
    pub stderr: bool,
    /// Go on with what is written later, until the container ends.
    pub follow: bool,
    /// Only the last so many lines.
    pub tail: Option<u64>,
    /// From this time on, in nanoseconds since the UNIX epoch.
    pub since_ns: Option<u64>,
    /// Up to this time.
    pub until_ns: Option<u64>,
}

/// Which streams of a container or exec to attach to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Streams {
    /// Write to its standard input.
    pub stdin: bool,
    /// Read its standard output.
    pub stdout: bool,
    /// Read its standard error.
    pub stderr: bool,
}

/// A further process in a running container.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ExecSpec {
    /// The command and its arguments; not empty.
    pub cmd: Vec<String>,
    /// `KEY=VALUE` entries, over the container's.
    pub env: Vec<String>,
    /// The working directory; empty takes the container's.
    pub workdir: String,
    /// `user`, `uid`, `user:group` or `uid:gid`; empty takes the container's.
    pub user: String,
    /// Whether it gets a terminal.
    pub tty: bool,
    /// With all capabilities.
    pub privileged: bool,
    /// Which streams the client will want.
    pub attach: Streams,
    /// The terminal's size at start.
    pub console_size: Option<ConsoleSize>,
    /// The keys that detach, kept for the client.
    pub detach_keys: String,
}

/// What is known of an exec.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExecView {
    /// 64 hex digits.
    pub id: String,
    /// The container's id.
    pub container: String,
    /// What was asked for.
    pub spec: ExecSpec,
    /// Whether it runs now.
    pub running: bool,
    /// Its process id on the host; 0 before it started.
    pub pid: i32,
    /// Its exit code once it ended.
    pub exit_code: Option<i32>,
}

/// The steps of a container's last start.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct StartTrace {
    /// When the request came in, in nanoseconds of CLOCK_MONOTONIC.
    pub begin_ns: u64,
    /// Each step's name and when it was done, in microseconds after the request came in.
    pub steps: Vec<(String, u64)>,
}

/// What the engine holds, for `info`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// All containers.
    pub containers: usize,
    /// Those that run.
    pub running: usize,
    /// Those that are frozen.
    pub paused: usize,
    /// The others.
    pub stopped: usize,
}

/// Attributes of an event or object.
pub type Attributes = BTreeMap<String, String>;
