//! The programs that keep secrets for docker: `docker-credential-NAME get|store|erase`.
//!
//! One JSON document or one address goes to standard input, an answer or the reason of a failure comes from
//! standard output. The CLI runs them, never the daemon, and by absolute path.

use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::Stdio;

use serde::Deserialize;
use serde_json::json;

use crate::failure::Failure;

/// What helpers say of an address they do not know.
const NOT_FOUND: &str = "credentials not found in native keychain";

/// One helper.
#[derive(Debug)]
pub(super) struct Helper {
    program: PathBuf,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Found {
    #[serde(default)]
    username: String,
    #[serde(default)]
    secret: String,
}

impl Helper {
    /// The helper `name`, looked for in the folders of `PATH`.
    pub(super) fn find(name: &str) -> Result<Self, Failure> {
        let file = format!("docker-credential-{name}");
        if name.contains('/') {
            return Err(Failure::new(format!("invalid credential helper {name:?}")));
        }
        let path = std::env::var_os("PATH").unwrap_or_default();
        let is_program = |path: &PathBuf| {
            std::fs::metadata(path)
                .is_ok_and(|it| it.is_file() && it.permissions().mode() & 0o111 != 0)
        };
        let folders = std::env::split_paths(&path).filter(|folder| folder.is_absolute());
        let found = folders.map(|folder| folder.join(&file)).find(is_program);
        let program = found.ok_or_else(|| {
            Failure::new(format!("cannot find {file}, which keeps the credentials"))
                .with_hint("install it, or take credsStore and credHelpers out of config.json")
        })?;
        Ok(Self { program })
    }

    /// The user name and the secret for a registry.
    pub(super) fn get(&self, key: &str) -> Result<Option<(String, String)>, Failure> {
        let answer = match self.run("get", key.as_bytes()) {
            Err(failure) if failure.message.contains(NOT_FOUND) => return Ok(None),
            answer => answer?,
        };
        let found: Found = serde_json::from_slice(&answer).map_err(|_| {
            // No details: they could repeat a part of a password.
            Failure::new(format!("{} gave no credentials", self.program.display()))
        })?;
        Ok((!found.secret.is_empty()).then_some((found.username, found.secret)))
    }

    /// Keeps a secret.
    pub(super) fn store(&self, key: &str, username: &str, secret: &str) -> Result<(), Failure> {
        let document = json!({"ServerURL": key, "Username": username, "Secret": secret});
        self.run("store", document.to_string().as_bytes()).map(drop)
    }

    /// Forgets a secret.
    pub(super) fn erase(&self, key: &str) -> Result<(), Failure> {
        match self.run("erase", key.as_bytes()) {
            Err(failure) if failure.message.contains(NOT_FOUND) => Ok(()),
            answer => answer.map(drop),
        }
    }

    fn run(&self, verb: &str, input: &[u8]) -> Result<Vec<u8>, Failure> {
        let program = self.program.display();
        // What the user's own configuration names.
        #[allow(clippy::disallowed_methods)]
        let child = std::process::Command::new(&self.program)
            .arg(verb)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn();
        let mut child =
            child.map_err(|error| Failure::new(format!("cannot run {program}: {error}")))?;
        if let Some(mut stdin) = child.stdin.take() {
            // A helper may know its answer without reading.
            let _ = stdin.write_all(input);
        }
        let output = child.wait_with_output()?;
        if output.status.success() {
            return Ok(output.stdout);
        }
        let said = String::from_utf8_lossy(&output.stdout);
        Err(Failure::new(format!("{program} {verb} failed: {}", said.trim())))
    }
}
