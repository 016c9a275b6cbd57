//! Handing the listener of a seccomp filter to the program that answers for the container (runtime
//! specification, config-linux.md "Seccomp", "The Container Process State").
//!
//! ```text
//!   child   loads the filter ─ halt: listened(number) ┐             ┌─► goes on; its calls are answered
//!   parent                                            └─ takes the descriptor (pidfd_getfd)
//!                                                        ─► connects to listenerPath ─► state, descriptor
//! ```

use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;

use dhow_error::Kind;
use dhow_spec::oci_runtime::LinuxSeccomp;
use dhow_sys::fdpass;
use dhow_sys::process::Reason;
use dhow_sys::rustix::fs::{Mode, OFlags, open};
use dhow_sys::rustix::io::Errno;
use dhow_sys::rustix::process::{Pid, PidfdFlags, PidfdGetfdFlags, pidfd_getfd, pidfd_open};

use crate::error::LaunchError;
use crate::told::{Status, Told};

const STEP: &str = "seccomp";

/// Who answers the calls that a seccomp filter hands over.
#[derive(Debug, Clone, Copy)]
pub struct Listener<'a> {
    /// Its socket.
    pub path: &'a Path,
    /// What it is told besides the state.
    pub metadata: &'a str,
    /// The container.
    pub told: &'a Told,
    /// The container's first process, if it is not the one that has the filter.
    pub container: Option<i32>,
}

impl<'a> Listener<'a> {
    /// That of a configuration, if it has one. `container` is as in [`Listener::container`].
    pub fn of(seccomp: &'a LinuxSeccomp, told: &'a Told, container: Option<i32>) -> Option<Self> {
        let path = seccomp.listener_path().as_deref()?;
        let metadata = seccomp.listener_metadata().as_deref().unwrap_or_default();
        Some(Self { path, metadata, told, container })
    }

    /// Hands it the descriptor of that `number` of the process `pid`, a child of ours.
    pub(crate) fn give(&self, pid: i32, number: i32) -> Result<(), LaunchError> {
        let descriptor = Pid::from_raw(pid)
            .ok_or(Errno::SRCH)
            .and_then(|pid| pidfd_open(pid, PidfdFlags::empty()))
            .and_then(|process| pidfd_getfd(&process, number, PidfdGetfdFlags::empty()))
            .map_err(|errno| failed("cannot take over the seccomp listener", errno))?;
        let status = if self.container.is_some() { Status::Running } else { Status::Creating };
        let first = self.container.unwrap_or(pid);
        let state = self.told.process_state(status, (pid, first), self.metadata);
        self.send(state.as_bytes(), descriptor.as_fd()).map_err(|errno| {
            let path = self.path.display();
            failed(&format!("cannot hand the seccomp listener to {path}"), errno)
                .with_hint("linux.seccomp.listenerPath names the socket of who is to answer")
        })
    }

    /// One connection, one state.
    fn send(&self, state: &[u8], descriptor: BorrowedFd<'_>) -> Result<(), Errno> {
        let folder = self.path.parent().ok_or(Errno::INVAL)?;
        let name = self.path.file_name().and_then(|name| name.to_str()).ok_or(Errno::INVAL)?;
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let folder = open(folder, flags, Mode::empty())?;
        let socket = fdpass::connect_in(folder.as_fd(), name)?;
        fdpass::send(&socket, state, &[descriptor])
    }
}

/// What is said of a filter with a listener for which there is none.
pub(crate) fn nobody() -> LaunchError {
    LaunchError::new(
        STEP,
        Kind::Unsupported,
        "the seccomp filter hands calls over, and nobody is there to answer them",
    )
}

fn failed(message: &str, errno: Errno) -> LaunchError {
    LaunchError::new(STEP, Kind::Internal, format!("{message}: {}", Reason(errno)))
}
