//! A container's or exec's streams, joined with ours: input, output, terminal size, signals.

mod keys;

use std::io::Write;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use bytes::Bytes;
use dhow_docker_wire::frame::{HEADER_BYTES, Header, Stream};
use hyper::Method;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{mpsc, oneshot};

use crate::client::{Body, Client, Hijacked};
use crate::failure::Failure;
use crate::terminal;

pub(crate) use keys::DetachKeys;

/// What is joined.
#[derive(Debug, Clone)]
pub(crate) struct Joined {
    /// What we read goes into the stream.
    pub(crate) stdin: bool,
    /// The stream is a terminal's: one, without frames.
    pub(crate) tty: bool,
    /// What a person types to leave a terminal.
    pub(crate) keys: DetachKeys,
}

/// How a stay ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ended {
    /// The daemon closed its side: the process has ended.
    Closed,
    /// The person typed the keys that detach.
    Detached,
}

/// Whether a verb passes signals on, so that ctrl-C does not end us.
static PASSED_ON: AtomicBool = AtomicBool::new(false);

/// Whether a verb passes signals on, so that ctrl-C does not end us.
pub(crate) fn signals_are_passed_on() -> bool {
    PASSED_ON.load(Ordering::Relaxed)
}

/// Joins our streams with the daemon's until it closes its side, or the person detaches.
pub(crate) async fn join(stream: Hijacked, joined: Joined) -> Result<Ended, Failure> {
    let _raw = if joined.tty && joined.stdin { terminal::raw() } else { None };
    let (mut reader, writer) = tokio::io::split(stream);
    let (detach, detached) = oneshot::channel();
    if joined.stdin {
        let keys = joined.tty.then_some(joined.keys);
        tokio::spawn(send_input(writer, keys, detach));
    }
    let copy = async {
        match joined.tty {
            true => copy_raw(&mut reader).await,
            false => copy_frames(&mut reader).await,
        }
    };
    tokio::select! {
        copied = copy => copied.map(|()| Ended::Closed),
        Ok(()) = detached => Ok(Ended::Detached),
    }
}

/// Sends what we read until it ends, or until the keys that detach are typed.
async fn send_input(
    mut writer: impl AsyncWriteExt + Unpin,
    mut keys: Option<DetachKeys>,
    detach: oneshot::Sender<()>,
) {
    let mut input = read_input();
    while let Some(piece) = input.recv().await {
        let (piece, leaves) = match &mut keys {
            Some(keys) => keys.pass(&piece),
            None => (piece.to_vec(), false),
        };
        if writer.write_all(&piece).await.is_err() {
            return;
        }
        if leaves {
            // Nobody listens any more if the stream has just ended.
            let _ = detach.send(());
            return;
        }
    }
    // Half close: the process sees the end of its input and may go on writing.
    let _ = writer.shutdown().await;
}

/// Standard input, read by a thread, since a read of it cannot be given up.
fn read_input() -> mpsc::Receiver<Bytes> {
    use std::io::Read;
    let (sender, receiver) = mpsc::channel(4);
    std::thread::spawn(move || {
        let mut buffer = vec![0; 32 << 10];
        let mut stdin = std::io::stdin().lock();
        while let Ok(length @ 1..) = stdin.read(&mut buffer) {
            let piece = Bytes::copy_from_slice(buffer.get(..length).unwrap_or_default());
            if sender.blocking_send(piece).is_err() {
                return;
            }
        }
    });
    receiver
}

async fn copy_raw(reader: &mut (impl AsyncReadExt + Unpin)) -> Result<(), Failure> {
    let mut buffer = vec![0; 32 << 10];
    loop {
        let length = reader.read(&mut buffer).await?;
        if length == 0 {
            return Ok(());
        }
        write(&mut std::io::stdout().lock(), buffer.get(..length).unwrap_or_default())?;
    }
}

/// Copies multiplexed frames to where each belongs.
pub(crate) async fn copy_frames(reader: &mut (impl AsyncReadExt + Unpin)) -> Result<(), Failure> {
    let mut buffer = vec![0; 32 << 10];
    loop {
        let mut header = [0; HEADER_BYTES];
        match reader.read_exact(&mut header).await {
            Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => return Ok(()),
            other => other?,
        };
        let header = Header::decode(header).map_err(anyhow::Error::from)?;
        let mut left = header.length_bytes as usize;
        while left > 0 {
            let room = left.min(buffer.len());
            let length = reader.read(buffer.get_mut(..room).unwrap_or_default()).await?;
            if length == 0 {
                return Err(Failure::new("the daemon broke the stream off"));
            }
            left -= length;
            let piece = buffer.get(..length).unwrap_or_default();
            match header.stream {
                Stream::Stderr | Stream::System => write(&mut std::io::stderr().lock(), piece)?,
                Stream::Stdin | Stream::Stdout => write(&mut std::io::stdout().lock(), piece)?,
            }
        }
    }
}

/// Writes and flushes; a reader that has gone away ends us silently, as it would end `cat`.
pub(crate) fn write(target: &mut impl Write, bytes: &[u8]) -> Result<(), Failure> {
    match target.write_all(bytes).and_then(|()| target.flush()) {
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Err(Failure::silent(141)),
        Err(error) => Err(Failure::new(format!("cannot write what there is to print: {error}"))),
        Ok(()) => Ok(()),
    }
}

/// Keeps the terminal behind `path` (`/containers/ID/resize` or `/exec/ID/resize`) as large as ours,
/// until dropped. The first size is sent at once.
pub(crate) fn follow_size(client: &Client, path: &str) -> Result<Task, Failure> {
    let mut changed = signal(SignalKind::window_change())?;
    let (client, path) = (client.clone(), path.to_owned());
    Ok(Task(tokio::spawn(async move {
        loop {
            if let Some((rows, columns)) = terminal::size() {
                let path = format!("{path}?h={rows}&w={columns}");
                // The process may have ended already.
                let _ = client.send(Method::POST, &path, Body::empty()).await;
            }
            changed.recv().await;
        }
    })))
}

/// Passes signals that we get on to container `id`, until dropped.
pub(crate) fn pass_signals_on(client: &Client, id: &str) -> Result<Task, Failure> {
    const PASSED: [(i32, &str); 7] = [
        (1, "HUP"),
        (2, "INT"),
        (3, "QUIT"),
        (10, "USR1"),
        (12, "USR2"),
        (15, "TERM"),
        (18, "CONT"),
    ];
    PASSED_ON.store(true, Ordering::Relaxed);
    let mut waiting = Vec::new();
    for (number, name) in PASSED {
        let listener = signal(SignalKind::from_raw(number))?;
        waiting.push(tokio::spawn(pass_on(listener, name, client.clone(), id.to_owned())));
    }
    Ok(Task(tokio::spawn(async move {
        for task in waiting {
            let _ = task.await;
        }
    })))
}

/// After so many requests to end that the container did not follow, we end alone, as docker does.
const PATIENCE: usize = 3;

async fn pass_on(mut listener: Signal, name: &'static str, client: Client, id: String) {
    static ASKED: AtomicUsize = AtomicUsize::new(0);
    while listener.recv().await.is_some() {
        if matches!(name, "INT" | "TERM") && ASKED.fetch_add(1, Ordering::Relaxed) + 1 == PATIENCE {
            Failure::new(format!("asked to end {PATIENCE} times; the container runs on"))
                .with_hint(format!("end it with dhow kill {}", id.get(..12).unwrap_or(&id)))
                .print();
            std::process::exit(1);
        }
        // A container that has ended needs no signal.
        let _ = client.command(&format!("/containers/{id}/kill?signal={name}")).await;
    }
}

/// Work in the background that ends when this is dropped.
#[derive(Debug)]
pub(crate) struct Task(tokio::task::JoinHandle<()>);

impl Drop for Task {
    fn drop(&mut self) {
        self.0.abort();
    }
}
