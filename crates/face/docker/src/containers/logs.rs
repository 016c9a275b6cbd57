//! `GET /containers/{id}/logs`.

use bytes::{BufMut, BytesMut};
use dhow_docker_wire::frame::{Header, MULTIPLEXED, RAW, Stream as WireStream};
use dhow_engine::{LogEntry, LogOptions, LogStream, Stream, rfc3339};
use dhow_error::{Error, Result};
use futures_util::FutureExt;

use crate::answer::{self, Answer, Gone, Writer};
use crate::query::Query;
use crate::request::Request;
use crate::version::ApiVersion;
use crate::{Services, errors, time};

/// Entries are collected up to that many bytes before they are sent, as far as they are there.
const PIECE: usize = 32 << 10;

/// How entries are written.
#[derive(Debug, Clone, Copy)]
struct Form {
    tty: bool,
    timestamps: bool,
}

/// Streams a container's log.
pub(crate) async fn logs(services: &Services, request: Request, name: &str) -> Result<Answer> {
    let options = options(&request.query)?;
    let tty = services.engine.inspect(name).await?.spec.tty;
    let form = Form { tty, timestamps: request.query.flag("timestamps", false) };
    let log = services.engine.logs(name, options).await?;
    let framed = !tty && request.version >= ApiVersion::one(42);
    let content_type = if framed { MULTIPLEXED } else { RAW };
    Ok(answer::stream(content_type, move |writer| async move {
        let _ = send(log, form, &writer).await;
    }))
}

fn options(query: &Query) -> Result<LogOptions> {
    let (stdout, stderr) = (query.flag("stdout", false), query.flag("stderr", false));
    if !stdout && !stderr {
        return Err(Error::invalid("Bad parameters: you must choose at least one stream"));
    }
    let moment = |name: &str| query.get(name).map(time::parse).transpose();
    Ok(LogOptions {
        stdout,
        stderr,
        follow: query.flag("follow", false),
        // Docker takes anything that is no number, and negative ones, for all lines.
        tail: query.get("tail").and_then(|text| text.parse().ok()),
        since_ns: moment("since")?.filter(|since| *since != 0),
        until_ns: moment("until")?.filter(|until| *until != 0),
    })
}

/// Sends entries as they come, several at once if they are there.
async fn send(mut log: LogStream, form: Form, writer: &Writer) -> Result<(), Gone> {
    let mut piece = BytesMut::new();
    while let Some(entry) = log.next().await {
        append(&mut piece, entry, form);
        while piece.len() < PIECE
            && let Some(Some(entry)) = log.next().now_or_never()
        {
            append(&mut piece, entry, form);
        }
        writer.write(piece.split().freeze()).await?;
    }
    Ok(())
}

fn append(piece: &mut BytesMut, entry: Result<LogEntry>, form: Form) {
    let (stream, time, bytes) = match entry {
        Ok(entry) => {
            let stream = match entry.stream {
                Stream::Stdout => WireStream::Stdout,
                Stream::Stderr => WireStream::Stderr,
            };
            (stream, form.timestamps.then(|| rfc3339(entry.time_ns)), entry.bytes)
        }
        // The status was sent long before: this is all that can be said.
        Err(error) => {
            let text = format!("Error grabbing logs: {}\n", errors::message(&error));
            (WireStream::Stderr, None, text.into_bytes())
        }
    };
    let time_bytes = time.as_ref().map_or(0, |time| time.len() + 1);
    if !form.tty {
        let length_bytes = u32::try_from(time_bytes + bytes.len()).unwrap_or(u32::MAX);
        piece.put_slice(&Header { stream, length_bytes }.encode());
    }
    if let Some(time) = time {
        piece.put_slice(time.as_bytes());
        piece.put_u8(b' ');
    }
    piece.put_slice(&bytes);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_are_framed_with_their_time() {
        let entry = || {
            Ok(LogEntry {
                stream: Stream::Stderr,
                time_ns: 1_700_000_000_000_000_000,
                bytes: b"x\n".to_vec(),
            })
        };
        let mut piece = BytesMut::new();
        append(&mut piece, entry(), Form { tty: false, timestamps: true });
        assert_eq!(&piece[..8], [2, 0, 0, 0, 0, 0, 0, 33]);
        assert_eq!(&piece[8..], b"2023-11-14T22:13:20.000000000Z x\n".as_slice());
        let mut piece = BytesMut::new();
        append(&mut piece, entry(), Form { tty: true, timestamps: false });
        assert_eq!(&piece[..], b"x\n");
    }

    #[test]
    fn options_read() {
        let options = |text: &str| super::options(&Query::parse(text).unwrap());
        assert!(options("follow=1").is_err());
        assert_eq!(options("stdout=1&tail=all").unwrap().tail, None);
        assert_eq!(options("stdout=1&tail=-1").unwrap().tail, None);
        assert_eq!(options("stdout=1&tail=5&since=1").unwrap().tail, Some(5));
        assert_eq!(options("stdout=1&since=0").unwrap().since_ns, None);
        assert!(options("stdout=1&since=x").is_err());
    }
}
