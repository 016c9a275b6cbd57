//! `run`: a container that is created and started at once; in the foreground until it ends.

use std::os::fd::AsFd;

use dhow_error::{Error, Kind, Result};
use dhow_runtime::Running;
use dhow_sys::event::{Ended, reap, send_signal};
use dhow_sys::process::{SignalMask, wait_signal};
use dhow_sys::rustix::io::Errno;

use super::{Command, PLAIN};
use crate::birth::{self, Beginning};
use crate::death;
use crate::globals::Globals;
use crate::words::{Flag, Words};

const SIGCHLD: i32 = 17;

pub(super) const COMMAND: Command = Command {
    name: "run",
    about: "create and start a container, and stay with it until it ends",
    flags: &[
        birth::BUNDLE,
        birth::CONSOLE_SOCKET,
        birth::PIDFD_SOCKET,
        birth::PID_FILE,
        birth::NO_PIVOT,
        birth::NO_NEW_KEYRING,
        birth::PRESERVE_FDS,
        Flag::switch("detach", "leave the container alone once it runs").short("d"),
        Flag::switch("keep", "do not delete the container when it ends"),
        Flag::switch("no-subreaper", "do not adopt the container's orphans"),
    ],
    seals: true,
    run,
    ..PLAIN
};

fn run(globals: &Globals, words: &Words) -> Result<u8> {
    if words.is_on("detach") {
        birth::make(globals, words, Beginning::Detached)
            .map_err(|error| error.context("run failed"))?;
        return Ok(0);
    }
    SignalMask::block_all();
    let (container, running) = birth::make(globals, words, Beginning::Foreground)
        .map_err(|error| error.context("run failed"))?;
    let code = stay(&running)?;
    if !words.is_on("keep") {
        death::clear(&container)?;
    }
    Ok(code)
}

/// Waits for the end of the container's first process and passes signals on.
fn stay(running: &Running) -> Result<u8> {
    let lost = |error: Errno| Error::caused(Kind::Internal, "cannot wait for the container", error);
    loop {
        match wait_signal() {
            Ok(SIGCHLD) => match reap(running.pidfd.as_fd()).map_err(lost)? {
                Some(Ended::Code(code)) => return Ok(u8::try_from(code).unwrap_or(255)),
                Some(Ended::Signal(signal)) => return Ok(u8::try_from(128 + signal).unwrap_or(255)),
                None => {}
            },
            // A container that has just ended needs no signal.
            Ok(signal) => drop(send_signal(running.pidfd.as_fd(), signal)),
            Err(Errno::INTR) => {}
            Err(error) => return Err(lost(error)),
        }
    }
}
