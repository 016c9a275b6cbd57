//! Hearing of the OOM killer as it comes.
//!
//! v1 signals an eventfd that was registered in `cgroup.event_control` (memory.rst, "OOM Control"); cgroup2
//! changes `memory.events`, which inotify tells. Both give a descriptor that is readable when there is
//! something to ask for, and so does the cgroup's end.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use dhow_sys::rustix::event::{EventfdFlags, eventfd};
use dhow_sys::rustix::fs::inotify::{self, CreateFlags, WatchFlags};
use dhow_sys::rustix::fs::{Mode as Permissions, OFlags, open};
use dhow_sys::rustix::io::{Errno, read};

use crate::Result;
use crate::control;
use crate::controller::Controller;
use crate::error::CgroupError;
use crate::group::{Cgroup, control_error};
use crate::layout::Hierarchy;

/// A watch on a cgroup's memory limit.
#[derive(Debug)]
pub struct OomWatch {
    group: Cgroup,
    source: Source,
}

#[derive(Debug)]
enum Source {
    /// v1: the eventfd.
    Event(OwnedFd),
    /// cgroup2: the inotify instance, and how many kills are known.
    Kills(OwnedFd, u64),
}

impl Cgroup {
    /// Begins to watch for the OOM killer. What happened before is not told.
    ///
    /// # Errors
    /// [`CgroupError::NoWatch`] where there is no memory controller, [`CgroupError::Control`] when the
    /// kernel does not let it be watched.
    pub fn watch_oom(&self) -> Result<OomWatch> {
        let source = if let Some(v1) = self.layout.v1(Controller::Memory) {
            Source::Event(self.register(v1)?)
        } else if let Some(v2) = self.layout.unified(Controller::Memory) {
            let file = self.file(v2, "memory.events");
            let watch = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK)
                .and_then(|watch| {
                    inotify::add_watch(&watch, file.as_str(), WatchFlags::MODIFY).map(|_| watch)
                })
                .map_err(|errno| control_error("watch", &file, errno))?;
            Source::Kills(watch, self.oom_kills()?)
        } else {
            let hint = self.layout.missing_hint(Controller::Memory);
            return Err(CgroupError::NoWatch { path: self.path().to_owned(), hint });
        };
        Ok(OomWatch { group: self.clone(), source })
    }

    fn register(&self, v1: &Hierarchy) -> Result<OwnedFd> {
        let file = self.file(v1, "memory.oom_control");
        let event = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)
            .map_err(|errno| control_error("watch", &file, errno))?;
        let oom = open(file.as_str(), OFlags::RDONLY | OFlags::CLOEXEC, Permissions::empty())
            .map_err(|errno| control_error("open", &file, errno))?;
        // The kernel keeps what it needs of `oom`: it may be closed after.
        let line = format!("{} {}", event.as_raw_fd(), oom.as_raw_fd());
        let control = self.file(v1, "cgroup.event_control");
        control::write(&control, &line).map_err(|errno| control_error("write", &control, errno))?;
        Ok(event)
    }
}

impl OomWatch {
    /// How often memory has run out since the last call: at the limit on v1 (with the OOM killer off, the
    /// tasks wait), killed tasks on cgroup2. 0 when the cgroup has gone. Never blocks.
    ///
    /// # Errors
    /// [`CgroupError::Control`] when the counter cannot be read.
    pub fn take(&mut self) -> Result<u64> {
        match &mut self.source {
            Source::Event(event) => {
                let mut count = [0; 8];
                let read = read(&*event, &mut count);
                // The kernel signals the end of a cgroup too.
                let is_there = read.is_ok() && self.group.exists();
                Ok(if is_there { u64::from_ne_bytes(count) } else { 0 })
            }
            Source::Kills(watch, known) => {
                let mut events = [0; 1024];
                while let Ok(1..) | Err(Errno::INTR) = read(&*watch, &mut events) {}
                let now = self.group.oom_kills()?;
                let new = now.saturating_sub(*known);
                *known = now.max(*known);
                Ok(new)
            }
        }
    }
}

impl AsFd for OomWatch {
    fn as_fd(&self) -> BorrowedFd<'_> {
        let (Source::Event(descriptor) | Source::Kills(descriptor, _)) = &self.source;
        descriptor.as_fd()
    }
}
