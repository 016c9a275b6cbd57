//! The OCI runtime command line: `dhow oci`, or the binary called as `runc` or `dhow-runtime`.
//!
//! ```text
//!   dhow oci create ...  ──► runtime, which executes the container's command from a springboard
//!                  └─ where that is not enough ─► read-only view of our binary ─► the same, sealed
//! ```
//!
//! A container can open `/proc/PID/exe` of whoever enters it, which must not be the binary on the host
//! (CVE-2019-5736). So what enters it is either a few sealed instructions, or a sealed view of the binary,
//! which has to start up once more. The runtime knows when the former are enough.
//!
//! It is dispatched before anything of the daemon or its command line exists, and reads its few words
//! itself. Each command is a file of `command/`; what a container is between two of them is a folder
//! ([`container`] draws it).

mod birth;
mod bundle;
mod command;
mod container;
mod death;
mod foreground;
mod globals;
mod handout;
mod log;
mod owner;
mod signal;
mod table;
mod time;
mod turns;
mod words;

use std::ffi::{CString, OsString};
use std::io::Write;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use command::Command;
use dhow_error::{Error, Kind, Result};
use dhow_sys::process::Strings;
use dhow_sys::rustix::process::geteuid;
use dhow_sys::seal::Binary;
use globals::Globals;
use log::Log;

/// The name under which the sealed binary is called.
pub const SEALED_ARGV0: &str = "dhow-oci";
/// The exit code for a command that is not there, as runc's.
const NO_COMMAND: u8 = 3;
/// The version of the runtime specification.
pub(crate) const SPECIFICATION: &str = "1.3.0";

/// Runs one command line: `name` is the program's, `arguments` what follows it and `oci`. What cannot be done
/// but by the sealed binary becomes that.
pub fn main(name: &str, arguments: Vec<OsString>) -> ExitCode {
    perform(arguments, &default_root(name), false)
}

/// Runs one command line in the sealed binary.
pub fn sealed_main(arguments: Vec<OsString>) -> ExitCode {
    // It is always told where state lies.
    perform(arguments, &default_root(SEALED_ARGV0), true)
}

/// Where state lies if the command line does not say: as runc's when called so, the user's own folder for
/// one who is not root.
fn default_root(name: &str) -> PathBuf {
    let name = if name == "runc" { "runc" } else { "dhow-oci" };
    let own = std::env::var_os("XDG_RUNTIME_DIR").filter(|folder| !folder.is_empty());
    let base = own.filter(|_| !geteuid().is_root()).map_or_else(|| "/run".into(), PathBuf::from);
    base.join(name)
}

fn perform(arguments: Vec<OsString>, root: &Path, sealed: bool) -> ExitCode {
    let words = arguments.iter().map(|word| word.to_str().map(str::to_owned)).collect();
    let words: Option<Vec<String>> = words;
    let Some(words) = words else {
        return failed(&Log::default(), &Error::invalid("an argument is not UTF-8"), 1);
    };
    let globals = match Globals::read(&words, root) {
        Ok(globals) => Globals { sealed, ..globals },
        Err((log, error)) => return failed(&log, &error, 1),
    };
    let Some((name, rest)) = globals.rest.split_first().filter(|_| !globals.version) else {
        return told(&globals.log, &if globals.version { version() } else { command::help() });
    };
    if globals.help || name == "help" {
        return told(&globals.log, &command::help());
    }
    let command = match Command::named(name) {
        Ok(command) => command,
        Err(error) => {
            let code = if error.kind() == Kind::Invalid { NO_COMMAND } else { 1 };
            return failed(&globals.log, &error, code);
        }
    };
    let words = match command.read(rest) {
        Ok(words) if words.help => return told(&globals.log, &command.help()),
        Ok(words) => words,
        Err(error) => return failed(&globals.log, &error, 1),
    };
    let outcome = match (command.run)(&globals, &words) {
        Err(_) if globals.wants_seal.get() && !sealed => Err(seal(&globals.root, arguments)),
        outcome => outcome,
    };
    match outcome {
        Ok(code) => ExitCode::from(code),
        Err(error) => failed(&globals.log, &error, command.failure),
    }
}

/// Becomes the sealed binary; returns only why that failed.
fn seal(root: &Path, arguments: Vec<OsString>) -> Error {
    let named = [SEALED_ARGV0.into(), "--root".into(), root.as_os_str().to_owned()];
    let words = named.into_iter().chain(arguments);
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

fn version() -> String {
    format!("dhow-runtime version {}\nspec: {SPECIFICATION}", env!("CARGO_PKG_VERSION"))
}

/// Prints what was asked for.
fn told(log: &Log, text: &str) -> ExitCode {
    match say(text) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => failed(log, &error, 1),
    }
}

/// Tells a failure in one line, as engines look for it.
fn failed(log: &Log, error: &Error, code: u8) -> ExitCode {
    let hint = error.hint().map(|hint| format!("; hint: {hint}")).unwrap_or_default();
    log.error(&[error.chain(), hint].concat());
    ExitCode::from(code)
}

/// Prints `text` and a line's end.
///
/// Errors: what standard output says, if that is closed or full.
pub(crate) fn say(text: &str) -> Result<()> {
    let mut stdout = std::io::stdout().lock();
    writeln!(stdout, "{text}")
        .and_then(|()| stdout.flush())
        .map_err(|error| Error::caused(Kind::Internal, "cannot write to standard output", error))
}
