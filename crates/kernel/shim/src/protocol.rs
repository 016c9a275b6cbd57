//! The messages between daemon, launcher and shim, and the files of a container's state folder.
//!
//! ```text
//!  launch      daemon                    launcher                   shim
//!                │ Envelope + filter in a memfd
//!                ├─ 1 byte [memfd, reply, netns?, attach…] ─►│ fork ──►│ reads the memfd
//!                │                                                      │ dhow_runtime::launch
//!                │◄────────── one frame: Reply::Started | Failed ───────┤ (on the reply socket)
//!
//!  control     client ── connect state_dir/shim.sock ──► shim
//!                ├─ one frame: Request ─────────────────►│
//!                │◄──────────────────── one frame: Reply ┤
//!                │                                       │ Attach, or Exec with attach:
//!                ├─ raw stdin; SHUT_WR = end of it ─────►│
//!                │◄─ tty: raw bytes; else 8-byte headers ┤ closed after the process's exit, once
//!                │                                       │ everything it wrote is delivered
//! ```
//!
//! A frame is its length as a little-endian u32 and that many bytes of JSON, 4 MiB at most (see
//! [`crate::frame`]). Unknown fields are ignored and absent optional ones have defaults, so that a newer
//! daemon can speak to the shims of an older one; what cannot be said that way raises [`VERSION`].
//!
//! The state folder: [`SOCKET_FILE`], [`STATE_FILE`] ([`ShimState`], written before `Started` is said) and
//! [`EXIT_FILE`] ([`Exit`], in place before any waiter hears of the exit).

use std::path::PathBuf;

use dhow_rootfs::Root;
use dhow_spec::oci_runtime::{Process, Spec};
use serde::{Deserialize, Serialize};

pub use dhow_runtime::ConsoleSize;

/// The version of everything in this module.
pub const VERSION: u32 = 1;
/// The control socket's name in the state folder.
pub const SOCKET_FILE: &str = "shim.sock";
/// The name of the file that says which shim it is.
pub const STATE_FILE: &str = "shim.json";
/// The name of the file that says how the container ended.
pub const EXIT_FILE: &str = "exit.json";

/// What a shim is asked to start.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct LaunchRequest {
    /// [`VERSION`] of the sender.
    pub version: u32,
    /// The container's id; only for messages and the process's name.
    pub id: String,
    /// An existing folder of mode 0700, for this container alone.
    pub state_dir: PathBuf,
    /// What is to run (OCI runtime specification).
    pub spec: Spec,
    /// What its root file system is made of.
    pub root: Root,
    /// Its control group below every hierarchy's root, such as `/dhow/<id>`.
    pub cgroup: String,
    /// Where its output is written, besides to attached clients.
    #[serde(default)]
    pub log: Option<LogFile>,
    /// Whether its streams are a terminal.
    #[serde(default)]
    pub tty: bool,
    /// The terminal's first size.
    #[serde(default)]
    pub console_size: Option<ConsoleSize>,
    /// Whether stdin is open; else it reads as empty.
    #[serde(default)]
    pub stdin_open: bool,
    /// Whether stdin closes for good when the first client that feeds it ends its side or leaves.
    #[serde(default)]
    pub stdin_once: bool,
    /// Whether pid 1 is our reaper with the command as its child.
    #[serde(default)]
    pub init: bool,
}

/// A log in Docker's json-file format.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogFile {
    /// The file; rotated ones are beside it as `.1` (newest), `.2`, ...
    pub path: PathBuf,
    /// Rotate before a line that comes when the file has at least this size.
    #[serde(default)]
    pub max_size_bytes: Option<u64>,
    /// How many files there are at most, the current one counted. 0 counts as 1.
    #[serde(default)]
    pub max_files: u32,
}

/// Which streams a client wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct AttachStreams {
    /// Feed the process's stdin.
    #[serde(default)]
    pub stdin: bool,
    /// Get its stdout (with a terminal: everything).
    #[serde(default)]
    pub stdout: bool,
    /// Get its stderr.
    #[serde(default)]
    pub stderr: bool,
}

/// What the launch memfd begins with, as a frame. The filter's bytes follow it.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Envelope<R> {
    pub(crate) request: R,
    /// Whether a network namespace is among the descriptors.
    pub(crate) netns: bool,
    /// One for each attach socket among the descriptors, in their order.
    pub(crate) attach: Vec<AttachStreams>,
    /// When the daemon sent it, CLOCK_MONOTONIC nanoseconds.
    pub(crate) sent_at_ns: u64,
}

/// What a client asks on the control socket: one per connection.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub enum Request {
    /// Join the streams of the container or of a running exec. Answer: [`Reply::Ok`], then raw.
    Attach {
        /// An exec's id; none is the container's own process.
        #[serde(default)]
        exec: Option<String>,
        /// Which streams.
        streams: AttachStreams,
    },
    /// Start one more process in the container. Answer: [`Reply::Started`] (then raw, when `attach` is
    /// there) or [`Reply::Failed`].
    Exec(Box<ExecRequest>),
    /// Set the size of the terminal. Answer: [`Reply::Ok`] or [`Reply::Failed`].
    Resize {
        /// An exec's id; none is the container's own process.
        #[serde(default)]
        exec: Option<String>,
        /// Lines.
        rows: u16,
        /// Columns.
        cols: u16,
    },
    /// Send a signal to the process. Answer: [`Reply::Ok`] or [`Reply::Failed`].
    Signal {
        /// An exec's id; none is the container's own process.
        #[serde(default)]
        exec: Option<String>,
        /// The signal's number.
        signal: i32,
    },
    /// Hear of the process's exit. Answer, when it has happened: [`Reply::Exited`]. A connection that ends
    /// without an answer means that the shim has ended: [`EXIT_FILE`] tells.
    Wait {
        /// An exec's id; none is the container's own process.
        #[serde(default)]
        exec: Option<String>,
    },
    /// How things are. Answer: [`Reply::Status`].
    Status,
    /// Close the process's stdin for good. Answer: [`Reply::Ok`] or [`Reply::Failed`].
    CloseStdin {
        /// An exec's id; none is the container's own process.
        #[serde(default)]
        exec: Option<String>,
    },
}

/// One more process in a running container.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ExecRequest {
    /// Its id, not used before in this container.
    pub exec_id: String,
    /// What to run and as whom.
    pub process: Process,
    /// Whether its streams are a terminal.
    #[serde(default)]
    pub tty: bool,
    /// The terminal's first size.
    #[serde(default)]
    pub console_size: Option<ConsoleSize>,
    /// The streams this connection joins. Without it, output goes nowhere and stdin reads as empty.
    #[serde(default)]
    pub attach: Option<AttachStreams>,
    /// Whether stdin is open.
    #[serde(default)]
    pub stdin_open: bool,
}

/// What a shim answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Reply {
    /// Done.
    Ok,
    /// The command has been executed.
    Started(Started),
    /// It could not be done, and nothing of it is left.
    Failed(Failed),
    /// The process has ended.
    Exited(Exit),
    /// How things are.
    Status(Status),
}

/// A process that has executed its command.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Started {
    /// The shim's pid.
    pub shim_pid: i32,
    /// The process's pid, seen from the shim.
    pub pid: i32,
    /// When, in UNIX nanoseconds.
    pub started_at_ns: u64,
    /// The steps of the start and when each was done, CLOCK_MONOTONIC nanoseconds.
    #[serde(default)]
    pub trace: Vec<(String, u64)>,
    /// What could not be done as asked, and what was done instead.
    #[serde(default)]
    pub warnings: Vec<String>,
}

/// Why something could not be done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failed {
    /// The step that failed, such as `mount` or `exec`.
    pub step: String,
    /// What was being done to what, and why it failed.
    pub message: String,
    /// What to do next.
    #[serde(default)]
    pub hint: Option<String>,
    /// 125 (a fault of dhow or of the request), 126 (not executable) or 127 (not found).
    pub exit_code: i32,
}

/// How a process ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Exit {
    /// Its exit code, or 128 + the signal that killed it.
    pub code: i32,
    /// The signal that killed it.
    #[serde(default)]
    pub signal: Option<i32>,
    /// Whether the kernel killed something in the container for lack of memory.
    #[serde(default)]
    pub oom_killed: bool,
    /// When, in UNIX nanoseconds.
    pub finished_at_ns: u64,
}

/// How a container is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// [`VERSION`] of the shim.
    pub version: u32,
    /// The shim's pid.
    pub shim_pid: i32,
    /// The container's first process, seen from the shim.
    pub pid: i32,
    /// When it started, in UNIX nanoseconds.
    pub started_at_ns: u64,
    /// How it ended, if it did.
    #[serde(default)]
    pub exit: Option<Exit>,
    /// The execs that run, and the last ones that ended.
    #[serde(default)]
    pub execs: Vec<ExecStatus>,
}

/// How an exec is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExecStatus {
    /// Its id.
    pub exec_id: String,
    /// Its pid, seen from the shim.
    pub pid: i32,
    /// How it ended, if it did.
    #[serde(default)]
    pub exit: Option<Exit>,
}

/// The content of [`STATE_FILE`]: enough to find the shim, and to clean up after one that was killed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShimState {
    /// [`VERSION`] of the shim.
    pub version: u32,
    /// The shim's pid.
    pub shim_pid: i32,
    /// The container's first process, seen from the shim.
    pub pid: i32,
    /// When it started, in UNIX nanoseconds.
    pub started_at_ns: u64,
    /// Its control group, as in [`LaunchRequest::cgroup`].
    pub cgroup: String,
}
