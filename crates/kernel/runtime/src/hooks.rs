//! Hooks: programs that the configuration names for the turns of a container's life. The only place where
//! this crate starts a program that is not the container's command.
//!
//! ```text
//!   kind             when                                     status    whose paths   namespaces, user
//!   prestart         its namespaces and mounts are there      creating  the host's    the runtime's
//!   createRuntime    right after those                        creating  the host's    the runtime's
//!   createContainer  right after those, before the pivot      creating  the host's    the container's, root
//!   startContainer   it is to execute its command             created   its own       the container's command's
//!   poststart        it has executed its command              running   the host's    the runtime's
//!   poststop         nothing of it is left                    stopped   the host's    the runtime's
//! ```
//!
//! The first hook that fails ends the others and the container, but poststop's: all of them run
//! (runtime specification, runtime.md "Lifecycle", config.md "POSIX-platform Hooks").
//!
//! A hook has the environment that the configuration gives it and no other, the container's state on its
//! standard input, and an output that is told when it fails. It is the first of a process group, which is
//! killed when its time is over. Its descriptors are made before ([`Ready`]), so that those of
//! `startContainer`, which run under the container's seccomp filter, ask for little.

use std::ffi::CString;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::rc::Rc;
use std::time::Duration;

use dhow_error::Kind;
use dhow_spec::oci_runtime::{Hook, Hooks};
use dhow_sys::event::{Ended, pipe, read_some, reap_blocking, send_signal, set_nonblocking};
use dhow_sys::process::{
    Reason, StandardStream, Strings, close_on_exec_from, execve, fork, install_standard, kill,
    monotonic_ns, reset_signals,
};
use dhow_sys::rustix::event::{PollFd, PollFlags, Timespec, poll};
use dhow_sys::rustix::fs::{MemfdFlags, memfd_create};
use dhow_sys::rustix::io::{Errno, pwrite};
use dhow_sys::rustix::process::{chdir, fchdir, getpid, setpgid};

use crate::error::LaunchError;
use crate::told::{Status, Told};

/// The step under which failures of hooks are told.
pub(crate) const STEP: &str = "hooks";
/// How much of a hook's output is kept.
const OUTPUT: usize = 2048;
/// What a shell says of a program that cannot be executed.
const NOT_EXECUTED: u8 = 127;
const SIGKILL: i32 = 9;

/// A turn of a container's life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HookKind {
    /// Deprecated; comes before [`HookKind::CreateRuntime`].
    Prestart,
    /// Its environment is made.
    CreateRuntime,
    /// As before, in its namespaces.
    CreateContainer,
    /// It is about to execute its command.
    StartContainer,
    /// It has executed its command.
    Poststart,
    /// It is deleted.
    Poststop,
}

impl HookKind {
    const ALL: [Self; 6] = [
        Self::Prestart,
        Self::CreateRuntime,
        Self::CreateContainer,
        Self::StartContainer,
        Self::Poststart,
        Self::Poststop,
    ];

    /// Its name in a configuration.
    pub fn name(self) -> &'static str {
        match self {
            Self::Prestart => "prestart",
            Self::CreateRuntime => "createRuntime",
            Self::CreateContainer => "createContainer",
            Self::StartContainer => "startContainer",
            Self::Poststart => "poststart",
            Self::Poststop => "poststop",
        }
    }

    #[allow(deprecated, reason = "prestart hooks are, and are still to be run")]
    fn list(self, hooks: &Hooks) -> &[Hook] {
        let list = match self {
            Self::Prestart => hooks.prestart(),
            Self::CreateRuntime => hooks.create_runtime(),
            Self::CreateContainer => hooks.create_container(),
            Self::StartContainer => hooks.start_container(),
            Self::Poststart => hooks.poststart(),
            Self::Poststop => hooks.poststop(),
        };
        list.as_deref().unwrap_or_default()
    }
}

/// The checked hooks of a configuration.
#[derive(Debug, Clone, Default)]
pub struct HookPlan(Rc<[Program]>);

/// A hook, ready to be executed.
#[derive(Debug)]
struct Program {
    kind: HookKind,
    path: CString,
    arguments: Strings,
    environment: Strings,
    timeout: Option<Duration>,
}

/// Where a hook is executed.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Place<'a> {
    /// Where we are.
    Here,
    /// In that folder, if it is there.
    Path(&'a Path),
    /// In that folder.
    Folder(BorrowedFd<'a>),
}

impl HookPlan {
    /// Checks the hooks of a configuration.
    ///
    /// Errors: invalid, by its JSON path, for what the specification forbids: a path that is not absolute, a
    /// timeout that is not more than zero.
    pub fn new(hooks: Option<&Hooks>) -> Result<Self, LaunchError> {
        let Some(hooks) = hooks else { return Ok(Self::default()) };
        let mut programs = Vec::new();
        for kind in HookKind::ALL {
            for (place, hook) in kind.list(hooks).iter().enumerate() {
                let program = Program::new(kind, hook).map_err(|what| {
                    let message = format!("hooks.{}[{place}].{what}", kind.name());
                    LaunchError::new(STEP, Kind::Invalid, message)
                })?;
                programs.push(program);
            }
        }
        Ok(Self(programs.into()))
    }

    /// Whether there is none of any kind.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether there are hooks of that kind.
    pub fn has(&self, kind: HookKind) -> bool {
        self.of(kind).next().is_some()
    }

    fn of(&self, kind: HookKind) -> impl Iterator<Item = &Program> {
        self.0.iter().filter(move |program| program.kind == kind)
    }

    /// Runs the hooks of a kind in their order, up to the first that fails.
    pub(crate) fn run(
        &self,
        kind: HookKind,
        state: &str,
        place: Place<'_>,
    ) -> Result<(), LaunchError> {
        self.of(kind).try_for_each(|program| Ready::new(state)?.run(program, place))
    }

    /// Runs all hooks of a kind in their order; gives the failures.
    pub(crate) fn run_all(
        &self,
        kind: HookKind,
        state: &str,
        place: Place<'_>,
    ) -> Vec<LaunchError> {
        let run = |program| Ready::new(state).and_then(|ready| ready.run(program, place)).err();
        self.of(kind).filter_map(run).collect()
    }

    /// The hooks of a kind, each with its descriptors made.
    pub(crate) fn ready(&self, kind: HookKind, state: &str) -> Result<ReadyHooks, LaunchError> {
        let ready = self.of(kind).map(|_| Ready::new(state)).collect::<Result<_, _>>()?;
        Ok(ReadyHooks { plan: self.clone(), kind, ready })
    }
}

/// Hooks of one kind that need nothing more made for them.
#[derive(Debug)]
pub(crate) struct ReadyHooks {
    plan: HookPlan,
    kind: HookKind,
    /// One for each.
    ready: Vec<Ready>,
}

impl ReadyHooks {
    /// Their descriptors, which must be kept for them.
    pub(crate) fn descriptors(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        self.ready
            .iter()
            .flat_map(|Ready { state, output }| [state.as_fd(), output.0.as_fd(), output.1.as_fd()])
    }

    /// Runs them in their order, up to the first that fails.
    pub(crate) fn run(self) -> Result<(), LaunchError> {
        let Self { plan, kind, ready } = self;
        ready
            .into_iter()
            .zip(plan.of(kind))
            .try_for_each(|(it, program)| it.run(program, Place::Here))
    }
}

/// The hooks of a container that is being created, and what they are told.
#[derive(Debug, Clone)]
pub(crate) struct Turns {
    pub(crate) plan: HookPlan,
    pub(crate) told: Told,
}

impl Turns {
    /// Runs those of the runtime, in the parent: `pid` is that of the container's process.
    pub(crate) fn in_runtime(&self, pid: i32) -> Result<(), LaunchError> {
        let state = self.told.state(Status::Creating, Some(pid));
        let place = Place::Path(&self.told.bundle);
        self.plan.run(HookKind::Prestart, &state, place)?;
        self.plan.run(HookKind::CreateRuntime, &state, place)
    }

    /// Runs those that find the host's paths in the container's namespaces, in the folder of its root.
    pub(crate) fn in_container(&self, root: BorrowedFd<'_>) -> Result<(), LaunchError> {
        let state = self.told.state(Status::Creating, Some(own_pid()));
        self.plan.run(HookKind::CreateContainer, &state, Place::Folder(root))
    }

    /// Those that run before the command, to be run later.
    pub(crate) fn before_command(&self) -> Result<ReadyHooks, LaunchError> {
        let state = self.told.state(Status::Created, Some(own_pid()));
        self.plan.ready(HookKind::StartContainer, &state)
    }
}

/// As hooks in our namespaces see us.
fn own_pid() -> i32 {
    getpid().as_raw_nonzero().get()
}

/// Runs the poststart hooks of a container whose process is `pid`, up to the first that fails; the container
/// is to be stopped and deleted then.
pub fn poststart(hooks: Option<&Hooks>, told: &Told, pid: i32) -> Result<(), LaunchError> {
    let plan = HookPlan::new(hooks)?;
    let state = told.state(Status::Running, Some(pid));
    plan.run(HookKind::Poststart, &state, Place::Path(&told.bundle))
}

/// Runs all poststop hooks of a container of which nothing is left; gives the failures, which are only to be
/// told.
pub fn poststop(hooks: Option<&Hooks>, told: &Told) -> Vec<LaunchError> {
    let state = told.state(Status::Stopped, None);
    match HookPlan::new(hooks) {
        Ok(plan) => plan.run_all(HookKind::Poststop, &state, Place::Path(&told.bundle)),
        Err(error) => vec![error],
    }
}

impl Program {
    /// Errors: which member is wrong, and what about it.
    fn new(kind: HookKind, hook: &Hook) -> Result<Self, String> {
        let path = hook.path();
        if !path.is_absolute() {
            return Err(format!("path: {:?} is not an absolute path", path.display()));
        }
        let timeout = match hook.timeout().map(u64::try_from) {
            None => None,
            Some(Ok(seconds)) if seconds > 0 => Some(Duration::from_secs(seconds)),
            Some(_) => return Err("timeout: it must be more than zero seconds".to_owned()),
        };
        let text = |member: &str, bytes: &[u8]| {
            CString::new(bytes).map_err(|_| format!("{member}: there is a NUL byte in it"))
        };
        let texts = |member: &str, list: &Option<Vec<String>>| {
            let all = list.iter().flatten().map(|entry| text(member, entry.as_bytes()));
            all.collect::<Result<Vec<_>, _>>()
        };
        let path = text("path", path.as_os_str().as_bytes())?;
        let mut arguments = texts("args", hook.args())?;
        if arguments.is_empty() {
            arguments.push(path.clone());
        }
        let environment = texts("env", hook.env())?;
        let (arguments, environment) = (Strings::new(arguments), Strings::new(environment));
        Ok(Self { kind, path, arguments, environment, timeout })
    }

    /// The process of the hook; comes back only with why it was not executed.
    fn execute(&self, ready: &Ready, place: Place<'_>) -> Errno {
        reset_signals();
        // Without a group of its own there is only itself to kill.
        let _ = setpgid(None, None);
        let installed = install_standard(ready.state.as_fd(), StandardStream::Input)
            .and_then(|()| install_standard(ready.output.1.as_fd(), StandardStream::Output))
            .and_then(|()| install_standard(ready.output.1.as_fd(), StandardStream::Error))
            .and_then(|()| close_on_exec_from(3))
            .and_then(|()| match place {
                Place::Here => Ok(()),
                // A bundle may be gone when its container is.
                Place::Path(path) => chdir(path).or(Ok(())),
                Place::Folder(folder) => fchdir(folder),
            });
        match installed {
            Ok(()) => execve(&self.path, &self.arguments, &self.environment),
            Err(errno) => errno,
        }
    }

    fn failed(&self, how: &str) -> LaunchError {
        let (kind, path) = (self.kind.name(), self.path.to_string_lossy());
        LaunchError::new(STEP, Kind::Internal, format!("{kind} hook {path} {how}"))
    }
}

/// The descriptors of a hook that is to run.
#[derive(Debug)]
struct Ready {
    /// The container's state, to be read.
    state: OwnedFd,
    /// The two ends of what takes its output.
    output: (OwnedFd, OwnedFd),
}

impl Ready {
    fn new(state: &str) -> Result<Self, LaunchError> {
        let made = text_file(state).and_then(|state| {
            let output = pipe()?;
            set_nonblocking(&output.0)?;
            Ok(Self { state, output })
        });
        made.map_err(|errno| system("cannot prepare a hook", errno))
    }

    /// Runs the hook to its end.
    fn run(self, program: &Program, place: Place<'_>) -> Result<(), LaunchError> {
        let child = fork(|| {
            let errno = program.execute(&self, place);
            // Its output is told with its code.
            let said = format!("cannot execute it: {}", Reason(errno));
            let _ = dhow_sys::rustix::io::write(&self.output.1, said.as_bytes());
            NOT_EXECUTED
        })
        .map_err(|errno| system("cannot start a hook", errno))?;
        let Self { output: (output, their_end), .. } = self;
        drop(their_end);
        let mut said = Output::new(output);
        let in_time = said
            .listen(child.pidfd.as_fd(), program.timeout)
            .map_err(|errno| system("cannot listen to a hook", errno))?;
        if !in_time {
            // Its group first, whose number it holds until it is reaped.
            let _ = kill(-child.pid, SIGKILL);
            let _ = send_signal(child.pidfd.as_fd(), SIGKILL);
        }
        let ended = reap_blocking(child.pidfd.as_fd())
            .map_err(|errno| system("cannot wait for a hook", errno))?;
        let seconds = program.timeout.unwrap_or_default().as_secs();
        match ended {
            _ if !in_time => {
                let how = format!("was killed: it took longer than its timeout of {seconds} s");
                Err(program.failed(&how))
            }
            Ended::Code(0) => Ok(()),
            Ended::Code(code) => {
                Err(program.failed(&format!("failed with exit code {code}{}", said.told())))
            }
            Ended::Signal(signal) => {
                Err(program.failed(&format!("was killed by signal {signal}{}", said.told())))
            }
        }
    }
}

/// What a hook says.
struct Output {
    from: OwnedFd,
    kept: Vec<u8>,
    is_open: bool,
}

impl Output {
    fn new(from: OwnedFd) -> Self {
        Self { from, kept: Vec::with_capacity(OUTPUT), is_open: true }
    }

    /// Listens until the process ends; false if it has not by its timeout.
    fn listen(
        &mut self,
        process: BorrowedFd<'_>,
        timeout: Option<Duration>,
    ) -> Result<bool, Errno> {
        let now = || Duration::from_nanos(monotonic_ns());
        let end = timeout.and_then(|timeout| now().checked_add(timeout));
        loop {
            let left = end.map(|end| end.saturating_sub(now()));
            if left == Some(Duration::ZERO) {
                return Ok(false);
            }
            let left = left.and_then(|left| Timespec::try_from(left).ok());
            let output = if self.is_open { PollFlags::IN } else { PollFlags::empty() };
            let mut watched =
                [PollFd::from_borrowed_fd(process, PollFlags::IN), PollFd::new(&self.from, output)];
            // A closed output is no news any more.
            let count = if self.is_open { 2 } else { 1 };
            match poll(watched.get_mut(..count).unwrap_or_default(), left.as_ref()) {
                Err(Errno::INTR) => continue,
                other => other?,
            };
            let has_ended = watched.first().is_some_and(|it| !it.revents().is_empty());
            self.drain()?;
            if has_ended {
                return Ok(true);
            }
        }
    }

    /// Takes in what is there. What is more than is kept is read all the same, so that nobody waits.
    fn drain(&mut self) -> Result<(), Errno> {
        let mut buffer = [0; 4096];
        // As much as a pipe holds; who never stops is heard again, after a look at the time.
        for _ in 0..16 {
            if !self.is_open {
                break;
            }
            match read_some(&self.from, &mut buffer)? {
                Some(0) => self.is_open = false,
                Some(length) => {
                    let room = OUTPUT - self.kept.len();
                    let taken = buffer.get(..length.min(room)).unwrap_or_default();
                    self.kept.extend_from_slice(taken);
                }
                None => return Ok(()),
            }
        }
        Ok(())
    }

    /// Its lines as one, for the end of a message.
    fn told(&self) -> String {
        let text = String::from_utf8_lossy(&self.kept);
        let lines: Vec<_> = text.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
        if lines.is_empty() { String::new() } else { format!(": {}", lines.join("; ")) }
    }
}

/// A file in memory with that text, to be read from its beginning.
fn text_file(text: &str) -> Result<OwnedFd, Errno> {
    // Where files in memory must say whether they may be executed (vm.memfd_noexec), this one may not;
    // before Linux 6.3 that could not be said.
    let flags = MemfdFlags::CLOEXEC;
    let file = match memfd_create(c"state", flags | MemfdFlags::NOEXEC_SEAL) {
        Err(Errno::INVAL) => memfd_create(c"state", flags)?,
        other => other?,
    };
    let mut written = 0;
    while let Some(rest) = text.as_bytes().get(written..).filter(|rest| !rest.is_empty()) {
        written += pwrite(&file, rest, written as u64)?;
    }
    Ok(file)
}

fn system(message: &str, errno: Errno) -> LaunchError {
    let error = LaunchError::new(STEP, Kind::Internal, format!("{message}: {}", Reason(errno)));
    match errno {
        Errno::PERM | Errno::NOSYS | Errno::ACCESS => error.with_hint(
            "startContainer hooks run under the container's seccomp profile, which must let them run",
        ),
        _ => error,
    }
}

#[cfg(test)]
mod tests;
