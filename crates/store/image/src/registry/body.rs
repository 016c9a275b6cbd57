//! Bodies of answers: chunk by chunk, or whole and bounded.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use tokio::time::timeout;

use super::error::RegistryError;

/// How long a body may stand still.
const IDLE: Duration = Duration::from_mins(1);

/// A body that is being received.
#[derive(Debug)]
pub(crate) struct Chunks {
    url: String,
    body: Incoming,
}

impl Chunks {
    pub(crate) fn new(url: String, body: Incoming) -> Self {
        Self { url, body }
    }

    /// The next chunk; none at the end. A body that is cut off is an error.
    pub(crate) async fn next(&mut self) -> Result<Option<Bytes>, RegistryError> {
        loop {
            let frame = timeout(IDLE, self.body.frame()).await.map_err(|_| {
                RegistryError::Silent { url: self.url.clone(), seconds: IDLE.as_secs() }
            })?;
            match frame {
                None => return Ok(None),
                Some(Err(source)) => {
                    let (url, source) = (self.url.clone(), Box::new(source));
                    return Err(RegistryError::Lost { url, source });
                }
                // Trailers say nothing that we need.
                Some(Ok(frame)) => {
                    if let Ok(chunk) = frame.into_data() {
                        return Ok(Some(chunk));
                    }
                }
            }
        }
    }

    /// Everything, if it is at most `limit` bytes.
    pub(crate) async fn whole(mut self, limit: u64) -> Result<Bytes, RegistryError> {
        let mut whole = BytesMut::new();
        while let Some(chunk) = self.next().await? {
            if (whole.len() + chunk.len()) as u64 > limit {
                return Err(RegistryError::TooLarge { url: self.url, limit });
            }
            whole.extend_from_slice(&chunk);
        }
        Ok(whole.freeze())
    }
}
