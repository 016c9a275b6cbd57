//! HTTP requests: one at a time, with a limit on silence.

use std::error::Error as StdError;
use std::sync::atomic::Ordering;
use std::time::Duration;

use hyper::body::Incoming;
use hyper::header::{self, HeaderMap};
use hyper::{Method, Request, Response, Uri};
use hyper_util::client::legacy::Client as HttpClient;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use serde::Deserialize;
use tokio::time::timeout;

use super::backoff::Backoff;
use super::connect::Connector;
use super::error::RegistryError;
use super::origin::{follow, is_private};
use super::sending::{Content, Sending};

const USER_AGENT: &str = concat!("dhow/", env!("CARGO_PKG_VERSION"));
/// How long a server may take to begin its answer.
const ANSWER_TIME: Duration = Duration::from_mins(1);
/// How long it may take once it has got the last byte of a blob, which it wants to verify first.
const VERIFYING_TIME: Duration = Duration::from_mins(10);

/// HTTP, with connections that are kept for a while. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Client(HttpClient<Connector, Sending>);

/// What is asked of an address.
#[derive(Debug, Clone, Default)]
pub(super) struct Ask<'a> {
    pub(super) method: Method,
    /// `Accept`, where something is to be received.
    pub(super) accept: Option<&'a str>,
    /// `Content-Type` of what is sent.
    pub(super) content_type: Option<&'a str>,
    /// `Content-Range` of what is sent: `0-99`.
    pub(super) content_range: Option<String>,
    /// `Range`: from this byte on.
    pub(super) from: u64,
    pub(super) content: Content,
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

impl Client {
    /// Makes one request, and waits for the head of its answer.
    pub(super) async fn send(
        &self,
        uri: &Uri,
        ask: &Ask<'_>,
        authorization: Option<&str>,
    ) -> Result<Response<Incoming>, RegistryError> {
        let url = uri.to_string();
        let mut request = Request::builder()
            .method(ask.method.clone())
            .uri(uri.clone())
            .header(header::USER_AGENT, USER_AGENT);
        let range = (ask.from > 0).then(|| format!("bytes={}-", ask.from));
        let headers = [
            (header::ACCEPT, ask.accept),
            (header::CONTENT_TYPE, ask.content_type),
            (header::CONTENT_RANGE, ask.content_range.as_deref()),
            (header::RANGE, range.as_deref()),
            (header::AUTHORIZATION, authorization),
        ];
        for (name, value) in headers {
            if let Some(value) = value {
                request = request.header(name, value);
            }
        }
        let request = request
            .body(ask.content.body())
            .map_err(|_| RegistryError::Address { url: url.clone() })?;
        let answer = self.0.request(request);
        match self.unless_silent(answer, &ask.content).await {
            Some(Ok(answer)) => Ok(answer),
            Some(Err(error)) if error.is_connect() => Err(unreachable(url, error)),
            Some(Err(source)) => Err(RegistryError::Lost { url, source: Box::new(source) }),
            None => Err(RegistryError::Silent { url, seconds: ANSWER_TIME.as_secs() }),
        }
    }

    /// Waits for an answer as long as something is sent; none after a silence.
    async fn unless_silent<T>(
        &self,
        answer: impl Future<Output = T>,
        content: &Content,
    ) -> Option<T> {
        let mut answer = std::pin::pin!(answer);
        let sent = content.sent();
        let count = || sent.as_ref().map_or(0, |sent| sent.load(Ordering::Relaxed));
        loop {
            let before = count();
            if let Ok(answer) = timeout(ANSWER_TIME, &mut answer).await {
                return Some(answer);
            }
            if count() == before {
                let rest = if sent.is_some() { VERIFYING_TIME } else { Duration::ZERO };
                return timeout(rest, &mut answer).await.ok();
            }
        }
    }
}

/// Waits before the next attempt, or gives the error back when there shall be none.
pub(crate) async fn wait(backoff: &mut Backoff, error: RegistryError) -> Result<(), RegistryError> {
    match backoff.next(error.retry_after()).filter(|_| error.is_transient()) {
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

/// Where an answer's `Location` leads.
pub(super) fn location(from: &Uri, headers: &HeaderMap) -> Result<Uri, RegistryError> {
    let failed = |what| RegistryError::Redirect { url: from.to_string(), what };
    let location = text_of(headers, header::LOCATION).ok_or_else(|| failed("to nowhere"))?;
    let to = follow(from, &location).ok_or_else(|| failed("to an address that cannot be asked"))?;
    if is_private(from) && !is_private(&to) {
        return Err(failed("from https to http, which is refused"));
    }
    Ok(to)
}

/// An address that can be asked.
pub(super) fn parsed(url: &str) -> Result<Uri, RegistryError> {
    let uri = url.parse::<Uri>().ok().filter(|uri| uri.host().is_some());
    let uri = uri.filter(|uri| matches!(uri.scheme_str(), Some("http" | "https")));
    uri.ok_or_else(|| RegistryError::Address { url: url.chars().take(300).collect() })
}

pub(super) fn text_of(headers: &HeaderMap, name: header::HeaderName) -> Option<String> {
    headers.get(name)?.to_str().ok().map(str::to_owned)
}

/// How long a server asks to wait (RFC 9110, 10.2.3): seconds or a date.
pub(super) fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let text = text_of(headers, header::RETRY_AFTER)?;
    if let Ok(seconds) = text.trim().parse() {
        return Some(Duration::from_secs(seconds));
    }
    let date = jiff::fmt::rfc2822::parse(text.trim()).ok()?.timestamp();
    let seconds = date.as_second().saturating_sub(jiff::Timestamp::now().as_second());
    Some(Duration::from_secs(seconds.max(0).cast_unsigned()))
}

/// The registry's own words, as ` (words)`.
pub(super) fn said(body: &[u8]) -> Option<String> {
    let said: Said = serde_json::from_slice(body).ok()?;
    let first = said.errors.into_iter().next()?;
    let words = if first.message.is_empty() { first.code } else { first.message };
    let clean: String = words.chars().filter(|c| !c.is_control()).take(200).collect();
    (!clean.is_empty()).then(|| format!(" ({clean})"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_are_seconds_or_dates() {
        let read = |text: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::RETRY_AFTER, text.parse().unwrap());
            retry_after(&headers)
        };
        assert_eq!(read("7"), Some(Duration::from_secs(7)));
        assert_eq!(read("Wed, 21 Oct 2015 07:28:00 GMT"), Some(Duration::ZERO));
        assert!(read("Wed, 21 Oct 2099 07:28:00 GMT").unwrap() > Duration::from_hours(24));
        assert_eq!(read("soon"), None);
    }
}
