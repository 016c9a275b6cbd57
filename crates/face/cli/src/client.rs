//! The daemon's socket: finding it, starting a daemon where none runs, requests and responses.

mod background;
mod body;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use dhow_docker_wire::{API_VERSION, ErrorResponse};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper::{Method, Request, Response};
use hyper_util::rt::TokioIo;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::net::UnixStream;

pub(crate) use body::{Body, Reader, query};

use crate::failure::Failure;

/// Where the daemon listens if nothing else is said.
const DEFAULT_SOCKET: &str = "/run/dhow/dhow.sock";

/// An answer that is read at once is not larger than this.
const LARGEST_ANSWER: usize = 64 << 20;

/// A connection that has stopped speaking HTTP.
pub(crate) type Hijacked = TokioIo<hyper::upgrade::Upgraded>;

/// For so long a connection is kept for another request. The daemon keeps it longer, so that none is lost
/// on a connection that it closes just then.
const KEPT: Duration = Duration::from_secs(5);

/// What sends requests on a connection.
type Sender = http1::SendRequest<body::Inner>;

/// A client of one daemon. Clones share a connection that has served a request and may serve another;
/// requests at the same time have connections of their own.
#[derive(Debug, Clone)]
pub(crate) struct Client {
    socket: String,
    may_start_daemon: bool,
    kept: Arc<Mutex<Option<(Sender, Instant)>>>,
}

impl Client {
    /// A client of the daemon at `host`, `DHOW_HOST`, or the default socket, in this order.
    pub(crate) fn new(host: Option<String>) -> Result<Self, Failure> {
        let named = host.or_else(|| std::env::var("DHOW_HOST").ok().filter(|it| !it.is_empty()));
        let Some(host) = named else {
            return Ok(Self::of(DEFAULT_SOCKET, true));
        };
        let Some(socket) = host.strip_prefix("unix://").filter(|path| path.starts_with('/')) else {
            return Err(Failure::new(format!("cannot use the daemon address {host:?}"))
                .with_hint("give it as unix:///path/to/dhow.sock"));
        };
        Ok(Self::of(socket, false))
    }

    fn of(socket: &str, may_start_daemon: bool) -> Self {
        Self { socket: socket.to_owned(), may_start_daemon, kept: Arc::default() }
    }

    /// The daemon's address as `--host` takes it.
    pub(crate) fn host(&self) -> String {
        format!("unix://{}", self.socket)
    }

    /// Makes sure that a daemon runs: starts one in the background if this client uses the default
    /// socket and nobody answers there. Says so once.
    pub(crate) async fn start_daemon(&self) -> Result<(), Failure> {
        if self.may_start_daemon && UnixStream::connect(&self.socket).await.is_err() {
            background::start(&self.socket)?;
        }
        Ok(())
    }

    /// Sends a request and returns the response once its head is there. A status of 400 and above is a
    /// failure with the daemon's message and hint.
    pub(crate) async fn send(
        &self,
        method: Method,
        path: &str,
        body: Body,
    ) -> Result<Response<Incoming>, Failure> {
        Ok(self.exchange(request(method, path, body)?).await?.0)
    }

    /// `GET`, the answer being JSON.
    pub(crate) async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, Failure> {
        parse(&self.ask(Method::GET, path, Body::empty()).await?)
    }

    /// `POST` of JSON, the answer being JSON.
    pub(crate) async fn post<T: DeserializeOwned>(
        &self,
        path: &str,
        body: &impl Serialize,
    ) -> Result<T, Failure> {
        parse(&self.ask(Method::POST, path, Body::json(body)?).await?)
    }

    /// `POST` without a body, whose answer does not matter but for its success.
    pub(crate) async fn command(&self, path: &str) -> Result<(), Failure> {
        self.ask(Method::POST, path, Body::empty()).await.map(drop)
    }

    /// `DELETE`, the answer being anything.
    pub(crate) async fn delete(&self, path: &str) -> Result<Bytes, Failure> {
        self.ask(Method::DELETE, path, Body::empty()).await
    }

    /// `POST` that turns the connection into a raw stream. Says, too, whether the stream is
    /// multiplexed, if the daemon said so.
    pub(crate) async fn hijack(&self, path: &str, body: Body) -> Result<Hijacked, Failure> {
        let request = Request::builder()
            .method(Method::POST)
            .uri(format!("/v{API_VERSION}{path}"))
            .header("Host", "dhow")
            .header("Content-Type", "application/json")
            .header("Connection", "Upgrade")
            .header("Upgrade", "tcp")
            .body(body.inner)?;
        let (response, _sender) = self.exchange(request).await?;
        if response.status().as_u16() != 101 {
            return Err(Failure::new("the daemon did not open a stream"));
        }
        Ok(TokioIo::new(hyper::upgrade::on(response).await?))
    }

    /// Sends a request and reads the whole answer, so that the connection may serve another one.
    async fn ask(&self, method: Method, path: &str, body: Body) -> Result<Bytes, Failure> {
        let (response, sender) = self.exchange(request(method, path, body)?).await?;
        let answer = collect(response.into_body()).await?;
        *self.kept() = Some((sender, Instant::now()));
        Ok(answer)
    }

    async fn exchange(
        &self,
        request: Request<body::Inner>,
    ) -> Result<(Response<Incoming>, Sender), Failure> {
        let mut sender = match self.kept_sender().await {
            Some(sender) => sender,
            None => self.connect().await?,
        };
        let response = sender.send_request(request).await.map_err(|error| {
            Failure::new(format!("the daemon broke the connection off: {error}"))
        })?;
        if response.status().as_u16() < 400 {
            return Ok((response, sender));
        }
        let status = response.status().as_u16();
        let body = collect(response.into_body()).await?;
        let said: ErrorResponse = serde_json::from_slice(&body).unwrap_or_default();
        let message = match said.message.as_str() {
            "" => format!("the daemon answered with status {status}"),
            message => message.to_owned(),
        };
        Err(Failure { message, hint: said.hint, status, exit_code: 1 })
    }

    async fn connect(&self) -> Result<Sender, Failure> {
        let stream = UnixStream::connect(&self.socket).await.map_err(|error| {
            Failure::new(format!("cannot reach the daemon at {}: {error}", self.host())).with_hint(
                match self.may_start_daemon {
                    true => "start it with: dhow daemon",
                    false => "is --host or DHOW_HOST right, and does the daemon run?",
                },
            )
        })?;
        let (sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
        tokio::spawn(connection.with_upgrades());
        Ok(sender)
    }

    /// The kept connection, if there is one that still stands.
    async fn kept_sender(&self) -> Option<Sender> {
        let (mut sender, since) = self.kept().take()?;
        (since.elapsed() < KEPT && sender.ready().await.is_ok()).then_some(sender)
    }

    fn kept(&self) -> MutexGuard<'_, Option<(Sender, Instant)>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A request of the API.
fn request(method: Method, path: &str, body: Body) -> Result<Request<body::Inner>, Failure> {
    let request = Request::builder().method(method).uri(format!("/v{API_VERSION}{path}"));
    let request = request.header("Host", "dhow").header("User-Agent", "dhow");
    let request = match body.content_type {
        Some(kind) => request.header("Content-Type", kind),
        None => request,
    };
    let request = match body.registry_auth {
        Some(auth) => request.header("X-Registry-Auth", auth),
        None => request,
    };
    Ok(request.body(body.inner)?)
}

/// Reads a whole answer, within [`LARGEST_ANSWER`].
pub(crate) async fn collect(body: Incoming) -> Result<Bytes, Failure> {
    let limited = http_body_util::Limited::new(body, LARGEST_ANSWER);
    match limited.collect().await {
        Ok(whole) => Ok(whole.to_bytes()),
        Err(error) => Err(Failure::new(format!("cannot read the daemon's answer: {error}"))),
    }
}

/// Reads an answer as JSON.
pub(crate) async fn json<T: DeserializeOwned>(response: Response<Incoming>) -> Result<T, Failure> {
    parse(&collect(response.into_body()).await?)
}

fn parse<T: DeserializeOwned>(body: &[u8]) -> Result<T, Failure> {
    serde_json::from_slice(body)
        .map_err(|error| Failure::new(format!("cannot read the daemon's answer: {error}")))
}
