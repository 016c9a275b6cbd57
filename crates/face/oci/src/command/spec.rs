//! `spec`: a configuration to begin with.

use std::fs::OpenOptions;
use std::io::Write;
use std::path::Path;

use dhow_error::{Error, Kind, Result};
use dhow_spec::oci_runtime::Spec;

use super::{Command, PLAIN};
use crate::bundle::CONFIG;
use crate::globals::Globals;
use crate::words::{Flag, Words};

pub(super) const COMMAND: Command = Command {
    name: "spec",
    usage: "",
    about: "write a config.json to begin with",
    flags: &[Flag::value("bundle", "the folder to write it to (default: .)").short("b")],
    arguments: (0, 0),
    run,
    ..PLAIN
};

/// Writes the specification's example into the bundle, unless there is a configuration.
fn run(_: &Globals, words: &Words) -> Result<u8> {
    let path = Path::new(words.value("bundle").unwrap_or(".")).join(CONFIG);
    let failed = |error: std::io::Error| {
        Error::caused(Kind::Conflict, format!("cannot write {}", path.display()), error)
    };
    let text = serde_json::to_vec_pretty(&Spec::default())
        .map_err(|error| Error::caused(Kind::Internal, "cannot write the configuration", error))?;
    let mut file = OpenOptions::new().write(true).create_new(true).open(&path).map_err(failed)?;
    file.write_all(&text).map_err(failed)?;
    Ok(0)
}
