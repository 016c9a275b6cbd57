//! Bodies of requests: nothing, some bytes, or a part of a file that is read while it is sent.
//!
//! A file is read by a thread that blocks, a few pieces ahead of the network. A body can be made again
//! from its [`Content`], because a request may have to be made twice (a token that has run out, a redirect
//! that keeps the method).

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};

use bytes::Bytes;
use hyper::body::{Body, Frame, SizeHint};
use tokio::sync::mpsc;

/// The length of a piece.
const PIECE: u64 = 256 << 10;
/// How many pieces lie ready.
const PIECES_WAITING: usize = 4;

/// What a request carries.
#[derive(Debug, Clone, Default)]
pub(crate) enum Content {
    #[default]
    Nothing,
    Bytes(Bytes),
    Part(Part),
}

/// A part of a file.
#[derive(Debug, Clone)]
pub(crate) struct Part {
    pub(crate) file: Arc<File>,
    /// Where it begins, in bytes.
    pub(crate) from: u64,
    /// Its length in bytes.
    pub(crate) length: u64,
    /// How many bytes of the whole file have gone out: for whoever shows progress.
    pub(crate) sent: Arc<AtomicU64>,
}

/// A body that is being sent.
#[derive(Debug)]
pub(super) struct Sending {
    left: u64,
    source: Source,
}

#[derive(Debug)]
enum Source {
    Bytes(Option<Bytes>),
    Pieces { pieces: mpsc::Receiver<io::Result<Bytes>>, sent: Arc<AtomicU64> },
}

impl Content {
    /// Its length in bytes.
    pub(crate) fn length(&self) -> u64 {
        match self {
            Self::Nothing => 0,
            Self::Bytes(bytes) => bytes.len() as u64,
            Self::Part(part) => part.length,
        }
    }

    /// How many bytes have gone out; none where it is not counted.
    pub(super) fn sent(&self) -> Option<Arc<AtomicU64>> {
        match self {
            Self::Part(part) => Some(Arc::clone(&part.sent)),
            _ => None,
        }
    }

    /// The body, from its beginning.
    pub(super) fn body(&self) -> Sending {
        let source = match self {
            Self::Nothing => Source::Bytes(None),
            Self::Bytes(bytes) => Source::Bytes(Some(bytes.clone()).filter(|it| !it.is_empty())),
            Self::Part(part) => part.read(),
        };
        Sending { left: self.length(), source }
    }
}

impl Part {
    fn read(&self) -> Source {
        let (sender, pieces) = mpsc::channel(PIECES_WAITING);
        let (file, mut at, end) = (Arc::clone(&self.file), self.from, self.from + self.length);
        self.sent.store(at, Ordering::Relaxed);
        tokio::task::spawn_blocking(move || {
            while at < end {
                let mut piece = vec![0; (end - at).min(PIECE) as usize];
                let read = file.read_exact_at(&mut piece, at).map(|()| Bytes::from(piece));
                let failed = read.is_err();
                if sender.blocking_send(read).is_err() || failed {
                    return;
                }
                at += (end - at).min(PIECE);
            }
        });
        Source::Pieces { pieces, sent: Arc::clone(&self.sent) }
    }
}

impl Body for Sending {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        let piece = match &mut self.source {
            Source::Bytes(bytes) => bytes.take().map(Ok),
            Source::Pieces { pieces, sent } => {
                let piece = std::task::ready!(pieces.poll_recv(context));
                if let Some(Ok(piece)) = &piece {
                    sent.fetch_add(piece.len() as u64, Ordering::Relaxed);
                }
                piece
            }
        };
        if let Some(Ok(piece)) = &piece {
            self.left = self.left.saturating_sub(piece.len() as u64);
        }
        Poll::Ready(piece.map(|piece| piece.map(Frame::data)))
    }

    fn is_end_stream(&self) -> bool {
        self.left == 0
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left)
    }
}
