//! Running the programs that developers have: cargo, apt-get.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

/// How dhow is compiled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Profile {
    /// Fast to build.
    Debug,
    /// Fast to run.
    Release,
}

/// The folder of the checkout.
pub(crate) fn checkout() -> PathBuf {
    let xtask = Path::new(env!("CARGO_MANIFEST_DIR"));
    xtask.parent().unwrap_or(xtask).to_owned()
}

/// A command in the checkout's folder.
#[allow(clippy::disallowed_methods)]
pub(crate) fn command(program: &str) -> Command {
    let mut command = Command::new(program);
    command.current_dir(checkout());
    command
}

/// cargo, the one that runs this.
pub(crate) fn cargo(arguments: &[&str]) -> Command {
    let mut command = command(&std::env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned()));
    command.args(arguments);
    command
}

/// Says what is run, runs it, and fails if it fails.
pub(crate) fn must(command: &mut Command) -> Result<()> {
    eprintln!("+ {}", words(command));
    let status = command.status().with_context(|| format!("cannot run {}", words(command)))?;
    ensure!(status.success(), "{} ended with {status}", words(command));
    Ok(())
}

/// A command as one types it.
fn words(command: &Command) -> String {
    let program = Path::new(command.get_program()).file_name().unwrap_or_default();
    let mut text = program.to_string_lossy().into_owned();
    for argument in command.get_args() {
        text.push(' ');
        text.push_str(&argument.to_string_lossy());
    }
    text
}

/// Builds a package's binary and says where it is.
pub(crate) fn build(package: &str, profile: Profile) -> Result<PathBuf> {
    let mut arguments = vec!["build", "--quiet", "--package", package];
    if profile == Profile::Release {
        arguments.push("--release");
    }
    must(&mut cargo(&arguments))?;
    let folder = if profile == Profile::Release { "release" } else { "debug" };
    let path = target_folder()?.join("x86_64-unknown-linux-gnu").join(folder).join(package);
    ensure!(path.exists(), "cargo built no {}", path.display());
    Ok(path)
}

/// Builds a package's tests of that name and the programs that they use; says where those are, the tests
/// first.
pub(crate) fn build_test(package: &str, name: &str) -> Result<Vec<PathBuf>> {
    let arguments = ["test", "--no-run", "--quiet", "--message-format=json", "--package"];
    let mut cargo = cargo(&arguments);
    cargo.args([package, "--test", name]);
    eprintln!("+ {}", words(&cargo));
    let output = cargo.stderr(std::process::Stdio::inherit()).output()?;
    ensure!(output.status.success(), "cargo built no tests {name}");
    let executable = |line: &str| {
        let message: serde_json::Value = serde_json::from_str(line).ok()?;
        let is_test = message.pointer("/target/name")?.as_str()? == name;
        Some((is_test, PathBuf::from(message.get("executable")?.as_str()?)))
    };
    let messages = String::from_utf8_lossy(&output.stdout).into_owned();
    let mut built: Vec<_> = messages.lines().filter_map(executable).collect();
    built.sort_by_key(|(is_test, _)| !is_test);
    ensure!(built.first().is_some_and(|(is_test, _)| *is_test), "cargo built no tests {name}");
    Ok(built.into_iter().map(|(_, path)| path).collect())
}

/// Where cargo puts what it builds.
pub(crate) fn target_folder() -> Result<PathBuf> {
    let metadata = metadata()?;
    let folder = metadata.get("target_directory").and_then(serde_json::Value::as_str);
    Ok(folder.context("cargo metadata names no target directory")?.into())
}

/// What cargo knows about the workspace.
pub(crate) fn metadata() -> Result<serde_json::Value> {
    let output = cargo(&["metadata", "--format-version=1", "--no-deps"]).output()?;
    ensure!(output.status.success(), "cargo metadata: {}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).context("cannot read cargo metadata")
}
