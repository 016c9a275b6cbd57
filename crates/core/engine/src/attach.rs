//! Attaching clients to containers.
//!
//! A client that comes before the start gets one end of a socket pair; the other goes to the shim with the
//! launch and is attached from the first byte on. A client that comes later is a connection to the shim.
//! The gate decides which: while a container starts, a client waits.

use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream as StdStream;
use std::sync::Arc;

use dhow_error::{Error, Kind, Result};
use dhow_shim::client::MAX_ATTACH;
use dhow_shim::protocol::{AttachStreams, Reply, Request};
use dhow_sys::rustix::event::{PollFd, PollFlags, Timespec, poll};
use tokio::net::UnixStream;

use crate::attached::{AttachStream, Attached};
use crate::container::Container;
use crate::engine::Shared;
use crate::options::Streams;
use crate::shim;
use crate::spec::ConsoleSize;
use crate::state::Status;

impl Shared {
    /// See [`crate::Engine::attach`].
    pub(crate) async fn attach(
        &self,
        container: &Arc<Container>,
        streams: Streams,
    ) -> Result<Attached> {
        let _gate = container.gate.lock().await;
        let (status, tty) = (container.status(), container.spec().tty);
        let conflict =
            |what: &str| Err(Error::conflict(format!("container {} {what}", container.id)));
        let stream = match status {
            Status::Running => join(container, streams).await?,
            Status::Created | Status::Exited => wait_for_start(container, streams)?,
            Status::Paused => return conflict("is paused, unpause the container before attach"),
            Status::Restarting => {
                return conflict("is restarting, wait until the container is running");
            }
            Status::Removing | Status::Dead => return conflict("is marked for removal"),
        };
        self.publish(container, "attach", std::collections::BTreeMap::new());
        Ok(Attached { tty, stream: AttachStream::new(stream) })
    }

    /// See [`crate::Engine::resize`].
    pub(crate) async fn resize(&self, container: &Container, size: ConsoleSize) -> Result<()> {
        let shim = container.running_shim()?;
        let ConsoleSize { rows, cols } = size;
        shim.tell(&Request::Resize { exec: None, rows, cols }).await?;
        let attributes =
            [("height".to_owned(), rows.to_string()), ("width".to_owned(), cols.to_string())];
        self.publish(container, "resize", attributes.into());
        Ok(())
    }
}

impl From<Streams> for AttachStreams {
    fn from(streams: Streams) -> Self {
        Self { stdin: streams.stdin, stdout: streams.stdout, stderr: streams.stderr }
    }
}

/// A connection to the shim of a running container.
async fn join(container: &Container, streams: Streams) -> Result<UnixStream> {
    let request = Request::Attach { exec: None, streams: streams.into() };
    match container.running_shim()?.call(&request).await {
        Ok((Reply::Failed(failed), _)) => Err(shim::failure(&failed)),
        Ok((_, stream)) => Ok(stream),
        // It has just ended.
        Err(error) if error.kind() == Kind::Unavailable => {
            Err(Error::conflict(format!("container {} is not running", container.id)))
        }
        Err(error) => Err(error),
    }
}

/// One end of a socket whose other end goes with the next start.
fn wait_for_start(container: &Container, streams: Streams) -> Result<UnixStream> {
    let failed = |error| Error::caused(Kind::Internal, "cannot make a socket to attach", error);
    let (ours, theirs) = StdStream::pair().map_err(failed)?;
    ours.set_nonblocking(true).map_err(failed)?;
    let ours = UnixStream::from_std(ours).map_err(failed)?;
    let mut live = container.live();
    live.waiting.retain(|(socket, _)| !is_abandoned(socket));
    if live.waiting.len() >= MAX_ATTACH {
        let message = format!("{MAX_ATTACH} clients wait already for container {}", container.id);
        return Err(Error::new(Kind::Exhausted, message));
    }
    live.waiting.push((theirs.into(), streams.into()));
    Ok(ours)
}

/// Whether the client at the other end has gone.
fn is_abandoned(socket: &OwnedFd) -> bool {
    let mut polled = [PollFd::new(socket, PollFlags::HUP)];
    let now = Timespec { tv_sec: 0, tv_nsec: 0 };
    poll(&mut polled, Some(&now)).is_ok_and(|count| count > 0)
        && polled.iter().any(|entry| entry.revents().contains(PollFlags::HUP))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_that_went_is_noticed() {
        let (ours, theirs) = StdStream::pair().unwrap();
        let theirs = OwnedFd::from(theirs);
        assert!(!is_abandoned(&theirs));
        drop(ours);
        assert!(is_abandoned(&theirs));
    }
}
