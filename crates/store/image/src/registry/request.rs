//! Requests for manifests and blobs: authorization, redirects, retries.

use std::error::Error as StdError;
use std::time::Duration;

use bytes::Bytes;
use dhow_spec::{Digest, Reference};
use http_body_util::Empty;
use hyper::body::Incoming;
use hyper::header::{self, HeaderMap};
use hyper::{Request, Response, StatusCode, Uri};
use hyper_util::client::legacy::Client as HttpClient;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use serde::Deserialize;
use tokio::sync::Mutex;
use tokio::time::timeout;

use super::auth::{Challenge, Token, basic};
use super::backoff::Backoff;
use super::body::Chunks;
use super::connect::Connector;
use super::error::RegistryError;
use super::origin::{follow, is_private, is_same, repository_url};
use crate::Credentials;
use crate::manifest::{ACCEPT, MANIFEST_MAX};

const USER_AGENT: &str = concat!("dhow/", env!("CARGO_PKG_VERSION"));
/// How long a server may take to begin its answer.
const ANSWER_TIME: Duration = Duration::from_mins(1);
const REDIRECTS_MAX: usize = 5;
/// What is read of an error's body, and of a token.
const SAID_MAX: u64 = 1 << 20;

/// HTTP, with connections that are kept for a while. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Client(HttpClient<Connector, Empty<Bytes>>);

/// One repository of one registry, for the length of a pull.
pub(crate) struct Registry {
    client: Client,
    base: String,
    repository: String,
    credentials: Option<Credentials>,
    /// The header that the registry accepted last.
    authorization: Mutex<Option<String>>,
}

/// A manifest as it came.
#[derive(Debug)]
pub(crate) struct Received {
    pub(crate) content: Bytes,
    pub(crate) media_type: Option<String>,
}

#[derive(Deserialize)]
struct Said {
    #[serde(default)]
    errors: Vec<SaidOne>,
}

#[derive(Deserialize)]
struct SaidOne {
    #[serde(default)]
    code: String,
    #[serde(default)]
    message: String,
}

impl Default for Client {
    fn default() -> Self {
        let mut builder = HttpClient::builder(TokioExecutor::new());
        builder.pool_timer(TokioTimer::new()).pool_idle_timeout(Duration::from_secs(30));
        Self(builder.build(Connector::default()))
    }
}

impl Registry {
    /// The repository that `reference` names.
    pub(crate) fn new(
        client: &Client,
        reference: &Reference,
        credentials: Option<Credentials>,
    ) -> Self {
        Self {
            client: client.clone(),
            base: repository_url(reference),
            repository: reference.path().to_owned(),
            credentials,
            authorization: Mutex::default(),
        }
    }

    /// The manifest or index with this tag or digest.
    pub(crate) async fn manifest(&self, name: &str) -> Result<Received, RegistryError> {
        let url = format!("{}/manifests/{name}", self.base);
        let mut backoff = Backoff::default();
        loop {
            let attempt = async {
                let (url, answer) = self.get(&url, ACCEPT).await?;
                let media_type = text_of(answer.headers(), header::CONTENT_TYPE);
                let content = Chunks::new(url, answer.into_body()).whole(MANIFEST_MAX).await?;
                Ok(Received { content, media_type })
            };
            match attempt.await {
                Err(error) => wait(&mut backoff, error).await?,
                Ok(received) => return Ok(received),
            }
        }
    }

    /// A blob's content, one attempt: the caller knows what it has got already.
    pub(crate) async fn blob(&self, digest: &Digest) -> Result<Chunks, RegistryError> {
        let url = format!("{}/blobs/{digest}", self.base);
        let (url, answer) = self.get(&url, "*/*").await?;
        Ok(Chunks::new(url, answer.into_body()))
    }

    /// Asks, showing what authorization there is, and following redirects.
    async fn get(
        &self,
        url: &str,
        accept: &str,
    ) -> Result<(String, Response<Incoming>), RegistryError> {
        let first = parsed(url)?;
        let mut uri = first.clone();
        let mut has_answered = false;
        let mut redirects = 0;
        loop {
            let is_own = is_same(&uri, &first);
            let shown = if is_own { self.authorization.lock().await.clone() } else { None };
            let answer = self.client.send(&uri, accept, shown.as_deref()).await?;
            let status = answer.status();
            if status.is_success() {
                return Ok((uri.to_string(), answer));
            }
            if status == StatusCode::UNAUTHORIZED && is_own && !has_answered {
                has_answered = true;
                if let Some(challenge) = text_of(answer.headers(), header::WWW_AUTHENTICATE) {
                    self.answer(&uri, &challenge).await?;
                    continue;
                }
            }
            if status.is_redirection() && redirects < REDIRECTS_MAX {
                redirects += 1;
                uri = redirect(&uri, answer.headers())?;
                continue;
            }
            return Err(self.refused(&uri, answer).await);
        }
    }

    /// Finds what a challenge asks for.
    async fn answer(&self, uri: &Uri, challenge: &str) -> Result<(), RegistryError> {
        let unknown = || RegistryError::Challenge {
            url: uri.to_string(),
            challenge: challenge.chars().take(200).collect(),
        };
        let parsed_challenge = Challenge::parse(challenge).ok_or_else(unknown)?;
        let secret = self.credentials.as_ref().map(basic);
        let shown = match parsed_challenge.token_url(&self.repository) {
            // Without credentials there is nothing to show, and the registry's refusal is the answer.
            None => secret.filter(|_| is_private(uri)),
            Some(url) => Some(self.token(&url, secret).await?),
        };
        *self.authorization.lock().await = shown;
        Ok(())
    }

    async fn token(&self, url: &str, secret: Option<String>) -> Result<String, RegistryError> {
        let uri = parsed(url)?;
        let secret = secret.filter(|_| is_private(&uri));
        let answer = self.client.send(&uri, "application/json", secret.as_deref()).await?;
        if !answer.status().is_success() {
            return Err(self.refused(&uri, answer).await);
        }
        let body = Chunks::new(url.to_owned(), answer.into_body()).whole(SAID_MAX).await?;
        let token = serde_json::from_slice(&body).ok().and_then(Token::header);
        token.ok_or_else(|| RegistryError::Answer {
            url: url.to_owned(),
            what: "no token".to_owned(),
        })
    }

    async fn refused(&self, uri: &Uri, answer: Response<Incoming>) -> RegistryError {
        let (url, status) = (uri.to_string(), answer.status());
        let body = Chunks::new(url.clone(), answer.into_body()).whole(SAID_MAX).await;
        let said = body.ok().and_then(|body| said(&body)).unwrap_or_default();
        RegistryError::Status { url, status, said, with_credentials: self.credentials.is_some() }
    }
}

impl Client {
    async fn send(
        &self,
        uri: &Uri,
        accept: &str,
        authorization: Option<&str>,
    ) -> Result<Response<Incoming>, RegistryError> {
        let url = uri.to_string();
        let mut request = Request::get(uri.clone())
            .header(header::USER_AGENT, USER_AGENT)
            .header(header::ACCEPT, accept);
        if let Some(authorization) = authorization {
            request = request.header(header::AUTHORIZATION, authorization);
        }
        let request =
            request.body(Empty::new()).map_err(|_| RegistryError::Address { url: url.clone() })?;
        match timeout(ANSWER_TIME, self.0.request(request)).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(error)) if error.is_connect() => Err(unreachable(url, error)),
            Ok(Err(source)) => Err(RegistryError::Lost { url, source: Box::new(source) }),
            Err(_) => Err(RegistryError::Silent { url, seconds: ANSWER_TIME.as_secs() }),
        }
    }
}

/// Waits before the next attempt, or gives the error back when there shall be none.
pub(crate) async fn wait(backoff: &mut Backoff, error: RegistryError) -> Result<(), RegistryError> {
    match backoff.next(None).filter(|_| error.is_transient()) {
        Some(time) => {
            tracing::debug!(%error, ?time, "a request to a registry is made again");
            tokio::time::sleep(time).await;
            Ok(())
        }
        None => Err(error),
    }
}

/// The HTTP library's own words for a failed connection say nothing; what is below them does.
fn unreachable(url: String, error: hyper_util::client::legacy::Error) -> RegistryError {
    RegistryError::Unreachable { url, source: Box::new(Below(error)) }
}

/// An error without its uppermost message.
#[derive(Debug)]
struct Below(hyper_util::client::legacy::Error);

impl std::fmt::Display for Below {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.0.source() {
            Some(source) => std::fmt::Display::fmt(source, f),
            None => std::fmt::Display::fmt(&self.0, f),
        }
    }
}

impl StdError for Below {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.0.source().and_then(StdError::source)
    }
}

fn redirect(from: &Uri, headers: &HeaderMap) -> Result<Uri, RegistryError> {
    let failed = |what| RegistryError::Redirect { url: from.to_string(), what };
    let location = text_of(headers, header::LOCATION).ok_or_else(|| failed("to nowhere"))?;
    let to = follow(from, &location).ok_or_else(|| failed("to an address that cannot be asked"))?;
    if is_private(from) && !is_private(&to) {
        return Err(failed("from https to http, which is refused"));
    }
    Ok(to)
}

fn parsed(url: &str) -> Result<Uri, RegistryError> {
    let uri = url.parse::<Uri>().ok().filter(|uri| uri.host().is_some());
    let uri = uri.filter(|uri| matches!(uri.scheme_str(), Some("http" | "https")));
    uri.ok_or_else(|| RegistryError::Address { url: url.chars().take(300).collect() })
}

fn text_of(headers: &HeaderMap, name: header::HeaderName) -> Option<String> {
    headers.get(name)?.to_str().ok().map(str::to_owned)
}

/// The registry's own words, as ` (words)`.
fn said(body: &[u8]) -> Option<String> {
    let said: Said = serde_json::from_slice(body).ok()?;
    let first = said.errors.into_iter().next()?;
    let words = if first.message.is_empty() { first.code } else { first.message };
    let clean: String = words.chars().filter(|c| !c.is_control()).take(200).collect();
    (!clean.is_empty()).then(|| format!(" ({clean})"))
}
