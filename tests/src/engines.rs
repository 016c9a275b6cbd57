//! Others' engines with an OCI runtime of ours: Debian's containerd, dockerd and podman, each in a folder
//! and a control group of its own, gone when dropped.
//!
//! Nothing here needs systemd, a bridge or a firewall: containers have no network, and the engines are told
//! where everything goes.

mod containerd;
mod docker;
mod podman;

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::{Context, Result, ensure};
use dhow_sys::rustix::process::{Pid, Signal, kill_process};

use crate::census::{self, Traces};
use crate::daemon::{self, Output};

pub use containerd::Containerd;
pub use docker::Docker;
pub use podman::Podman;

/// What every engine can be asked for, in its own words.
pub trait Engine {
    /// Runs a shell script in a container that is removed at its end.
    ///
    /// # Errors
    /// If the engine's command cannot be run; not if it fails.
    fn run(&self, script: &str) -> Result<Output>;

    /// Starts the container `it`, which sleeps, with this much memory.
    ///
    /// # Errors
    /// If that fails: with what was said.
    fn start(&self, memory_bytes: u64) -> Result<()>;

    /// Runs a command in the container `it`.
    ///
    /// # Errors
    /// If the engine's command cannot be run; not if it fails.
    fn exec(&self, arguments: &[&str]) -> Result<Output>;

    /// The first process of the container `it`.
    ///
    /// # Errors
    /// If there is no such container.
    fn pid(&self) -> Result<u32>;

    /// How the container `it` is, in small letters.
    ///
    /// # Errors
    /// If there is no such container.
    fn status(&self) -> Result<String>;

    /// Does `pause`, `resume`, `kill` or `remove` to the container `it`; a kill waits for its end.
    ///
    /// # Errors
    /// If that fails: with what was said.
    fn change(&self, verb: &str) -> Result<()>;

    /// Gives the container `it` this much memory.
    ///
    /// # Errors
    /// If that fails: with what was said.
    fn update(&self, memory_bytes: u64) -> Result<()>;

    /// Ends the engine and checks that nothing is left of it on the machine.
    ///
    /// # Errors
    /// If something fails or is left: named one by one.
    fn leave_nothing(self) -> Result<()>;
}

/// A folder, a name and a runtime for one engine, and the engine's process if it has one.
#[derive(Debug)]
pub(crate) struct Place {
    folder: tempfile::TempDir,
    name: String,
    process: Option<Child>,
}

/// Numbers the engines of this process.
static ENGINES: AtomicU32 = AtomicU32::new(0);

impl Place {
    fn new() -> Result<Self> {
        let folder = tempfile::Builder::new().prefix("dhow-engine-").tempdir()?;
        let number = ENGINES.fetch_add(1, Ordering::Relaxed);
        let place =
            Self { folder, name: format!("de{}n{number}", std::process::id()), process: None };
        // Engines take a path, without words to follow: by this name the binary is an OCI runtime.
        symlink(daemon::binary()?, place.runtime())?;
        Ok(place)
    }

    /// The runtime's path.
    fn runtime(&self) -> PathBuf {
        self.path("dhow-runtime")
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The control group that is the parent of all of this engine's.
    fn cgroup(&self) -> String {
        format!("/{}", self.name)
    }

    /// Writes an image or a configuration into the folder.
    fn file(&self, name: &str, content: impl AsRef<[u8]>) -> Result<String> {
        crate::images::file(self.folder.path(), name, content.as_ref())
    }

    /// Starts the engine's process and waits until `is_ready`.
    fn serve(&mut self, command: &mut Command, is_ready: impl Fn() -> bool) -> Result<()> {
        let log = fs::File::create(self.path("daemon.log"))?;
        let name = command.get_program().to_string_lossy().into_owned();
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        let mut process = command.spawn().with_context(|| format!("cannot start {name}"))?;
        let begin = std::time::Instant::now();
        while !is_ready() {
            let ended = process.try_wait()?.is_some();
            if ended || begin.elapsed().as_secs() > 60 {
                let _ = process.kill();
                let _ = process.wait();
                anyhow::bail!("{name} does not start: {}", self.log());
            }
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
        self.process = Some(process);
        Ok(())
    }

    fn log(&self) -> String {
        fs::read_to_string(self.path("daemon.log")).unwrap_or_default()
    }

    /// Ends the engine's process.
    fn end(&mut self) {
        let Some(mut process) = self.process.take() else { return };
        if let Some(pid) = Pid::from_raw(process.id().cast_signed()) {
            let _ = kill_process(pid, Signal::TERM);
        }
        let _ = process.wait();
    }

    /// Ends the process, removes what engines leave by design, and looks for what the runtime left.
    fn leave_nothing(mut self) -> Result<()> {
        self.end();
        self.unmount();
        let group = self.cgroup();
        // Engines do not remove the parent that they were told; whatever is in it, the runtime has left.
        let traces = Traces { bridge: format!("{group}/"), folder: self.folder.path().to_owned() };
        let left = traces.left()?;
        ensure!(left.is_empty(), "left behind: {left:#?}\n{}", self.log());
        Ok(())
    }

    /// Takes away what engines mount in their folders and keep.
    fn unmount(&self) {
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
        let points = mounts.lines().filter_map(|line| line.split(' ').nth(4));
        for point in points.filter(|point| Path::new(point).starts_with(self.folder.path())) {
            let umount = ["--lazy", "--recursive", point];
            let _ = daemon::finish(daemon::command(Path::new("umount")).args(umount));
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.end();
        census::remove_cgroups(&self.name);
        census::end_processes_of(self.folder.path());
        self.unmount();
    }
}
