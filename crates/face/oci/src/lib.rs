//! The OCI runtime command line: `dhow oci`, or the binary called as `runc` or `dhow-runtime`.
//!
//! ```text
//!   dhow oci run ...  ──► read-only view of our binary ──► the same command line, sealed ──► runtime
//! ```
//!
//! A container can open `/proc/PID/exe` of whoever starts it. So the command first becomes a read-only
//! view of the binary, and only that one touches containers (CVE-2019-5736).
//!
//! It is dispatched before anything of the daemon or its command line exists, and reads its few words
//! itself. Today it runs containers in the foreground (`run`), writes a bundle's configuration (`spec`)
//! and tells its version; the rest of runc's commands are refused by name.

mod arguments;
mod run;
mod spec;

use std::ffi::{CString, OsString};
use std::io::Write;
use std::os::unix::ffi::OsStringExt;
use std::path::Path;
use std::process::ExitCode;

use arguments::{Arguments, Command};
use dhow_error::{Error, Kind, Result};
use dhow_sys::process::Strings;
use dhow_sys::seal::Binary;

/// The name under which the sealed binary is called.
pub const SEALED_ARGV0: &str = "dhow-oci";

/// What `--version` tells of the specification.
const SPECIFICATION: &str = "1.2.0";

/// Runs one command line, `arguments` being what follows the program's name and `oci`. What starts
/// nothing is done at once; what does becomes the sealed binary first.
pub fn main(arguments: Vec<OsString>) -> ExitCode {
    let outcome = Arguments::parse(&arguments).and_then(|parsed| match parsed.command {
        Command::Run { .. } => Err(seal(&parsed.root, arguments)),
        command => perform(&parsed.root, command),
    });
    tell(outcome)
}

/// Runs one command line in the sealed binary.
pub fn sealed_main(arguments: Vec<OsString>) -> ExitCode {
    let outcome = Arguments::parse(&arguments);
    tell(outcome.and_then(|parsed| perform(&parsed.root, parsed.command)))
}

fn perform(root: &Path, command: Command) -> Result<u8> {
    match command {
        Command::Run { id, bundle, pid_file } => run::run(root, &id, &bundle, pid_file.as_deref()),
        Command::Spec { bundle } => spec::write(&bundle).map(|()| 0),
        Command::Version => {
            say(&format!(
                "dhow-runtime version {}\nspec: {SPECIFICATION}",
                env!("CARGO_PKG_VERSION")
            ));
            Ok(0)
        }
        Command::Help => {
            say(arguments::HELP);
            Ok(0)
        }
    }
}

/// Becomes the sealed binary; returns only why that failed.
fn seal(root: &Path, arguments: Vec<OsString>) -> Error {
    let words = std::iter::once(OsString::from(SEALED_ARGV0)).chain(arguments);
    let words: Option<Vec<CString>> = words.map(|it| CString::new(it.into_vec()).ok()).collect();
    let variable = |(name, value): (OsString, OsString)| {
        CString::new([name.into_vec(), b"=".to_vec(), value.into_vec()].concat()).ok()
    };
    let environment: Option<Vec<CString>> = std::env::vars_os().map(variable).collect();
    let Some((words, environment)) = words.zip(environment) else {
        return Error::invalid("an argument has a NUL byte in it");
    };
    let sealed = std::fs::create_dir_all(root)
        .map_err(|error| error.to_string())
        .and_then(|()| Binary::seal(root).map_err(|error| error.to_string()));
    match sealed {
        Ok(binary) => {
            let failure = binary.exec(&Strings::new(words), &Strings::new(environment));
            Error::caused(Kind::Internal, "cannot execute the sealed binary", failure)
        }
        Err(reason) => Error::internal(format!("cannot seal the binary: {reason}"))
            .with_hint("name a writable folder with --root"),
    }
}

/// Tells a failure as runc does, on one line of standard error.
fn tell(outcome: Result<u8>) -> ExitCode {
    match outcome {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            let mut stderr = std::io::stderr().lock();
            // Nobody is left to tell if standard error is closed.
            let _ = writeln!(stderr, "dhow oci: {}", error.chain());
            if let Some(hint) = error.hint() {
                let _ = writeln!(stderr, "hint: {hint}");
            }
            ExitCode::FAILURE
        }
    }
}

fn say(text: &str) {
    let _ = writeln!(std::io::stdout().lock(), "{text}");
}
