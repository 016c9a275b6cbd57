//! The OCI runtime command line.

use std::ffi::OsString;
use std::process::ExitCode;

/// Runs one command line.
pub fn main(_arguments: Vec<OsString>) -> ExitCode {
    ExitCode::FAILURE
}
