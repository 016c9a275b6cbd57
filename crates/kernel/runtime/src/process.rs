//! What launch and exec have in common: a process that is where it belongs becomes its command.
//!
//! Prepared by the parent, carried out by the child in this order:
//!
//! ```text
//!   start     signals to default, umask 0, own keyring and session
//!   (launch: control group, namespaces, root)  (exec: control group, namespaces of the container)
//!   confine   streams or terminal ─► limits ─► descriptors close-on-exec ─► working directory ─► user
//!             ─► capabilities, mostly with the filter
//!   (exec: a process in the container's pid namespace, in a session of its own)
//!   become    dies with its parent ─► filter, if not yet ─► (create: the gate) ─► exec
//! ```
//!
//! For exec the filter always comes before that process.

use std::cell::Cell;
use std::ffi::CString;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;

use dhow_error::Kind;
use dhow_rootfs::{Console, private_procfs};
use dhow_seccomp::Program;
use dhow_spec::oci_runtime::{Linux, Process};
use dhow_sys::process::{
    Jump, Reason, Springboard, close_on_exec_from, cwd_is_reachable, new_session_keyring,
    reset_signals,
};
use dhow_sys::rustix::fs::{Mode, OFlags, open};
use dhow_sys::rustix::io::Errno;
use dhow_sys::rustix::process::{
    DumpableBehavior, Signal, chdir, set_dumpable_behavior, set_parent_process_death_signal,
    setsid, umask,
};

use crate::channel::Sender;
use crate::command::Command;
use crate::error::LaunchError;
use crate::gate::Gate;
use crate::hooks::ReadyHooks;
use crate::identity::Identity;
use crate::labels::Labels;
use crate::limits::Limits;
use crate::schedule::{Affinity, Schedule};
use crate::stdio::Streams;
use crate::trace::{Step, Trace};
use crate::userns::HostIds;
use crate::{ConsoleSize, Stdio, Ties, unsealed};

const NOBODY_LOOKS: DumpableBehavior = DumpableBehavior::NotDumpable;

/// A process to start, prepared.
#[derive(Debug)]
pub(crate) struct Prepared {
    pub(crate) streams: Streams,
    limits: Limits,
    labels: Labels,
    schedule: Schedule,
    pub(crate) affinity: Affinity,
    pub(crate) command: Command,
    identity: Identity,
    cwd: CString,
    ties: Ties,
    gate: Option<Gate>,
    /// Where the command is executed from, if we are not sealed.
    pub(crate) board: Option<Springboard>,
    /// The startContainer hooks.
    before: Option<ReadyHooks>,
    prepared_outside: Cell<bool>,
}

/// What a process is prepared from.
#[derive(Debug)]
pub(crate) struct ProcessInput<'a> {
    pub(crate) process: &'a Process,
    /// The container's settings that are its processes'.
    pub(crate) linux: Option<&'a Linux>,
    /// Whether what is confined is not the process to be, but its parent.
    pub(crate) forks: bool,
    pub(crate) seccomp: Option<&'a Program>,
    pub(crate) stdio: Stdio,
    pub(crate) console_size: Option<ConsoleSize>,
    pub(crate) init: bool,
    pub(crate) ties: Ties,
    pub(crate) gate: Option<OwnedFd>,
}

/// The child's side of a start: whom to tell, and how far it is.
#[derive(Debug)]
pub(crate) struct Progress {
    pub(crate) sender: Sender,
    pub(crate) trace: Trace,
    step: Step,
}

impl Progress {
    pub(crate) fn new(sender: Sender) -> Self {
        Self { sender, trace: Trace::new(), step: Step::Child }
    }

    /// The step before is done, this one begins.
    pub(crate) fn enter(&mut self, step: Step) {
        self.trace.mark(self.step);
        self.step = step;
    }

    /// Tells the parent why the start ends here.
    pub(crate) fn fail(&self, error: &LaunchError) {
        self.sender.failure(self.step, error);
    }
}

/// What [`start`] does first, for a process that only makes the one to be.
pub(crate) fn start_outer() {
    reset_signals();
    umask(Mode::empty());
}

/// Makes this fresh child a process of its own.
pub(crate) fn start(ties: Ties) -> Result<(), LaunchError> {
    start_outer();
    if !ties.shares_keyring {
        new_session_keyring().map_err(|errno| failed("cannot make a session keyring", errno))?;
    }
    setsid().map_err(|errno| failed("cannot make a session", errno)).map(drop)
}

impl Prepared {
    pub(crate) fn new(
        input: ProcessInput<'_>,
        warn: &mut impl FnMut(String),
    ) -> Result<Self, LaunchError> {
        let process = input.process;
        let cwd = process.cwd();
        if !cwd.is_absolute() {
            let message = format!("working directory {:?} is not an absolute path", cwd.display());
            return Err(LaunchError::new("setup", Kind::Invalid, message));
        }
        let reaper = if input.init { Some(own_binary()?) } else { None };
        let arguments = process.args().as_deref().unwrap_or_default();
        let environment = process.env().as_deref().unwrap_or_default();
        Ok(Self {
            streams: Streams::new(input.stdio, input.console_size)?,
            limits: Limits::new(process)?,
            labels: Labels::new(process)?,
            schedule: Schedule::new(process, input.linux, input.forks)?,
            affinity: Affinity::new(process.exec_cpu_affinity().as_ref())?,
            command: Command::new(arguments, environment, reaper)?,
            identity: Identity::new(process, input.seccomp, warn)?,
            cwd: CString::new(cwd.as_os_str().as_bytes()).map_err(|_| {
                let message = format!("working directory {:?} has a NUL byte in it", cwd.display());
                LaunchError::new("setup", Kind::Invalid, message)
            })?,
            ties: input.ties,
            gate: input.gate.map(|gate| Gate::new(gate, input.ties.descriptors)),
            board: None,
            before: None,
            prepared_outside: Cell::new(false),
        })
    }

    /// Makes what the command is executed from, if we are not sealed, and sees to it that nobody looks into
    /// us. The process that `joins` a container leaves a sibling there.
    pub(crate) fn make_springboard(
        &mut self,
        sender: &Sender,
        joins: bool,
    ) -> Result<(), LaunchError> {
        if self.ties.sealed {
            return Ok(());
        }
        let terminal = matches!(self.streams, Streams::Console(_));
        let (channel, jump) = match &self.gate {
            Some(gate) => (gate.as_fd(), Jump::Gate),
            None if joins => (sender.as_fd(), Jump::Sibling { terminal }),
            None => (sender.as_fd(), Jump::Itself),
        };
        let board = Springboard::make(channel, jump)
            .and_then(|board| set_dumpable_behavior(NOBODY_LOOKS).map(|()| board));
        self.board = Some(board.map_err(|errno| unsealed::wanted(&Reason(errno).to_string()))?);
        Ok(())
    }

    /// What ties the process to its parent.
    pub(crate) fn ties(&self) -> Ties {
        self.ties
    }

    /// What the host's privileges are needed for, before a user namespace is entered whose root is
    /// `root` here.
    pub(crate) fn prepare_outside(
        &self,
        root: HostIds,
        progress: &Progress,
    ) -> Result<(), LaunchError> {
        if self.needs_procfs() {
            self.write_attributes(private_procfs()?.as_fd(), progress)?;
        }
        self.limits.raise_hard();
        self.schedule.take_on()?;
        self.streams.hand_over(root)?;
        self.prepared_outside.set(true);
        Ok(())
    }

    /// Whether [`Prepared::prepare_outside`] was called.
    pub(crate) fn is_prepared_outside(&self) -> bool {
        self.prepared_outside.get()
    }

    /// Whether [`Prepared::write_attributes`] has anything to do.
    pub(crate) fn needs_procfs(&self) -> bool {
        self.limits.needs_procfs() || !self.labels.is_empty()
    }

    /// Writes what a process says of itself in its /proc entry; `procfs` is of its pid namespace.
    pub(crate) fn write_attributes(
        &self,
        procfs: BorrowedFd<'_>,
        progress: &Progress,
    ) -> Result<(), LaunchError> {
        self.limits.set_oom_score(procfs, &progress.sender)?;
        self.labels.write(procfs)
    }

    /// Has it run hooks, found in the container, before its command.
    pub(crate) fn run_before_command(&mut self, hooks: ReadyHooks) {
        self.before = Some(hooks);
    }

    /// Becomes the command; comes back only with why not. `/` is the container's root by now, and this is
    /// the process to be.
    pub(crate) fn become_command(
        mut self,
        root: BorrowedFd<'_>,
        console: Option<Console>,
        progress: &mut Progress,
    ) -> LaunchError {
        let confined = self.install_streams(console, progress).and_then(|terminal| {
            if terminal {
                Streams::own_terminal()?;
            }
            self.confine(root, progress)?;
            self.schedule.take_on_last()?;
            self.tie_to_parent()?;
            self.load_last_filter(progress)
        });
        match confined {
            Ok(()) => match self.gate.take() {
                Some(gate) => {
                    let board = self.board.as_ref();
                    gate.wait_and_execute(&self.command, self.before.take(), board, progress)
                }
                None => match self.before.take().map_or(Ok(()), |hooks| {
                    progress.enter(Step::Hooks);
                    hooks.run()
                }) {
                    Ok(()) => self.execute(progress),
                    Err(error) => error,
                },
            },
            Err(error) => error,
        }
    }

    /// Everything that does not take the process to be; that is a sibling made after it, which calls
    /// [`Prepared::become_as_sibling`]. Gives whether its streams are a terminal. No descriptor but the
    /// standard streams and the channel's is left open.
    pub(crate) fn confine_for_sibling(
        &mut self,
        root: OwnedFd,
        console: Option<Console>,
        progress: &mut Progress,
    ) -> Result<bool, LaunchError> {
        let terminal = self.install_streams(console, progress)?;
        self.streams.close_spare();
        self.confine(root.as_fd(), progress)?;
        drop(root);
        self.load_last_filter(progress)?;
        Ok(terminal)
    }

    /// The sibling of the process that is confined becomes the command; comes back only with why not.
    pub(crate) fn become_as_sibling(&self, terminal: bool, progress: &mut Progress) -> LaunchError {
        let session = setsid().map_err(|errno| failed("cannot make a session", errno));
        let ready = session.and_then(|_| {
            if terminal {
                Streams::own_terminal()?;
            }
            self.schedule.take_on_last()?;
            self.tie_to_parent()
        });
        match ready {
            Ok(()) => self.execute(progress),
            Err(error) => error,
        }
    }

    /// Gives whether they are a terminal.
    fn install_streams(
        &self,
        console: Option<Console>,
        progress: &mut Progress,
    ) -> Result<bool, LaunchError> {
        progress.enter(Step::Setup);
        let terminal = console.is_some();
        match console {
            Some(console) => self.streams.install_console(console, &progress.sender)?,
            None => self.streams.install()?,
        }
        Ok(terminal)
    }

    /// Limits, working directory, user and what it may do.
    fn confine(
        &mut self,
        root: BorrowedFd<'_>,
        progress: &mut Progress,
    ) -> Result<(), LaunchError> {
        self.limits.set_rlimits(&progress.sender)?;
        if !self.is_prepared_outside() {
            self.schedule.take_on()?;
        }
        close_on_exec_from(self.ties.descriptors.saturating_add(3))
            .map_err(|errno| failed("cannot close descriptors", errno))?;
        // As root first: it may enter what the user may not. The user is asked again below, because it may
        // enter what root may not (a network file system that maps root to nobody).
        let entered = self.enter_cwd();

        progress.enter(Step::User);
        let wanted = !self.command.has_home();
        if let Some(home) = self.identity.resolve(root, wanted)? {
            self.command.environment.append(b"HOME", home);
        }
        Streams::own(self.identity.uid())?;

        progress.enter(Step::Identity);
        self.limits.set_umask();
        self.identity.take_on(&progress.sender)?;
        match entered {
            Err(Errno::ACCESS | Errno::PERM) => self.enter_cwd().map_err(|e| self.cwd_error(e))?,
            other => other.map_err(|errno| self.cwd_error(errno))?,
        }
        if self.board.is_some() {
            // A change of identity may have made us dumpable again (fs.suid_dumpable).
            set_dumpable_behavior(NOBODY_LOOKS)
                .map_err(|errno| failed("cannot become undumpable", errno))?;
        }
        Ok(())
    }

    /// Has this process killed when its parent ends, if it is to. Cleared by every change of identity and
    /// by clone(2), so it comes after.
    fn tie_to_parent(&self) -> Result<(), LaunchError> {
        if !self.ties.dies_with_us {
            return Ok(());
        }
        set_parent_process_death_signal(Some(Signal::KILL))
            .map_err(|errno| failed("cannot tie the process to its shim", errno))
    }

    fn load_last_filter(&self, progress: &mut Progress) -> Result<(), LaunchError> {
        progress.enter(Step::Seccomp);
        self.identity.take_on_last(&progress.sender)?;
        progress.enter(Step::Ready);
        Ok(())
    }

    fn execute(&self, progress: &mut Progress) -> LaunchError {
        progress.enter(Step::Exec);
        // If the parent died before the death signal was set, nobody listens here.
        match progress.sender.ready(&progress.trace) {
            Ok(()) => match &self.board {
                Some(board) => self.command.execute_by(board, progress.sender.as_fd()),
                None => self.command.execute(),
            },
            Err(errno) => failed("cannot report", errno),
        }
    }

    /// Enters the working directory and makes sure that it is inside the root (CVE-2024-21626).
    fn enter_cwd(&self) -> Result<(), Errno> {
        chdir(self.cwd.as_c_str())?;
        if cwd_is_reachable()? { Ok(()) } else { Err(Errno::XDEV) }
    }

    fn cwd_error(&self, errno: Errno) -> LaunchError {
        let cwd = self.cwd.to_string_lossy();
        let message =
            format!("chdir to cwd ({cwd:?}) set in config.json failed: {}", Reason(errno));
        // The command is there: it only cannot run in that folder.
        let kind = match errno {
            Errno::NOENT | Errno::ACCESS | Errno::PERM | Errno::NOTDIR => {
                Kind::CommandNotExecutable
            }
            _ => Kind::Internal,
        };
        LaunchError::new("setup", kind, message)
    }
}

/// Our own program, to be executed as a container's pid 1. The shim runs from a sealed view of it, so what
/// the container finds behind /proc/1/exe is not the host's file (CVE-2019-5736).
fn own_binary() -> Result<OwnedFd, LaunchError> {
    open(c"/proc/self/exe", OFlags::PATH | OFlags::CLOEXEC, Mode::empty())
        .map_err(|errno| failed("cannot open our own program", errno))
}

/// This process's root.
pub(crate) fn open_root() -> Result<OwnedFd, LaunchError> {
    open(c"/", OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
        .map_err(|errno| failed("cannot open the container's root", errno))
}

/// Closes the descriptor that only the parent needs, in the child.
pub(crate) fn close_in_child<T: AsFd>(kept_by_parent: &std::cell::Cell<Option<T>>) {
    drop(kept_by_parent.take());
}

fn failed(message: &str, errno: Errno) -> LaunchError {
    LaunchError::new("start", Kind::Internal, format!("{message}: {}", Reason(errno)))
}
