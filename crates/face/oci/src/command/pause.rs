//! `pause`: stops every process of a container where it stands.

use dhow_error::{Error, Result};

use super::{Command, PLAIN};
use crate::container::{Container, Status};
use crate::globals::Globals;
use crate::words::Words;

pub(super) const COMMAND: Command =
    Command { name: "pause", about: "suspend all processes of a container", run, ..PLAIN };

fn run(globals: &Globals, words: &Words) -> Result<u8> {
    let container = Container::load(&globals.root, words.first()?)?;
    match container.status()? {
        Status::Running | Status::Created => container.cgroup()?.freeze()?,
        Status::Paused => return Err(Error::conflict("container not running: it is paused")),
        Status::Stopped => return Err(Error::conflict("container not running")),
    }
    Ok(0)
}
