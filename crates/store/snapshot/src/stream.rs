//! The uncompressed stream of a layer, with its digest and its limits.
//!
//! ```text
//!   reader ─► count ─► inflate ─(128 KiB pieces, at most 4 waiting)─► limits ─► archive
//!   └────────── own thread ──────────┘                                └─ caller's thread
//! ```
//!
//! Inflating and writing overlap. The digest is computed where there is less to do: beside the writing for
//! gzip, which is slow to inflate, else beside the reading.

use std::io::{self, BufRead, BufReader, Cursor, Read};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};
use std::thread;

use dhow_spec::{Digest, Hasher};

use crate::unpack::Limits;

const PIECE: usize = 128 << 10;
const PIECES_WAITING: usize = 4;
/// The largest window of zstd that is taken, as a power of two: what its own tool takes, 128 MiB.
const ZSTD_WINDOW: u32 = 27;

/// A failure of what the layer is read from, rather than of the layer.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
pub(crate) struct SourceError(pub(crate) io::Error);

/// The uncompressed stream.
#[derive(Debug)]
pub(crate) struct Stream<'a> {
    full: Receiver<io::Result<Vec<u8>>>,
    empty: Sender<Vec<u8>>,
    piece: Vec<u8>,
    at: usize,
    hasher: Option<Hasher>,
    total: u64,
    /// Whether there is no way to the end of the stream any more.
    has_failed: bool,
    compressed: Arc<AtomicU64>,
    limits: &'a Limits,
}

/// Runs `work` on the uncompressed stream of `reader`, and returns what it returns with the digest of the
/// whole stream. What `work` leaves unread is read to the end, unless it gave up.
pub(crate) fn with_stream<T>(
    mut reader: impl Read + Send,
    limits: &Limits,
    work: impl FnOnce(&mut Stream<'_>) -> T,
) -> io::Result<(T, io::Result<Digest>)> {
    let mut magic = Vec::with_capacity(8);
    reader.by_ref().take(8).read_to_end(&mut magic).map_err(from_source)?;
    let compression = Compression::of(&magic)?;
    let compressed = Arc::new(AtomicU64::new(0));
    let counted = Counted { reader: Cursor::new(magic).chain(reader), count: compressed.clone() };
    let source = BufReader::with_capacity(PIECE, counted);

    let (full_sender, full) = sync_channel(PIECES_WAITING);
    let (empty, empty_receiver) = channel();
    let hash_here = compression == Compression::Gzip;
    let hasher = |wanted: bool| wanted.then(Hasher::default);
    thread::scope(|scope| {
        let inflater = thread::Builder::new()
            .name("layer-inflate".to_owned())
            .spawn_scoped(scope, move || {
                inflate(source, compression, &full_sender, &empty_receiver, hasher(!hash_here))
            })?;
        let mut stream = Stream {
            full,
            empty,
            piece: Vec::new(),
            at: 0,
            hasher: hasher(hash_here),
            total: 0,
            has_failed: false,
            compressed,
            limits,
        };
        let result = work(&mut stream);
        let drained = stream.drain();
        let hashed_here = stream.hasher.take();
        // The inflater ends when nobody takes its pieces.
        drop(stream);
        let hashed_there =
            inflater.join().map_err(|_| io::Error::other("the inflating thread has panicked"))?;
        let digest = drained.map(|()| hashed_here.or(hashed_there).unwrap_or_default().finish());
        Ok((result, digest))
    })
}

impl Stream<'_> {
    /// Says that the rest of the stream is of no use.
    pub(crate) fn give_up(&mut self) {
        self.has_failed = true;
    }

    fn drain(&mut self) -> io::Result<()> {
        loop {
            if self.has_failed {
                return Err(io::Error::other("the stream has failed before"));
            }
            let length = self.fill_buf()?.len();
            if length == 0 {
                return Ok(());
            }
            self.consume(length);
        }
    }

    /// Takes the next piece; at the end the last one stays.
    fn next_piece(&mut self) -> io::Result<()> {
        // The channel is closed when everything has come.
        let Ok(piece) = self.full.recv() else { return Ok(()) };
        let used = std::mem::replace(&mut self.piece, piece?);
        self.at = 0;
        // The inflater may have ended; then nobody needs the buffer.
        let _ = self.empty.send(used);
        self.account(self.piece.len())?;
        if let Some(hasher) = &mut self.hasher {
            hasher.update(&self.piece);
        }
        Ok(())
    }

    /// Counts a new piece against the limits.
    fn account(&mut self, length: usize) -> io::Result<()> {
        self.total += length as u64;
        let too_much = |message| Err(io::Error::new(io::ErrorKind::FileTooLarge, message));
        if self.total > self.limits.size_bytes {
            return too_much(format!("it unpacks to more than {} bytes", self.limits.size_bytes));
        }
        let expanded =
            self.compressed.load(Ordering::Relaxed).saturating_mul(self.limits.expansion);
        if self.total > self.limits.expansion_from_bytes && self.total > expanded {
            return too_much(format!("it expands more than {} times", self.limits.expansion));
        }
        Ok(())
    }
}

impl BufRead for Stream<'_> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if self.at == self.piece.len() {
            if self.has_failed {
                return Err(io::Error::other("the stream has failed before"));
            }
            if let Err(error) = self.next_piece() {
                self.has_failed = true;
                return Err(error);
            }
        }
        Ok(self.piece.get(self.at..).unwrap_or_default())
    }

    fn consume(&mut self, length: usize) {
        self.at = (self.at + length).min(self.piece.len());
    }
}

impl Read for Stream<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let piece = self.fill_buf()?;
        let length = piece.len().min(buffer.len());
        if let (Some(target), Some(source)) = (buffer.get_mut(..length), piece.get(..length)) {
            target.copy_from_slice(source);
        }
        self.consume(length);
        Ok(length)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Compression {
    Plain,
    Gzip,
    Zstd,
}

impl Compression {
    /// What the first bytes tell (RFC 1952, RFC 8878).
    fn of(magic: &[u8]) -> io::Result<Self> {
        let unsupported = |name: &str| {
            Err(io::Error::new(
                io::ErrorKind::InvalidData,
                format!("it is compressed by {name}; gzip, zstd and plain archives are supported"),
            ))
        };
        match magic {
            [0x1f, 0x8b, ..] => Ok(Self::Gzip),
            // The second is a skippable frame, which may come first.
            [0x28, 0xb5, 0x2f, 0xfd, ..] | [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..] => Ok(Self::Zstd),
            [0xfd, b'7', b'z', b'X', b'Z', 0, ..] => unsupported("xz"),
            [b'B', b'Z', b'h', b'1'..=b'9', 0x31, 0x41, ..] => unsupported("bzip2"),
            _ => Ok(Self::Plain),
        }
    }

    fn reader<'a>(self, source: impl BufRead + Send + 'a) -> io::Result<Box<dyn Read + 'a>> {
        Ok(match self {
            Self::Plain => Box::new(source),
            Self::Gzip => Box::new(flate2::bufread::MultiGzDecoder::new(source)),
            Self::Zstd => {
                let mut decoder = zstd::Decoder::with_buffer(source)?;
                decoder.window_log_max(ZSTD_WINDOW)?;
                Box::new(decoder)
            }
        })
    }
}

/// The inflating thread: pieces until the end, an error, or nobody wants more.
fn inflate(
    source: impl BufRead + Send,
    compression: Compression,
    full: &SyncSender<io::Result<Vec<u8>>>,
    empty: &Receiver<Vec<u8>>,
    mut hasher: Option<Hasher>,
) -> Option<Hasher> {
    let mut reader = match compression.reader(source) {
        Ok(reader) => reader,
        Err(error) => {
            let _ = full.send(Err(error));
            return None;
        }
    };
    loop {
        let mut piece = empty.try_recv().unwrap_or_default();
        piece.clear();
        piece.reserve_exact(PIECE);
        let read = reader.by_ref().take(PIECE as u64).read_to_end(&mut piece);
        if let Err(error) = read {
            let _ = full.send(Err(error));
            return None;
        }
        if piece.is_empty() {
            return hasher;
        }
        if let Some(hasher) = &mut hasher {
            hasher.update(&piece);
        }
        if full.send(Ok(piece)).is_err() {
            return None;
        }
    }
}

/// Counts what is read, and marks errors as the source's.
struct Counted<R> {
    reader: R,
    count: Arc<AtomicU64>,
}

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let length = self.reader.read(buffer).map_err(from_source)?;
        self.count.fetch_add(length as u64, Ordering::Relaxed);
        Ok(length)
    }
}

fn from_source(error: io::Error) -> io::Error {
    // Readers try again by themselves.
    if error.kind() == io::ErrorKind::Interrupted {
        return error;
    }
    io::Error::new(error.kind(), SourceError(error))
}
