//! `create`: a container whose process waits for `start`.

use dhow_error::Result;

use super::{Command, PLAIN};
use crate::birth::{self, Beginning};
use crate::globals::Globals;
use crate::words::Words;

pub(super) const COMMAND: Command = Command {
    name: "create",
    about: "create a container; start runs its command",
    flags: &[
        birth::BUNDLE,
        birth::CONSOLE_SOCKET,
        birth::PIDFD_SOCKET,
        birth::PID_FILE,
        birth::NO_PIVOT,
        birth::NO_NEW_KEYRING,
        birth::PRESERVE_FDS,
    ],
    run,
    ..PLAIN
};

fn run(globals: &Globals, words: &Words) -> Result<u8> {
    birth::make(globals, words, Beginning::AtGate)
        .map_err(|error| error.context("create failed"))?;
    Ok(0)
}
