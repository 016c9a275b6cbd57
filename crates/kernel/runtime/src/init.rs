//! Pid 1 of a container that was started with `--init`: forwards signals to the command, reaps every
//! orphan, ends with the command's code.
//!
//! It allocates nothing in its loop, holds no descriptor but the standard streams, and does nothing else.

use std::ffi::OsString;
use std::io::Write;

use dhow_sys::namespace::Namespaces;
use dhow_sys::process::{
    Child, Reason, SignalMask, clone3, exit, kill, reset_signals, wait_signal,
};
use dhow_sys::rustix::io::Errno;
use dhow_sys::rustix::process::{WaitOptions, WaitStatus, getpid, setpgid, wait};
use dhow_sys::rustix::stdio::stdin;
use dhow_sys::rustix::termios::{isatty, tcsetpgrp};

use crate::command::Command;

const SIGCHLD: i32 = 17;

pub(crate) fn run(arguments: Vec<OsString>) -> ! {
    SignalMask::block_all();
    let child = match start(arguments) {
        Ok(child) => child,
        Err(message) => {
            // Standard error is all that it has; if that is gone too, the code says it.
            let _ = writeln!(std::io::stderr(), "dhow-init: {message}");
            exit(125);
        }
    };
    loop {
        match wait_signal() {
            Ok(SIGCHLD) => reap(&child),
            Ok(signal) => {
                // A command that is gone will be reaped in a moment.
                let _ = kill(child.pid, signal);
            }
            Err(Errno::INTR) => {}
            Err(_) => exit(125),
        }
    }
}

fn start(arguments: Vec<OsString>) -> Result<Child, String> {
    let text = |text: OsString| {
        text.into_string().map_err(|text| format!("{} is not UTF-8", text.display()))
    };
    let arguments = arguments.into_iter().skip(1).map(text).collect::<Result<Vec<_>, _>>()?;
    let environment: Vec<String> = std::env::vars_os()
        .filter_map(|(key, value)| Some([key.to_str()?, "=", value.to_str()?].concat()))
        .collect();
    let command =
        Command::new(&arguments, &environment, None).map_err(|error| error.message().to_owned())?;
    clone3(Namespaces::NONE, None, || execute(&command))
        .map_err(|errno| format!("cannot fork: {}", Reason(errno)))
}

/// The command's process: a group of its own in the foreground, so that the terminal's signals go to it
/// and not, forwarded, twice.
fn execute(command: &Command) -> u8 {
    // Signals are blocked here, so a background process may set the foreground group.
    let grouped = setpgid(None, None);
    if grouped.is_ok() && isatty(stdin()) {
        // Without a controlling terminal there is no foreground.
        let _ = tcsetpgrp(stdin(), getpid());
    }
    reset_signals();
    let error = command.execute();
    let _ = writeln!(std::io::stderr(), "dhow-init: {}", error.message());
    error.exit_code() as u8
}

/// Takes in all ended children; ends with the command's code if it is among them.
fn reap(child: &Child) {
    loop {
        match wait(WaitOptions::NOHANG) {
            Ok(Some((pid, status))) if pid.as_raw_nonzero().get() == child.pid => {
                exit(code_of(status));
            }
            Ok(Some(_)) | Err(Errno::INTR) => {}
            Ok(None) | Err(_) => return,
        }
    }
}

/// A shell's number for how a process ended.
fn code_of(status: WaitStatus) -> u8 {
    match (status.exit_status(), status.terminating_signal()) {
        (Some(code), _) => code as u8,
        (None, Some(signal)) => (128 + signal) as u8,
        (None, None) => 125,
    }
}
