//! Attaching to a container's streams, and the size of its terminal.

use std::sync::Arc;

use dhow_docker_wire::frame::{Header, Stream as WireStream};
use dhow_engine::{LogOptions, Stream, Streams};
use dhow_error::{Error, Result};
use tokio::io::AsyncWriteExt;

use crate::Services;
use crate::answer::{self, Answer};
use crate::detach::Detach;
use crate::exec;
use crate::hijack::{self, Client};
use crate::request::Request;

/// `POST /containers/{id}/attach`: what was written before first (`logs`), then the streams (`stream`).
pub(crate) async fn attach(
    services: &Arc<Services>,
    request: Request,
    name: &str,
) -> Result<Answer> {
    let query = &request.query;
    let streams = Streams {
        stdin: query.flag("stdin", false),
        stdout: query.flag("stdout", false),
        stderr: query.flag("stderr", false),
    };
    let (past, live) = (query.flag("logs", false), query.flag("stream", false));
    let keys = query.get("detachKeys").map(str::to_owned);
    let view = services.engine.inspect(name).await?;
    if live && view.state.status == dhow_engine::Status::Paused {
        return Err(Error::conflict(format!(
            "container {name} is paused, unpause the container before attach"
        )));
    }
    let tty = view.spec.tty;
    let detach = Detach::parse(keys.as_deref())?;
    let detach = if tty && streams.stdin { Some(detach) } else { None };
    let log = if past { Some(read_log(services, &view.id, streams, tty).await?) } else { None };
    let attached = if live { Some(services.engine.attach(&view.id, streams).await?) } else { None };
    Ok(hijack::take_over(hijack::Connection::of(request), tty, move |mut client| async move {
        if let Some(log) = log
            && replay(log, &mut client).await.is_err()
        {
            return;
        }
        if let Some(attached) = attached {
            hijack::copy(client, attached.stream.into_inner(), detach, streams.stdin).await;
        }
    }))
}

/// `POST /containers/{id}/resize`.
pub(crate) async fn resize(services: &Services, request: Request, name: &str) -> Result<Answer> {
    services.engine.resize(name, exec::size(&request)?).await?;
    Ok(answer::status(hyper::StatusCode::OK))
}

/// What a client is shown of the past, and whether in frames.
struct Past {
    log: dhow_engine::LogStream,
    framed: bool,
}

async fn read_log(services: &Services, id: &str, streams: Streams, tty: bool) -> Result<Past> {
    let options =
        LogOptions { stdout: streams.stdout, stderr: streams.stderr, ..LogOptions::default() };
    Ok(Past { log: services.engine.logs(id, options).await?, framed: !tty })
}

/// Shows the past.
async fn replay(mut past: Past, client: &mut Client) -> std::io::Result<()> {
    while let Some(Ok(entry)) = past.log.next().await {
        if past.framed {
            let stream = match entry.stream {
                Stream::Stdout => WireStream::Stdout,
                Stream::Stderr => WireStream::Stderr,
            };
            let length_bytes = u32::try_from(entry.bytes.len()).unwrap_or(u32::MAX);
            client.output.write_all(&Header { stream, length_bytes }.encode()).await?;
        }
        client.output.write_all(&entry.bytes).await?;
    }
    Ok(())
}
