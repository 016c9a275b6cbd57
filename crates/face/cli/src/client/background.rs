//! Starting a daemon where none runs.

use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::Stdio;

use crate::failure::Failure;

/// Starts a daemon in the background and waits for its word that it listens on `socket`.
pub(super) fn start(socket: &str) -> Result<(), Failure> {
    if !dhow_sys::rustix::process::geteuid().is_root() {
        return Err(Failure::new(format!("no daemon listens on unix://{socket}"))
            .with_hint("start one as root: sudo dhow daemon"));
    }
    let folder = Path::new(socket).parent().unwrap_or(Path::new("/run/dhow"));
    fs::create_dir_all(folder)?;
    let log_path = folder.join("daemon.log");
    let log = File::options().create(true).append(true).open(&log_path)?;
    // The one program that the CLI starts is itself.
    #[allow(clippy::disallowed_methods)]
    let mut daemon = std::process::Command::new(std::env::current_exe()?)
        .args(["daemon", "--background"])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(log)
        .current_dir("/")
        .spawn()?;
    let mut said = String::new();
    if let Some(stdout) = daemon.stdout.take() {
        BufReader::new(stdout).read_line(&mut said)?;
    }
    if said.starts_with("dhow listens on ") {
        eprintln!("dhow: started a daemon in the background (its log: {})", log_path.display());
        return Ok(());
    }
    let log = fs::read_to_string(&log_path).unwrap_or_default();
    let last = log.lines().last().unwrap_or("it said nothing");
    Err(Failure::new(format!("cannot start a daemon: {last}"))
        .with_hint(format!("more is in {}", log_path.display())))
}
