//! One request, taken apart: version, path, query, body.
//!
//! Everything that a client sends is bounded: the head by the server's buffer, JSON by [`MAX_JSON`] and
//! a deadline, archives by being streamed with a limit on silence.

use std::io::{self, Read};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE};
use bytes::{Buf, Bytes};
use dhow_error::{Error, Kind, Result};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use hyper::body::Incoming;
use hyper::header::{CONTENT_TYPE, EXPECT, HeaderMap};
use hyper::{Method, Uri};
use serde::de::DeserializeOwned;
use tokio::sync::mpsc;

use crate::query::{self, Query};
use crate::server::Place;
use crate::unread::Unread;
use crate::version::{self, ApiVersion};

/// Most bytes of JSON in a body. A seccomp profile within a create request is some 20 KiB.
const MAX_JSON: usize = 4 << 20;

/// Longest path before the query, in bytes. Docker's longest names are far below.
const MAX_PATH: usize = 4096;

/// In that time a body of JSON has to be there.
const JSON_DEADLINE: Duration = Duration::from_secs(30);

/// An archive may stand still for that long: it may come through a pipe from something slow.
const ARCHIVE_SILENCE: Duration = Duration::from_mins(10);

/// How many pieces of an archive may wait for the one who reads it.
const ARCHIVE_PIECES: usize = 8;

/// One request.
#[derive(Debug)]
pub(crate) struct Request {
    /// The method.
    pub(crate) method: Method,
    /// The version of the API that the client speaks.
    pub(crate) version: ApiVersion,
    /// The path behind the version, in decoded pieces.
    pub(crate) path: Vec<String>,
    /// The query.
    pub(crate) query: Query,
    /// The headers.
    pub(crate) headers: HeaderMap,
    /// What takes over the connection, if the client asked for that.
    pub(crate) upgrade: Option<hyper::upgrade::OnUpgrade>,
    /// The connection's place among those served at once.
    pub(crate) place: Place,
    body: Unread,
}

impl Request {
    /// Takes a request apart.
    ///
    /// Errors: invalid for a path or query that cannot be read, or a version that we do not speak.
    pub(crate) fn parse(mut request: hyper::Request<Incoming>) -> Result<Self> {
        let (version, path) = split_path(request.uri())?;
        let query = Query::parse(request.uri().query().unwrap_or_default())?;
        let wants_upgrade = request.headers().contains_key(hyper::header::UPGRADE);
        let upgrade = wants_upgrade.then(|| hyper::upgrade::on(&mut request));
        let (mut head, body) = request.into_parts();
        let place = head.extensions.remove::<Place>().unwrap_or_default();
        let (method, headers) = (head.method, head.headers);
        let body = Unread::new(body, headers.contains_key(EXPECT));
        Ok(Self { method, version, path, query, headers, upgrade, place, body })
    }

    /// Whether there is anything in the body.
    pub(crate) fn has_body(&self) -> bool {
        !self.body.is_at_end()
    }

    /// Reads the body as JSON; an empty one is the default.
    ///
    /// Errors: invalid if it is too long, too slow, of another type or not what it should be.
    pub(crate) async fn json<T: DeserializeOwned + Default>(mut self) -> Result<T> {
        let kind = self.headers.get(CONTENT_TYPE).map(|kind| kind.to_str().unwrap_or("?"));
        // A page in a browser can send anything but this type without being asked first.
        if let Some(kind) = kind.filter(|_| self.has_body())
            && kind.split(';').next().is_none_or(|kind| kind.trim() != "application/json")
        {
            return Err(Error::invalid(format!(
                "unsupported Content-Type header ({}): must be 'application/json'",
                query::quoted(kind)
            )));
        }
        let Some(body) = self.body.body() else { return Ok(T::default()) };
        let whole = Limited::new(body, MAX_JSON).collect();
        let body = match tokio::time::timeout(JSON_DEADLINE, whole).await {
            Ok(Ok(body)) => body.aggregate(),
            Ok(Err(error)) if error.is::<LengthLimitError>() => {
                return Err(Error::invalid(format!(
                    "request body is larger than {MAX_JSON} bytes"
                )));
            }
            Ok(Err(error)) => {
                return Err(Error::caused(Kind::Cancelled, "cannot read the request body", error));
            }
            Err(_) => return Err(Error::invalid("request body did not arrive in time")),
        };
        if !body.has_remaining() {
            return Ok(T::default());
        }
        serde_json::from_reader::<_, Option<T>>(body.reader())
            .map(Option::unwrap_or_default)
            .map_err(|error| Error::invalid(format!("invalid JSON: {error}")))
    }

    /// The body for someone who reads it on a thread of its own.
    pub(crate) fn archive(self) -> Archive {
        let (sender, pieces) = mpsc::channel(ARCHIVE_PIECES);
        tokio::spawn(feed(self.body, sender));
        Archive { pieces, current: Bytes::new(), ended: false }
    }

    /// The body itself.
    pub(crate) fn into_body(self) -> Option<Incoming> {
        self.body.take()
    }

    /// A header with base64 of JSON, such as `X-Registry-Auth`; an absent or empty one is the default.
    pub(crate) fn encoded_header<T: DeserializeOwned + Default>(&self, name: &str) -> Result<T> {
        let Some(value) = self.headers.get(name) else { return Ok(T::default()) };
        let invalid = |what: &str| Error::invalid(format!("invalid {name} header: {what}"));
        let text = value.as_bytes().trim_ascii();
        if text.is_empty() {
            return Ok(T::default());
        }
        let json = URL_SAFE.decode(text).or_else(|_| STANDARD.decode(text));
        let json = json.map_err(|_| invalid("not base64"))?;
        // No details: they could repeat a part of a password.
        serde_json::from_slice::<Option<T>>(&json)
            .map(Option::unwrap_or_default)
            .map_err(|_| invalid("not the JSON expected"))
    }
}

/// Splits a path into version and decoded pieces. Doubled slashes are one, as with Docker.
fn split_path(uri: &Uri) -> Result<(ApiVersion, Vec<String>)> {
    if uri.path().len() > MAX_PATH {
        return Err(Error::invalid(format!("path is longer than {MAX_PATH} bytes")));
    }
    let (version, path) = version::split(uri.path())?;
    let pieces = path.split('/').filter(|piece| !piece.is_empty());
    Ok((version, pieces.map(|piece| query::decode(piece, false)).collect::<Result<_>>()?))
}

/// Hands an archive's pieces on until it ends, its reader goes, or it stands still. When the reader has
/// gone, the rest is thrown away.
async fn feed(mut unread: Unread, sender: mpsc::Sender<io::Result<Bytes>>) {
    let Some(body) = unread.body() else { return };
    loop {
        let piece = tokio::select! {
            piece = tokio::time::timeout(ARCHIVE_SILENCE, body.frame()) => piece,
            () = sender.closed() => return,
        };
        let piece = match piece {
            Ok(None) => {
                // An empty piece is the end; a closed channel without one is a broken connection.
                let _ = sender.send(Ok(Bytes::new())).await;
                return;
            }
            Ok(Some(Ok(frame))) => match frame.into_data() {
                Ok(data) if !data.is_empty() => Ok(data),
                _ => continue,
            },
            Ok(Some(Err(error))) => Err(io::Error::other(error)),
            Err(_) => {
                Err(io::Error::new(io::ErrorKind::TimedOut, "the client sends nothing any more"))
            }
        };
        let failed = piece.is_err();
        if sender.send(piece).await.is_err() || failed {
            return;
        }
    }
}

/// A body that is read as it arrives. Reading blocks: never do it on a thread of the async runtime.
#[derive(Debug)]
pub(crate) struct Archive {
    pieces: mpsc::Receiver<io::Result<Bytes>>,
    current: Bytes,
    ended: bool,
}

impl Read for Archive {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.current.is_empty() {
            self.current = match self.pieces.blocking_recv() {
                Some(piece) => piece?,
                None if self.ended => Bytes::new(),
                None => return Err(io::ErrorKind::UnexpectedEof.into()),
            };
            if self.current.is_empty() {
                self.ended = true;
                self.pieces.close();
            }
        }
        let length = buffer.len().min(self.current.len());
        self.current.split_to(length).copy_to_slice(buffer.get_mut(..length).unwrap_or_default());
        Ok(length)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_decoded_piece_by_piece() {
        let uri: Uri = "/v1.41//images/localhost%3A5000/a%2Fb/json?x=1".parse().unwrap();
        let (version, path) = split_path(&uri).unwrap();
        assert_eq!(version, ApiVersion::one(41));
        assert_eq!(path, ["images", "localhost:5000", "a/b", "json"]);
        let long: Uri = format!("/{}", "a".repeat(5000)).parse().unwrap();
        assert!(split_path(&long).is_err());
    }

    #[test]
    fn an_archive_is_read_to_its_end() {
        let (sender, pieces) = mpsc::channel(ARCHIVE_PIECES);
        for piece in ["abc", "de", ""] {
            sender.try_send(Ok(Bytes::from_static(piece.as_bytes()))).unwrap();
        }
        let mut archive = Archive { pieces, current: Bytes::new(), ended: false };
        let mut text = String::new();
        archive.read_to_string(&mut text).unwrap();
        assert_eq!(text, "abcde");
        assert_eq!(archive.read(&mut [0; 4]).unwrap(), 0);
    }

    #[test]
    fn a_broken_connection_is_not_an_end() {
        let (sender, pieces) = mpsc::channel(ARCHIVE_PIECES);
        sender.try_send(Ok(Bytes::from_static(b"abc"))).unwrap();
        sender.try_send(Err(io::Error::other("gone"))).unwrap();
        let mut archive = Archive { pieces, current: Bytes::new(), ended: false };
        assert!(archive.read_to_string(&mut String::new()).is_err());
    }
}
