//! `run`: a container that is created and started at once; in the foreground until it ends.

use dhow_error::Result;
use dhow_sys::process::SignalMask;

use super::{Command, PLAIN};
use crate::birth::{self, Beginning};
use crate::death;
use crate::foreground;
use crate::globals::Globals;
use crate::words::{Flag, Words};

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
    if !words.is_on("no-subreaper") {
        foreground::adopt_orphans()?;
    }
    let (container, running) = birth::make(globals, words, Beginning::Foreground)
        .map_err(|error| error.context("run failed"))?;
    let code = foreground::stay(running)?;
    if !words.is_on("keep") {
        death::clear(&container, &globals.log)?;
    }
    Ok(code)
}
