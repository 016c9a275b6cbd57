//! The shim's loop: everything that concerns one container, on one thread.
//!
//! ```text
//!                 ┌──────────── events ────────────┐
//!   listener ────►│ accept                         │
//!   connection ──►│ request (request.rs), stdin    │──► units: first process, execs (unit.rs)
//!   output ──────►│ log, attached clients          │      streams.rs moves the bytes
//!   pidfd ───────►│ reap (ending.rs)               │
//!                 └────────────────────────────────┘
//!
//!   running ─► first process ended ─► exit.json ─► waiters told ─► leftovers killed, cgroup removed
//!           ─► everything read and delivered ─► end
//! ```
//!
//! Nothing in the loop waits for anybody but the kernel: clients' sockets and the container's pipes are
//! non-blocking, and a client that does not read stops only the reading of that process's output (see
//! [`crate::outbox`]). Exceptions, both bounded by what is asked: an exec is set up within the loop, and
//! the removal of the control group waits for processes that are dying.
//!
//! Invariants: a unit's and a connection's number is never used again, so that an event for one that is
//! gone finds nothing; what a descriptor is watched for is derived from the state after each event
//! ([`Shim::refresh`]), never kept in step by hand.

use std::collections::{BTreeMap, VecDeque};
use std::os::fd::OwnedFd;

use dhow_cgroup::{Cgroup, Layout};
use dhow_seccomp::Program;
use dhow_sys::event::{Interest, Poller, Ready};
use dhow_sys::fdpass;
use dhow_sys::rustix::io::Result;

use crate::connection::{Connection, Phase, Progress};
use crate::log::Log;
use crate::protocol::{ExecStatus, Exit};
use crate::release::Release;
use crate::state::StateFolder;
use crate::unit::Unit;

/// The container's first process.
pub(crate) const FIRST_UNIT: u32 = 0;
/// More clients than this wait to be accepted.
const MAX_CONNECTIONS: usize = 512;
/// How many events are taken at a time.
const BATCH: usize = 16;

/// What a shim knows of its container besides its processes.
#[derive(Debug)]
pub(crate) struct Container {
    pub(crate) folder: StateFolder,
    /// See [`dhow_runtime::Running::root`].
    pub(crate) root: Option<OwnedFd>,
    pub(crate) cgroup_path: String,
    pub(crate) seccomp: Option<Program>,
    pub(crate) stdin_once: bool,
    pub(crate) log: Option<Log>,
}

/// What a shim's loop needs and what needs no container: made while that gets ready.
#[derive(Debug)]
pub(crate) struct Station {
    poller: Poller,
    listener: OwnedFd,
    cgroup: Option<Cgroup>,
}

impl Station {
    /// Listens in `folder`. Errors: those of bind(2) and epoll(7).
    pub(crate) fn new(folder: &StateFolder, cgroup: &str) -> std::io::Result<Self> {
        let cgroup = Layout::detect().ok().map(|layout| layout.open(cgroup));
        Ok(Self { poller: Poller::new(BATCH)?, listener: folder.listen()?, cgroup })
    }
}

/// The state of a shim.
#[derive(Debug)]
pub(crate) struct Shim {
    pub(crate) poller: Poller,
    listener: OwnedFd,
    listening: Interest,
    /// No descriptors are left for new connections.
    crowded: bool,
    next: u32,
    pub(crate) units: BTreeMap<u32, Unit>,
    pub(crate) connections: BTreeMap<u32, Connection>,
    /// The last execs that ended, oldest first.
    pub(crate) ended: VecDeque<ExecStatus>,
    /// None once the container has ended, its control group is gone and its exit is known.
    pub(crate) folder: Option<StateFolder>,
    /// Keeps the root's file system alive until the exit is told.
    pub(crate) root: Option<OwnedFd>,
    /// Who unlocks the folder in our place.
    pub(crate) release: Option<Release>,
    pub(crate) cgroup_path: String,
    pub(crate) cgroup: Option<Cgroup>,
    pub(crate) seccomp: Option<Program>,
    pub(crate) stdin_once: bool,
    pub(crate) log: Option<Log>,
    /// Where bytes are on their way through.
    pub(crate) buffer: Vec<u8>,
    /// Whether the exit is known to somebody else: in the file, or told to a waiter.
    pub(crate) exit_handed_over: bool,
}

/// What an event is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Token {
    Listener,
    Exit(u32),
    Output(u32, usize),
    Input(u32),
    Connection(u32),
}

impl Shim {
    /// A shim around a container whose first process runs. Errors: those of epoll(7).
    pub(crate) fn new(station: Station, container: Container, first: Unit) -> Result<Self> {
        let mut shim = Self {
            poller: station.poller,
            listener: station.listener,
            listening: Interest::NONE,
            crowded: false,
            next: FIRST_UNIT,
            units: BTreeMap::new(),
            connections: BTreeMap::new(),
            ended: VecDeque::new(),
            folder: Some(container.folder),
            root: container.root,
            release: None,
            cgroup_path: container.cgroup_path,
            cgroup: station.cgroup,
            seccomp: container.seccomp,
            stdin_once: container.stdin_once,
            log: container.log,
            buffer: Vec::new(),
            exit_handed_over: false,
        };
        shim.add_unit(first)?;
        Ok(shim)
    }

    /// Runs until the container has ended and everything about it is delivered. Gives the exit code.
    pub(crate) fn run(mut self) -> u8 {
        self.watch_listener();
        let mut ready = Vec::with_capacity(BATCH);
        while !self.is_over() {
            let timeout = self.next_deadline();
            if self.poller.wait(&mut ready, timeout).is_err() {
                // Without its descriptor set the shim is blind; init dies with it.
                return 1;
            }
            for event in &ready {
                self.handle(*event);
            }
            self.expire();
            self.watch_listener();
        }
        self.answer_late();
        0
    }

    /// Takes up a process and watches it; its number.
    pub(crate) fn add_unit(&mut self, mut unit: Unit) -> Result<u32> {
        let number = self.number();
        let token = Token::Exit(number).encode();
        self.poller.set(&unit.pidfd, token, &mut unit.pidfd_interest, Interest::READ)?;
        self.units.insert(number, unit);
        self.refresh(number);
        Ok(number)
    }

    /// Takes up a connection and watches it.
    pub(crate) fn add(&mut self, connection: Connection) {
        let number = self.number();
        self.connections.insert(number, connection);
        self.refresh_connection(number);
    }

    fn number(&mut self) -> u32 {
        let number = self.next;
        self.next += 1;
        number
    }

    fn handle(&mut self, event: Ready) {
        match Token::decode(event.token) {
            Token::Listener => self.accept(),
            Token::Exit(unit) => self.exited(unit),
            Token::Output(unit, index) => self.output_ready(unit, index),
            Token::Input(unit) => self.input_ready(unit),
            Token::Connection(number) => self.connection_ready(number, event),
        }
    }

    fn accept(&mut self) {
        match fdpass::accept(&self.listener) {
            Ok(None) => {}
            Ok(Some(socket)) => self.welcome(socket),
            Err(_) => self.crowded = true,
        }
    }

    fn welcome(&mut self, socket: OwnedFd) {
        let ours = dhow_sys::rustix::process::geteuid().as_raw();
        // The folder keeps others out; this keeps out those who were handed its descriptor.
        if fdpass::peer_user(&socket).is_ok_and(|user| user == ours || user == 0) {
            self.add(Connection::new(socket, Phase::Request(Vec::new())));
        }
    }

    fn connection_ready(&mut self, number: u32, event: Ready) {
        let Some(connection) = self.connections.get_mut(&number) else {
            return;
        };
        if event.writable {
            connection.flush();
        }
        if event.hangup {
            connection.lose();
        }
        if event.readable {
            match connection.phase {
                Phase::Request(_) => self.read_request(number),
                Phase::Attached(attachment) => self.take_input(number, attachment),
                Phase::Waiting(_) => drop(connection.read_input(&mut [0; 64])),
                Phase::Closing => {}
            }
        }
        let unit = self.connections.get(&number).and_then(Connection::attachment);
        self.refresh_connection(number);
        if let Some(attachment) = unit {
            self.refresh(attachment.unit);
        }
    }

    fn read_request(&mut self, number: u32) {
        let Some(connection) = self.connections.get_mut(&number) else {
            return;
        };
        match connection.read_request() {
            Progress::Partial => {}
            Progress::Complete(payload) => self.answer(number, &payload),
            Progress::Broken => connection.phase = Phase::Closing,
        }
    }

    /// Watches a process's streams, and the clients attached to them, for what can be done now.
    pub(crate) fn refresh(&mut self, number: u32) {
        let attached: Vec<u32> = self
            .connections
            .iter()
            .filter(|(_, connection)| connection.is_attached_to(number))
            .map(|(number, _)| *number)
            .collect();
        let full = attached
            .iter()
            .any(|number| self.connections.get(number).is_some_and(Connection::is_full));
        if let Some(unit) = self.units.get_mut(&number) {
            let wanted = if full && unit.exit.is_none() { Interest::NONE } else { Interest::READ };
            for (index, output) in unit.outputs.iter_mut().enumerate() {
                if let Some(output) = output {
                    let token = Token::Output(number, index).encode();
                    let _ = self.poller.set(&output.file, token, &mut output.interest, wanted);
                }
            }
            let pending = !unit.input.pending.is_empty();
            let wanted = if pending { Interest::WRITE } else { Interest::NONE };
            if let Some(end) = &mut unit.input.end {
                let token = Token::Input(number).encode();
                let _ = self.poller.set(&end.file, token, &mut end.interest, wanted);
            }
        }
        for connection in attached {
            self.refresh_connection(connection);
        }
    }

    /// Watches a connection for what can be done now, or drops it when nothing can.
    pub(crate) fn refresh_connection(&mut self, number: u32) {
        let Some(connection) = self.connections.get_mut(&number) else {
            return;
        };
        let sending = !connection.outbox.is_empty();
        let wanted = match connection.phase {
            Phase::Request(_) if !connection.gone => Some(Interest::READ),
            Phase::Waiting(_) if !connection.gone => {
                Some(Interest { read: !connection.input_done, write: false, hangup: true })
            }
            Phase::Closing if !connection.gone && sending => Some(Interest::WRITE),
            Phase::Attached(attachment) if !(connection.gone && connection.input_done) => {
                let unit = self.units.get(&attachment.unit);
                let stalled = attachment.streams.stdin
                    && unit.is_some_and(|unit| !unit.input.pending.is_empty());
                let read = !connection.input_done && !stalled;
                // Once gone, epoll would report the hang-up over and over.
                Some(Interest { read, write: sending, hangup: !connection.gone })
            }
            _ => None,
        };
        let token = Token::Connection(number).encode();
        let watched = wanted.is_some_and(|wanted| {
            self.poller.set(&connection.socket, token, &mut connection.watched, wanted).is_ok()
        });
        if !watched && let Some(mut connection) = self.connections.remove(&number) {
            let nothing = Interest::NONE;
            let _ = self.poller.set(&connection.socket, 0, &mut connection.watched, nothing);
            connection.close();
            self.crowded = false;
        }
    }

    fn watch_listener(&mut self) {
        let open = !self.crowded && self.connections.len() < MAX_CONNECTIONS;
        let wanted = if open { Interest::READ } else { Interest::NONE };
        let token = Token::Listener.encode();
        let _ = self.poller.set(&self.listener, token, &mut self.listening, wanted);
    }

    /// How the container ended, if it did.
    pub(crate) fn exit(&self) -> Option<&Exit> {
        self.units.get(&FIRST_UNIT).and_then(|unit| unit.exit.as_ref())
    }

    /// Whether nothing is left to do: everything has ended, was read, was delivered, and somebody else
    /// knows how it ended.
    fn is_over(&self) -> bool {
        self.exit_handed_over
            && self.folder.is_none()
            && self.units.values().all(Unit::is_done)
            && self
                .connections
                .values()
                .all(|connection| matches!(connection.phase, Phase::Request(_)))
    }

    /// Answers those who connected while the container was ending, as far as their requests are here.
    /// The others read the end of the stream, and then the exit file.
    pub(crate) fn answer_late(&mut self) {
        while let Ok(Some(socket)) = fdpass::accept(&self.listener) {
            self.welcome(socket);
        }
        let is_late = |connection: &Connection| matches!(connection.phase, Phase::Request(_));
        let connections = self.connections.iter();
        let late: Vec<u32> = connections
            .filter(|(_, connection)| is_late(connection))
            .map(|(number, _)| *number)
            .collect();
        for number in late {
            self.read_request(number);
            self.refresh_connection(number);
        }
    }
}

impl Token {
    fn encode(self) -> u64 {
        let (kind, number) = match self {
            Self::Listener => (0, 0),
            Self::Exit(number) => (1, number),
            Self::Input(number) => (2, number),
            Self::Connection(number) => (3, number),
            Self::Output(number, index) => (4 + index as u64, number),
        };
        kind << 32 | u64::from(number)
    }

    fn decode(token: u64) -> Self {
        let number = token as u32;
        match token >> 32 {
            0 => Self::Listener,
            1 => Self::Exit(number),
            2 => Self::Input(number),
            3 => Self::Connection(number),
            kind => Self::Output(number, kind as usize - 4),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_come_back() {
        for token in [
            Token::Listener,
            Token::Exit(0),
            Token::Output(7, 0),
            Token::Output(u32::MAX, 1),
            Token::Input(3),
            Token::Connection(9),
        ] {
            assert_eq!(Token::decode(token.encode()), token);
        }
    }
}
