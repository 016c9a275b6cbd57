//! dockerd, by the stock docker CLI.

use std::path::Path;
use std::process::Stdio;

use anyhow::Result;

use super::{Engine, Place};
use crate::daemon::{command, finish};
use crate::{Output, images};

/// A dockerd of one's own, whose runtime is ours.
#[derive(Debug)]
pub struct Docker(Place);

impl Docker {
    /// Starts one with busybox.
    ///
    /// # Errors
    /// If it does not start: with what it printed.
    pub fn start() -> Result<Self> {
        let mut place = Place::new()?;
        let at = |name: &str| place.path(name).display().to_string();
        let mut dockerd = command(Path::new("/usr/sbin/dockerd"));
        dockerd.args(["--data-root", &at("root"), "--exec-root", &at("exec")]);
        dockerd.args(["--pidfile", &at("pid"), "--host", &format!("unix://{}", at("socket"))]);
        dockerd.args(["--bridge", "none", "--iptables=false", "--ip-masq=false"]);
        dockerd.args(["--cgroup-parent", &place.cgroup(), "--default-runtime", "dhow"]);
        dockerd.args(["--add-runtime", &format!("dhow={}", place.runtime().display())]);
        let folder = place.folder.path().to_owned();
        place.serve(&mut dockerd, || {
            docker(&folder, &["version"]).is_ok_and(|output| output.code == 0)
        })?;
        let docker = Self(place);
        let tar = docker.0.file("busybox.tar", images::busybox_tar()?)?;
        docker.docker(&["import", &tar, "busybox"])?.ok()?;
        Ok(docker)
    }

    /// The docker CLI with these words.
    ///
    /// # Errors
    /// If it cannot be run; not if it fails.
    pub fn docker(&self, arguments: &[&str]) -> Result<Output> {
        docker(self.0.folder.path(), arguments)
    }
}

impl Engine for Docker {
    fn run(&self, script: &str) -> Result<Output> {
        self.docker(&["run", "--rm", "--network", "none", "busybox", "sh", "-c", script])
    }

    fn start(&self, memory_bytes: u64) -> Result<()> {
        let memory = memory_bytes.to_string();
        let run = ["run", "-d", "--name", "it", "--network", "none", "--memory", &memory];
        self.docker(&[&run[..], &["busybox", "sleep", "1000"]].concat())?.ok().map(drop)
    }

    fn exec(&self, arguments: &[&str]) -> Result<Output> {
        self.docker(&[&["exec", "it"], arguments].concat())
    }

    fn pid(&self) -> Result<u32> {
        Ok(self.docker(&["inspect", "-f", "{{.State.Pid}}", "it"])?.ok()?.parse()?)
    }

    fn status(&self) -> Result<String> {
        self.docker(&["inspect", "-f", "{{.State.Status}}", "it"])?.ok()
    }

    fn change(&self, verb: &str) -> Result<()> {
        let verb = match verb {
            "resume" => "unpause",
            "remove" => "rm",
            other => other,
        };
        self.docker(&[verb, "it"])?.ok()?;
        if verb == "kill" {
            self.docker(&["wait", "it"])?.ok()?;
        }
        Ok(())
    }

    fn update(&self, memory_bytes: u64) -> Result<()> {
        let (memory, swap) = (memory_bytes.to_string(), (2 * memory_bytes).to_string());
        let update = ["update", "--memory", &memory, "--memory-swap", &swap, "it"];
        self.docker(&update)?.ok().map(drop)
    }

    fn leave_nothing(self) -> Result<()> {
        self.0.leave_nothing()
    }
}

fn docker(folder: &Path, arguments: &[&str]) -> Result<Output> {
    let mut docker = command(Path::new("docker"));
    docker
        .args(arguments)
        .env("DOCKER_HOST", format!("unix://{}", folder.join("socket").display()));
    docker.env_remove("DOCKER_CONTEXT").env("DOCKER_CONFIG", folder.join("client"));
    finish(docker.stdin(Stdio::null()))
}
