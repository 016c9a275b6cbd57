//! podman, which has no process of its own.

use std::path::Path;
use std::process::Stdio;

use anyhow::Result;

use super::{Engine, Place};
use crate::daemon::{command, finish};
use crate::{Output, images};

/// A podman whose files are its own and whose runtime is ours.
#[derive(Debug)]
pub struct Podman(Place);

impl Podman {
    /// Prepares one with busybox.
    ///
    /// # Errors
    /// If podman fails: with what it said.
    pub fn start() -> Result<Self> {
        let podman = Self(Place::new()?);
        let place = &podman.0;
        // Without systemd; locks in files, because those in shared memory are one set for all. Limits
        // that a machine without CAP_SYS_RESOURCE can give.
        let networks = place.path("networks").display().to_string();
        let configuration = format!(
            "[containers]\nlog_driver = \"k8s-file\"\n\
             default_ulimits = [\"nofile=1024:1024\", \"nproc=1024:1024\"]\n\
             [engine]\ncgroup_manager = \"cgroupfs\"\nevents_logger = \"none\"\nlock_type = \"file\"\n\
             [network]\nnetwork_config_dir = {networks:?}\n",
        );
        place.file("containers.conf", configuration)?;
        let tar = place.file("busybox.tar", images::busybox_tar()?)?;
        podman.podman(&["import", "--quiet", &tar, "busybox"])?.ok()?;
        Ok(podman)
    }

    fn podman(&self, arguments: &[&str]) -> Result<Output> {
        let mut podman = command(Path::new("podman"));
        podman.env("CONTAINERS_CONF", self.0.path("containers.conf"));
        // By flags, because only those reach the podman that conmon starts to clean up.
        for (flag, name) in
            [("root", "root"), ("runroot", "runroot"), ("tmpdir", "tmp"), ("volumepath", "volumes")]
        {
            podman.arg(format!("--{flag}")).arg(self.0.path(name));
        }
        podman.args(["--storage-driver", "overlay"]);
        podman.arg("--runtime").arg(self.0.runtime()).args(arguments);
        finish(podman.stdin(Stdio::null()))
    }

    /// `podman run` with these flags, and this in the container.
    ///
    /// # Errors
    /// If podman cannot be run; not if it fails.
    pub fn run_with(&self, flags: &[&str], arguments: &[&str]) -> Result<Output> {
        let group = self.0.cgroup();
        let run = ["run", "--network", "none", "--cgroup-parent", &group];
        self.podman(&[&run[..], flags, &["busybox"], arguments].concat())
    }
}

impl Engine for Podman {
    fn run(&self, script: &str) -> Result<Output> {
        self.run_with(&["--rm"], &["sh", "-c", script])
    }

    fn start(&self, memory_bytes: u64) -> Result<()> {
        let memory = memory_bytes.to_string();
        let run = self.run_with(&["-d", "--name", "it", "--memory", &memory], &["sleep", "1000"]);
        run?.ok().map(drop)
    }

    fn exec(&self, arguments: &[&str]) -> Result<Output> {
        self.podman(&[&["exec", "it"], arguments].concat())
    }

    fn pid(&self) -> Result<u32> {
        Ok(self.podman(&["inspect", "-f", "{{.State.Pid}}", "it"])?.ok()?.parse()?)
    }

    fn status(&self) -> Result<String> {
        self.podman(&["inspect", "-f", "{{.State.Status}}", "it"])?.ok()
    }

    fn change(&self, verb: &str) -> Result<()> {
        let verb = match verb {
            "resume" => "unpause",
            "remove" => "rm",
            other => other,
        };
        self.podman(&[verb, "it"])?.ok()?;
        if verb == "kill" {
            self.podman(&["wait", "it"])?.ok()?;
        }
        Ok(())
    }

    fn update(&self, memory_bytes: u64) -> Result<()> {
        self.podman(&["update", "--memory", &memory_bytes.to_string(), "it"])?.ok().map(drop)
    }

    fn leave_nothing(self) -> Result<()> {
        // podman keeps the group of all conmons.
        for hierarchy in std::fs::read_dir("/sys/fs/cgroup")?.flatten() {
            let group = hierarchy.path().join(self.0.cgroup().trim_start_matches('/'));
            let _ = std::fs::remove_dir(group.join("conmon"));
        }
        let group = Path::new("/sys/fs/cgroup").join(self.0.cgroup().trim_start_matches('/'));
        let _ = std::fs::remove_dir(group.join("conmon"));
        self.0.leave_nothing()
    }
}
