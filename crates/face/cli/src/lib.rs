//! What people type: flags, tables, progress.
//!
//! The CLI is a client of the Docker Engine API and holds no state. It reads the command line into
//! [`arguments`] (docker's names and flags), talks to the daemon by [`client`], and prints what a
//! person wants to read, in docker's columns. Errors are one line and a hint; exit codes are docker's:
//! 125 if dhow failed, 126 or 127 if the command in the container cannot be started, else the
//! container's own.
//!
//! ```text
//!   arguments ──► verbs/* ──► client ──► unix socket
//!                   │  ├────► attach (raw streams, terminal, signals)
//!                   │  └────► credentials (docker's config.json, credential helpers)
//!                   └───────► show/* (tables, templates, sizes, ages, progress)
//! ```

mod arguments;
mod attach;
mod client;
mod container;
mod credentials;
mod failure;
mod show;
mod terminal;
mod verbs;

pub use arguments::DaemonArguments;

use std::ffi::OsString;
use std::process::ExitCode;

use arguments::{Arguments, Verb};
use clap::Parser;
use failure::Failure;

/// Runs one command line, `arguments` being what follows the program's name. `daemon` is what the
/// verb `daemon` does: the CLI knows only its flags.
pub fn main(
    arguments: impl IntoIterator<Item = OsString>,
    daemon: impl FnOnce(DaemonArguments) -> ExitCode,
) -> ExitCode {
    let program = std::iter::once(OsString::from("dhow"));
    let arguments = match Arguments::try_parse_from(program.chain(arguments)) {
        Ok(arguments) => arguments,
        Err(error) => {
            let _ = error.print();
            // docker answers 125 to flags it does not know; help and version are no failure.
            return ExitCode::from(if error.use_stderr() { 125 } else { 0 });
        }
    };
    let verb = match arguments.verb {
        Verb::Daemon(mut flags) => {
            flags.host = flags.host.or(arguments.host);
            return daemon(flags);
        }
        verb => verb,
    };
    match run(arguments.host, verb) {
        Ok(code) => leave(code),
        Err(failure) => {
            failure.print();
            leave(failure.exit_code)
        }
    }
}

/// Runs a verb on a runtime of one thread: it starts in microseconds.
fn run(host: Option<String>, verb: Verb) -> Result<u8, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let outcome = runtime.block_on(async {
        let client = client::Client::new(host)?;
        tokio::select! {
            outcome = verbs::run(client, verb) => outcome,
            () = interrupted() => Ok(130),
        }
    });
    // The process ends now, and the kernel takes all of it down faster.
    std::mem::forget(runtime);
    outcome
}

/// Waits for ctrl-C, unless a verb that passes signals on has taken them over.
async fn interrupted() {
    let _ = tokio::signal::ctrl_c().await;
    if attach::signals_are_passed_on() {
        std::future::pending::<()>().await;
    }
}

/// Ends the process at once: a thread may still wait for input that nobody will type.
fn leave(code: u8) -> ! {
    use std::io::Write;
    let _ = std::io::stdout().flush();
    std::process::exit(i32::from(code))
}
