//! The parent's side of a start: the clone, listening, and what is left to do when it fails.

use std::os::fd::{AsFd, OwnedFd};

use dhow_error::Kind;
use dhow_sys::namespace::{self, Namespaces};
use dhow_sys::process::{Child, Reason, monotonic_ns};
use dhow_sys::rustix::fs::{Mode, OFlags, open};
use dhow_sys::rustix::io::Errno;
use dhow_sys::rustix::process::{
    DumpableBehavior, Pid, PidfdFlags, Signal, WaitId, WaitIdOptions, WaitIdStatus,
    dumpable_behavior, pidfd_open, pidfd_send_signal, set_dumpable_behavior, waitid,
};

use crate::Running;
use crate::channel::{Answer, Receiver, Report};
use crate::error::LaunchError;
use crate::tracers;

const STEP: &str = "clone";

/// What the parent has noted so far.
#[derive(Debug, Default)]
pub(crate) struct Notes {
    pub(crate) trace: Vec<(String, u64)>,
    pub(crate) warnings: Vec<String>,
}

impl Notes {
    /// A step is done now.
    pub(crate) fn mark(&mut self, step: &str) {
        self.trace.push((step.to_owned(), monotonic_ns()));
    }
}

/// Clones with `make`, so that the child is in the pid namespace `of` (a /proc/PID/ns/pid). Until it has
/// executed its command, it can be seen from there. It cannot be traced or looked into, because it is not
/// dumpable, unless by who may trace everything, and such a namespace is refused (CVE-2016-9962).
pub(crate) fn with_pid_namespace(
    of: Option<&impl AsFd>,
    make: impl FnOnce() -> Result<Child, Errno>,
) -> Result<Child, LaunchError> {
    let Some(of) = of else { return make().map_err(|errno| failed("cannot clone", errno)) };
    tracers::refuse(of)?;
    let own = open(c"/proc/self/ns/pid", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
        .map_err(|errno| failed("cannot open our own pid namespace", errno))?;
    let dumpable =
        dumpable_behavior().map_err(|errno| failed("cannot become undumpable", errno))?;
    set_dumpable_behavior(DumpableBehavior::NotDumpable)
        .map_err(|errno| failed("cannot become undumpable", errno))?;
    let result = namespace::join(of.as_fd(), Namespaces::PID).map_err(not_running).and_then(|()| {
        let made = make().map_err(not_running);
        // Children of ours are born in our own namespace again.
        namespace::join(own.as_fd(), Namespaces::PID)
            .map_err(|errno| failed("cannot return to our own pid namespace", errno))?;
        made
    });
    if dumpable == DumpableBehavior::Dumpable {
        // It was so before: this cannot be refused.
        let _ = set_dumpable_behavior(dumpable);
    }
    result
}

/// Listens until the child has executed its command or waits at its gate, and does what is to be done where
/// it halts; kills and reaps it if it fails.
pub(crate) fn finish(
    child: Child,
    receiver: Option<Receiver>,
    notes: Notes,
    answer: &mut Answer<'_>,
) -> Result<Running, LaunchError> {
    let heard = match receiver {
        Some(receiver) => receiver.listen(child.pid, answer),
        None => Err(LaunchError::new(STEP, Kind::Internal, "cannot hear from the child")),
    };
    match heard {
        Ok(report) => Ok(running(child, report, notes)),
        Err(error) => {
            // How it ended is told in the error.
            let _ = reap(&child.pidfd);
            Err(error)
        }
    }
}

/// What became of the successor of `first`, going by what was heard; kills it if it has not executed its
/// command. Reaps `first`, whose work is done by then.
pub(crate) fn finish_joined(
    first: &Child,
    heard: Result<Report, LaunchError>,
    notes: Notes,
) -> Result<Running, LaunchError> {
    let successor = heard.as_ref().map_or(None, |report| report.successor.or(report.other));
    let started = heard.and_then(Report::finish);
    // Either it has ended, or nobody shall wait for it.
    let mut filtered = died_of_filter(reap(&first.pidfd));
    let child = successor.and_then(own_child);
    match (started, child) {
        (Ok(report), Some(child)) if report.successor.is_some() => {
            Ok(running(child, report, notes))
        }
        (started, child) => {
            if let Some(child) = child {
                filtered |= died_of_filter(reap(&child.pidfd));
            }
            Err(match started {
                Err(error) if error.step() != "start" || !filtered => error,
                _ if filtered => LaunchError::new(
                    "seccomp",
                    Kind::Internal,
                    "the seccomp profile has killed the process before it could execute its command",
                )
                .with_hint("it must allow clone, setsid, prctl and write"),
                Err(error) => error,
                Ok(_) => LaunchError::new(STEP, Kind::Internal, "the command's process is lost"),
            })
        }
    }
}

/// The child of ours that has this pid, which is free for no other process as long as we have not waited for
/// it (pidfd_open(2)).
fn own_child(pid: i32) -> Option<Child> {
    let pidfd = pidfd_open(Pid::from_raw(pid)?, PidfdFlags::empty()).ok()?;
    let look = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
    waitid(WaitId::PidFd(pidfd.as_fd()), look).ok()?;
    Some(Child { pid, pidfd })
}

fn running(child: Child, report: Report, mut notes: Notes) -> Running {
    notes.trace.extend(report.marks.iter().map(|(step, at)| ((*step).to_owned(), *at)));
    notes.mark("exec");
    notes.warnings.extend(report.warnings);
    Running {
        pid: child.pid,
        pidfd: child.pidfd,
        console: report.console,
        root: None,
        trace: notes.trace,
        warnings: notes.warnings,
    }
}

/// Whether that end was a seccomp filter's doing.
fn died_of_filter(status: Option<WaitIdStatus>) -> bool {
    status.and_then(|status| status.terminating_signal()) == Some(Signal::SYS.as_raw())
}

/// Kills a child and waits until it is gone; its mounts and namespaces go with it.
fn reap(pidfd: &OwnedFd) -> Option<WaitIdStatus> {
    // It may have ended by itself; then there is only the waiting.
    let _ = pidfd_send_signal(pidfd, Signal::KILL);
    loop {
        match waitid(WaitId::PidFd(pidfd.as_fd()), WaitIdOptions::EXITED) {
            Err(Errno::INTR) => {}
            other => return other.ok().flatten(),
        }
    }
}

/// A container whose first process is gone takes no other.
fn not_running(errno: Errno) -> LaunchError {
    match errno {
        Errno::SRCH | Errno::NOMEM => {
            LaunchError::new(STEP, Kind::Conflict, "the container is not running")
        }
        other => failed("cannot clone into the container", other),
    }
}

pub(crate) fn no_channel(errno: Errno) -> LaunchError {
    failed("cannot make a socket pair", errno)
}

pub(crate) fn failed(message: &str, errno: Errno) -> LaunchError {
    LaunchError::new(STEP, Kind::Internal, format!("{message}: {}", Reason(errno)))
}
