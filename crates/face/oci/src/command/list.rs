//! `list`: all containers of a state root.

use dhow_error::{Error, Kind, Result};

use super::state::State;
use super::{Command, PLAIN};
use crate::container::{self, Container};
use crate::globals::Globals;
use crate::table;
use crate::words::{Flag, Words};

pub(super) const COMMAND: Command = Command {
    name: "list",
    usage: "",
    about: "list the containers of the state folder",
    flags: &[
        Flag::value("format", "table or json (default: table)").short("f"),
        Flag::switch("quiet", "tell the ids only").short("q"),
    ],
    arguments: (0, 0),
    run,
    ..PLAIN
};

fn run(globals: &Globals, words: &Words) -> Result<u8> {
    let mut containers = Vec::new();
    for id in container::ids(&globals.root)? {
        match Container::load(&globals.root, &id) {
            Ok(container) => containers.push(container),
            // One that is being made or deleted meanwhile.
            Err(error) if error.kind() == Kind::NotFound => {}
            Err(error) => globals.log.error(&format!("load container {id}: {}", error.chain())),
        }
    }
    if words.is_on("quiet") {
        for container in &containers {
            crate::say(&container.record.id)?;
        }
        return Ok(0);
    }
    let states: Result<Vec<State<'_>>> =
        containers.iter().map(|it| Ok(State::new(it, it.status()?))).collect();
    let states = states?;
    let text = match words.value("format").unwrap_or("table") {
        "" | "table" => table::aligned(&rows(&states)),
        "json" => serde_json::to_string(&states)
            .map_err(|error| Error::caused(Kind::Internal, "cannot write the list", error))?,
        _ => return Err(Error::invalid("invalid format option")),
    };
    crate::say(&text)?;
    Ok(0)
}

fn rows(states: &[State<'_>]) -> Vec<Vec<String>> {
    let heading = ["ID", "PID", "STATUS", "BUNDLE", "CREATED", "OWNER"].map(str::to_owned);
    let row = |state: &State<'_>| {
        vec![
            state.id.to_owned(),
            state.pid.to_string(),
            state.status.to_owned(),
            state.bundle.display().to_string(),
            state.created.to_owned(),
            state.owner.clone(),
        ]
    };
    std::iter::once(heading.to_vec()).chain(states.iter().map(row)).collect()
}
