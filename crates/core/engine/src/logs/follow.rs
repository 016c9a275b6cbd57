//! Following a log: inotify on its folder says when to look again (`inotify(7)`).
//!
//! The watch is made before the past is read, so that nothing written in between is slept over. The
//! folder and not the file is watched, because rotation replaces the file.

use std::os::fd::OwnedFd;
use std::path::Path;
use std::time::Duration;

use dhow_error::{Error, Kind, Result};
use dhow_sys::rustix::fs::inotify::{self, CreateFlags, WatchFlags};
use dhow_sys::rustix::io::Errno;
use tokio::io::unix::AsyncFd;
use tokio::sync::mpsc;

use super::files::Reader;
use super::{LogEntry, Wanted};
use crate::clock::now_ns;
use crate::container::Container;
use crate::shim::watched;

/// A follower of the log in one folder.
#[derive(Debug)]
pub(super) struct Follower {
    changes: AsyncFd<OwnedFd>,
}

impl Follower {
    /// Begins to watch the folder of the log at `path`.
    pub(super) fn new(path: &Path) -> Result<Self> {
        let folder = path.parent().unwrap_or(path);
        let failed = |error: std::io::Error| {
            Error::caused(Kind::Internal, format!("cannot watch {}", folder.display()), error)
        };
        let watch = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK)
            .map_err(|errno| failed(errno.into()))?;
        let flags = WatchFlags::MODIFY | WatchFlags::CREATE | WatchFlags::MOVED_TO;
        inotify::add_watch(&watch, folder, flags).map_err(|errno| failed(errno.into()))?;
        Ok(Self { changes: watched(watch).map_err(failed)? })
    }

    /// Sends what is written until the container has ended, the client went, or the time asked for is over.
    pub(super) async fn run(
        self,
        mut reader: Reader,
        container: &Container,
        wanted: &Wanted,
        sender: &mpsc::Sender<Result<LogEntry>>,
    ) -> Result<()> {
        let ended = ended(container);
        tokio::pin!(ended);
        let left_ns = wanted.until_ns.map(|until| until.saturating_sub(now_ns()));
        let left = left_ns.map_or(Duration::MAX, Duration::from_nanos);
        let over = tokio::time::sleep(left);
        tokio::pin!(over);
        loop {
            if !send_written(&mut reader, wanted, sender).await? {
                return Ok(());
            }
            tokio::select! {
                changed = self.changed() => changed?,
                () = &mut ended => {
                    // Everything is written by now.
                    send_written(&mut reader, wanted, sender).await?;
                    return Ok(());
                }
                () = &mut over => return Ok(()),
                () = sender.closed() => return Ok(()),
            }
        }
    }

    /// Waits until something in the folder changed.
    async fn changed(&self) -> Result<()> {
        let failed = |error| Error::caused(Kind::Internal, "cannot watch a log", error);
        let mut ready = self.changes.readable().await.map_err(failed)?;
        let mut events = [0_u8; 4096];
        loop {
            match dhow_sys::rustix::io::read(self.changes.get_ref(), &mut events) {
                Ok(_) | Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => break,
                Err(errno) => return Err(failed(errno.into())),
            }
        }
        ready.clear_ready();
        Ok(())
    }
}

/// Sends everything that is written. False if nobody wants more.
async fn send_written(
    reader: &mut Reader,
    wanted: &Wanted,
    sender: &mpsc::Sender<Result<LogEntry>>,
) -> Result<bool> {
    loop {
        // From the page cache, a line at a time: short enough for a task.
        while let Some(entry) = reader.next()? {
            if wanted.is_over(&entry) {
                return Ok(false);
            }
            if wanted.is_wanted(&entry) && sender.send(Ok(entry)).await.is_err() {
                return Ok(false);
            }
        }
        if !reader.take_up_rotated()? {
            return Ok(true);
        }
    }
}

/// Waits until the container does not run. Its shim has written the whole log before anybody hears of the
/// end.
async fn ended(container: &Container) {
    let mut phase = container.watch();
    let _ = phase.wait_for(|now| now.removed || !now.status.is_live()).await;
}
