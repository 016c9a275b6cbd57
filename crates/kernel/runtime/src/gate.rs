//! The gate between create and start: a FIFO at which a created container's process waits.
//!
//! ```text
//!   creator            container's process                      starter
//!   makes the FIFO ──► has it open both ways
//!   ends               reads: waits ........................... opens it for writing (refused: it is gone)
//!                      ◄──────────────────────────── one byte ─ writes
//!                      execve: closes it ─────────────────────► nobody reads any more: executed, or dead
//!                      or writes why not, and ends ───────────► opens it for reading too: what is left in it
//! ```
//!
//! The process has the FIFO open for both directions, so neither its waiting nor the starter's opening needs
//! the other, and it needs no path and no system call but read and write: its root, user and seccomp filter
//! are the container's by then. While it waits it holds nothing else: no descriptor but its streams and
//! those that its command and its hooks are to have, and it is not dumpable, so that what joins the
//! container meanwhile finds no way out through it. It is a copy of its creator, which is sealed, or it is a
//! springboard that waits likewise (CVE-2019-5736; [`crate::unsealed`]).

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use dhow_error::{Classify, Kind};
use dhow_sys::process::{Kept, Reason, Springboard, end_with_only, exit};
use dhow_sys::rustix::event::{PollFd, PollFlags, poll};
use dhow_sys::rustix::fs::{CWD, FileType, Mode, OFlags, mknodat, open};
use dhow_sys::rustix::io::{Errno, read, write};
use dhow_sys::rustix::process::{DumpableBehavior, set_dumpable_behavior};

use crate::channel::{decode_failure, decode_refusal, encode_failure};
use crate::command::Command;
use crate::error::LaunchError;
use crate::hooks::ReadyHooks;
use crate::process::Progress;
use crate::trace::Step;

/// What opens the gate.
const WORD: &[u8] = b"0";
/// The longest failure told through it, which is what a pipe takes in one piece.
const LONGEST: usize = 4096;

/// Why a gate could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum GateError {
    /// There is no gate: the container was started before.
    #[error("cannot start a container that has been started before")]
    NoGate,
    /// Nobody waits at it.
    #[error("the container's process has ended")]
    NobodyWaits,
    /// The process went through, and could not execute its command.
    #[error(transparent)]
    Command(LaunchError),
    /// A system call failed.
    #[error("cannot open the container's gate: {0}")]
    System(Reason),
}

impl Classify for GateError {
    fn kind(&self) -> Kind {
        match self {
            Self::NoGate | Self::NobodyWaits => Kind::Conflict,
            Self::Command(error) => error.kind(),
            Self::System(_) => Kind::Internal,
        }
    }

    fn hint(&self) -> Option<String> {
        if let Self::Command(error) = self { error.hint() } else { None }
    }
}

/// Makes a gate at `path`, for [`Creation::gate`](crate::Creation::gate).
///
/// Errors: those of mknod(2) and open(2); EEXIST if something is there.
pub fn make_gate(path: &Path) -> Result<OwnedFd, Errno> {
    mknodat(CWD, path, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0)?;
    open(path, OFlags::RDWR | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())
}

/// Opens the gate at `path` and waits until the process has executed its command.
pub fn open_gate(path: &Path) -> Result<(), GateError> {
    let flags = OFlags::NONBLOCK | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let gate = match open(path, OFlags::WRONLY | flags, Mode::empty()) {
        Err(Errno::NOENT) => return Err(GateError::NoGate),
        Err(Errno::NXIO) => return Err(GateError::NobodyWaits),
        other => other.map_err(system)?,
    };
    write(&gate, WORD).map_err(system)?;
    wait_for_nobody(&gate).map_err(system)?;
    // We still hold it, so what was written last is still in it.
    let left = open(path, OFlags::RDONLY | flags, Mode::empty()).map_err(system)?;
    let mut text = [0; LONGEST];
    match read(&left, &mut text) {
        Ok(0) | Err(Errno::AGAIN) => Ok(()),
        Ok(length) => match text.get(..length).unwrap_or_default() {
            WORD => Err(GateError::NobodyWaits),
            [b'X', refusal @ ..] => Err(GateError::Command(decode_refusal(refusal))),
            failure => Err(GateError::Command(decode_failure(failure))),
        },
        Err(errno) => Err(system(errno)),
    }
}

/// Waits until nobody has the FIFO open for reading.
fn wait_for_nobody(gate: &OwnedFd) -> Result<(), Errno> {
    loop {
        // No event is asked for: an error, which is the end of all readers, is always told.
        match poll(&mut [PollFd::new(gate, PollFlags::empty())], None) {
            Err(Errno::INTR) => {}
            other => return other.map(drop),
        }
    }
}

fn system(errno: Errno) -> GateError {
    GateError::System(Reason(errno))
}

/// The process's side.
#[derive(Debug)]
pub(crate) struct Gate {
    fifo: OwnedFd,
    inherited: u32,
}

impl AsFd for Gate {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fifo.as_fd()
    }
}

impl Gate {
    /// With as many descriptors after the standard ones as the command is to inherit.
    pub(crate) fn new(fifo: OwnedFd, inherited: u32) -> Self {
        Self { fifo, inherited }
    }

    /// Tells the parent that all is done, waits, runs `hooks` and executes the command.
    ///
    /// What can be known of the command is told to the creator, as runc's users know it. It is looked for
    /// anew when it is executed: files come and go meanwhile.
    pub(crate) fn wait_and_execute(
        self,
        command: &Command,
        hooks: Option<ReadyHooks>,
        board: Option<&Springboard>,
        progress: &mut Progress,
    ) -> ! {
        progress.enter(Step::Exec);
        if let Err(error) = command.find() {
            progress.fail(&error);
            exit(1);
        }
        // Set anew by exec, also for a command of which nobody may read the file.
        let ready = set_dumpable_behavior(DumpableBehavior::NotDumpable)
            .and_then(|()| progress.sender.ready(&progress.trace));
        if ready.is_err() {
            exit(1);
        }
        let Self { fifo, inherited } = self;
        if let Some(board) = board {
            // What is not to be kept is close-on-exec.
            progress.fail(&command.execute_by(board, fifo.as_fd()));
            exit(1);
        }
        let of_hooks = hooks.iter().flat_map(ReadyHooks::descriptors);
        let kept: Kept = [fifo.as_fd()].into_iter().chain(of_hooks).collect();
        end_with_only(&kept.with_inherited(inherited), move |closed| {
            if closed.is_err() || wait(&fifo).is_err() {
                return 1;
            }
            let (step, error) = match hooks.map_or(Ok(()), ReadyHooks::run) {
                Ok(()) => (Step::Exec, command.execute()),
                Err(error) => (Step::Hooks, error),
            };
            let mut text = encode_failure(step, &error);
            text.truncate(LONGEST);
            // A starter that is gone learns from the code.
            let _ = write(&fifo, &text);
            error.exit_code() as u8
        })
    }
}

fn wait(fifo: &OwnedFd) -> Result<(), Errno> {
    loop {
        match read(fifo, &mut [0; 1]) {
            Err(Errno::INTR) => {}
            other => return other.map(drop),
        }
    }
}
