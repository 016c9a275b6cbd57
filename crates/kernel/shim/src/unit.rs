//! One process of the container that the shim watches: the first one or an exec.
//!
//! ```text
//!             ┌ outputs[0] ◄─ stdout pipe, or the terminal's master
//!   pidfd     ├ outputs[1] ◄─ stderr pipe
//!     │       └ input      ─► stdin pipe, or a second descriptor of the master
//!     ▼
//!   running ── exit ──► draining ── outputs at their end, or 2 s later ──► done
//! ```
//!
//! The two seconds are for processes that outlive it and hold its streams (Docker waits as long).

use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use dhow_runtime::{Running, Stdio};
use dhow_sys::event::{self, Interest, Poller};
use dhow_sys::rustix::fs::{Mode, OFlags};
use dhow_sys::rustix::io::{Errno, Result};
use dhow_sys::tty;

use crate::clock;
use crate::log::Stream;
use crate::protocol::Exit;

/// How long the streams of a process that has ended are read while others hold them.
const DRAIN_TIME: Duration = Duration::from_secs(2);

/// A descriptor in the poll set.
#[derive(Debug)]
pub(crate) struct Watched {
    pub(crate) file: OwnedFd,
    pub(crate) interest: Interest,
}

impl Watched {
    fn new(file: OwnedFd) -> Result<Self> {
        event::set_nonblocking(&file)?;
        Ok(Self { file, interest: Interest::NONE })
    }

    /// Takes it out of the poll set and closes it. Closing alone would not do: a duplicate keeps the
    /// entry alive.
    pub(crate) fn close(mut self, poller: &Poller) {
        let _ = poller.set(&self.file, 0, &mut self.interest, Interest::NONE);
    }
}

/// A process's stdin.
#[derive(Debug, Default)]
pub(crate) struct Input {
    /// Where it is written to; none when it is closed or never was.
    pub(crate) end: Option<Watched>,
    /// What did not fit yet.
    pub(crate) pending: Vec<u8>,
    /// Close it once nothing is pending.
    pub(crate) closing: bool,
}

/// A watched process.
#[derive(Debug)]
pub(crate) struct Unit {
    /// The exec's id; none is the container's first process.
    pub(crate) exec_id: Option<String>,
    pub(crate) pid: i32,
    pub(crate) pidfd: OwnedFd,
    pub(crate) pidfd_interest: Interest,
    pub(crate) tty: bool,
    pub(crate) started_at_ns: u64,
    pub(crate) outputs: [Option<Watched>; 2],
    pub(crate) input: Input,
    pub(crate) exit: Option<Exit>,
    pub(crate) deadline: Option<Instant>,
    /// The terminal's other end, held while the process runs: a terminal that nobody has open for a moment
    /// would look like one that has ended.
    pub(crate) slave: Option<OwnedFd>,
}

/// Our ends of a process's streams, made before the process.
#[derive(Debug)]
pub(crate) struct Ends {
    stdin: Option<OwnedFd>,
    outputs: [Option<OwnedFd>; 2],
}

/// Streams for a process about to start: its ends and ours.
///
/// With `tty` the terminal comes from the runtime; without `piped` output goes nowhere.
pub(crate) fn streams(tty: bool, stdin_open: bool, piped: bool) -> Result<(Stdio, Ends)> {
    if tty {
        return Ok((Stdio::Console, Ends { stdin: None, outputs: [None, None] }));
    }
    let (stdin, our_stdin) = if stdin_open {
        let (theirs, ours) = event::pipe()?;
        (theirs, Some(ours))
    } else {
        (null()?, None)
    };
    let output = || {
        if piped {
            event::pipe().map(|(ours, theirs)| (theirs, Some(ours)))
        } else {
            null().map(|file| (file, None))
        }
    };
    let ((stdout, our_stdout), (stderr, our_stderr)) = (output()?, output()?);
    let ends = Ends { stdin: our_stdin, outputs: [our_stdout, our_stderr] };
    Ok((Stdio::Fds { stdin, stdout, stderr }, ends))
}

fn null() -> Result<OwnedFd> {
    let flags = OFlags::RDWR | OFlags::CLOEXEC | OFlags::NOCTTY;
    dhow_sys::rustix::fs::open("/dev/null", flags, Mode::empty())
}

impl Unit {
    /// The process that has just started, with our ends of its streams.
    pub(crate) fn new(
        exec_id: Option<String>,
        running: Running,
        ends: Ends,
        stdin_open: bool,
    ) -> Result<Self> {
        let mut unit = Self {
            exec_id,
            pid: running.pid,
            pidfd: running.pidfd,
            pidfd_interest: Interest::NONE,
            tty: running.console.is_some(),
            started_at_ns: clock::now_ns(),
            outputs: [None, None],
            input: Input::default(),
            exit: None,
            deadline: None,
            slave: None,
        };
        if let Some(master) = running.console {
            // Without the slave the terminal works, but for the moments described above.
            unit.slave = tty::peer(&master).ok();
            if stdin_open {
                let second = dhow_sys::rustix::io::fcntl_dupfd_cloexec(&master, 3)?;
                unit.input.end = Some(Watched::new(second)?);
            }
            unit.outputs[0] = Some(Watched::new(master)?);
        } else {
            unit.input.end = ends.stdin.map(Watched::new).transpose()?;
            for (output, end) in unit.outputs.iter_mut().zip(ends.outputs) {
                *output = end.map(Watched::new).transpose()?;
            }
        }
        Ok(unit)
    }

    /// Which stream `outputs[index]` is.
    pub(crate) fn stream(index: usize) -> Stream {
        if index == 0 { Stream::Stdout } else { Stream::Stderr }
    }

    /// Whether it has ended and everything it wrote was read.
    pub(crate) fn is_done(&self) -> bool {
        self.exit.is_some() && self.outputs.iter().all(Option::is_none)
    }

    /// It has ended: from now on its streams only drain.
    pub(crate) fn end(&mut self, exit: Exit) {
        self.exit = Some(exit);
        self.deadline = Some(Instant::now() + DRAIN_TIME);
        self.slave = None;
    }

    /// Sets the size of its terminal. Errors: `ENOTTY` when it has none.
    pub(crate) fn resize(&self, size: tty::WindowSize) -> Result<()> {
        match &self.outputs[0] {
            Some(output) if self.tty => tty::set_window_size(&output.file, size),
            _ => Err(Errno::NOTTY),
        }
    }
}

impl Input {
    /// Gives bytes to the process; keeps what it does not take now.
    pub(crate) fn feed(&mut self, bytes: &[u8], poller: &Poller) {
        let Some(end) = &self.end else {
            return;
        };
        match event::write_some(&end.file, bytes) {
            Ok(count) => self.pending.extend_from_slice(&bytes[count.unwrap_or(0)..]),
            Err(_) => self.close_now(poller),
        }
    }

    /// Gives the process more of what it did not take.
    pub(crate) fn flush(&mut self, poller: &Poller) {
        let pending = std::mem::take(&mut self.pending);
        self.feed(&pending, poller);
        if self.pending.is_empty() && self.closing {
            self.close_now(poller);
        }
    }

    /// Closes it once the process has taken what is pending.
    pub(crate) fn close(&mut self, poller: &Poller) {
        self.closing = true;
        if self.pending.is_empty() {
            self.close_now(poller);
        }
    }

    /// Closes it and forgets what is pending.
    pub(crate) fn close_now(&mut self, poller: &Poller) {
        self.pending = Vec::new();
        if let Some(end) = self.end.take() {
            end.close(poller);
        }
    }
}
