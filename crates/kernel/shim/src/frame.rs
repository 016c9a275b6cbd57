//! How messages lie on a socket: a little-endian u32 length, then that many bytes of JSON.
//!
//! The bytes come from another process: a length is checked before anything is allocated for it, and the
//! JSON parser is serde's, with its recursion limit. Nothing here reads past the frame's end, since raw
//! stdin may follow it on the same stream.

use std::io::{Read, Write};

use dhow_error::{Classify, Kind};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// The largest payload of a frame, in bytes.
pub const MAX_FRAME_BYTES: usize = 4 << 20;
/// The length that stands before a payload, in bytes.
pub const HEADER_BYTES: usize = 4;

/// Why a frame cannot be written or read.
#[derive(Debug, thiserror::Error)]
pub enum FrameError {
    /// The payload is larger than [`MAX_FRAME_BYTES`].
    #[error("message of {0} bytes is larger than the limit of {MAX_FRAME_BYTES}")]
    TooLarge(usize),
    /// The payload is not the message that was expected.
    #[error("malformed message")]
    Malformed(#[source] serde_json::Error),
    /// The stream failed or ended inside a frame.
    #[error("cannot transfer message")]
    Io(#[source] std::io::Error),
}

impl Classify for FrameError {
    fn kind(&self) -> Kind {
        match self {
            Self::TooLarge(_) | Self::Malformed(_) => Kind::Invalid,
            Self::Io(_) => Kind::Unavailable,
        }
    }
}

/// `message` as a frame, header included.
pub fn encode<T: Serialize>(message: &T) -> Result<Vec<u8>, FrameError> {
    let mut frame = vec![0; HEADER_BYTES];
    serde_json::to_writer(&mut frame, message).map_err(FrameError::Malformed)?;
    let length = frame.len() - HEADER_BYTES;
    match u32::try_from(length) {
        Ok(header) if length <= MAX_FRAME_BYTES => {
            frame[..HEADER_BYTES].copy_from_slice(&header.to_le_bytes());
            Ok(frame)
        }
        _ => Err(FrameError::TooLarge(length)),
    }
}

/// The length of the payload that follows `header`.
pub fn decode_length(header: [u8; HEADER_BYTES]) -> Result<usize, FrameError> {
    let length = u32::from_le_bytes(header) as usize;
    if length > MAX_FRAME_BYTES { Err(FrameError::TooLarge(length)) } else { Ok(length) }
}

/// The message in a payload (without its header).
pub fn decode<T: DeserializeOwned>(payload: &[u8]) -> Result<T, FrameError> {
    serde_json::from_slice(payload).map_err(FrameError::Malformed)
}

/// Write `message` as one frame.
pub fn write<T: Serialize>(stream: &mut impl Write, message: &T) -> Result<(), FrameError> {
    stream.write_all(&encode(message)?).map_err(FrameError::Io)
}

/// Read one frame. `None` when the stream ends before its first byte.
pub fn read<T: DeserializeOwned>(stream: &mut impl Read) -> Result<Option<T>, FrameError> {
    let mut header = [0; HEADER_BYTES];
    let mut have = 0;
    while have < HEADER_BYTES {
        match stream.read(&mut header[have..]) {
            Ok(0) if have == 0 => return Ok(None),
            Ok(0) => return Err(FrameError::Io(std::io::ErrorKind::UnexpectedEof.into())),
            Ok(count) => have += count,
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) => return Err(FrameError::Io(error)),
        }
    }
    let mut payload = Vec::new();
    let length = decode_length(header)?;
    stream.take(length as u64).read_to_end(&mut payload).map_err(FrameError::Io)?;
    if payload.len() < length {
        return Err(FrameError::Io(std::io::ErrorKind::UnexpectedEof.into()));
    }
    decode(&payload).map(Some)
}

/// The header of one piece of output on a connection without a terminal, as Docker has it: the stream (1
/// stdout, 2 stderr), three zeros, the length of what follows in big endian.
pub fn output_header(stream: u8, length: u32) -> [u8; 8] {
    let [a, b, c, d] = length.to_be_bytes();
    [stream, 0, 0, 0, a, b, c, d]
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::protocol::{Exit, Reply, Request};

    #[test]
    fn a_frame_comes_back_and_nothing_after_it_is_read() {
        let reply =
            Reply::Exited(Exit { code: 137, signal: Some(9), oom_killed: true, finished_at_ns: 5 });
        let mut bytes = encode(&reply).unwrap();
        bytes.extend_from_slice(b"stdin");
        let mut stream = bytes.as_slice();
        assert_eq!(read::<Reply>(&mut stream).unwrap(), Some(reply));
        assert_eq!(stream, b"stdin");
    }

    #[test]
    fn a_large_length_is_refused_before_anything_is_read() {
        let mut stream: &[u8] = &[0xff; 64];
        assert!(matches!(read::<Request>(&mut stream), Err(FrameError::TooLarge(_))));
        assert_eq!(stream.len(), 60);
    }

    #[test]
    fn a_cut_frame_is_an_error_and_no_frame_is_none() {
        let bytes = encode(&Reply::Ok).unwrap();
        for end in 1..bytes.len() {
            assert!(read::<Reply>(&mut &bytes[..end]).is_err(), "cut at {end}");
        }
        assert!(read::<Reply>(&mut [].as_slice()).unwrap().is_none());
    }

    #[test]
    fn optional_fields_may_be_absent_and_unknown_ones_are_ignored() {
        let request: Request =
            decode(br#"{"Attach":{"streams":{"stdout":true},"later":1}}"#).unwrap();
        assert!(matches!(request, Request::Attach { exec: None, streams } if streams.stdout));
    }

    proptest! {
        #[test]
        fn hostile_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..512)) {
            let _ = read::<Request>(&mut bytes.as_slice());
            let _ = read::<Reply>(&mut bytes.as_slice());
        }

        #[test]
        fn hostile_payloads_never_panic(text in "[\\[{\"a-zA-Z:,0-9}\\]]{0,256}") {
            let mut frame = (text.len() as u32).to_le_bytes().to_vec();
            frame.extend_from_slice(text.as_bytes());
            let _ = read::<Request>(&mut frame.as_slice());
        }
    }
}
