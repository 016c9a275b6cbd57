//! containerd, by its `ctr`.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result};
use sha2::{Digest, Sha256};

use super::{Engine, Place};
use crate::bundle::eventually;
use crate::daemon::{command, finish};
use crate::{Output, images};

/// The image's name; ctr takes none without a registry.
const IMAGE: &str = "docker.io/library/busybox:latest";
/// The namespace that ctr uses unless told otherwise.
const NAMESPACE: &str = "default";

/// A containerd of one's own.
#[derive(Debug)]
pub struct Containerd(Place);

impl Containerd {
    /// Starts one with busybox.
    ///
    /// # Errors
    /// If it does not start: with what it printed.
    pub fn start() -> Result<Self> {
        let mut place = Place::new()?;
        let at = |name: &str| place.path(name).display().to_string();
        // Plugins that look for devices or networks have no part in this.
        let configuration = format!(
            "version = 2\nroot = {:?}\nstate = {:?}\ndisabled_plugins = [{}]\n\
             [grpc]\naddress = {:?}\n[ttrpc]\naddress = {:?}\n",
            at("root"),
            at("containerd"),
            ["grpc.v1.cri", "snapshotter.v1.aufs", "snapshotter.v1.btrfs", "snapshotter.v1.zfs"]
                .map(|name| format!("\"io.containerd.{name}\""))
                .join(", "),
            at("socket"),
            at("socket.ttrpc"),
        );
        let configuration = place.file("config.toml", configuration)?;
        let mut containerd = command(Path::new("containerd"));
        containerd.args(["--config", &configuration]);
        let socket = place.path("socket");
        place.serve(&mut containerd, || {
            let version = ctr(&socket, &["version"]);
            version.is_ok_and(|output| output.code == 0)
        })?;
        let containerd = Self(place);
        let archive = containerd.0.file("image.tar", images::busybox_archive(IMAGE)?)?;
        containerd.ctr(&["images", "import", &archive])?.ok()?;
        Ok(containerd)
    }

    fn ctr(&self, arguments: &[&str]) -> Result<Output> {
        ctr(&self.0.path("socket"), arguments)
    }

    /// `ctr run` with our runtime, these flags, and this in the container.
    fn run_with(&self, flags: &[&str], id: &str, arguments: &[&str]) -> Result<Output> {
        let (runtime, root) = (self.0.runtime(), self.0.path("oci"));
        let (runtime, root) = (runtime.to_string_lossy(), root.to_string_lossy());
        let group = format!("{}/{id}", self.0.cgroup());
        let run = ["run", "--runc-binary", &runtime, "--runc-root", &root, "--cgroup", &group];
        self.ctr(&[&run[..], flags, &[IMAGE, id], arguments].concat())
    }
}

impl Engine for Containerd {
    fn run(&self, script: &str) -> Result<Output> {
        self.run_with(&["--rm"], "one", &["sh", "-c", script])
    }

    fn start(&self, memory_bytes: u64) -> Result<()> {
        let memory = memory_bytes.to_string();
        let run = self.run_with(&["-d", "--memory-limit", &memory], "it", &["sleep", "1000"]);
        run?.ok().map(drop)
    }

    fn exec(&self, arguments: &[&str]) -> Result<Output> {
        self.ctr(&[&["tasks", "exec", "--exec-id", "more", "it"], arguments].concat())
    }

    fn pid(&self) -> Result<u32> {
        let list = self.ctr(&["tasks", "ls"])?.ok()?;
        let line = list.lines().find(|line| line.starts_with("it ")).context("no task it")?;
        Ok(line.split_whitespace().nth(1).context("no pid")?.parse()?)
    }

    fn status(&self) -> Result<String> {
        let list = self.ctr(&["tasks", "ls"])?.ok()?;
        let line = list.lines().find(|line| line.starts_with("it ")).context("no task it")?;
        Ok(line.split_whitespace().nth(2).context("no status")?.to_lowercase())
    }

    fn change(&self, verb: &str) -> Result<()> {
        match verb {
            "kill" => {
                self.ctr(&["tasks", "kill", "--signal", "KILL", "it"])?.ok()?;
                eventually("the end of the task", || Ok(self.status()? == "stopped"))
            }
            "remove" => {
                self.ctr(&["tasks", "rm", "it"])?;
                self.ctr(&["containers", "rm", "it"])?.ok().map(drop)
            }
            verb => self.ctr(&["tasks", verb, "it"])?.ok().map(drop),
        }
    }

    /// ctr has no word for it: it is asked of the runtime, as containerd's API does.
    fn update(&self, memory_bytes: u64) -> Result<()> {
        let mut runtime = command(&self.0.runtime());
        runtime.arg("--root").arg(self.0.path("oci").join(NAMESPACE));
        runtime.args(["update", "--memory", &memory_bytes.to_string(), "it"]);
        finish(runtime.stdin(Stdio::null()))?.ok().map(drop)
    }

    fn leave_nothing(self) -> Result<()> {
        // A shim leaves its socket, named after containerd's and the container, in a folder of all.
        for id in ["one", "it"] {
            let name = self.0.path("socket").join(NAMESPACE).join(id);
            let digest = format!("{:x}", Sha256::digest(name.to_string_lossy().as_bytes()));
            let _ = fs::remove_file(Path::new("/run/containerd/s").join(digest));
        }
        self.0.leave_nothing()
    }
}

fn ctr(socket: &Path, arguments: &[&str]) -> Result<Output> {
    let mut ctr: Command = command(Path::new("ctr"));
    ctr.arg("--address").arg(socket).args(arguments);
    finish(ctr.stdin(Stdio::null()))
}
