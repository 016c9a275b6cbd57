//! `state`: what is known of a container, as JSON.

use std::collections::BTreeMap;
use std::path::Path;

use dhow_error::{Error, Kind, Result};
use serde::Serialize;

use super::{Command, PLAIN};
use crate::container::{Container, Status};
use crate::globals::Globals;
use crate::owner;
use crate::words::Words;

pub(super) const COMMAND: Command =
    Command { name: "state", about: "tell the state of a container", run, ..PLAIN };

/// A container's state, as `state` and `list` tell it (runtime specification, "State").
#[derive(Debug, Serialize)]
pub(super) struct State<'a> {
    #[serde(rename = "ociVersion")]
    version: &'a str,
    pub(super) id: &'a str,
    pub(super) pid: i32,
    pub(super) status: &'static str,
    pub(super) bundle: &'a Path,
    rootfs: &'a Path,
    pub(super) created: &'a str,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    annotations: &'a BTreeMap<String, String>,
    pub(super) owner: String,
}

impl<'a> State<'a> {
    /// The state of `container`, which has that status.
    pub(super) fn new(container: &'a Container, status: Status) -> Self {
        let record = &container.record;
        Self {
            version: &record.oci_version,
            id: &record.id,
            pid: container.pid(status),
            status: status.name(),
            bundle: &record.bundle,
            rootfs: &record.rootfs,
            created: &record.created,
            annotations: &record.annotations,
            owner: owner::of(&container.folder),
        }
    }
}

fn run(globals: &Globals, words: &Words) -> Result<u8> {
    let container = Container::load(&globals.root, words.first()?)?;
    let state = State::new(&container, container.status()?);
    let text = serde_json::to_string_pretty(&state)
        .map_err(|error| Error::caused(Kind::Internal, "cannot write the state", error))?;
    crate::say(&text)?;
    Ok(0)
}
