//! The peers of the benchmark: Debian's dockerd in a folder of its own, and runc.

use std::fs;
use std::path::Path;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use dhow_tests::daemon::{command, finish};
use dhow_tests::images;
use serde_json::json;

/// Docker as Debian packages it: bench-only daemon, its own root, bridge docker0.
pub(crate) struct Docker {
    process: Child,
    folder: tempfile::TempDir,
}

impl Docker {
    /// Starts dockerd where it is installed and gives it the same two images.
    pub(crate) fn start(hello: &Path) -> Result<Option<Self>> {
        let dockerd = Path::new("/usr/sbin/dockerd");
        if !dockerd.exists() {
            return Ok(None);
        }
        let folder = tempfile::Builder::new().prefix("bench-docker-").tempdir()?;
        let log = fs::File::create(folder.path().join("dockerd.log"))?;
        let process = command(dockerd)
            .arg("--data-root")
            .arg(folder.path().join("root"))
            .arg("--exec-root")
            .arg(folder.path().join("exec"))
            .arg("--pidfile")
            .arg(folder.path().join("pid"))
            .arg("--host")
            .arg(format!("unix://{}", folder.path().join("docker.sock").display()))
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()?;
        let docker = Self { process, folder };
        docker.wait_until_ready()?;
        let tar = docker.folder.path().join("busybox.tar");
        fs::write(&tar, images::busybox_tar()?)?;
        docker.ok(&["import", &tar.to_string_lossy(), "busybox"])?;
        let mut hello_tar = tar_of(hello)?;
        let tar = images::file(docker.folder.path(), "hello.tar", &std::mem::take(&mut hello_tar))?;
        docker.ok(&["import", "--change", "CMD [\"/hello\"]", &tar, "hello"])?;
        Ok(Some(docker))
    }

    /// Runs the docker CLI and times it.
    pub(crate) fn run(&self, arguments: &[&str]) -> Result<Duration> {
        let begin = Instant::now();
        self.ok(arguments)?;
        Ok(begin.elapsed())
    }

    /// Runs the docker CLI; its output without the last line's end.
    pub(crate) fn ok(&self, arguments: &[&str]) -> Result<String> {
        let host = format!("unix://{}", self.folder.path().join("docker.sock").display());
        let mut docker = command(Path::new("docker"));
        docker.args(arguments).env("DOCKER_HOST", host).stdin(Stdio::null());
        finish(&mut docker)?.ok().with_context(|| format!("docker {}", arguments.join(" ")))
    }

    fn wait_until_ready(&self) -> Result<()> {
        let begin = Instant::now();
        while self.ok(&["version"]).is_err() {
            let log = || fs::read_to_string(self.folder.path().join("dockerd.log"));
            ensure!(begin.elapsed().as_secs() < 60, "dockerd does not start: {}", log()?);
            std::thread::sleep(Duration::from_millis(100));
        }
        Ok(())
    }
}

impl Drop for Docker {
    fn drop(&mut self) {
        use dhow_tests::rustix::process::{Pid, Signal, kill_process};
        if let Some(pid) = Pid::from_raw(self.process.id().cast_signed()) {
            let _ = kill_process(pid, Signal::TERM);
        }
        let _ = self.process.wait();
    }
}

/// A tar with one executable, `/hello`.
fn tar_of(hello: &Path) -> Result<Vec<u8>> {
    images::tar_of_file("hello", &fs::read(hello)?)
}

/// runc, where Debian's package is installed.
pub(crate) fn runc() -> Option<&'static Path> {
    Some(Path::new("/usr/sbin/runc")).filter(|path| path.exists())
}

/// youki, where it has been put.
pub(crate) fn youki() -> Option<&'static Path> {
    ["/usr/bin/youki", "/usr/local/bin/youki"].map(Path::new).into_iter().find(|path| path.exists())
}

/// A bundle of busybox that any OCI runtime can run.
pub(crate) struct Bundle {
    folder: tempfile::TempDir,
}

impl Bundle {
    /// Makes the bundle of `true`.
    pub(crate) fn prepare(dhow: &Path) -> Result<Self> {
        Self::prepare_for(dhow, &["/bin/true"])
    }

    /// Makes the bundle; its configuration is runc's own where runc is installed, so that both do the
    /// same work, else dhow's.
    pub(crate) fn prepare_for(dhow: &Path, arguments: &[&str]) -> Result<Self> {
        let folder = tempfile::Builder::new().prefix("bench-bundle-").tempdir()?;
        images::unpack_busybox(&folder.path().join("rootfs"))?;
        let mut spec = match runc() {
            Some(runc) => command(runc),
            None => command(dhow),
        };
        if runc().is_none() {
            spec.arg("oci");
        }
        finish(spec.arg("spec").current_dir(folder.path()))?.ok()?;
        let path = folder.path().join("config.json");
        let mut config: serde_json::Value = serde_json::from_slice(&fs::read(&path)?)?;
        for (key, value) in [("terminal", json!(false)), ("args", json!(arguments))] {
            if let Some(process) = config.get_mut("process").and_then(|it| it.as_object_mut()) {
                process.insert(key.to_owned(), value);
            }
        }
        fs::write(&path, serde_json::to_vec(&config)?)?;
        Ok(Self { folder })
    }

    /// Where it lies.
    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Runs the bundle by a runtime and times it.
    pub(crate) fn run(&self, runtime: &Path, words: &[&str]) -> Result<Duration> {
        let begin = Instant::now();
        let mut run = command(runtime);
        run.args(words).arg("--root").arg(self.folder.path().join("state")).args(["run", "bench"]);
        finish(run.current_dir(self.folder.path()).stdin(Stdio::null()))?.ok()?;
        Ok(begin.elapsed())
    }
}
