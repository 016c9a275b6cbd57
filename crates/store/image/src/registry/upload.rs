//! Writing to a repository: blobs and manifests (OCI distribution-spec, "Push").
//!
//! ```text
//!   HEAD blob ─► there
//!       └─► POST uploads?mount=…&from=… ─► 201 mounted
//!                └─ 202, Location ─► PATCH content ─► PUT ?digest=…            large blobs
//!                                └─► PUT ?digest=… with the content            small ones
//!                   lost on the way ─► GET Location ─► Range: 0-N ─► PATCH from N+1
//!                                          └─ the upload is gone ─► POST again
//! ```

use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use bytes::Bytes;
use dhow_spec::Digest;
use hyper::header::{self, HeaderName};
use hyper::{Method, StatusCode, Uri};

use super::backoff::Backoff;
use super::error::RegistryError;
use super::repository::Registry;
use super::request::{Ask, location, parsed, text_of, wait};
use super::sending::{Content, Part};

/// Up to this size a blob goes with the request that ends its upload, which saves one.
const SMALL: u64 = 1 << 20;
const OCTETS: &str = "application/octet-stream";

/// An upload that the registry waits for.
#[derive(Debug)]
pub(crate) struct Upload {
    location: Uri,
}

/// What came of an attempt to mount a blob from another repository.
#[derive(Debug)]
pub(crate) enum Mounted {
    /// The blob is there.
    Done,
    /// It has to be sent.
    Not(Upload),
}

/// A blob to be sent: its open file.
#[derive(Debug, Clone)]
pub(crate) struct Source {
    pub(crate) digest: Digest,
    pub(crate) file: Arc<std::fs::File>,
    pub(crate) size: u64,
    /// How many bytes have gone out.
    pub(crate) sent: Arc<AtomicU64>,
}

impl Registry {
    /// Whether the repository has the blob.
    pub(crate) async fn has_blob(&self, digest: &Digest) -> Result<bool, RegistryError> {
        self.has(&format!("blobs/{digest}"), "*/*").await
    }

    /// Begins to send a blob, unless it can be mounted from another repository of this registry.
    pub(crate) async fn begin(
        &self,
        digest: &Digest,
        from: Option<&str>,
    ) -> Result<Mounted, RegistryError> {
        let path = match from {
            Some(from) => format!("blobs/uploads/?mount={digest}&from={from}"),
            None => "blobs/uploads/".to_owned(),
        };
        let url = self.url(&path)?;
        let ask = Ask { method: Method::POST, ..Ask::default() };
        let mut backoff = Backoff::default();
        loop {
            match self.exchange(&url, &ask).await {
                Ok((_, answer)) if answer.status() == StatusCode::CREATED => {
                    return Ok(Mounted::Done);
                }
                Ok((uri, answer)) => {
                    let location = location(&uri, answer.headers())?;
                    return Ok(Mounted::Not(Upload { location }));
                }
                Err(error) => wait(&mut backoff, error).await?,
            }
        }
    }

    /// Sends a blob; after a lost connection what is missing of it.
    pub(crate) async fn send(
        &self,
        mut upload: Upload,
        source: &Source,
    ) -> Result<(), RegistryError> {
        let mut backoff = Backoff::default();
        let mut from = 0;
        while let Err(error) = self.send_from(&mut upload, source, from).await {
            // An upload that the registry has forgotten is begun again.
            if error.status() != Some(StatusCode::NOT_FOUND) {
                wait(&mut backoff, error).await?;
            } else if backoff.next(None).is_none() {
                return Err(error);
            }
            from = match self.received(&mut upload).await {
                Some(received) if received <= source.size => received,
                _ => match self.begin(&source.digest, None).await? {
                    Mounted::Done => return Ok(()),
                    Mounted::Not(anew) => {
                        upload = anew;
                        0
                    }
                },
            };
        }
        Ok(())
    }

    /// One attempt to send the rest of a blob and end the upload.
    async fn send_from(
        &self,
        upload: &mut Upload,
        source: &Source,
        from: u64,
    ) -> Result<(), RegistryError> {
        let rest = Content::Part(Part {
            file: Arc::clone(&source.file),
            from,
            length: source.size - from,
            sent: Arc::clone(&source.sent),
        });
        let mut content = Content::Nothing;
        if from == 0 && source.size <= SMALL {
            content = rest;
        } else if from < source.size {
            let end = source.size - 1;
            let ask = Ask {
                method: Method::PATCH,
                content_type: Some(OCTETS),
                content_range: (from > 0).then(|| format!("{from}-{end}")),
                content: rest,
                ..Ask::default()
            };
            let (uri, answer) = self.exchange(&upload.location, &ask).await?;
            upload.location = location(&uri, answer.headers())?;
        }
        let content_type = Some(OCTETS);
        let ask = Ask { method: Method::PUT, content_type, content, ..Ask::default() };
        let end = ended(&upload.location, &source.digest)?;
        self.exchange(&end, &ask).await.map(drop)
    }

    /// How much of an upload the registry has; none if it does not say.
    async fn received(&self, upload: &mut Upload) -> Option<u64> {
        let (uri, answer) = self.exchange(&upload.location, &Ask::default()).await.ok()?;
        let range = text_of(answer.headers(), header::RANGE)?;
        let (_, last) = range.trim_start_matches("bytes=").split_once('-')?;
        let last: u64 = last.trim().parse().ok()?;
        if let Ok(location) = location(&uri, answer.headers()) {
            upload.location = location;
        }
        // Nothing at all is `0-0`, too.
        Some(if last == 0 { 0 } else { last + 1 })
    }

    /// Gives the repository a manifest under a tag or digest.
    pub(crate) async fn put_manifest(
        &self,
        name: &str,
        media_type: &str,
        content: Bytes,
    ) -> Result<(), RegistryError> {
        let digest = Digest::of(&content);
        let url = self.url(&format!("manifests/{name}"))?;
        let content = Content::Bytes(content);
        let content_type = Some(media_type);
        let ask = Ask { method: Method::PUT, content_type, content, ..Ask::default() };
        let mut backoff = Backoff::default();
        loop {
            match self.exchange(&url, &ask).await {
                Ok((uri, answer)) => {
                    let named = HeaderName::from_static("docker-content-digest");
                    let said = text_of(answer.headers(), named);
                    let Some(said) = said.filter(|said| *said != digest.to_string()) else {
                        return Ok(());
                    };
                    let what = format!("the digest {said:?} for the manifest {digest}");
                    return Err(RegistryError::Answer { url: uri.to_string(), what });
                }
                Err(error) => wait(&mut backoff, error).await?,
            }
        }
    }

    async fn has(&self, path: &str, accept: &str) -> Result<bool, RegistryError> {
        let url = self.url(path)?;
        let ask = Ask { method: Method::HEAD, accept: Some(accept), ..Ask::default() };
        let mut backoff = Backoff::default();
        loop {
            match self.exchange(&url, &ask).await {
                Ok(_) => return Ok(true),
                Err(error) if error.status() == Some(StatusCode::NOT_FOUND) => return Ok(false),
                Err(error) => wait(&mut backoff, error).await?,
            }
        }
    }
}

/// The address that ends an upload.
fn ended(location: &Uri, digest: &Digest) -> Result<Uri, RegistryError> {
    let sign = if location.query().is_some() { '&' } else { '?' };
    parsed(&format!("{location}{sign}digest=sha256%3A{}", digest.hex()))
}
