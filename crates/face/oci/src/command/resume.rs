//! `resume`: lets the processes of a paused container go on.

use dhow_error::{Error, Result};

use super::{Command, PLAIN};
use crate::container::{Container, Status};
use crate::globals::Globals;
use crate::words::Words;

pub(super) const COMMAND: Command = Command {
    name: "resume",
    about: "let the processes of a paused container go on",
    run,
    ..PLAIN
};

fn run(globals: &Globals, words: &Words) -> Result<u8> {
    let container = Container::load(&globals.root, words.first()?)?;
    if container.status()? != Status::Paused {
        return Err(Error::conflict("container not paused"));
    }
    container.cgroup()?.thaw()?;
    Ok(0)
}
