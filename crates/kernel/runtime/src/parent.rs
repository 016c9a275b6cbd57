//! The parent's side of a start: the clone, listening, and what is left to do when it fails.

use std::os::fd::{AsFd, OwnedFd};

use dhow_error::Kind;
use dhow_sys::namespace::{self, Namespaces};
use dhow_sys::process::{Child, Reason, monotonic_ns};
use dhow_sys::rustix::fs::{Mode, OFlags, open};
use dhow_sys::rustix::io::Errno;
use dhow_sys::rustix::process::{
    DumpableBehavior, Signal, WaitId, WaitIdOptions, dumpable_behavior, pidfd_send_signal,
    set_dumpable_behavior, waitid,
};

use crate::Running;
use crate::channel::Receiver;
use crate::error::LaunchError;

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

/// Clones with `make`, so that the child is in the pid namespace `of` (a /proc/PID/ns/pid or a pid
/// descriptor). Until it is executed, the child can be seen from there: it cannot be traced or looked into,
/// because it is not dumpable (CVE-2016-9962).
pub(crate) fn with_pid_namespace(
    of: Option<&impl AsFd>,
    make: impl FnOnce() -> Result<Child, Errno>,
) -> Result<Child, LaunchError> {
    let Some(of) = of else { return make().map_err(|errno| failed("cannot clone", errno)) };
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

/// Listens until the child has executed its command; kills and reaps it if it has not.
pub(crate) fn finish(
    child: Child,
    receiver: Option<Receiver>,
    mut notes: Notes,
) -> Result<Running, LaunchError> {
    let heard = match receiver {
        Some(receiver) => receiver.listen(),
        None => Err(LaunchError::new(STEP, Kind::Internal, "cannot hear from the child")),
    };
    match heard {
        Ok(report) => {
            notes.trace.extend(report.marks.iter().map(|(step, at)| ((*step).to_owned(), *at)));
            notes.mark("exec");
            notes.warnings.extend(report.warnings);
            Ok(Running {
                pid: child.pid,
                pidfd: child.pidfd,
                console: report.console,
                root: None,
                trace: notes.trace,
                warnings: notes.warnings,
            })
        }
        Err(error) => {
            reap(&child.pidfd);
            Err(error)
        }
    }
}

/// Kills a child and waits until it is gone; its mounts and namespaces go with it.
fn reap(pidfd: &OwnedFd) {
    // It may have ended by itself; then there is only the waiting.
    let _ = pidfd_send_signal(pidfd, Signal::KILL);
    while let Err(Errno::INTR) = waitid(WaitId::PidFd(pidfd.as_fd()), WaitIdOptions::EXITED) {}
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
