//! What the child tells its parent on the way to exec.
//!
//! ```text
//!   child                                    parent
//!     │  halt(where)* ───────────────────────► │  does what is to be done there
//!     │ ◄─────────────────────────────────── go│
//!     │  warning(text)*                        │  notes it
//!     │  console(descriptor)?                  │  keeps it
//!     │  successor(pid)?                       │  that process, its sibling, goes on instead
//!     │  ready(trace)                          │  the next thing is exec
//!     │  execve ── closes the socket ────────► │  end of file after `ready`: started, or at the gate
//!     │  failure(step, kind, message, hint) ──►│  not started: kill, wait, clean up
//!     │  (a springboard's: errno, path)        │
//!     ╳  (death) ────────────────────────────► │  end of file before `ready`: died on the way
//! ```
//!
//! Only `ready` and `failure` are taken from the successor of an exec: in the container's pid namespace, a process that
//! may trace others can make it say anything. The kernel tells who sends (SCM_CREDENTIALS, in the parent's
//! own pids).
//!
//! A message is one packet of a SOCK_SEQPACKET socket pair, its first byte saying what it is. A shim's child
//! never waits for its parent: everything that it needs was there when it was cloned. One that is created
//! halts where its parent has something to do; the parent's death ends it there. The child's end is
//! close-on-exec, so that a successful exec is seen as the end of the conversation.

use std::io::{IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use dhow_error::{Classify, Kind};
use dhow_sys::rustix::io::{Errno, read, write};
use dhow_sys::rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketFlags, SocketType, recvmsg, send, sendmsg, socketpair,
    sockopt::set_socket_passcred,
};

use crate::error::LaunchError;
use crate::trace::{Mark, STEPS, Step, Trace};
use crate::{command, exec};

/// Where a container that is being created waits for its creator.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Halt {
    /// It has done nothing yet.
    Born,
    /// It is in its namespaces, and needs something there from its parent.
    Entered,
    /// Its namespaces and mounts are there, its root is not yet the root.
    Mounted,
    /// It has loaded a seccomp filter whose listener is its descriptor of that number.
    Listened(i32),
}

impl Halt {
    fn encode(self) -> [u8; 5] {
        let (first, number) = match self {
            Self::Born => (0, 0_i32),
            Self::Entered => (1, 0),
            Self::Mounted => (2, 0),
            Self::Listened(number) => (3, number),
        };
        let [a, b, c, d] = number.to_le_bytes();
        [first, a, b, c, d]
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        match bytes {
            [0, ..] => Some(Self::Born),
            [1, ..] => Some(Self::Entered),
            [2, ..] => Some(Self::Mounted),
            [3, number @ ..] => Some(Self::Listened(i32::from_le_bytes(*number.first_chunk()?))),
            _ => None,
        }
    }
}

/// What the parent does at a halt of the child with that pid.
pub(crate) type Answer<'a> = dyn FnMut(Halt, i32) -> Result<(), LaunchError> + 'a;

/// The longest packet; a longer text is cut.
const LONGEST: usize = 4096;

/// The child's end.
#[derive(Debug)]
pub(crate) struct Sender(OwnedFd);

/// The parent's end.
#[derive(Debug)]
pub(crate) struct Receiver(OwnedFd);

/// What came of a start.
#[derive(Debug, Default)]
pub(crate) struct Report {
    pub(crate) console: Option<OwnedFd>,
    pub(crate) marks: Vec<Mark>,
    pub(crate) warnings: Vec<String>,
    /// The pid of the process that goes on, if it is not the one that was cloned.
    pub(crate) successor: Option<i32>,
    /// Who else was heard of.
    pub(crate) other: Option<i32>,
    ready: bool,
    failure: Option<LaunchError>,
}

/// A connected pair of ends.
pub(crate) fn pair() -> Result<(Sender, Receiver), Errno> {
    let flags = SocketFlags::CLOEXEC;
    let (one, other) = socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)?;
    set_socket_passcred(&other, true)?;
    Ok((Sender(one), Receiver(other)))
}

/// What one packet brings besides its bytes.
#[derive(Debug, Default)]
struct Packet {
    length: usize,
    descriptor: Option<OwnedFd>,
    sender: Option<i32>,
}

impl Sender {
    /// Waits until the parent has done what is to be done there. Fails if it is gone.
    pub(crate) fn halt(&self, halt: Halt) -> Result<(), Errno> {
        self.send(b'H', &halt.encode())?;
        let mut word = [0; 1];
        loop {
            match read(&self.0, &mut word) {
                Err(Errno::INTR) => {}
                Ok(0) => return Err(Errno::PIPE),
                other => return other.map(drop),
            }
        }
    }

    /// Something could not be done as asked; the start goes on.
    pub(crate) fn warning(&self, text: &str) {
        // A parent that is gone is noticed at `ready`.
        let _ = self.send(b'W', text.as_bytes());
    }

    /// The master of the terminal.
    pub(crate) fn console(&self, master: BorrowedFd<'_>) -> Result<(), Errno> {
        let mut space = [MaybeUninit::uninit(); dhow_sys::rustix::cmsg_space!(ScmRights(1))];
        let mut ancillary = SendAncillaryBuffer::new(&mut space);
        let descriptors = [master];
        ancillary.push(SendAncillaryMessage::ScmRights(&descriptors));
        sendmsg(&self.0, &[IoSlice::new(b"C")], &mut ancillary, SendFlags::NOSIGNAL).map(drop)
    }

    /// This process's sibling of that pid goes on in its place.
    pub(crate) fn successor(&self, pid: i32) -> Result<(), Errno> {
        self.send(b'P', &pid.to_le_bytes())
    }

    /// Everything is done but exec. Fails if the parent is gone.
    pub(crate) fn ready(&self, trace: &Trace) -> Result<(), Errno> {
        let mut packet = [0_u8; 9 * STEPS];
        let length = trace.encode(&mut packet);
        self.send(b'R', packet.get(..length).unwrap_or_default())
    }

    /// The start has failed.
    pub(crate) fn failure(&self, step: Step, error: &LaunchError) {
        // There is nobody else to tell.
        let _ = self.send(b'F', &encode_failure(step, error));
    }

    /// By write(2) and nothing else, which most seccomp profiles allow: a filter may be loaded by now.
    fn send(&self, what: u8, body: &[u8]) -> Result<(), Errno> {
        let mut packet = [0; LONGEST];
        let [first, rest @ ..] = &mut packet;
        *first = what;
        let length = body.len().min(rest.len());
        for (place, byte) in rest.iter_mut().zip(body) {
            *place = *byte;
        }
        loop {
            match write(&self.0, packet.get(..=length).unwrap_or_default()) {
                Err(Errno::INTR) => {}
                other => return other.map(drop),
            }
        }
    }
}

impl AsFd for Sender {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl Receiver {
    /// Listens until the child (of pid `first`) has executed its command, has failed or has died.
    pub(crate) fn listen(
        &self,
        first: i32,
        answer: &mut Answer<'_>,
    ) -> Result<Report, LaunchError> {
        self.hear(first, answer)?.finish()
    }

    /// Listens likewise; [`Report::finish`] says what came of it.
    pub(crate) fn hear(&self, first: i32, answer: &mut Answer<'_>) -> Result<Report, LaunchError> {
        self.hear_from(|sender| sender == Some(first), answer)
    }

    /// Listens likewise, and takes everything from the successor too: from one that nobody can trace.
    pub(crate) fn hear_both(&self, answer: &mut Answer<'_>) -> Result<Report, LaunchError> {
        self.hear_from(|_| true, answer)
    }

    fn hear_from(
        &self,
        trusted: impl Fn(Option<i32>) -> bool,
        answer: &mut Answer<'_>,
    ) -> Result<Report, LaunchError> {
        let mut report = Report::default();
        loop {
            let mut packet = [0_u8; LONGEST];
            let received = self.receive(&mut packet).map_err(|errno| {
                let reason = dhow_sys::process::Reason(errno);
                let message = format!("cannot hear from the container's process: {reason}");
                LaunchError::new("listen", Kind::Internal, message)
            })?;
            match packet.get(..received.length).unwrap_or_default().split_first() {
                Some((b'H', halt)) if trusted(received.sender) => {
                    report.other = received.sender;
                    let halt = Halt::decode(halt).zip(received.sender);
                    if let Some(Err(error)) = halt.map(|(halt, pid)| answer(halt, pid)) {
                        report.failure = Some(error);
                        return Ok(report);
                    }
                    self.go();
                }
                Some((what, body)) if trusted(received.sender) => {
                    report.take(*what, body, received.descriptor);
                }
                Some((what, body)) => {
                    report.other = received.sender;
                    report.take_ending(*what, body);
                }
                None => return Ok(report),
            }
        }
    }

    /// Lets the child go on.
    fn go(&self) {
        // A child that is gone is noticed by its silence.
        let _ = send(&self.0, b"G", SendFlags::NOSIGNAL);
    }

    fn receive(&self, packet: &mut [u8]) -> Result<Packet, Errno> {
        let mut space =
            [MaybeUninit::uninit(); dhow_sys::rustix::cmsg_space!(ScmRights(1), ScmCredentials(1))];
        let mut ancillary = RecvAncillaryBuffer::new(&mut space);
        let message = loop {
            let mut parts = [IoSliceMut::new(packet)];
            match recvmsg(&self.0, &mut parts, &mut ancillary, RecvFlags::CMSG_CLOEXEC) {
                Err(Errno::INTR) => {}
                // The child's end closed with unread packets of ours: cannot be, we send none.
                Err(Errno::CONNRESET) => return Ok(Packet::default()),
                other => break other?,
            }
        };
        let mut received = Packet { length: message.bytes, ..Packet::default() };
        for part in ancillary.drain() {
            match part {
                RecvAncillaryMessage::ScmRights(mut all) => received.descriptor = all.next(),
                RecvAncillaryMessage::ScmCredentials(who) => {
                    received.sender = Some(who.pid.as_raw_nonzero().get());
                }
                _ => {}
            }
        }
        Ok(received)
    }
}

impl AsFd for Receiver {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl Report {
    fn take(&mut self, what: u8, body: &[u8], descriptor: Option<OwnedFd>) {
        match what {
            b'W' => self.warnings.push(String::from_utf8_lossy(body).into_owned()),
            b'C' => self.console = descriptor,
            b'P' => self.successor = body.first_chunk().map(|pid| i32::from_le_bytes(*pid)),
            _ => self.take_ending(what, body),
        }
    }

    fn take_ending(&mut self, what: u8, body: &[u8]) {
        match what {
            b'R' => {
                self.ready = true;
                self.marks = Trace::decode(body);
            }
            b'F' => self.failure = Some(decode_failure(body)),
            b'X' => self.failure = Some(decode_refusal(body)),
            b'S' => {
                let errno =
                    body.first().map_or(Errno::IO, |it| Errno::from_raw_os_error((*it).into()));
                self.failure = Some(exec::not_cloned(errno));
            }
            _ => {}
        }
    }

    /// What came of the start.
    pub(crate) fn finish(self) -> Result<Self, LaunchError> {
        match (&self.failure, self.ready) {
            (Some(failure), _) => Err(failure.clone()),
            (None, true) => Ok(self),
            (None, false) => {
                let message = "the container's process died before it could execute its command";
                Err(LaunchError::new("start", Kind::Internal, message)
                    .with_hint("the memory limit may be too small to start anything (see dmesg)"))
            }
        }
    }
}

/// A failure as [`decode_failure`] reads it.
pub(crate) fn encode_failure(step: Step, error: &LaunchError) -> Vec<u8> {
    let mut text = vec![step as u8, kind_byte(error.kind())];
    text.extend_from_slice(error.message().as_bytes());
    text.push(0);
    text.extend_from_slice(error.hint().unwrap_or_default().as_bytes());
    text
}

/// What [`encode_failure`] wrote.
pub(crate) fn decode_failure(body: &[u8]) -> LaunchError {
    let step = body.first().and_then(|byte| Step::from_byte(*byte)).map_or("start", Step::name);
    let kind = body.get(1).map_or(Kind::Internal, |byte| kind_of(*byte));
    let text = String::from_utf8_lossy(body.get(2..).unwrap_or_default());
    let (message, hint) = text.split_once('\0').unwrap_or((&text, ""));
    let error = LaunchError::new(step, kind, message);
    if hint.is_empty() { error } else { error.with_hint(hint) }
}

/// What a springboard says of a command that the kernel did not execute: the errno and the path.
pub(crate) fn decode_refusal(body: &[u8]) -> LaunchError {
    let (errno, path) = body.split_first().unwrap_or((&0, &[]));
    let errno = Errno::from_raw_os_error(i32::from(*errno));
    command::refused(&String::from_utf8_lossy(path), errno)
}

/// The kinds that a child reports, by their place.
const KINDS: [Kind; 6] = [
    Kind::Internal,
    Kind::CommandNotFound,
    Kind::CommandNotExecutable,
    Kind::Invalid,
    Kind::Unsupported,
    Kind::Conflict,
];

fn kind_byte(kind: Kind) -> u8 {
    KINDS.iter().position(|known| *known == kind).unwrap_or(0) as u8
}

fn kind_of(byte: u8) -> Kind {
    KINDS.get(usize::from(byte)).copied().unwrap_or(Kind::Internal)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ourselves() -> i32 {
        dhow_sys::rustix::process::getpid().as_raw_nonzero().get()
    }

    fn listen(receiver: &Receiver) -> Result<Report, LaunchError> {
        receiver.listen(ourselves(), &mut |_, _| Ok(()))
    }

    #[test]
    fn a_halt_is_answered_before_the_child_goes_on() {
        let (sender, receiver) = pair().unwrap();
        let child = std::thread::spawn(move || {
            sender.halt(Halt::Mounted).unwrap();
            sender.halt(Halt::Listened(500)).unwrap();
            sender.ready(&Trace::new()).unwrap();
        });
        let mut halts = Vec::new();
        let report = receiver.listen(ourselves(), &mut |halt, pid| {
            halts.push((halt, pid));
            Ok(())
        });
        child.join().unwrap();
        assert!(report.is_ok());
        assert_eq!(halts, [(Halt::Mounted, ourselves()), (Halt::Listened(500), ourselves())]);
    }

    #[test]
    fn a_halt_ends_with_the_parent() {
        let (sender, receiver) = pair().unwrap();
        drop(receiver);
        assert_eq!(sender.halt(Halt::Born), Err(Errno::PIPE));
    }

    #[test]
    fn the_successor_only_ends_it() {
        let (sender, receiver) = pair().unwrap();
        sender.successor(5).unwrap();
        sender.warning("careful");
        sender.console(receiver.as_fd()).unwrap();
        sender.ready(&Trace::new()).unwrap();
        drop(sender);
        let report = receiver.hear(1, &mut |_, _| Ok(())).unwrap();
        assert_eq!((report.successor, report.other), (None, Some(ourselves())));
        assert!(report.warnings.is_empty() && report.console.is_none());
        assert!(report.finish().is_ok());
    }

    #[test]
    fn a_failure_arrives_whole() {
        let (sender, receiver) = pair().unwrap();
        let error = LaunchError::new("mounts", Kind::CommandNotFound, "it is not there")
            .with_hint("look elsewhere");
        sender.warning("careful");
        sender.failure(Step::Mounts, &error);
        drop(sender);
        assert_eq!(listen(&receiver).unwrap_err(), error);
    }

    #[test]
    fn ready_and_the_end_is_a_start() {
        let (sender, receiver) = pair().unwrap();
        let mut trace = Trace::new();
        trace.mark(Step::Root);
        sender.console(receiver.as_fd()).unwrap();
        sender.warning("careful");
        sender.ready(&trace).unwrap();
        drop(sender);
        let report = listen(&receiver).unwrap();
        assert!(report.console.is_some());
        assert_eq!(report.warnings, ["careful"]);
        assert_eq!(report.marks.len(), 1);
    }

    #[test]
    fn silence_is_death() {
        let (sender, receiver) = pair().unwrap();
        drop(sender);
        assert!(listen(&receiver).is_err());
    }

    #[test]
    fn a_parent_that_is_gone_is_noticed() {
        let (sender, receiver) = pair().unwrap();
        drop(receiver);
        assert_eq!(sender.ready(&Trace::new()), Err(Errno::PIPE));
    }
}
