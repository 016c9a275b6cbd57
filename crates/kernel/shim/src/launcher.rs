//! The launcher: one warm thread that forks shims.
//!
//! ```text
//!   descriptor 0 ── 1 byte + descriptors ──► recvmsg ── clone3 ──► child: becomes the shim (start.rs)
//!                                               ▲          └─────► parent: closes them, waits again
//!   end of descriptor 0 ──► exit                └──────────────────────────┘
//! ```
//!
//! It never reads a request: that lies in a memfd which it hands to the child unread. So it stays as small
//! as it was at its start, has no secret to leak into the next shim, and cannot be made to block or to
//! parse anything. Its children leave no zombies, and it may end at any time without their noticing.

use std::os::fd::{AsFd, OwnedFd};

use dhow_runtime::Bare;
use dhow_sys::namespace::Namespaces;
use dhow_sys::rustix::fs::{Mode, OFlags};
use dhow_sys::rustix::io::Errno;
use dhow_sys::{event, fdpass, process};

use crate::protocol::{Failed, Reply};
use crate::start;

/// Runs the launcher on descriptor 0 until that ends. What the binary does when its `argv[0]` is
/// [`LAUNCHER_ARGV0`](crate::LAUNCHER_ARGV0); call it before anything has made a thread.
pub fn launcher_main() -> ! {
    let code = match prepare() {
        Ok(socket) => serve(socket),
        Err(_) => 1,
    };
    process::exit(code)
}

/// Puts this process in order; its socket, moved away from the standard descriptors.
fn prepare() -> Result<OwnedFd, Errno> {
    use dhow_sys::rustix;
    dhow_sys::seal::close_inherited()?;
    let socket = rustix::io::fcntl_dupfd_cloexec(rustix::stdio::stdin(), 3)?;
    let flags = OFlags::RDWR | OFlags::CLOEXEC | OFlags::NOCTTY;
    let null = rustix::fs::open("/dev/null", flags, Mode::empty())?;
    rustix::stdio::dup2_stdin(&null)?;
    rustix::stdio::dup2_stdout(&null)?;
    rustix::stdio::dup2_stderr(&null)?;
    rustix::process::chdir(c"/")?;
    // Its name would be the number of the descriptor it was executed from.
    rustix::thread::set_name(c"dhow-launcher")?;
    event::forget_children();
    Ok(socket)
}

/// Forks a shim for each message. Gives the exit code.
fn serve(socket: OwnedFd) -> u8 {
    let mut socket = Some(socket);
    let mut bare = None;
    let mut is_first = true;
    loop {
        let Some(ours) = &socket else {
            return 1;
        };
        let message = match fdpass::receive(ours, &mut [0]) {
            Ok(message) if message.bytes == 0 => return 0,
            Ok(message) => message,
            // A daemon that was killed with a message under way.
            Err(Errno::CONNRESET) => return 0,
            Err(_) => return 1,
        };
        let received_at_ns = process::monotonic_ns();
        if message.truncated || message.descriptors.len() < 2 {
            continue;
        }
        // Both sides of the fork have all descriptors. The child drops the launcher's, this side drops
        // the container's, before it could fork the next.
        let mut descriptors = Some(message.descriptors);
        let forked = process::clone3(Namespaces::NONE, None, || {
            socket = None;
            start::run(descriptors.take().unwrap_or_default(), bare.take(), received_at_ns)
        });
        if let (Err(error), Some([_, reply, ..])) = (forked, descriptors.as_deref()) {
            refuse(reply, error);
        }
        drop(descriptors);
        if is_first {
            // Not before: the child that makes it would have our socket for an instant, and a daemon that
            // finds us dead then would take it for us. Where it cannot be made, starts are slower.
            bare = Bare::make().ok();
            is_first = false;
        }
    }
}

/// Says that there is no shim.
fn refuse(reply: &OwnedFd, error: Errno) {
    let failed = Failed {
        step: "fork".to_owned(),
        message: format!("cannot fork a shim: {}", process::Reason(error)),
        hint: None,
        exit_code: 125,
    };
    if let Ok(frame) = crate::frame::encode(&Reply::Failed(failed)) {
        let _ = fdpass::send(reply.as_fd(), &frame, &[]);
    }
}
