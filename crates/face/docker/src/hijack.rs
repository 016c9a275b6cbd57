//! Connections that stop being HTTP: attach and exec.
//!
//! ```text
//!   new style   POST, Upgrade: tcp    ──► 101 UPGRADED, then raw bytes both ways
//!   old style   POST without Upgrade  ──► 200, raw bytes until the connection closes;
//!                                         input is the request's body, if it has one
//! ```
//!
//! On a container's side stands a stream that carries exactly what the client is to see (framed by the
//! shim where there is no terminal), so that output is copied as it is. Input is copied until the
//! client closes its half, which closes the container's input and nothing else. With a terminal the
//! detach keys in it end the attachment.

use std::io::{self, Cursor};
use std::os::fd::{AsFd, OwnedFd};
use std::pin::Pin;

use bytes::Bytes;
use dhow_docker_wire::frame::{Header, MULTIPLEXED, RAW, Stream};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::header::{CONNECTION, CONTENT_TYPE, HeaderValue, UPGRADE};
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper::{Response, StatusCode, Version};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader, Interest};
use tokio::net::UnixStream;

use crate::answer::{self, Answer};
use crate::detach::Detach;
use crate::request::Request;
use crate::server::Place;
use crate::version::ApiVersion;

/// How much is copied at once.
const PIECE: usize = 32 << 10;

/// How much of an old-style client's bytes may wait.
const WAITING: usize = 64 << 10;

/// A client's bytes, both ways.
pub(crate) struct Client {
    /// What the client sends.
    pub(crate) input: Pin<Box<dyn AsyncRead + Send>>,
    /// What the client gets.
    pub(crate) output: Pin<Box<dyn AsyncWrite + Send>>,
    /// Whether there is any input at all.
    pub(crate) has_input: bool,
    /// Done when the client is gone altogether, where that can be told from half a close.
    pub(crate) gone: Pin<Box<dyn Future<Output = ()> + Send>>,
}

/// A connection that is going to be taken over.
pub(crate) struct Connection {
    upgrade: Option<OnUpgrade>,
    version: ApiVersion,
    body: Option<Incoming>,
    place: Place,
}

impl Connection {
    /// That of a request whose body, if any, is input in the old style.
    pub(crate) fn of(mut request: Request) -> Self {
        let connection = Self::without_body(&mut request);
        Self { body: request.has_body().then(|| request.into_body()).flatten(), ..connection }
    }

    /// That of a request whose body says what to do.
    pub(crate) fn without_body(request: &mut Request) -> Self {
        Self {
            upgrade: request.upgrade.take(),
            version: request.version,
            body: None,
            place: request.place.clone(),
        }
    }
}

/// Answers with a taken-over connection and lets `talk` have it, in a task of its own.
pub(crate) fn take_over<T, F>(connection: Connection, tty: bool, talk: T) -> Answer
where
    T: FnOnce(Client) -> F + Send + 'static,
    F: Future<Output = ()> + Send + 'static,
{
    let framed = !tty && connection.version >= ApiVersion::one(42);
    let content_type = HeaderValue::from_static(if framed { MULTIPLEXED } else { RAW });
    let place = connection.place;
    let talk = move |client| {
        let talk = talk(client);
        async move {
            talk.await;
            drop(place);
        }
    };
    let mut answer = match connection.upgrade {
        Some(upgrade) => {
            tokio::spawn(async move {
                match upgrade.await {
                    Ok(upgraded) => talk(taken_over(upgraded)).await,
                    Err(error) => tracing::debug!(%error, "connection was not taken over"),
                }
            });
            let mut answer = answer::status(StatusCode::SWITCHING_PROTOCOLS);
            let headers = answer.headers_mut();
            headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
            headers.insert(UPGRADE, HeaderValue::from_static("tcp"));
            answer
        }
        None => old_style(connection.body, talk),
    };
    answer.headers_mut().insert(CONTENT_TYPE, content_type);
    answer
}

/// The client behind a connection that is no longer HTTP.
fn taken_over(upgraded: Upgraded) -> Client {
    match upgraded.downcast::<TokioIo<UnixStream>>() {
        Ok(parts) => {
            let stream = parts.io.into_inner();
            let gone = Box::pin(hangup(stream.as_fd().try_clone_to_owned()));
            let (input, output) = stream.into_split();
            // What came right behind the request has been read already.
            let input = Box::pin(Cursor::new(parts.read_buf).chain(input));
            Client { input, output: Box::pin(output), has_input: true, gone }
        }
        Err(upgraded) => {
            let (input, output) = tokio::io::split(TokioIo::new(upgraded));
            let gone = Box::pin(std::future::pending());
            Client { input: Box::pin(input), output: Box::pin(output), has_input: true, gone }
        }
    }
}

/// Waits until the other end of a Unix socket is closed in both directions. Reading alone cannot tell:
/// it ends just so when only the other's writing half is closed.
async fn hangup(descriptor: io::Result<OwnedFd>) {
    let watched =
        descriptor.map(std::os::unix::net::UnixStream::from).and_then(UnixStream::from_std);
    let Ok(watched) = watched else { return std::future::pending().await };
    while let Ok(ready) = watched.ready(Interest::WRITABLE).await {
        if ready.is_write_closed() {
            return;
        }
        // Says that readiness is used up: it comes back at the next change of the socket's state, since
        // tokio's registrations are edge-triggered.
        let _ = watched.try_io(Interest::WRITABLE, || {
            Err::<(), _>(io::Error::from(io::ErrorKind::WouldBlock))
        });
    }
}

/// The old style: an answer of HTTP/1.0, whose body ends with the connection and is not chunked.
fn old_style<T, F>(body: Option<Incoming>, talk: T) -> Answer
where
    T: FnOnce(Client) -> F + Send + 'static,
    F: Future<Output = ()> + Send + 'static,
{
    let has_input = body.is_some();
    let (writer, answer_body) = answer::channel();
    let (client, server) = tokio::io::duplex(WAITING);
    let (mut output, mut input) = tokio::io::split(client);
    let send = async move {
        let mut piece = vec![0; PIECE];
        while let Ok(length @ 1..) = output.read(&mut piece).await {
            let bytes = Bytes::copy_from_slice(piece.get(..length).unwrap_or_default());
            if writer.write(bytes).await.is_err() {
                return;
            }
        }
    };
    let receive = async move {
        let Some(mut body) = body else { return };
        while let Some(Ok(frame)) = body.frame().await {
            if let Ok(data) = frame.into_data()
                && input.write_all(&data).await.is_err()
            {
                return;
            }
        }
        let _ = input.shutdown().await;
    };
    tokio::spawn(async move {
        let (input, output) = tokio::io::split(server);
        let (input, output) = (Box::pin(input), Box::pin(output));
        // A client that is gone ends `send`, and that everything.
        let gone = Box::pin(std::future::pending());
        let talk = talk(Client { input, output, has_input, gone });
        let talk = async {
            tokio::select! {
                () = talk => {}
                // The end of the input is not the end of the talk.
                () = async { receive.await; std::future::pending().await } => {}
            }
        };
        tokio::pin!(send);
        tokio::select! {
            // What was said last is still on its way.
            () = talk => send.await,
            // The client is gone.
            () = &mut send => {}
        }
    });
    let mut answer = Response::new(answer_body);
    *answer.version_mut() = Version::HTTP_10;
    answer
}

/// Copies between a client and a container until the container's output ends, the client goes away or
/// types the detach keys (`detach`, for terminals only). Without `stdin`, what the client sends is
/// dropped.
pub(crate) async fn copy(
    client: Client,
    mut container: UnixStream,
    detach: Option<Detach>,
    stdin: bool,
) {
    let Client { input, mut output, has_input, gone } = client;
    // Halves of this kind do not shut anything down when dropped: a detached client is no end of input.
    let (from_container, mut to_container) = container.split();
    let inward = async {
        if has_input && let Ok(true) = forward(input, &mut to_container, detach, stdin).await {
            return;
        }
        // Input that has ended leaves the output running as long as there is someone to see it.
        gone.await;
    };
    let outward = async {
        let mut from_container = BufReader::with_capacity(PIECE, from_container);
        let _ = tokio::io::copy_buf(&mut from_container, &mut output).await;
    };
    tokio::select! {
        () = inward => {}
        () = outward => {}
    }
    let _ = output.shutdown().await;
}

/// Copies a client's input. True: the user typed the detach keys.
async fn forward(
    mut input: Pin<Box<dyn AsyncRead + Send>>,
    container: &mut (impl AsyncWrite + Unpin),
    mut detach: Option<Detach>,
    stdin: bool,
) -> io::Result<bool> {
    let mut piece = vec![0; PIECE];
    let mut scanned = Vec::new();
    loop {
        let length = input.read(&mut piece).await?;
        let typed = piece.get(..length).unwrap_or_default();
        if typed.is_empty() {
            if stdin {
                let _ = container.shutdown().await;
            }
            return Ok(false);
        }
        let (bytes, gone) = match &mut detach {
            Some(detach) => {
                scanned.clear();
                let gone = detach.scan(typed, &mut scanned);
                (scanned.as_slice(), gone)
            }
            None => (typed, false),
        };
        // A container that reads no more ends neither its output nor the client's typing.
        if stdin {
            let _ = container.write_all(bytes).await;
        }
        if gone {
            return Ok(true);
        }
    }
}

/// Tells a client that has been taken over why there will be nothing.
pub(crate) async fn complain(client: &mut Client, tty: bool, message: &str) -> io::Result<()> {
    let text = format!("{message}\r\n");
    if !tty {
        let length_bytes = u32::try_from(text.len()).unwrap_or(u32::MAX);
        client.output.write_all(&Header { stream: Stream::Stderr, length_bytes }.encode()).await?;
    }
    client.output.write_all(text.as_bytes()).await?;
    client.output.shutdown().await
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A client and a container as `copy` is given them, and the far ends of both.
    fn ends() -> (Client, UnixStream, UnixStream, UnixStream) {
        let (user, ours) = UnixStream::pair().unwrap();
        let (container, shim) = UnixStream::pair().unwrap();
        let gone = Box::pin(hangup(ours.as_fd().try_clone_to_owned()));
        let (input, output) = ours.into_split();
        let (input, output) = (Box::pin(input), Box::pin(output));
        (Client { input, output, has_input: true, gone }, user, container, shim)
    }

    #[tokio::test]
    async fn a_client_that_is_gone_ends_a_silent_attachment() {
        let (client, mut user, container, mut shim) = ends();
        user.write_all(b"last words").await.unwrap();
        drop(user);
        copy(client, container, None, true).await;
        let mut typed = Vec::new();
        shim.read_to_end(&mut typed).await.unwrap();
        assert_eq!(typed, b"last words");
    }

    #[tokio::test]
    async fn half_closed_input_leaves_the_output() {
        let (client, mut user, container, mut shim) = ends();
        let copying = tokio::spawn(copy(client, container, None, true));
        user.write_all(b"typed").await.unwrap();
        user.shutdown().await.unwrap();
        let mut typed = Vec::new();
        shim.read_to_end(&mut typed).await.unwrap();
        assert_eq!(typed, b"typed");
        shim.write_all(b"answer").await.unwrap();
        drop(shim);
        copying.await.unwrap();
        let mut answer = Vec::new();
        user.read_to_end(&mut answer).await.unwrap();
        assert_eq!(answer, b"answer");
    }

    #[tokio::test]
    async fn detach_keys_end_the_attachment() {
        let (client, mut user, container, mut shim) = ends();
        let detach = Detach::parse(None).unwrap();
        let copying = tokio::spawn(copy(client, container, Some(detach), true));
        user.write_all(b"x\x10\x11").await.unwrap();
        copying.await.unwrap();
        let mut typed = Vec::new();
        shim.read_to_end(&mut typed).await.unwrap();
        assert_eq!(typed, b"x");
    }

    #[tokio::test]
    async fn a_client_that_may_not_type_is_not_heard() {
        let (client, mut user, container, mut shim) = ends();
        let copying = tokio::spawn(copy(client, container, None, false));
        user.write_all(b"typed").await.unwrap();
        user.shutdown().await.unwrap();
        shim.write_all(b"answer").await.unwrap();
        let mut answer = [0; 6];
        user.read_exact(&mut answer).await.unwrap();
        shim.shutdown().await.unwrap();
        copying.await.unwrap();
        let mut typed = Vec::new();
        shim.read_to_end(&mut typed).await.unwrap();
        assert!(typed.is_empty());
    }
}
