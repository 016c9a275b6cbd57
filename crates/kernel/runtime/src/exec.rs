//! Starting another process in a running container.
//!
//! The parent joins the container's pid namespace for its children only and clones; the child enters the
//! container's control group and joins its other namespaces by one setns of the pid descriptor, which
//! cannot have been given to another process meanwhile. From its mount namespace on, everything it sees is
//! the container's: it holds no descriptor of a host's directory without close-on-exec, and it is not
//! dumpable (CVE-2016-9962, CVE-2019-5736).

use std::cell::Cell;
use std::os::fd::{AsFd, BorrowedFd};

use dhow_cgroup::{Entry, Layout};
use dhow_error::Kind;
use dhow_rootfs::{Console, private_procfs};
use dhow_spec::oci_runtime::Process;
use dhow_sys::namespace::{self, Namespaces};
use dhow_sys::process::{Reason, clone3};
use dhow_sys::rustix::io::Errno;

use crate::channel;
use crate::error::LaunchError;
use crate::parent::{self, Notes};
use crate::process::{self, Prepared, ProcessInput, Progress};
use crate::stdio::Streams;
use crate::trace::Step;
use crate::{ConsoleSize, Running, Stdio, Target};

pub(crate) fn exec(
    target: &Target<'_>,
    process: &Process,
    stdio: Stdio,
    console_size: Option<ConsoleSize>,
) -> Result<Running, LaunchError> {
    let mut notes = Notes::default();
    notes.mark("begin");
    let input = ProcessInput { process, seccomp: target.seccomp, stdio, console_size, init: false };
    let prepared = Prepared::new(input, &mut |warning| notes.warnings.push(warning))?;
    let classified = |error| LaunchError::classified("cgroup", &error);
    let entry = Layout::detect()
        .and_then(|layout| layout.open(target.cgroup).entry())
        .map_err(classified)?;
    notes.mark("plan");
    let (sender, receiver) = channel::pair().map_err(parent::no_channel)?;
    let receiver = Cell::new(Some(receiver));
    let container = target.pidfd;
    let child = parent::with_pid_namespace(Some(&container), || {
        clone3(Namespaces::NONE, entry.directory(), || {
            process::close_in_child(&receiver);
            let mut progress = Progress::new(sender);
            let error = run(prepared, container, &entry, &mut progress);
            progress.fail(&error);
            1
        })
    })?;
    notes.mark("clone");
    parent::finish(child, receiver.take(), notes)
}

/// The child; comes back only with why it did not become its command.
fn run(
    prepared: Prepared,
    container: BorrowedFd<'_>,
    entry: &Entry,
    progress: &mut Progress,
) -> LaunchError {
    let console = match enter(&prepared, container, entry, progress) {
        Ok(console) => console,
        Err(error) => return error,
    };
    match process::open_root() {
        Ok(root) => prepared.become_command(root.as_fd(), console, progress),
        Err(error) => error,
    }
}

fn enter(
    prepared: &Prepared,
    container: BorrowedFd<'_>,
    entry: &Entry,
    progress: &mut Progress,
) -> Result<Option<Console>, LaunchError> {
    process::start()?;
    progress.enter(Step::Cgroup);
    entry.enter().map_err(|errno| parent::failed("cannot enter the control group", errno))?;
    progress.enter(Step::Namespaces);
    let all = Namespaces::MOUNT
        | Namespaces::CGROUP
        | Namespaces::UTS
        | Namespaces::IPC
        | Namespaces::NETWORK;
    namespace::join(container, all).map_err(not_joined)?;
    progress.enter(Step::Console);
    let console = match prepared.streams {
        Streams::Console(_) => Some(Console::open(process::open_root()?.as_fd())?),
        Streams::Given(_) => None,
    };
    if prepared.limits.needs_procfs() {
        prepared.limits.set_oom_score(private_procfs()?.as_fd(), &progress.sender)?;
    }
    Ok(console)
}

fn not_joined(errno: Errno) -> LaunchError {
    if errno == Errno::SRCH {
        return LaunchError::new("namespaces", Kind::Conflict, "the container is not running");
    }
    let message = format!("cannot join the container's namespaces: {}", Reason(errno));
    LaunchError::new("namespaces", Kind::Internal, message)
}
