//! Starts a process in a container: plan, clone3, prepared steps, exec.
//!
//! [`launch`] makes a container around its first process, [`create`] makes one that outlives its maker and
//! waits at a gate until [`open_gate`], [`exec`] adds a process to a running one. All
//! check and prepare everything first, clone, and then only listen: the child walks through its steps
//! alone ([`launch`] and [`exec`] draw them in their modules), reports a failed one over a socket, and
//! closes that socket by executing its command.
//!
//! Invariants: a failed start leaves no process, mount or control group. The child allocates only to make
//! what an image lacks, to warn or to fail; it takes no lock and calls nothing of glibc that knows of
//! threads. Nothing of the container is opened but beneath its root. When the command runs it has default
//! signal dispositions, no blocked signal, no descriptor but its standard streams, a session and a keyring
//! of its own, and it dies with its parent; but for what [`Ties`] say.

mod channel;
mod command;
mod devices;
mod error;
mod exec;
mod gate;
mod hooks;
mod identity;
mod init;
mod labels;
mod launch;
mod limits;
mod listener;
mod namespaces;
mod netdevices;
mod ownership;
mod parent;
mod process;
mod schedule;
mod stdio;
mod told;
mod trace;
mod tracers;
mod unsealed;
mod user;
mod userns;

use std::ffi::OsString;
use std::os::fd::{BorrowedFd, OwnedFd};

pub use dhow_rootfs::Bare;
use dhow_rootfs::Root;
use dhow_seccomp::Program;
use dhow_spec::oci_runtime::{Linux, Process, Spec};
use serde::{Deserialize, Serialize};

pub use error::LaunchError;
pub use gate::{GateError, make_gate, open_gate};
pub use hooks::{HookKind, HookPlan, poststart, poststop};
pub use listener::Listener;
pub use told::{SPECIFICATION, Status, Told};

/// Everything that makes a new container.
#[derive(Debug)]
pub struct Launch<'a> {
    /// What is to run and how it is confined (OCI runtime specification).
    pub spec: &'a Spec,
    /// What its root file system is made of; `spec.root.path` is not looked at.
    pub root: &'a Root,
    /// Its control group below every hierarchy's root, such as `/dhow/<id>`.
    pub cgroup: &'a str,
    /// The compiled filter; `spec.linux.seccomp` is not looked at.
    pub seccomp: Option<&'a Program>,
    /// The network namespace to join when the specification's network entry has no path. Without it such
    /// an entry makes a new namespace with only `lo` up; without an entry the network is the host's.
    pub netns: Option<BorrowedFd<'a>>,
    /// The process's standard streams.
    pub stdio: Stdio,
    /// Whether pid 1 is our reaper ([`init_main`]) with the command as its child.
    pub init: bool,
    /// The first size of the terminal, with [`Stdio::Console`].
    pub console_size: Option<ConsoleSize>,
}

/// A running container that another process joins.
#[derive(Debug)]
pub struct Target<'a> {
    /// The container's pid 1, as [`Running::pidfd`] gave it.
    pub pidfd: BorrowedFd<'a>,
    /// The container's control group, as in [`Launch::cgroup`].
    pub cgroup: &'a str,
    /// The compiled filter for the new process.
    pub seccomp: Option<&'a Program>,
    /// The container's settings, for those that all of its processes have: memory policy and personality.
    pub linux: Option<&'a Linux>,
    /// Who answers the calls that the filter hands over.
    pub listener: Option<Listener<'a>>,
}

/// A process's standard streams.
#[derive(Debug)]
pub enum Stdio {
    /// These three descriptors; given away, so that our copies are closed once the process has its own.
    Fds {
        /// Descriptor 0.
        stdin: OwnedFd,
        /// Descriptor 1.
        stdout: OwnedFd,
        /// Descriptor 2.
        stderr: OwnedFd,
    },
    /// A pseudo-terminal of the container's own devpts, whose other end is [`Running::console`].
    Console,
}

/// The size of a terminal in characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConsoleSize {
    /// Lines.
    pub rows: u16,
    /// Columns.
    pub cols: u16,
}

/// What ties a new process to the one that makes it. The default is what a shim wants: it dies with us and
/// has nothing of ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ties {
    /// Whether it is killed when we end (`PR_SET_PDEATHSIG`).
    pub dies_with_us: bool,
    /// Whether it stays in our session keyring, instead of one of its own.
    pub shares_keyring: bool,
    /// How many of our descriptors after the standard ones the command inherits.
    pub descriptors: u32,
    /// Whether the program that we run is sealed (`dhow_sys::seal`). From one that is not the command is
    /// executed by way of a springboard, and a start for which that is not enough is refused
    /// ([`LaunchError::wants_seal`]).
    pub sealed: bool,
}

impl Default for Ties {
    fn default() -> Self {
        Self { dies_with_us: true, shares_keyring: false, descriptors: 0, sealed: true }
    }
}

/// How a container is created that does not belong to a shim.
pub struct Creation<'a> {
    /// What ties it to us.
    pub ties: Ties,
    /// The gate at which the process waits when all is done but executing the command ([`make_gate`]).
    /// Without one the command is executed at once.
    pub gate: Option<OwnedFd>,
    /// What its hooks, and the listener of its seccomp filter, are told of it.
    pub told: &'a Told,
    /// Whether the host's root is left beneath the container's instead of being let go of.
    pub no_pivot: bool,
    /// Told of the process's pid before the process has done anything. A failure ends it.
    pub born: &'a mut dyn FnMut(i32) -> Result<(), LaunchError>,
}

/// A process that has executed its command, or waits at its gate to do so.
#[derive(Debug)]
pub struct Running {
    /// Its pid in our pid namespace. It is our child: wait for it.
    pub pid: i32,
    /// Its pid descriptor.
    pub pidfd: OwnedFd,
    /// The master of its terminal, with [`Stdio::Console`].
    pub console: Option<OwnedFd>,
    /// The root file system of a container's first process, where the kernel makes it detached. As long as
    /// it is held, the end of the container does not wait until that is synced to disk.
    pub root: Option<OwnedFd>,
    /// The steps of the start with the CLOCK_MONOTONIC nanoseconds at which each was done.
    pub trace: Vec<(String, u64)>,
    /// What could not be done as asked, and what was done instead.
    pub warnings: Vec<String>,
}

/// Starts a container's first process: makes and limits its control group, its namespaces and mounts, and
/// executes its command. Returns once the command has replaced our code.
///
/// Call it from a single-threaded process (the shim). A failure leaves no process, mount or control group.
pub fn launch(launch: Launch<'_>) -> Result<Running, LaunchError> {
    launch::launch(launch, Help { bare: None, meanwhile: &mut || {} }, None)
}

/// As [`launch`], for a container that may outlive us and wait at a gate for its start. Returns once its
/// process waits there, or once the command has replaced our code if there is no gate.
///
/// Call it from a single-threaded process that is sealed (`dhow_sys::seal`): what waits is a copy of it. A
/// failure, or our death on the way, leaves no process; our death may leave the control group.
pub fn create(launch: Launch<'_>, creation: Creation<'_>) -> Result<Running, LaunchError> {
    launch::launch(launch, Help { bare: None, meanwhile: &mut || {} }, Some(creation))
}

/// What makes a start faster.
pub struct Help<'a> {
    /// An empty mount namespace to start from, made before.
    pub bare: Option<&'a Bare>,
    /// What the caller has to do while the container's process gets ready. Called at most once.
    pub meanwhile: &'a mut dyn FnMut(),
}

/// As [`launch`], with help.
pub fn launch_with(launch: Launch<'_>, help: Help<'_>) -> Result<Running, LaunchError> {
    launch::launch(launch, help, None)
}

/// Starts another process in a running container: joins its namespaces and control group and executes the
/// command. Returns once the command has replaced our code.
///
/// Call it from a single-threaded process (the shim).
pub fn exec(
    target: &Target<'_>,
    process: &Process,
    stdio: Stdio,
    console_size: Option<ConsoleSize>,
) -> Result<Running, LaunchError> {
    exec::exec(target, process, stdio, console_size, Ties::default())
}

/// As [`exec`], with other ties to us.
pub fn exec_with(
    target: &Target<'_>,
    process: &Process,
    stdio: Stdio,
    console_size: Option<ConsoleSize>,
    ties: Ties,
) -> Result<Running, LaunchError> {
    exec::exec(target, process, stdio, console_size, ties)
}

/// The reaper that [`Launch::init`] makes pid 1: `arguments` are `dhow-init` and the command. It forwards
/// signals to the command, reaps every orphan and ends with the command's code (128 + signal).
pub fn init_main(arguments: Vec<OsString>) -> ! {
    init::run(arguments)
}
