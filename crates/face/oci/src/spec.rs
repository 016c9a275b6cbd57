//! A bundle's configuration: written to begin with, and read to run.

use std::fs::{self, OpenOptions};
use std::io::{Read, Write};
use std::path::Path;

use dhow_error::{Error, Kind, Result};
use dhow_spec::oci_runtime::Spec;

/// No configuration is larger.
const LARGEST: u64 = 16 << 20;

/// Writes the specification's example into `bundle`, unless there is a configuration.
pub(crate) fn write(bundle: &Path) -> Result<()> {
    let path = bundle.join("config.json");
    let failed = |error: std::io::Error| {
        Error::caused(Kind::Conflict, format!("cannot write {}", path.display()), error)
    };
    let text = serde_json::to_vec_pretty(&Spec::default())
        .map_err(|error| Error::caused(Kind::Internal, "cannot write the configuration", error))?;
    let mut file = OpenOptions::new().write(true).create_new(true).open(&path).map_err(failed)?;
    file.write_all(&text).map_err(failed)
}

/// Reads the configuration of `bundle`.
///
/// Errors: not found; invalid, with line and column, if it is not what the specification says.
pub(crate) fn read(bundle: &Path) -> Result<Spec> {
    let path = bundle.join("config.json");
    let failed = |error: std::io::Error| {
        Error::caused(Kind::NotFound, format!("cannot read {}", path.display()), error)
            .with_hint("name the bundle's folder with --bundle")
    };
    let mut text = Vec::new();
    fs::File::open(&path).map_err(failed)?.take(LARGEST).read_to_end(&mut text).map_err(failed)?;
    serde_json::from_slice(&text).map_err(|error| {
        Error::caused(Kind::Invalid, format!("{} is malformed", path.display()), error)
    })
}
