//! What a new process's descriptors and pid are handed to: sockets and files that the caller names.

use std::fs;
use std::os::fd::BorrowedFd;
use std::os::unix::net::UnixStream;
use std::path::Path;

use dhow_error::{Error, Kind, Result};
use dhow_sys::fdpass;
use dhow_sys::process::Reason;

/// Sends the master of a terminal to who listens at `socket`, with its name as the message.
pub(crate) fn console(master: BorrowedFd<'_>, socket: &Path) -> Result<()> {
    send(master, b"/dev/ptmx", socket)
}

/// Sends a pid descriptor to who listens at `socket`.
pub(crate) fn pidfd(process: BorrowedFd<'_>, socket: &Path) -> Result<()> {
    send(process, b"pidfd", socket)
}

fn send(descriptor: BorrowedFd<'_>, name: &[u8], socket: &Path) -> Result<()> {
    let failed = |source: Box<dyn std::error::Error + Send + Sync>| {
        let message = format!("cannot send a descriptor to {}", socket.display());
        Error::caused(Kind::Invalid, message, source)
    };
    let stream = UnixStream::connect(socket).map_err(|error| failed(error.into()))?;
    fdpass::send(&stream, name, &[descriptor]).map_err(|errno| failed(Reason(errno).into()))
}

/// Writes a pid to `file`, whole or not at all.
pub(crate) fn pid(pid: i32, file: &Path) -> Result<()> {
    let mut name = std::ffi::OsString::from(".");
    name.push(file.file_name().unwrap_or_default());
    let next = file.with_file_name(name);
    fs::write(&next, pid.to_string()).and_then(|()| fs::rename(&next, file)).map_err(|error| {
        Error::caused(Kind::Invalid, format!("cannot write {}", file.display()), error)
    })
}

/// How many descriptors after the standard ones are sockets that systemd listens at for us
/// (sd_listen_fds(3)). They are the container's.
pub(crate) fn listening() -> u32 {
    let is_ours = number_of("LISTEN_PID") == Some(std::process::id());
    number_of("LISTEN_FDS").filter(|_| is_ours).unwrap_or(0)
}

fn number_of(variable: &str) -> Option<u32> {
    std::env::var(variable).ok()?.parse().ok()
}

/// Checks that `count` descriptors after the standard and the `listening` ones are there to be handed on;
/// gives how many are, with those.
///
/// Errors: invalid for one that is not open.
pub(crate) fn preserved(listening: u32, count: u32) -> Result<u32> {
    for number in 0..count {
        let descriptor = u64::from(listening) + u64::from(number) + 3;
        if fs::symlink_metadata(format!("/proc/self/fd/{descriptor}")).is_err() {
            let message = format!("unable to stat preserved-fd {number} (of {count})");
            return Err(
                Error::invalid(message).with_hint(format!("descriptor {descriptor} is not open"))
            );
        }
    }
    Ok(listening.saturating_add(count))
}
