//! Connections: accepted, bounded, served, ended.
//!
//! ```text
//!   accept ──► a place among MAX_CONNECTIONS ──► HTTP/1.1: head within HEAD_DEADLINE, MAX_HEAD bytes
//!                    (else clients wait in the                │
//!                     kernel's queue)                         ▼
//!                                              router ──► answer, or the connection is taken over
//! ```
//!
//! When told to stop, idle connections close at once, the others get [`GRACE`] to end what they do.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use hyper::body::Incoming;
use hyper::header::{HeaderName, HeaderValue, SERVER};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::UnixListener;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::task::JoinSet;

use crate::answer::Answer;
use crate::request::Request;
use crate::{Services, errors, router};
use dhow_docker_wire::API_VERSION;

/// How many clients are served at once. Each `docker logs -f` and each attachment is one.
const MAX_CONNECTIONS: usize = 4096;

/// Most bytes of a request's head; also what is buffered of a connection at most.
const MAX_HEAD: usize = 64 << 10;

/// Most headers of a request.
const MAX_HEADERS: usize = 64;

/// In that time the next request's head has to be there.
const HEAD_DEADLINE: Duration = Duration::from_mins(1);

/// What requests get to end after the daemon was told to stop.
const GRACE: Duration = Duration::from_secs(2);

/// A connection's place among those served at once. Whoever takes the connection over keeps it.
#[derive(Debug, Clone, Default)]
pub(crate) struct Place {
    _permit: Option<Arc<OwnedSemaphorePermit>>,
}

/// Serves clients of a Unix socket until `stop` is done.
pub async fn serve(listener: UnixListener, services: Services, stop: impl Future<Output = ()>) {
    let services = Arc::new(services);
    let places = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let (stopping, stopped) = watch::channel(false);
    let mut connections = JoinSet::new();
    tokio::pin!(stop);
    loop {
        let next = async {
            let place = Arc::clone(&places).acquire_owned().await;
            (place, listener.accept().await)
        };
        let (place, accepted) = tokio::select! {
            next = next => next,
            Some(_) = connections.join_next() => continue,
            () = &mut stop => break,
        };
        match accepted {
            Ok((stream, _)) => {
                let place = Place { _permit: place.ok().map(Arc::new) };
                let (services, stopped) = (Arc::clone(&services), stopped.clone());
                connections.spawn(converse(stream, stopped, move |mut request| {
                    let services = Arc::clone(&services);
                    request.extensions_mut().insert(place.clone());
                    async move { respond(&services, request).await }
                }));
            }
            Err(error) => {
                // Out of descriptors, as a rule: connections have to end before there can be new ones.
                tracing::warn!(%error, "cannot accept a connection");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
    drop(listener);
    let _ = stopping.send(true);
    let all = async { while connections.join_next().await.is_some() {} };
    if tokio::time::timeout(GRACE, all).await.is_err() {
        connections.shutdown().await;
    }
}

/// Serves one connection, of whatever kind, until it ends or `stopped` turns true. How many there are at
/// once is up to the caller.
pub async fn connection<S>(stream: S, services: Arc<Services>, stopped: watch::Receiver<bool>)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let handle = move |request| {
        let services = Arc::clone(&services);
        async move { respond(&services, request).await }
    };
    converse(stream, stopped, handle).await;
}

/// Speaks HTTP on a connection, and lets `handle` answer.
async fn converse<S, H, F>(stream: S, mut stopped: watch::Receiver<bool>, handle: H)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    H: Fn(hyper::Request<Incoming>) -> F,
    F: Future<Output = Answer>,
{
    let service = service_fn(|request| {
        let answer = handle(request);
        async move { Ok::<_, Infallible>(answer.await) }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_DEADLINE)
        .max_buf_size(MAX_HEAD)
        .max_headers(MAX_HEADERS)
        .serve_connection(TokioIo::new(stream), service)
        .with_upgrades();
    tokio::pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = told_to_stop(&mut stopped) => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "connection ended");
    }
}

/// Waits until the server is told to stop, or is gone.
async fn told_to_stop(stopped: &mut watch::Receiver<bool>) {
    let _ = stopped.wait_for(|stopped| *stopped).await;
}

/// Answers one request. A failure becomes an answer, too.
async fn respond(services: &Arc<Services>, request: hyper::Request<Incoming>) -> Answer {
    tracing::debug!(method = %request.method(), path = request.uri().path(), "request");
    let answer = match Request::parse(request) {
        Ok(request) => router::route(services, request).await,
        Err(error) => Err(error),
    };
    let mut answer = answer.unwrap_or_else(|error| errors::answer(&error));
    let headers = answer.headers_mut();
    let mut say = |name: &'static str, value: &'static str| {
        headers.insert(HeaderName::from_static(name), HeaderValue::from_static(value));
    };
    say("api-version", API_VERSION);
    say("docker-experimental", "false");
    say("ostype", "linux");
    headers.insert(SERVER, HeaderValue::from_static(concat!("dhow/", env!("CARGO_PKG_VERSION"))));
    answer
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::UnixStream;

    use super::*;
    use crate::hijack::{self, Connection};

    /// A client's end of a connection, behind which every request is answered by taking the connection
    /// over and joining it to a container that says `hello` and then repeats what it reads.
    fn echo() -> (UnixStream, watch::Sender<bool>) {
        let (client, server) = UnixStream::pair().unwrap();
        let (stopping, stopped) = watch::channel(false);
        tokio::spawn(converse(server, stopped, |request| async move {
            let request = match Request::parse(request) {
                Ok(request) => request,
                Err(error) => return errors::answer(&error),
            };
            let (container, mut shim) = UnixStream::pair().unwrap();
            tokio::spawn(async move {
                shim.write_all(b"hello ").await.unwrap();
                let (mut input, mut output) = shim.split();
                let _ = tokio::io::copy(&mut input, &mut output).await;
            });
            hijack::take_over(Connection::of(request), false, |client| {
                hijack::copy(client, container, None, true)
            })
        }));
        (client, stopping)
    }

    async fn all(client: &mut UnixStream) -> String {
        let mut text = String::new();
        client.read_to_string(&mut text).await.unwrap();
        text
    }

    #[tokio::test]
    async fn connections_are_upgraded() {
        let (mut client, _stopping) = echo();
        // Input right behind the head is input all the same.
        let head =
            "POST /attach HTTP/1.1\r\nHost: d\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\nfirst ";
        client.write_all(head.as_bytes()).await.unwrap();
        client.write_all(b"second").await.unwrap();
        client.shutdown().await.unwrap();
        let text = all(&mut client).await;
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
        assert!(head.to_ascii_lowercase().contains("upgrade: tcp"), "{head}");
        assert!(head.contains(dhow_docker_wire::frame::MULTIPLEXED), "{head}");
        assert_eq!(body, "hello first second");
    }

    #[tokio::test]
    async fn old_clients_get_raw_bytes() {
        let (mut client, _stopping) = echo();
        let head = "POST /v1.24/attach HTTP/1.1\r\nHost: d\r\nContent-Length: 5\r\n\r\ninput";
        client.write_all(head.as_bytes()).await.unwrap();
        let text = all(&mut client).await;
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        assert!(head.starts_with("HTTP/1.0 200 "), "{head}");
        assert!(!head.to_ascii_lowercase().contains("chunked"), "{head}");
        assert_eq!(body, "hello input");
    }

    #[tokio::test]
    async fn endless_heads_are_cut_off() {
        let (mut client, _stopping) = echo();
        let line = format!("GET /{} HTTP/1.1\r\n", "a".repeat(2 * MAX_HEAD));
        let _ = client.write_all(line.as_bytes()).await;
        let mut answer = Vec::new();
        let _ = client.read_to_end(&mut answer).await;
        let answer = String::from_utf8_lossy(&answer);
        assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 4"), "{answer}");
    }

    #[tokio::test]
    async fn an_idle_connection_ends_when_told_to() {
        let (mut client, stopping) = echo();
        stopping.send(true).unwrap();
        assert_eq!(all(&mut client).await, "");
    }
}
