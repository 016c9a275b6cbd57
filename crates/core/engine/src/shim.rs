//! Talking to the shim of a running container.
//!
//! Each request is one connection to the socket in the container's state folder (see
//! `dhow_shim::protocol`). The shim's own process is held by a pid descriptor, so that its end can be
//! awaited. It comes in this order: the whole log is written, `exit.json` is there, waiters hear, the
//! cgroup is gone, attached clients have all output, the process ends.

use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use dhow_cgroup::Cgroup;
use dhow_error::{Error, Kind, Result};
use dhow_shim::protocol::{Exit, Failed, Reply, Request};
use dhow_shim::{client, frame};
use dhow_sys::rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use tokio::io::unix::AsyncFd;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;

/// How long to wait before looking again at a shim that lives and does not answer or end.
const LOOK_AGAIN: Duration = Duration::from_millis(50);

/// The shim of one run of a container.
#[derive(Debug)]
pub(crate) struct Shim {
    state_dir: PathBuf,
    /// `None` if it had ended before it could be opened.
    process: Option<AsyncFd<OwnedFd>>,
}

impl Shim {
    /// The shim with this pid, whose state folder this is. Must be called while it is known to live, so
    /// that the pid is not another's.
    pub(crate) fn new(state_dir: &Path, shim_pid: i32) -> Self {
        let process = Pid::from_raw(shim_pid)
            .and_then(|pid| pidfd_open(pid, PidfdFlags::NONBLOCK).ok())
            .and_then(|pidfd| watched(pidfd).ok());
        Self { state_dir: state_dir.to_owned(), process }
    }

    /// Waits until the shim's process has ended.
    pub(crate) async fn gone(&self) {
        if let Some(process) = &self.process {
            // A pid descriptor becomes readable once, at the end, and stays so.
            let _ = process.readable().await;
        }
    }

    /// Waits until the shim has cleaned up after its container: it is gone, or, when a client that does not
    /// read holds it, at least the cgroup is. One that takes longer than `patience` is killed.
    pub(crate) async fn cleaned_up(&self, cgroup: &Cgroup, patience: Duration) {
        let deadline = Instant::now() + patience;
        while tokio::time::timeout(LOOK_AGAIN, self.gone()).await.is_err() {
            if !cgroup.exists() {
                return;
            }
            if Instant::now() > deadline {
                if let Some(process) = &self.process {
                    let _ = pidfd_send_signal(process.get_ref(), Signal::KILL);
                }
                return self.gone().await;
            }
        }
    }

    /// Sends a request and reads the answer; the connection comes along for what follows it.
    pub(crate) async fn call(&self, request: &Request) -> Result<(Reply, UnixStream)> {
        let mut stream = self.connect()?;
        let bytes = frame::encode(request)?;
        stream.write_all(&bytes).await.map_err(broken)?;
        let reply = read_reply(&mut stream).await?;
        reply.map(|reply| (reply, stream)).ok_or_else(|| client::ClientError::Silent.into())
    }

    /// Sends a request whose answer is only that it was done.
    pub(crate) async fn tell(&self, request: &Request) -> Result<()> {
        match self.call(request).await?.0 {
            Reply::Failed(failed) => Err(failure(&failed)),
            _ => Ok(()),
        }
    }

    /// Waits for the end of the container's first process. `None` if the shim died without saying how.
    pub(crate) async fn wait(&self) -> Option<Exit> {
        loop {
            let answer = self.call(&Request::Wait { exec: None }).await;
            if let Ok((Reply::Exited(exit), _)) = answer {
                return Some(exit);
            }
            // The file is there before the shim goes, so whoever sees the end first may rely on it.
            let ended = tokio::time::timeout(LOOK_AGAIN, self.gone()).await.is_ok();
            if let Ok(Some(exit)) = client::read_exit(&self.state_dir) {
                return Some(exit);
            }
            if ended {
                return None;
            }
        }
    }

    /// Waits for the end of an exec. `None` if the container's end took it away.
    pub(crate) async fn wait_exec(&self, exec: &str) -> Option<Exit> {
        let request = Request::Wait { exec: Some(exec.to_owned()) };
        match self.call(&request).await {
            Ok((Reply::Exited(exit), _)) => Some(exit),
            _ => None,
        }
    }

    fn connect(&self) -> Result<UnixStream> {
        let stream = client::connect(&self.state_dir)?;
        stream.set_nonblocking(true).map_err(broken)?;
        UnixStream::from_std(stream).map_err(broken)
    }
}

/// A descriptor whose readiness the runtime watches.
#[allow(
    deprecated,
    reason = "what replaces it is unsafe, and an owned descriptor keeps the promise that it asks for"
)]
pub(crate) fn watched(descriptor: OwnedFd) -> std::io::Result<AsyncFd<OwnedFd>> {
    AsyncFd::new(descriptor)
}

/// One frame; `None` if the stream ends before it.
pub(crate) async fn read_reply(stream: &mut UnixStream) -> Result<Option<Reply>> {
    let mut header = [0; frame::HEADER_BYTES];
    match stream.read_exact(&mut header).await {
        Ok(_) => {}
        Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => return Ok(None),
        // Closed with something unread on its side.
        Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => return Ok(None),
        Err(error) => return Err(broken(error)),
    }
    let mut payload = vec![0; frame::decode_length(header)?];
    stream.read_exact(&mut payload).await.map_err(broken)?;
    Ok(Some(frame::decode(&payload)?))
}

/// A shim's failure as an error of the kind that its exit code says.
pub(crate) fn failure(failed: &Failed) -> Error {
    let kind = match failed.exit_code {
        127 => Kind::CommandNotFound,
        126 => Kind::CommandNotExecutable,
        _ => Kind::Internal,
    };
    let error = Error::new(kind, failed.message.clone());
    match &failed.hint {
        Some(hint) => error.with_hint(hint.clone()),
        None => error,
    }
}

fn broken(error: std::io::Error) -> Error {
    Error::caused(Kind::Unavailable, "cannot talk to the container's shim", error)
}
