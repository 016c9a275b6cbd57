//! Starting another process in a running container.
//!
//! ```text
//!   parent:  plan ─► clone3 ─► listens ──────────────────► reaps the joining process ─► (failure: kill)
//!                      │ its pid namespace                                       ▲
//!   joining process:   closes what is not its own ─► cgroup ─► namespaces ─► terminal ─► streams, limits,
//!                      │   working directory, user, capabilities, filter         │ successor(pid)
//!                      └─► clone(CLONE_PARENT) ──────────────────────────────────┘
//!                            │ the container's pid namespace
//!   the command's process:   session, terminal, dies with its parent ─► ready ─► exec
//! ```
//!
//! A process of the container with CAP_SYS_PTRACE may do with every process that it sees what it likes,
//! dumpable or not (CVE-2016-9962). So what it can see is from its first instant no more than the command
//! will be: its root, namespaces, user, capabilities and filter are the command's, and it has no descriptor
//! but its streams and the channel's end, on which it can only say `ready` or `failure`. The process that
//! joins stays in our pid namespace, which the container does not see. All namespaces are joined by one
//! setns of the pid descriptor, which cannot have been given to another process meanwhile.
//!
//! The price: for an instant there is one more process in the control group and of the user, which a limit
//! of processes may refuse; and a seccomp profile must allow clone, setsid and prctl. Loading the filter in
//! the command's process instead would let a tracer use it unfiltered.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use dhow_cgroup::{Entry, Layout};
use dhow_error::Kind;
use dhow_rootfs::{Console, private_procfs};
use dhow_seccomp::Program;
use dhow_spec::oci_runtime::Process;
use dhow_sys::namespace::{self, Namespaces};
use dhow_sys::process::{Kept, Reason, clone_bare, clone_sibling};
use dhow_sys::rustix::io::Errno;

use crate::channel::{self, Halt};
use crate::error::LaunchError;
use crate::listener;
use crate::parent::{self, Notes};
use crate::process::{self, Prepared, ProcessInput, Progress};
use crate::schedule::Affinity;
use crate::stdio::Streams;
use crate::trace::Step;
use crate::unsealed::Start;
use crate::userns::{self, HostIds};
use crate::{ConsoleSize, Running, Stdio, Target, Ties};

pub(crate) fn exec(
    target: &Target<'_>,
    process: &Process,
    stdio: Stdio,
    console_size: Option<ConsoleSize>,
    ties: Ties,
) -> Result<Running, LaunchError> {
    let mut notes = Notes::default();
    notes.mark("begin");
    let seccomp = target.seccomp;
    if seccomp.is_some_and(Program::notifies) && target.listener.is_none() {
        return Err(listener::nobody());
    }
    let input = ProcessInput {
        process,
        linux: target.linux,
        forks: true,
        seccomp,
        stdio,
        console_size,
        init: false,
        ties,
        gate: None,
    };
    if !ties.sealed {
        let linux = target.linux;
        Start { process, linux, hooks: None, seccomp, joins: true }.check()?;
    }
    let mut prepared = Prepared::new(input, &mut |warning| notes.warnings.push(warning))?;
    let root = userns::root_of(target.pidfd)?;
    let classified = |error| LaunchError::classified("cgroup", &error);
    let mut entry = Layout::known()
        .and_then(|layout| layout.open(target.cgroup).entry())
        .map_err(classified)?;
    notes.mark("plan");
    let (sender, receiver) = channel::pair().map_err(parent::no_channel)?;
    prepared.make_springboard(&sender, true)?;
    let container = target.pidfd.try_clone_to_owned().map_err(|error| {
        let message = format!("cannot keep the container's pid descriptor: {error}");
        LaunchError::new("clone", Kind::Internal, message)
    })?;
    let kept: Kept = entry
        .tasks()
        .chain(prepared.streams.descriptors())
        .chain(prepared.board.as_ref().map(AsFd::as_fd))
        .chain([container.as_fd(), sender.as_fd()])
        .collect();
    let kept = kept.with_inherited(ties.descriptors);
    let directory = entry.take_directory();
    let affinity = std::mem::take(&mut prepared.affinity);
    let last = &affinity;
    let body = move |closed| {
        let mut progress = Progress::new(sender);
        match run(prepared, container, entry, (root, last), closed, &mut progress) {
            Ok(()) => 0,
            Err(error) => {
                progress.fail(&error);
                1
            }
        }
    };
    let child = affinity
        .around(|| clone_bare(directory.as_ref().map(AsFd::as_fd), &kept, body))?
        .map_err(not_cloned)?;
    notes.mark("clone");
    let mut answer = |halt, pid| match (halt, &target.listener) {
        (Halt::Listened(number), Some(listener)) => listener.give(pid, number),
        _ => Ok(()),
    };
    parent::finish_joined(&child, receiver.hear(child.pid, &mut answer), notes)
}

/// The process that joins: confines itself and leaves a sibling in the container.
fn run(
    mut prepared: Prepared,
    container: OwnedFd,
    entry: Entry,
    (root, affinity): (Option<HostIds>, &Affinity),
    closed: Result<(), Errno>,
    progress: &mut Progress,
) -> Result<(), LaunchError> {
    closed.map_err(|errno| parent::failed("cannot close descriptors", errno))?;
    let console = enter(&prepared, container.as_fd(), &entry, (root, affinity), progress)?;
    drop((container, entry));
    let terminal = prepared.confine_for_sibling(process::open_root()?, console, progress)?;
    if let Some(board) = &prepared.board {
        return Err(prepared.command.execute_by(board, progress.sender.as_fd()));
    }
    let sibling = clone_sibling(Namespaces::NONE, || {
        let error = prepared.become_as_sibling(terminal, progress);
        progress.fail(&error);
        1
    });
    let pid = sibling.map_err(not_cloned)?;
    progress.sender.successor(pid).map_err(|errno| parent::failed("cannot report", errno))
}

fn enter(
    prepared: &Prepared,
    container: BorrowedFd<'_>,
    entry: &Entry,
    (root, affinity): (Option<HostIds>, &Affinity),
    progress: &mut Progress,
) -> Result<Option<Console>, LaunchError> {
    process::start(prepared.ties())?;
    progress.enter(Step::Cgroup);
    entry.enter().map_err(|errno| parent::failed("cannot enter the control group", errno))?;
    affinity.take_on()?;
    progress.enter(Step::Namespaces);
    match root {
        Some(root) => prepared.prepare_outside(root, progress)?,
        None if prepared.needs_procfs() => {
            prepared.write_attributes(private_procfs()?.as_fd(), progress)?;
        }
        None => {}
    }
    join(container, root.is_some())?;
    progress.enter(Step::Console);
    let console = match prepared.streams {
        Streams::Console(_) => Some(Console::open(process::open_root()?.as_fd())?),
        Streams::Given(_) => None,
    };
    Ok(console)
}

/// Joins all namespaces of the container.
fn join(container: BorrowedFd<'_>, user_namespace: bool) -> Result<(), LaunchError> {
    let all = Namespaces::MOUNT
        | Namespaces::CGROUP
        | Namespaces::UTS
        | Namespaces::IPC
        | Namespaces::NETWORK
        | Namespaces::PID;
    if user_namespace {
        userns::shield()?;
        namespace::join(container, all | Namespaces::TIME | Namespaces::USER)
            .map_err(not_joined)?;
        return userns::become_root();
    }
    match namespace::join(container, all | Namespaces::TIME) {
        // A kernel without time namespaces.
        Err(Errno::INVAL) => namespace::join(container, all).map_err(not_joined),
        other => other.map_err(not_joined),
    }
}

fn not_joined(errno: Errno) -> LaunchError {
    if errno == Errno::SRCH {
        return LaunchError::new("namespaces", Kind::Conflict, "the container is not running");
    }
    let message = format!("cannot join the container's namespaces: {}", Reason(errno));
    LaunchError::new("namespaces", Kind::Internal, message)
}

/// Also the clone of what is confined: with its limits, and by its filter.
pub(crate) fn not_cloned(errno: Errno) -> LaunchError {
    let error = parent::failed("cannot clone into the container", errno);
    match errno {
        // Nobody is left in its pid namespace.
        Errno::NOMEM => LaunchError::new("clone", Kind::Conflict, "the container is not running"),
        Errno::AGAIN => error.with_hint(
            "a limit of processes is reached (--pids-limit or --ulimit nproc): an exec needs room for two",
        ),
        Errno::PERM | Errno::NOSYS | Errno::ACCESS => {
            error.with_hint("the seccomp profile must allow clone, setsid and prctl")
        }
        _ => error,
    }
}
