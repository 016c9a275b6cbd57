//! A client's connection to the streams of a container or exec.
//!
//! What is read: with a terminal its raw bytes, else Docker's multiplexed frames (an 8-byte header: stream
//! 1 or 2, three zeros, the length as a big-endian u32). What is written goes to standard input; shutting
//! the write side down closes it. The end of the stream comes after the process has ended and all of its
//! output was delivered. The bytes come from the shim directly; the engine does not touch them.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::UnixStream;

/// A client that is attached.
#[derive(Debug)]
pub struct Attached {
    /// Whether the stream is a terminal's raw bytes; else it is multiplexed.
    pub tty: bool,
    /// The bytes.
    pub stream: AttachStream,
}

/// The bytes of an attached client.
#[derive(Debug)]
pub struct AttachStream(UnixStream);

impl AttachStream {
    /// Wraps a socket of the shim.
    pub(crate) fn new(stream: UnixStream) -> Self {
        Self(stream)
    }

    /// The socket itself, for splitting without a lock.
    pub fn into_inner(self) -> UnixStream {
        self.0
    }
}

impl AsyncRead for AttachStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buf)
    }
}

impl AsyncWrite for AttachStream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}
