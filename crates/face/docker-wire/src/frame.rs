//! The multiplexed stream of logs, attach and exec when there is no terminal.
//!
//! ```text
//!   byte 0      1 2 3      4 5 6 7            8 ...
//!   stream      0 0 0      length, u32 BE     that many bytes of payload
//! ```
//!
//! With a terminal there is one stream and no framing.

use std::error::Error;
use std::fmt;

/// How long a header is, in bytes.
pub const HEADER_BYTES: usize = 8;

/// What a response of this format says in `Content-Type`.
pub const MULTIPLEXED: &str = "application/vnd.docker.multiplexed-stream";

/// What a response without framing says in `Content-Type`.
pub const RAW: &str = "application/vnd.docker.raw-stream";

/// Which stream a frame belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Stream {
    /// Never sent by a server; reserved for what clients type.
    Stdin = 0,
    /// Standard output.
    Stdout = 1,
    /// Standard error.
    Stderr = 2,
    /// An error of the server itself, as text.
    System = 3,
}

/// The header before each payload.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Header {
    /// Which stream the payload belongs to.
    pub stream: Stream,
    /// How long the payload is, in bytes.
    pub length_bytes: u32,
}

impl Header {
    /// The header's bytes.
    pub fn encode(self) -> [u8; HEADER_BYTES] {
        let [a, b, c, d] = self.length_bytes.to_be_bytes();
        [self.stream as u8, 0, 0, 0, a, b, c, d]
    }

    /// Reads a header.
    ///
    /// # Errors
    /// [`NotAFrame`] if the first four bytes are none that a server writes.
    pub fn decode(bytes: [u8; HEADER_BYTES]) -> Result<Self, NotAFrame> {
        let [stream, padding @ .., a, b, c, d] = bytes;
        let stream = match stream {
            0 => Stream::Stdin,
            1 => Stream::Stdout,
            2 => Stream::Stderr,
            3 => Stream::System,
            _ => return Err(NotAFrame),
        };
        if padding != [0; 3] {
            return Err(NotAFrame);
        }
        Ok(Self { stream, length_bytes: u32::from_be_bytes([a, b, c, d]) })
    }
}

/// The bytes are not the header of a frame: the stream is not multiplexed, or reading it got out of
/// step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NotAFrame;

impl fmt::Display for NotAFrame {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("not the header of a multiplexed stream")
    }
}

impl Error for NotAFrame {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_survive_the_wire() {
        let header = Header { stream: Stream::Stderr, length_bytes: 0x0102_0304 };
        assert_eq!(header.encode(), [2, 0, 0, 0, 1, 2, 3, 4]);
        assert_eq!(Header::decode(header.encode()), Ok(header));
        assert_eq!(Header::decode(*b"plain te"), Err(NotAFrame));
        assert_eq!(Header::decode([1, 0, 9, 0, 0, 0, 0, 1]), Err(NotAFrame));
    }
}
