//! Answers: JSON, nothing, or a stream that a task produces while the client reads.
//!
//! A stream is bounded: its producer waits once a few pieces lie unread, and is dropped when the
//! client goes away. So a log follower or a pull ends with its client, at its next `await`.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Empty, Full};
use hyper::body::{Body, Frame};
use hyper::header::{CONTENT_TYPE, HeaderValue};
use hyper::{Response, StatusCode};
use serde::Serialize;
use tokio::sync::mpsc;

/// What a handler answers.
pub(crate) type Answer = Response<AnswerBody>;

/// The body of an answer.
pub(crate) type AnswerBody = UnsyncBoxBody<Bytes, Infallible>;

/// How many pieces of a stream may lie unread.
const UNREAD_PIECES: usize = 16;

/// A status with JSON.
pub(crate) fn json<T: Serialize>(status: StatusCode, value: &T) -> Answer {
    let (status, text) = match serde_json::to_vec(value) {
        Ok(mut text) => {
            text.push(b'\n');
            (status, text)
        }
        Err(error) => {
            tracing::error!(%error, "cannot write an answer as JSON");
            (
                StatusCode::INTERNAL_SERVER_ERROR,
                br#"{"message":"cannot write the answer"}"#.to_vec(),
            )
        }
    };
    with_body(status, "application/json", Full::new(Bytes::from(text)).boxed_unsync())
}

/// 200 with JSON.
pub(crate) fn ok<T: Serialize>(value: &T) -> Answer {
    json(StatusCode::OK, value)
}

/// 204: done, nothing to tell.
pub(crate) fn done() -> Answer {
    status(StatusCode::NO_CONTENT)
}

/// A status without a body.
pub(crate) fn status(status: StatusCode) -> Answer {
    let mut response = Response::new(empty());
    *response.status_mut() = status;
    response
}

/// No bytes.
pub(crate) fn empty() -> AnswerBody {
    Empty::new().boxed_unsync()
}

/// 200 with plain text.
pub(crate) fn text(text: &'static str) -> Answer {
    let body = Full::new(Bytes::from_static(text.as_bytes())).boxed_unsync();
    with_body(StatusCode::OK, "text/plain; charset=utf-8", body)
}

/// A status with any body.
pub(crate) fn with_body(
    status: StatusCode,
    content_type: &'static str,
    body: AnswerBody,
) -> Answer {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}

/// 200 with a stream. The producer runs as a task of its own, and ends with its client.
pub(crate) fn stream<P, F>(content_type: &'static str, produce: P) -> Answer
where
    P: FnOnce(Writer) -> F,
    F: Future<Output = ()> + Send + 'static,
{
    let (writer, body) = channel();
    let client = writer.clone();
    let work = produce(writer);
    tokio::spawn(async move {
        tokio::select! {
            () = work => {}
            () = client.0.closed() => {}
        }
    });
    with_body(StatusCode::OK, content_type, body)
}

/// A bounded body and what writes to it.
pub(crate) fn channel() -> (Writer, AnswerBody) {
    let (sender, pieces) = mpsc::channel(UNREAD_PIECES);
    (Writer(sender), Pieces(pieces).boxed_unsync())
}

/// The writing end of a stream.
#[derive(Debug, Clone)]
pub(crate) struct Writer(mpsc::Sender<Bytes>);

/// The client of a stream has gone away.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Gone;

impl Writer {
    /// Writes some bytes, once there is room for them.
    pub(crate) async fn write(&self, bytes: impl Into<Bytes>) -> Result<(), Gone> {
        let bytes = bytes.into();
        if bytes.is_empty() {
            return Ok(());
        }
        self.0.send(bytes).await.map_err(|_| Gone)
    }

    /// Writes some bytes from a thread that may block.
    pub(crate) fn write_blocking(&self, bytes: Bytes) -> Result<(), Gone> {
        if bytes.is_empty() {
            return Ok(());
        }
        self.0.blocking_send(bytes).map_err(|_| Gone)
    }

    /// Writes a line of JSON.
    pub(crate) async fn line<T: Serialize>(&self, value: &T) -> Result<(), Gone> {
        match serde_json::to_vec(value) {
            Ok(mut line) => {
                // Docker ends the lines of its progress with CR LF.
                line.extend_from_slice(b"\r\n");
                self.write(line).await
            }
            Err(error) => {
                tracing::error!(%error, "cannot write a line as JSON");
                Ok(())
            }
        }
    }
}

/// A body made of what was written.
struct Pieces(mpsc::Receiver<Bytes>);

impl Body for Pieces {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        self.0.poll_recv(context).map(|piece| piece.map(|bytes| Ok(Frame::data(bytes))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_stream_ends_with_its_client() {
        let (ended, end) = tokio::sync::oneshot::channel::<()>();
        let answer = stream("text/plain", |writer| async move {
            let _ended = ended;
            let _ = writer.write("one").await;
            std::future::pending::<()>().await;
        });
        let mut body = answer.into_body();
        let first = body.frame().await.unwrap().unwrap().into_data().unwrap();
        assert_eq!(first, "one");
        drop(body);
        assert!(end.await.is_err());
    }

    #[tokio::test]
    async fn a_slow_client_holds_the_producer_back() {
        let (writer, mut body) = channel();
        for _ in 0..UNREAD_PIECES {
            writer.write("x").await.unwrap();
        }
        assert!(tokio::time::timeout(std::time::Duration::ZERO, writer.write("y")).await.is_err());
        assert!(body.frame().await.is_some());
        assert_eq!(writer.write("y").await, Ok(()));
    }
}
