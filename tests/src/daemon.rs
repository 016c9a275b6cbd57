//! A daemon of one's own: own folders, bridge, cgroup parent and socket, gone when dropped.

use std::ffi::OsStr;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::{Context, Result, bail, ensure};

use crate::census::{self, Traces};

/// What a finished command said.
#[derive(Debug, Clone)]
pub struct Output {
    /// Its exit code; 128 and the signal if a signal ended it.
    pub code: i32,
    /// Its standard output.
    pub stdout: String,
    /// Its standard error.
    pub stderr: String,
}

impl Output {
    /// The output of a command that must have succeeded, without the last line's end.
    ///
    /// # Errors
    /// If the command failed: with its code and what it said.
    pub fn ok(self) -> Result<String> {
        ensure!(self.code == 0, "exit code {}: {}{}", self.code, self.stdout, self.stderr);
        Ok(self.stdout.trim_end_matches('\n').to_owned())
    }
}

/// A running daemon in a temporary folder.
#[derive(Debug)]
pub struct Daemon {
    binary: PathBuf,
    folder: Option<tempfile::TempDir>,
    bridge: String,
    extra: Vec<String>,
    process: Option<Child>,
}

/// Numbers the daemons of this process, so that each has its own bridge.
static DAEMONS: AtomicU32 = AtomicU32::new(0);

impl Daemon {
    /// Starts a daemon of the binary under test ([`binary`]) and waits until it answers.
    ///
    /// # Errors
    /// If it does not start: with what it printed.
    pub fn start() -> Result<Self> {
        Self::start_with(&binary()?, &[])
    }

    /// Starts a daemon of `binary` with more flags than those that make it independent of others.
    ///
    /// # Errors
    /// If it does not start: with what it printed.
    pub fn start_with(binary: &Path, extra: &[&str]) -> Result<Self> {
        let number = DAEMONS.fetch_add(1, Ordering::Relaxed);
        let bridge = format!("dt{}n{number}", std::process::id());
        let folder = tempfile::Builder::new().prefix("dhow-").tempdir()?;
        let extra = extra.iter().map(ToString::to_string).collect();
        let binary = binary.to_owned();
        let mut daemon = Self { binary, folder: Some(folder), bridge, extra, process: None };
        daemon.launch()?;
        Ok(daemon)
    }

    /// The folder in which everything of this daemon lies.
    pub fn folder(&self) -> &Path {
        self.folder.as_ref().map_or(Path::new("/nonexistent"), tempfile::TempDir::path)
    }

    /// The daemon's bridge; its cgroup parent and nftables table are named after it.
    pub fn bridge(&self) -> &str {
        &self.bridge
    }

    /// The address of its socket, as `DHOW_HOST` and `DOCKER_HOST` take it.
    pub fn host(&self) -> String {
        format!("unix://{}", self.folder().join("run/dhow.sock").display())
    }

    /// The daemon's process id.
    pub fn pid(&self) -> Option<u32> {
        self.process.as_ref().map(Child::id)
    }

    /// Starts the daemon's process and waits for its word that it listens.
    ///
    /// # Errors
    /// If it ends before that.
    pub fn launch(&mut self) -> Result<()> {
        let log = std::fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(self.folder().join("daemon.log"))?;
        let mut process = command(&self.binary)
            .arg("daemon")
            .arg("--root")
            .arg(self.folder().join("root"))
            .arg("--run")
            .arg(self.folder().join("run"))
            .args(["--host", &self.host(), "--bridge", &self.bridge])
            .args(["--cgroup-parent", &format!("/{}", self.bridge)])
            .args(&self.extra)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(log)
            .spawn()
            .with_context(|| format!("cannot start {}", self.binary.display()))?;
        let stdout = process.stdout.take().context("no standard output")?;
        let mut lines = BufReader::new(stdout);
        let mut line = String::new();
        while lines.read_line(&mut line)? > 0 {
            if line.starts_with("dhow listens on ") {
                // Whatever it prints later must not meet a closed pipe.
                std::thread::spawn(move || std::io::copy(&mut lines, &mut std::io::sink()));
                self.process = Some(process);
                return Ok(());
            }
            line.clear();
        }
        let status = process.wait()?;
        bail!("the daemon ended with {status}: {}", self.log());
    }

    /// What the daemon logged so far.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.folder().join("daemon.log")).unwrap_or_default()
    }

    /// Kills the daemon's process with SIGKILL. Its containers run on.
    ///
    /// # Errors
    /// If it does not run.
    pub fn kill(&mut self) -> Result<()> {
        let mut process = self.process.take().context("the daemon does not run")?;
        process.kill()?;
        process.wait()?;
        Ok(())
    }

    /// Asks the daemon to end (SIGTERM) and waits until it has. Its containers run on.
    ///
    /// # Errors
    /// If it does not run or ends with a failure.
    pub fn terminate(&mut self) -> Result<()> {
        use dhow_sys::rustix::process::{Pid, Signal, kill_process};
        let mut process = self.process.take().context("the daemon does not run")?;
        let pid = Pid::from_raw(process.id().cast_signed()).context("no such process id")?;
        kill_process(pid, Signal::TERM)?;
        let status = process.wait()?;
        ensure!(status.success(), "the daemon ended with {status}: {}", self.log());
        Ok(())
    }

    /// A `dhow` command that talks to this daemon.
    pub fn command<S: AsRef<OsStr>>(&self, arguments: &[S]) -> Command {
        let mut command = command(&self.binary);
        command.args(arguments).env("DHOW_HOST", self.host());
        command
    }

    /// Runs `dhow` with `arguments` against this daemon, without standard input.
    ///
    /// # Errors
    /// If the binary cannot be run; not if it fails.
    pub fn dhow<S: AsRef<OsStr>>(&self, arguments: &[S]) -> Result<Output> {
        finish(self.command(arguments).stdin(Stdio::null()))
    }

    /// Runs `dhow` with `input` as its standard input.
    ///
    /// # Errors
    /// If the binary cannot be run; not if it fails.
    pub fn dhow_fed<S: AsRef<OsStr>>(&self, arguments: &[S], input: &[u8]) -> Result<Output> {
        use std::io::Write;
        let mut process = self
            .command(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()?;
        let mut stdin = process.stdin.take().context("no standard input")?;
        let input = input.to_vec();
        // It may end without reading everything: that is its right.
        let feeder = std::thread::spawn(move || drop(stdin.write_all(&input)));
        let output = process.wait_with_output()?;
        let _ = feeder.join();
        Ok(Output::from(output))
    }

    /// Runs `dhow` and expects success; its standard output without the last line's end.
    ///
    /// # Errors
    /// If the command fails: with its exit code and what it said.
    pub fn ok<S: AsRef<OsStr>>(&self, arguments: &[S]) -> Result<String> {
        let words: Vec<_> = arguments.iter().map(|word| word.as_ref().to_string_lossy()).collect();
        self.dhow(arguments)?.ok().with_context(|| format!("dhow {}", words.join(" ")))
    }

    /// Runs the stock docker CLI against this daemon.
    ///
    /// # Errors
    /// If there is no docker CLI on this machine.
    pub fn docker<S: AsRef<OsStr>>(&self, arguments: &[S]) -> Result<Output> {
        let mut docker = command(Path::new("docker"));
        docker.args(arguments).env("DOCKER_HOST", self.host()).env_remove("DOCKER_CONTEXT");
        docker.env("DOCKER_CONFIG", self.folder().join("docker-config"));
        finish(docker.stdin(Stdio::null()))
    }

    /// Removes all containers, ends the daemon, and checks that nothing of it is left on the machine.
    ///
    /// # Errors
    /// If something fails or is left: named one by one.
    pub fn leave_nothing(mut self) -> Result<()> {
        self.clean_up()?;
        let left = self.traces().left()?;
        ensure!(left.is_empty(), "left behind: {left:#?}\n{}", self.log());
        Ok(())
    }

    /// Where to look for what this daemon may leave.
    fn traces(&self) -> Traces {
        Traces { bridge: self.bridge.clone(), folder: self.folder().to_owned() }
    }

    fn clean_up(&mut self) -> Result<()> {
        if self.process.is_none() {
            self.launch()?;
        }
        let ids = self.ok(&["ps", "--all", "--quiet", "--no-trunc"])?;
        for id in ids.lines() {
            self.ok(&["rm", "--force", id])?;
        }
        self.terminate()
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        if self.process.is_none() && self.traces().found().is_ok_and(|left| left.is_empty()) {
            return;
        }
        if let Err(error) = self.clean_up() {
            eprintln!("cannot clean up after the daemon: {error:#}\n{}", self.log());
            if let Some(mut process) = self.process.take() {
                let _ = process.kill();
                let _ = process.wait();
            }
            census::end_processes_of(self.folder());
        }
    }
}

/// The binary under test: `DHOW_BIN`, or the one that cargo built beside this test.
///
/// # Errors
/// If it has not been built.
pub fn binary() -> Result<PathBuf> {
    if let Some(path) = std::env::var_os("DHOW_BIN") {
        return Ok(path.into());
    }
    let own = std::env::current_exe()?;
    let beside = own.parent().and_then(Path::parent).map(|folder| folder.join("dhow"));
    let path = beside.filter(|path| path.exists());
    path.context("the dhow binary is not built: cargo build -p dhow, or set DHOW_BIN")
}

/// A command; tests are among the few places that may start programs.
#[allow(clippy::disallowed_methods)]
pub fn command(program: &Path) -> Command {
    Command::new(program)
}

/// Runs a command to its end and keeps what it says.
///
/// # Errors
/// If it cannot be started.
pub fn finish(command: &mut Command) -> Result<Output> {
    let name = command.get_program().to_string_lossy().into_owned();
    let output = command.output().with_context(|| format!("cannot run {name}"))?;
    Ok(Output::from(output))
}

impl From<std::process::Output> for Output {
    fn from(output: std::process::Output) -> Self {
        use std::os::unix::process::ExitStatusExt;
        let signal = || 128 + output.status.signal().unwrap_or_default();
        Self {
            code: output.status.code().unwrap_or_else(signal),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }
}

/// Reads what is left of a stream as text.
///
/// # Errors
/// If reading fails.
pub fn read_all(mut stream: impl Read) -> Result<String> {
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}
