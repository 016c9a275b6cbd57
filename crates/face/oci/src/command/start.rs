//! `start`: lets the process of a created container execute its command.

use std::fs;

use dhow_error::{Error, Result};
use dhow_runtime::{GateError, open_gate};

use super::{Command, PLAIN};
use crate::container::{Container, Status};
use crate::globals::Globals;
use crate::turns;
use crate::words::Words;

pub(super) const COMMAND: Command =
    Command { name: "start", about: "execute the command of a created container", run, ..PLAIN };

fn run(globals: &Globals, words: &Words) -> Result<u8> {
    let container = Container::load(&globals.root, words.first()?)?;
    match container.status()? {
        Status::Created => {}
        Status::Stopped => return Err(stopped()),
        Status::Running => {
            return Err(Error::conflict("cannot start an already running container"));
        }
        Status::Paused => return Err(Error::conflict("cannot start a container that is paused")),
    }
    let gate = container.folder.gate();
    let opened = open_gate(&gate).map_err(|error| match error {
        GateError::NobodyWaits => stopped(),
        GateError::Command(error) if error.is_of_hooks() => {
            turns::failed(&container, error, &globals.log)
        }
        other => Error::from(other).context("unable to start container process"),
    });
    // Nobody waits at it any more, whatever came of it.
    let _ = fs::remove_file(&gate);
    opened?;
    turns::started(&container, &globals.log)?;
    Ok(0)
}

fn stopped() -> Error {
    Error::conflict("cannot start a container that has stopped")
}
