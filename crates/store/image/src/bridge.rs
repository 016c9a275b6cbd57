//! A pipe from async code to code that reads: bodies of HTTP messages into archives and ingests.
//!
//! Bounded by chunks, so that a fast sender waits for a slow disk. The reader sees the end only if the
//! sender said so; a sender that is dropped (its client went away) is an error, never a short file.

use std::io::{self, Read};

use bytes::{Buf, Bytes};
use tokio::sync::mpsc;

/// A pipe that holds at most `chunks` chunks.
pub fn bridge(chunks: usize) -> (BridgeWriter, BridgeReader) {
    let (sender, receiver) = mpsc::channel(chunks.max(1));
    (BridgeWriter(sender), BridgeReader { receiver, chunk: Bytes::new(), ended: false })
}

/// The async end.
#[derive(Debug)]
pub struct BridgeWriter(mpsc::Sender<Message>);

/// The reading end, for a thread that may block.
#[derive(Debug)]
pub struct BridgeReader {
    receiver: mpsc::Receiver<Message>,
    chunk: Bytes,
    ended: bool,
}

/// The reader is gone, so there is no use in sending on. What it says is the true error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReaderGone;

#[derive(Debug)]
enum Message {
    Chunk(Bytes),
    End,
    Failed(io::Error),
}

impl BridgeWriter {
    /// Sends a chunk, waiting for room.
    pub async fn send(&self, chunk: Bytes) -> Result<(), ReaderGone> {
        self.0.send(Message::Chunk(chunk)).await.map_err(|_| ReaderGone)
    }

    /// Says that all was sent.
    pub async fn finish(self) -> Result<(), ReaderGone> {
        self.0.send(Message::End).await.map_err(|_| ReaderGone)
    }

    /// Makes the reader fail.
    pub async fn fail(self, error: io::Error) {
        let _ = self.0.send(Message::Failed(error)).await;
    }
}

impl BridgeReader {
    /// The next chunk as it was sent, or none at the end. Blocks.
    pub fn next_chunk(&mut self) -> io::Result<Option<Bytes>> {
        if !self.chunk.is_empty() {
            return Ok(Some(std::mem::take(&mut self.chunk)));
        }
        if self.ended {
            return Ok(None);
        }
        match self.receiver.blocking_recv() {
            Some(Message::Chunk(chunk)) => Ok(Some(chunk)),
            Some(Message::End) => {
                self.ended = true;
                Ok(None)
            }
            Some(Message::Failed(error)) => Err(error),
            None => Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the sender went away")),
        }
    }
}

impl Read for BridgeReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.chunk.is_empty() {
            match self.next_chunk()? {
                Some(chunk) => self.chunk = chunk,
                None => return Ok(0),
            }
        }
        let count = self.chunk.len().min(buffer.len());
        self.chunk.copy_to_slice(&mut buffer[..count]);
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn reads_what_was_sent_and_nothing_less() {
        let (writer, mut reader) = bridge(1);
        let read = tokio::task::spawn_blocking(move || {
            let mut text = String::new();
            reader.read_to_string(&mut text).map(|_| text)
        });
        writer.send(Bytes::from_static(b"hello ")).await.unwrap();
        writer.send(Bytes::from_static(b"there")).await.unwrap();
        writer.finish().await.unwrap();
        assert_eq!(read.await.unwrap().unwrap(), "hello there");
    }

    #[tokio::test]
    async fn a_sender_that_vanishes_is_an_error() {
        let (writer, mut reader) = bridge(2);
        writer.send(Bytes::from_static(b"half")).await.unwrap();
        drop(writer);
        let read = tokio::task::spawn_blocking(move || reader.read_to_end(&mut Vec::new()));
        assert_eq!(read.await.unwrap().unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
    }
}
