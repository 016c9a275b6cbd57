//! Making a container, for `create` and `run`.
//!
//! ```text
//!   bundle read ─► id claimed ─► configuration and record kept ─► gate made
//!        ─► dhow_runtime::create ─ (born) ─► record kept with the process
//!        ─► terminal, pid descriptor and pid handed out
//!   a failure: process, control group and folder gone
//! ```

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use dhow_error::{Error, Kind, Result};
use dhow_rootfs::Root;
use dhow_runtime::{ConsoleSize, Creation, Launch, LaunchError, Running, Stdio, Ties, make_gate};
use dhow_seccomp::SeccompError;
use dhow_spec::oci_runtime::{Hooks, Process};
use dhow_sys::event::{reap_blocking, send_signal};
use dhow_sys::process::Reason;
use dhow_sys::tty;

use crate::bundle::Bundle;
use crate::container::{Container, Folder, Init, Record, start_time};
use crate::globals::Globals;
use crate::handout;
use crate::time;
use crate::turns;
use crate::words::{Flag, Words};

/// The flags that `create` and `run` share.
pub(crate) const BUNDLE: Flag = Flag::value("bundle", "the bundle (default: .)").short("b");
pub(crate) const CONSOLE_SOCKET: Flag =
    Flag::value("console-socket", "a socket that gets the terminal's master");
pub(crate) const PIDFD_SOCKET: Flag =
    Flag::value("pidfd-socket", "a socket that gets the process's pid descriptor");
pub(crate) const PID_FILE: Flag = Flag::value("pid-file", "a file to write the process's id to");
pub(crate) const NO_PIVOT: Flag =
    Flag::switch("no-pivot", "leave the host's root beneath the container's");
pub(crate) const NO_NEW_KEYRING: Flag =
    Flag::switch("no-new-keyring", "stay in the caller's session keyring");
pub(crate) const PRESERVE_FDS: Flag =
    Flag::value("preserve-fds", "how many more descriptors than the standard ones to hand on");

/// Whether the container outlives the command, and how it begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Beginning {
    /// Its process waits for `start`.
    AtGate,
    /// Its process runs, and we go.
    Detached,
    /// Its process runs, and we stay with it.
    Foreground,
}

/// Makes the container that the command line asks for.
///
/// Errors: whatever is wrong; nothing of the container is left then.
pub(crate) fn make(
    globals: &Globals,
    words: &Words,
    beginning: Beginning,
) -> Result<(Container, Running)> {
    let id = words.first()?;
    let folder = Folder::of(&globals.root, id)?;
    let mut bundle = Bundle::read(Path::new(words.value("bundle").unwrap_or(".")))?;
    bundle.warnings.iter().for_each(|warning| globals.log.warning(warning));
    let listening = handout::listening();
    bundle.tell_listening(listening);
    let process = bundle.spec.process().as_ref();
    let process = process.ok_or_else(|| Error::invalid("config.json has no process"))?;
    check_terminal(process, words, beginning)?;
    let preserved = words.number("preserve-fds")?.unwrap_or(0);
    let ties = Ties {
        dies_with_us: false,
        shares_keyring: words.is_on("no-new-keyring"),
        descriptors: handout::preserved(listening, preserved)?,
        sealed: globals.sealed,
    };
    let rootfs = bundle.rootfs()?;
    folder.claim(&globals.root)?;
    globals.log.debug(|| format!("creating container {id} of {}", bundle.folder.display()));
    let mut after_hooks = None;
    let made = record(id, &bundle, &rootfs).and_then(|record| {
        let mut container = Container { folder: folder.clone(), record };
        let manner = (beginning, words.is_on("no-pivot"));
        let running =
            begin(globals, &mut container, &bundle, rootfs, ties, manner).map_err(|failure| {
                after_hooks = Some(container.record.clone()).filter(|_| failure.after_hooks);
                failure.error
            })?;
        Ok((container, running))
    });
    let (container, running) = made.inspect_err(|_| {
        // The first failure is the one to report; nothing but the folder is left by now.
        let _ = folder.remove();
        if let Some(record) = &after_hooks {
            turns::ended(record, &globals.log);
        }
    })?;
    running.warnings.iter().for_each(|warning| globals.log.warning(warning));
    if let Err(error) = folder.finish().and_then(|()| hand_out(&running, words)) {
        abandon(&container, &running);
        turns::ended(&container.record, &globals.log);
        return Err(error);
    }
    if beginning != Beginning::AtGate {
        turns::started(&container, &globals.log)?;
    }
    Ok((container, running))
}

fn record(id: &str, bundle: &Bundle, rootfs: &Path) -> Result<Record> {
    let mut record = Record::new(id, time::nanoseconds(SystemTime::now()));
    bundle.spec.version().clone_into(&mut record.oci_version);
    record.bundle.clone_from(&bundle.folder);
    rootfs.clone_into(&mut record.rootfs);
    record.cgroup = bundle.cgroup(id)?;
    let annotations = bundle.spec.annotations().iter().flatten();
    record.annotations = annotations.map(|(key, value)| (key.clone(), value.clone())).collect();
    record.hooks = bundle.spec.hooks().clone().filter(|hooks| *hooks != Hooks::default());
    Ok(record)
}

/// Why there is no process.
struct Failure {
    error: Error,
    /// Whether hooks have been called by then.
    after_hooks: bool,
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self { error, after_hooks: false }
    }
}

impl From<SeccompError> for Failure {
    fn from(error: SeccompError) -> Self {
        Error::from(error).into()
    }
}

/// From the claimed folder to the process.
fn begin(
    globals: &Globals,
    container: &mut Container,
    bundle: &Bundle,
    rootfs: PathBuf,
    ties: Ties,
    (beginning, no_pivot): (Beginning, bool),
) -> Result<Running, Failure> {
    let Container { folder, record } = container;
    folder.keep_config(&bundle.text)?;
    folder.keep(record)?;
    let gate = match beginning {
        Beginning::AtGate => Some(make_gate(&folder.gate()).map_err(|errno| {
            Error::caused(Kind::Internal, "cannot make the container's gate", Reason(errno))
        })?),
        _ => None,
    };
    let seccomp = bundle.spec.linux().as_ref().and_then(|linux| linux.seccomp().as_ref());
    let seccomp = seccomp.map(dhow_seccomp::compile).transpose()?;
    let cgroup = record.cgroup.clone();
    let told = turns::told(record);
    let process = bundle.spec.process().as_ref();
    let process = process.ok_or_else(|| Error::invalid("config.json has no process"))?;
    let launch = Launch {
        spec: &bundle.spec,
        root: &Root::Dir(rootfs),
        cgroup: &cgroup,
        seccomp: seccomp.as_ref(),
        netns: None,
        stdio: streams(process)?,
        init: false,
        console_size: console_size(process, beginning == Beginning::Foreground),
    };
    let mut born = |pid| {
        let lost = |message: String| LaunchError::new("record", Kind::Internal, message);
        let start_time =
            start_time(pid).ok_or_else(|| lost("the container's process is gone".to_owned()))?;
        record.init = Some(Init { pid, start_time });
        folder.keep(record).map_err(|error| lost(error.chain()))
    };
    let creation = Creation { ties, gate, told: &told, no_pivot, born: &mut born };
    dhow_runtime::create(launch, creation).map_err(|error| {
        let after_hooks = error.is_after_hooks();
        Failure { error: globals.not_started(error), after_hooks }
    })
}

/// Gives those who asked the terminal, the pid descriptor and the pid.
pub(crate) fn hand_out(running: &Running, words: &Words) -> Result<()> {
    if let (Some(master), Some(socket)) = (&running.console, words.value("console-socket")) {
        handout::console(master.as_fd(), Path::new(socket))?;
    }
    if let Some(socket) = words.value("pidfd-socket") {
        handout::pidfd(running.pidfd.as_fd(), Path::new(socket))?;
    }
    if let Some(file) = words.value("pid-file") {
        handout::pid(running.pid, Path::new(file))?;
    }
    Ok(())
}

/// Ends a container of which nobody will hear. The failure before is the one to report.
fn abandon(container: &Container, running: &Running) {
    let _ = send_signal(running.pidfd.as_fd(), 9);
    let _ = reap_blocking(running.pidfd.as_fd());
    if let Ok(cgroup) = container.cgroup() {
        let _ = cgroup.kill();
        let _ = cgroup.destroy();
    }
    let _ = container.folder.remove();
}

/// A terminal needs somebody to show it: us, or whoever listens at the socket.
pub(crate) fn check_terminal(process: &Process, words: &Words, beginning: Beginning) -> Result<()> {
    let terminal = process.terminal() == Some(true);
    let detached = beginning != Beginning::Foreground;
    let socket = words.value("console-socket").is_some_and(|path| !path.is_empty());
    if detached && terminal && !socket {
        return Err(Error::invalid(
            "cannot allocate tty if runc will detach without setting console socket",
        ));
    }
    if socket && !(detached && terminal) {
        return Err(Error::invalid(
            "cannot use console socket if runc will not detach or allocate tty",
        ));
    }
    Ok(())
}

/// The size that the configuration says; else that of our own terminal, if that is to show the process's.
pub(crate) fn console_size(process: &Process, in_foreground: bool) -> Option<ConsoleSize> {
    if let Some(size) = process.console_size() {
        let characters = |count: u64| u16::try_from(count).ok();
        return Some(ConsoleSize {
            rows: characters(size.height())?,
            cols: characters(size.width())?,
        });
    }
    let ours = tty::window_size(std::io::stdin()).ok();
    ours.filter(|size| in_foreground && size.rows > 0)
        .map(|size| ConsoleSize { rows: size.rows, cols: size.cols })
}

/// A terminal if the configuration asks for one, else our own standard streams.
pub(crate) fn streams(process: &Process) -> Result<Stdio> {
    if process.terminal() == Some(true) {
        return Ok(Stdio::Console);
    }
    let copy = |stream: BorrowedFd<'_>| -> Result<OwnedFd> {
        stream.try_clone_to_owned().map_err(|error| {
            Error::caused(Kind::Internal, "cannot hand on a standard stream", error)
        })
    };
    Ok(Stdio::Fds {
        stdin: copy(std::io::stdin().as_fd())?,
        stdout: copy(std::io::stdout().as_fd())?,
        stderr: copy(std::io::stderr().as_fd())?,
    })
}
