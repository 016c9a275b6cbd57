//! `delete`: removes what is left of a container.

use dhow_error::{Error, Kind, Result};

use super::{Command, PLAIN};
use crate::container::{Container, Folder, Status};
use crate::death;
use crate::globals::Globals;
use crate::words::{Flag, Words};

pub(super) const COMMAND: Command = Command {
    name: "delete",
    about: "remove a container that has stopped",
    flags: &[Flag::switch("force", "kill it first if it still runs").short("f")],
    run,
    ..PLAIN
};

fn run(globals: &Globals, words: &Words) -> Result<u8> {
    let (id, force) = (words.first()?, words.is_on("force"));
    let mut found = Container::load(&globals.root, id);
    if force && found.as_ref().is_err_and(|error| error.kind() == Kind::NotFound) {
        found = Container::load_unfinished(&globals.root, id);
    }
    let container = match found {
        Ok(container) => container,
        Err(_) if force => {
            // A create that was killed before it had a record has nothing but its folder; a record that
            // cannot be read names nothing that could be ended.
            Folder::of(&globals.root, id)?.remove()?;
            return Ok(0);
        }
        Err(error) => return Err(error),
    };
    if !force {
        let status = container.status()?;
        if matches!(status, Status::Running | Status::Paused) {
            let name = status.name();
            let message = format!("cannot delete container {id} that is not stopped: {name}");
            return Err(Error::conflict(message).with_hint("kill it first, or delete --force"));
        }
    }
    death::clear(&container, &globals.log)?;
    Ok(0)
}
