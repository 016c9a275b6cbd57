//! What requests carry.

use std::convert::Infallible;
use std::io::Read;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body_util::{BodyExt, Full, StreamBody, combinators::UnsyncBoxBody};
use hyper::body::{Body as _, Frame, Incoming};
use serde::Serialize;
use tokio::io::{AsyncRead, ReadBuf};

use crate::failure::Failure;

/// The body that hyper sends.
pub(super) type Inner = UnsyncBoxBody<Bytes, Infallible>;

/// Pieces in which a file is sent.
const PIECE: usize = 256 << 10;

/// The body of a request.
pub(crate) struct Body {
    pub(super) inner: Inner,
    pub(super) content_type: Option<&'static str>,
    /// The header `X-Registry-Auth`.
    pub(super) registry_auth: Option<String>,
}

impl Body {
    /// Nothing.
    pub(crate) fn empty() -> Self {
        Self { inner: Full::default().boxed_unsync(), content_type: None, registry_auth: None }
    }

    /// JSON.
    pub(crate) fn json(value: &impl Serialize) -> Result<Self, Failure> {
        let bytes = Bytes::from(serde_json::to_vec(value)?);
        let content_type = Some("application/json");
        Ok(Self { inner: Full::new(bytes).boxed_unsync(), content_type, registry_auth: None })
    }

    /// An archive, read by a thread of its own while it is sent. If reading fails, the body ends early,
    /// which the daemon notices by the archive's missing end.
    pub(crate) fn tar(mut source: impl Read + Send + 'static) -> Self {
        let (sender, receiver) = tokio::sync::mpsc::channel::<Bytes>(4);
        std::thread::spawn(move || {
            loop {
                let mut piece = vec![0; PIECE];
                match source.read(&mut piece) {
                    Ok(0) | Err(_) => return,
                    Ok(length) => piece.truncate(length),
                }
                if sender.blocking_send(Bytes::from(piece)).is_err() {
                    return;
                }
            }
        });
        let stream = futures_util::stream::unfold(receiver, |mut receiver| async {
            let piece = receiver.recv().await?;
            Some((Ok(Frame::data(piece)), receiver))
        });
        let inner = StreamBody::new(stream).boxed_unsync();
        Self { inner, content_type: Some("application/x-tar"), registry_auth: None }
    }

    /// The same with credentials for a registry, as the header `X-Registry-Auth` carries them.
    pub(crate) fn with_registry_auth(mut self, auth: Option<String>) -> Self {
        self.registry_auth = auth;
        self
    }
}

/// The body of a response as a stream of bytes.
#[derive(Debug)]
pub(crate) struct Reader {
    body: Incoming,
    piece: Bytes,
}

impl Reader {
    /// Reads `body`.
    pub(crate) fn new(body: Incoming) -> Self {
        Self { body, piece: Bytes::new() }
    }
}

impl AsyncRead for Reader {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        while self.piece.is_empty() {
            match ready!(Pin::new(&mut self.body).poll_frame(context)) {
                None => return Poll::Ready(Ok(())),
                Some(Err(error)) => return Poll::Ready(Err(std::io::Error::other(error))),
                Some(Ok(frame)) => self.piece = frame.into_data().unwrap_or_default(),
            }
        }
        let length = self.piece.len().min(buffer.remaining());
        buffer.put_slice(&self.piece.split_to(length));
        Poll::Ready(Ok(()))
    }
}

/// A query string, `?a=b&c=d`, of pairs; nothing if there are none.
pub(crate) fn query(pairs: &[(&str, &str)]) -> String {
    let mut text = String::new();
    for (name, value) in pairs {
        text.push(if text.is_empty() { '?' } else { '&' });
        text.push_str(name);
        text.push('=');
        encode(value, &mut text);
    }
    text
}

/// Percent-encodes all that is not unreserved (RFC 3986, section 2.3).
fn encode(value: &str, text: &mut String) {
    use std::fmt::Write;
    for byte in value.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            text.push(char::from(byte));
        } else {
            let _ = write!(text, "%{byte:02X}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::query;

    #[test]
    fn queries_are_encoded() {
        assert_eq!(query(&[]), "");
        assert_eq!(query(&[("a", "x y/é"), ("b", "1")]), "?a=x%20y%2F%C3%A9&b=1");
    }
}
