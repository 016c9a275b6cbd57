//! What a client still sends while it has its answer already.
//!
//! A connection that is closed while its client writes loses the answer: the client sees a broken pipe
//! and stops reading. So a body that nobody wants to read on is read and thrown away beside the answer,
//! within bounds; whoever goes on beyond them has had time to read why he should stop.

use std::time::Duration;

use http_body_util::BodyExt;
use hyper::body::{Body, Incoming};

/// Most bytes that are thrown away.
const MOST_BYTES: u64 = 256 << 20;

/// For so long they are.
const LONGEST: Duration = Duration::from_secs(10);

/// A request's body. What is left of it when it is dropped is read all the same.
#[derive(Debug)]
pub(crate) struct Unread {
    body: Option<Incoming>,
    /// The client begins only when it is asked to: then it is not.
    asks_first: bool,
}

impl Unread {
    /// The body of a request; `asks_first` if it has `Expect: 100-continue`.
    pub(crate) fn new(body: Incoming, asks_first: bool) -> Self {
        Self { body: Some(body), asks_first }
    }

    /// Whether nothing is left.
    pub(crate) fn is_at_end(&self) -> bool {
        self.body.as_ref().is_none_or(Body::is_end_stream)
    }

    /// The body, to be read on; none once it was taken.
    pub(crate) fn body(&mut self) -> Option<&mut Incoming> {
        // Reading asks for it.
        self.asks_first = false;
        self.body.as_mut()
    }

    /// The body for someone who reads it to its end or closes the connection.
    pub(crate) fn take(mut self) -> Option<Incoming> {
        self.body.take()
    }
}

impl Drop for Unread {
    fn drop(&mut self) {
        let Some(mut body) = self.body.take() else { return };
        if body.is_end_stream() || self.asks_first {
            return;
        }
        let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
        runtime.spawn(async move {
            let rest = async {
                let mut left = MOST_BYTES;
                while let Some(Ok(frame)) = body.frame().await {
                    let length = frame.data_ref().map_or(0, |data| data.len() as u64);
                    let Some(less) = left.checked_sub(length) else { return };
                    left = less;
                }
            };
            let _ = tokio::time::timeout(LONGEST, rest).await;
        });
    }
}
