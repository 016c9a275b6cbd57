//! A bundle of one's own for `dhow oci`: busybox, a configuration, a state folder, a control group; all of
//! it gone when dropped.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};

use crate::census::Traces;
use crate::daemon::{self, Output};
use crate::{census, images};

/// A fact that does not come about within this time is missing; a machine under load takes its time.
const PATIENCE: Duration = Duration::from_secs(20);

/// Numbers the bundles of this process, so that each has its own id.
static BUNDLES: AtomicU32 = AtomicU32::new(0);

/// A bundle in a temporary folder.
#[derive(Debug)]
pub struct Bundle {
    folder: tempfile::TempDir,
    id: String,
    binary: PathBuf,
}

impl Bundle {
    /// Makes one whose process runs `arguments`, without a terminal, in a control group of its own.
    ///
    /// # Errors
    /// If busybox is not installed or `dhow oci spec` fails.
    pub fn new(arguments: &[&str]) -> Result<Self> {
        let number = BUNDLES.fetch_add(1, Ordering::Relaxed);
        let folder = tempfile::Builder::new().prefix("dhow-").tempdir()?;
        let id = format!("dob{}n{number}", std::process::id());
        let bundle = Self { folder, id, binary: daemon::binary()? };
        images::unpack_busybox(&bundle.path("rootfs"))?;
        bundle.ok(&["spec", "--bundle", &bundle.shown()])?;
        bundle.change(|config| {
            config["process"]["terminal"] = json!(false);
            config["process"]["args"] = json!(arguments);
            config["linux"]["cgroupsPath"] = json!(bundle.cgroup());
        })?;
        Ok(bundle)
    }

    /// The container's id, which no other test has.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// The control group that the configuration names.
    pub fn cgroup(&self) -> String {
        format!("/{}", self.id)
    }

    /// A file of the bundle's folder; the empty name is the folder.
    pub fn path(&self, name: &str) -> PathBuf {
        if name.is_empty() { self.folder.path().to_owned() } else { self.folder.path().join(name) }
    }

    /// The bundle's folder as an argument.
    pub fn shown(&self) -> String {
        self.folder.path().to_string_lossy().into_owned()
    }

    /// Changes the configuration.
    ///
    /// # Errors
    /// If there is none.
    pub fn change(&self, change: impl FnOnce(&mut Value)) -> Result<()> {
        let path = self.path("config.json");
        let mut config: Value = serde_json::from_slice(&fs::read(&path)?)?;
        change(&mut config);
        Ok(fs::write(&path, serde_json::to_vec(&config)?)?)
    }

    /// Sets the program that the container runs.
    ///
    /// # Errors
    /// As [`Bundle::change`].
    pub fn args(&self, arguments: &[&str]) -> Result<()> {
        self.change(|config| config["process"]["args"] = json!(arguments))
    }

    /// Has everything done by a copy of the binary, which may come to harm; its path.
    ///
    /// # Errors
    /// If there is no space for it.
    pub fn copy_binary(&mut self) -> Result<PathBuf> {
        let folder = self.path("program");
        fs::create_dir_all(&folder)?;
        let copy = folder.join("dhow");
        fs::copy(&self.binary, &copy)?;
        self.binary.clone_from(&copy);
        Ok(copy)
    }

    /// Adds a mount to the configuration.
    ///
    /// # Errors
    /// As [`Bundle::change`].
    pub fn mount(&self, mount: Value) -> Result<()> {
        self.change(|config| {
            if let Some(mounts) = config["mounts"].as_array_mut() {
                mounts.push(mount);
            }
        })
    }

    /// A `dhow oci` command with this bundle's state folder.
    pub fn command(&self, arguments: &[&str]) -> Result<Command> {
        let mut oci = daemon::command(&self.binary);
        oci.args(["oci", "--root"]).arg(self.path("state")).args(arguments);
        // What a caller has in its environment is not for containers.
        oci.env("SECRET", self.path("secret")).stdin(Stdio::null());
        Ok(oci)
    }

    /// Runs `dhow oci` to its end, and to that of whoever holds its output. Not for what leaves a
    /// container running with that output: that is [`Bundle::detached`].
    ///
    /// # Errors
    /// If the binary cannot be run; not if it fails.
    pub fn oci(&self, arguments: &[&str]) -> Result<Output> {
        daemon::finish(&mut self.command(arguments)?)
    }

    /// Runs `dhow oci` and expects success; its standard output without the last line's end.
    ///
    /// # Errors
    /// If the command fails: with its exit code and what it said.
    pub fn ok(&self, arguments: &[&str]) -> Result<String> {
        self.oci(arguments)?.ok().with_context(|| format!("dhow oci {}", arguments.join(" ")))
    }

    /// Runs the container to its end.
    ///
    /// # Errors
    /// If the binary cannot be run; not if it fails.
    pub fn run(&self) -> Result<Output> {
        self.oci(&["run", "--bundle", &self.shown(), &self.id])
    }

    /// Runs `dhow oci`, whose container stays and writes to the bundle's files `stdout` and `stderr`; what
    /// those say by then.
    ///
    /// # Errors
    /// If the binary cannot be run; not if it fails.
    pub fn detached(&self, arguments: &[&str]) -> Result<Output> {
        let mut command = self.command(arguments)?;
        for name in ["stdout", "stderr"] {
            let file = fs::OpenOptions::new().create(true).append(true).open(self.path(name))?;
            if name == "stdout" {
                command.stdout(file)
            } else {
                command.stderr(file)
            };
        }
        let status = command.status().context("cannot run dhow oci")?;
        let read = |name| fs::read_to_string(self.path(name));
        Ok(Output {
            code: status.code().unwrap_or(-1),
            stdout: read("stdout")?,
            stderr: read("stderr")?,
        })
    }

    /// Creates the container.
    ///
    /// # Errors
    /// If that fails: with what it said.
    pub fn create(&self) -> Result<()> {
        self.detached(&["create", "--bundle", &self.shown(), &self.id])?.ok().map(drop)
    }

    /// Creates and starts the container.
    ///
    /// # Errors
    /// If that fails: with what it said.
    pub fn start(&self) -> Result<()> {
        self.create()?;
        self.ok(&["start", &self.id]).map(drop)
    }

    /// Runs a command in the running container.
    ///
    /// # Errors
    /// If the binary cannot be run; not if it fails.
    pub fn exec(&self, arguments: &[&str]) -> Result<Output> {
        self.oci(&[&["exec", &self.id], arguments].concat())
    }

    /// What the container wrote to its standard output so far, when it is detached.
    ///
    /// # Errors
    /// If it never was.
    pub fn said(&self) -> Result<String> {
        Ok(fs::read_to_string(self.path("stdout"))?)
    }

    /// What `state` says.
    ///
    /// # Errors
    /// If there is no such container.
    pub fn state(&self) -> Result<Value> {
        Ok(serde_json::from_str(&self.ok(&["state", &self.id])?)?)
    }

    /// The first process of the container.
    ///
    /// # Errors
    /// If there is no such container.
    pub fn pid(&self) -> Result<i64> {
        self.state()?["pid"].as_i64().context("state tells no pid")
    }

    /// Waits until `state` says this status.
    ///
    /// # Errors
    /// If it does not come about.
    pub fn wait_for(&self, status: &str) -> Result<()> {
        eventually(status, || Ok(self.state()?["status"] == status))
    }

    /// Deletes the container, and checks that nothing of it is left on the machine.
    ///
    /// # Errors
    /// If something fails or is left: named one by one.
    pub fn leave_nothing(self) -> Result<()> {
        self.ok(&["delete", "--force", &self.id])?;
        self.nothing_left()
    }

    /// Checks that nothing of a container is left on the machine.
    ///
    /// # Errors
    /// Names what is left, one by one.
    pub fn nothing_left(&self) -> Result<()> {
        let mut left = self.traces().left()?;
        let states = fs::read_dir(self.path("state")).into_iter().flatten().flatten();
        left.extend(states.map(|entry| format!("state {}", entry.path().display())));
        ensure!(left.is_empty(), "left behind: {left:#?}");
        Ok(())
    }

    fn traces(&self) -> Traces {
        Traces { bridge: self.id.clone(), folder: self.folder.path().to_owned() }
    }
}

impl Drop for Bundle {
    fn drop(&mut self) {
        let states = fs::read_dir(self.path("state")).into_iter().flatten().flatten();
        for entry in states {
            let id = entry.file_name().to_string_lossy().into_owned();
            if let Ok(said) = self.oci(&["delete", "--force", &id])
                && said.code != 0
            {
                eprintln!("cannot delete {id}: {}", said.stderr);
            }
        }
        census::end_processes_of(self.folder.path());
        census::remove_cgroups(&self.id);
    }
}

/// Waits until something is so.
///
/// # Errors
/// If it does not come about, or cannot be looked at.
pub fn eventually(what: &str, is_so: impl Fn() -> Result<bool>) -> Result<()> {
    let begin = Instant::now();
    while !is_so()? {
        if begin.elapsed() > PATIENCE {
            bail!("{what} did not come about");
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    Ok(())
}

/// A folder on the way of `path`, made where it is missing.
///
/// # Errors
/// If it cannot be made.
pub fn folder(path: &Path) -> Result<String> {
    fs::create_dir_all(path)?;
    Ok(path.to_string_lossy().into_owned())
}
