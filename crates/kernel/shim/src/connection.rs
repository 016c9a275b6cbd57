//! One client of a shim, from its request to its end.
//!
//! ```text
//!   Request ──► Closing                       answered at once; closed when the answer is out
//!      │  └───► Waiting(unit) ──► Closing     answered when the process has ended
//!      └──────► Attached(unit)                raw both ways; closed when the process has ended and
//!                    ▲                        everything it wrote is delivered
//!                    └── a socket given at the launch starts here
//! ```
//!
//! The two directions end on their own: `input_done` when the client has closed its side, `gone` when it
//! can no longer be written to. A connection whose both directions have ended is dropped.

use std::os::fd::{AsFd, OwnedFd};

use dhow_sys::event::{self, Interest};
use dhow_sys::rustix::net::Shutdown;

use crate::frame::{self, HEADER_BYTES};
use crate::log::Stream;
use crate::outbox::{LIMIT_BYTES, Outbox};
use crate::protocol::{AttachStreams, Reply};

/// A request is read in pieces of this size, so that a length alone costs no memory.
const PIECE_BYTES: usize = 16 << 10;
/// How much unread input is thrown away at the end.
const REST_BYTES: usize = 1 << 20;

/// What a connection is for, as far as is known.
#[derive(Debug)]
pub(crate) enum Phase {
    /// Its request is being read: this much of the frame is here.
    Request(Vec<u8>),
    /// To be told of the exit of this unit.
    Waiting(u32),
    /// Part of the streams of a unit.
    Attached(Attachment),
    /// Closed once its outbox is empty.
    Closing,
}

/// What an attached client is attached to.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Attachment {
    /// Whose streams.
    pub(crate) unit: u32,
    /// Which of them.
    pub(crate) streams: AttachStreams,
    /// Whether output has headers (no terminal).
    pub(crate) framed: bool,
}

/// How far a request has come.
pub(crate) enum Progress {
    /// Not all of it is here.
    Partial,
    /// Its payload.
    Complete(Vec<u8>),
    /// There will be none.
    Broken,
}

/// A connected client.
#[derive(Debug)]
pub(crate) struct Connection {
    pub(crate) socket: OwnedFd,
    pub(crate) watched: Interest,
    pub(crate) phase: Phase,
    pub(crate) outbox: Outbox,
    pub(crate) input_done: bool,
    pub(crate) gone: bool,
}

impl Connection {
    /// A client in `phase` on a non-blocking stream socket.
    pub(crate) fn new(socket: OwnedFd, phase: Phase) -> Self {
        let outbox = Outbox::default();
        Self { socket, watched: Interest::NONE, phase, outbox, input_done: false, gone: false }
    }

    /// What it is attached to.
    pub(crate) fn attachment(&self) -> Option<Attachment> {
        match self.phase {
            Phase::Attached(attachment) => Some(attachment),
            _ => None,
        }
    }

    /// Whether it is part of the streams of `unit`.
    pub(crate) fn is_attached_to(&self, unit: u32) -> bool {
        self.attachment().is_some_and(|attachment| attachment.unit == unit)
    }

    /// Whether it feeds the stdin of `unit`.
    pub(crate) fn feeds(&self, unit: u32) -> bool {
        self.attachment().is_some_and(|attached| attached.unit == unit && attached.streams.stdin)
    }

    /// Whether it holds so much that its process must wait.
    pub(crate) fn is_full(&self) -> bool {
        self.outbox.len() > LIMIT_BYTES
    }

    /// Reads more of the request, and never a byte beyond it.
    pub(crate) fn read_request(&mut self) -> Progress {
        let Phase::Request(have) = &mut self.phase else {
            return Progress::Broken;
        };
        loop {
            let needed = match have.first_chunk::<HEADER_BYTES>().copied().map(frame::decode_length)
            {
                None => HEADER_BYTES,
                Some(Ok(length)) if have.len() == HEADER_BYTES + length => {
                    return Progress::Complete(have.split_off(HEADER_BYTES));
                }
                Some(Ok(length)) => HEADER_BYTES + length,
                Some(Err(_)) => return Progress::Broken,
            };
            let start = have.len();
            have.resize(needed.min(start + PIECE_BYTES), 0);
            let got = event::read_some(&self.socket, &mut have[start..]);
            have.truncate(start + got.ok().flatten().unwrap_or(0));
            match got {
                Ok(Some(1..)) => {}
                Ok(None) => return Progress::Partial,
                Ok(Some(0)) | Err(_) => return Progress::Broken,
            }
        }
    }

    /// Sends an answer.
    pub(crate) fn say(&mut self, reply: &Reply) {
        match frame::encode(reply) {
            Ok(frame) => self.send(&[], &frame),
            Err(_) => self.lose(),
        }
    }

    /// Sends output, if this client wants that stream.
    pub(crate) fn output(&mut self, stream: Stream, bytes: &[u8]) {
        let Some(Attachment { streams, framed, .. }) = self.attachment() else {
            return;
        };
        let wanted = match stream {
            Stream::Stdout => streams.stdout,
            Stream::Stderr => streams.stderr,
        };
        if wanted && framed {
            self.send(&frame::output_header(stream.number(), bytes.len() as u32), bytes);
        } else if wanted {
            self.send(&[], bytes);
        }
    }

    /// Sends what waits.
    pub(crate) fn flush(&mut self) {
        if !self.gone && self.outbox.flush(&self.socket).is_err() {
            self.lose();
        }
    }

    /// It can no longer be written to.
    pub(crate) fn lose(&mut self) {
        self.gone = true;
        self.outbox.clear();
    }

    /// Reads input into `buffer`: how much, 0 at its end; `None` when nothing is there now.
    pub(crate) fn read_input(&mut self, buffer: &mut [u8]) -> Option<usize> {
        match event::read_some(&self.socket, buffer) {
            Ok(None) => None,
            Ok(Some(count)) if count > 0 => Some(count),
            Ok(Some(_)) | Err(_) => {
                self.input_done = true;
                Some(0)
            }
        }
    }

    /// Closes so that the client reads an end, not a reset, which the kernel makes of input never read.
    pub(crate) fn close(self) {
        let _ = dhow_sys::rustix::net::shutdown(self.socket.as_fd(), Shutdown::Both);
        let mut rest = [0; 4096];
        let mut left = REST_BYTES;
        while let Ok(Some(count @ 1..)) = event::read_some(&self.socket, &mut rest) {
            left = left.saturating_sub(count);
            if left == 0 {
                break;
            }
        }
    }

    fn send(&mut self, head: &[u8], body: &[u8]) {
        if self.gone {
            return;
        }
        if self.outbox.push(&self.socket, head, body).is_err() {
            self.lose();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::os::unix::net::UnixStream;

    use proptest::prelude::*;

    use super::*;
    use crate::protocol::Request;

    fn connection() -> (Connection, UnixStream) {
        let (ours, theirs) = UnixStream::pair().unwrap();
        ours.set_nonblocking(true).unwrap();
        (Connection::new(ours.into(), Phase::Request(Vec::new())), theirs)
    }

    proptest! {
        #[test]
        fn a_request_in_pieces_is_read_to_its_end_and_no_further(
            filler in 0_usize..60_000,
            pieces in proptest::collection::vec(1_usize..20_000, 1..8),
        ) {
            let (mut connection, mut client) = connection();
            let exec = Some("x".repeat(filler));
            let mut bytes = frame::encode(&Request::Wait { exec }).unwrap();
            let payload = bytes[HEADER_BYTES..].to_vec();
            bytes.extend_from_slice(b"stdin");
            let (mut rest, mut pieces, mut got) = (bytes.as_slice(), pieces.into_iter().cycle(), None);
            while !rest.is_empty() {
                let (piece, tail) = rest.split_at(pieces.next().unwrap().min(rest.len()));
                client.write_all(piece).unwrap();
                rest = tail;
                if got.is_none() {
                    match connection.read_request() {
                        Progress::Partial => {}
                        Progress::Complete(payload) => got = Some(payload),
                        Progress::Broken => prop_assert!(false, "broken"),
                    }
                }
            }
            prop_assert_eq!(got, Some(payload));
            let mut after = [0; 16];
            prop_assert_eq!(connection.read_input(&mut after), Some(5));
            prop_assert_eq!(&after[..5], b"stdin");
        }

        #[test]
        fn hostile_bytes_end_or_wait(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            let (mut connection, mut client) = connection();
            client.write_all(&bytes).unwrap();
            drop(client);
            let progress = connection.read_request();
            prop_assert!(!matches!(progress, Progress::Partial), "the client is gone");
        }
    }

    #[test]
    fn a_client_whose_input_was_never_read_sees_an_end_not_a_reset() {
        use std::io::Read;
        let (connection, mut client) = connection();
        client.write_all(b"never read").unwrap();
        connection.close();
        assert_eq!(client.read(&mut [0; 8]).unwrap(), 0);
    }
}
