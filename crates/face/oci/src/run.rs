//! `run`: a container in the foreground, on our own streams, until it ends.

use std::fs;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use dhow_cgroup::Layout;
use dhow_error::{Error, Kind, Result};
use dhow_rootfs::Root;
use dhow_runtime::{Launch, Running, Stdio, launch};
use dhow_seccomp::Program;
use dhow_spec::oci_runtime::Spec;
use dhow_sys::event::{Ended, reap, send_signal};
use dhow_sys::process::{SignalMask, wait_signal};
use dhow_sys::rustix::io::Errno;

const SIGCHLD: i32 = 17;

/// Runs the container of `bundle` to its end; its exit code. SIGKILL to us ends it, every other signal
/// is passed on.
pub(crate) fn run(root: &Path, id: &str, bundle: &Path, pid_file: Option<&Path>) -> Result<u8> {
    let spec = super::spec::read(bundle)?;
    let process = spec.process().as_ref();
    if process.is_some_and(|it| it.terminal() == Some(true)) {
        let message = "containers with a terminal are not built yet";
        return Err(Error::new(Kind::Unsupported, message)
            .with_hint("set process.terminal to false in config.json"));
    }
    let claim = Claim::take(root, id)?;
    let cgroup = cgroup_path(&spec, id);
    let seccomp = seccomp(&spec)?;
    SignalMask::block_all();
    let running = launch(Launch {
        spec: &spec,
        root: &Root::Dir(rootfs(&spec, bundle)?),
        cgroup: &cgroup,
        seccomp: seccomp.as_ref(),
        netns: None,
        stdio: own_streams()?,
        init: false,
        console_size: None,
    })
    .map_err(|error| Error::new(Kind::Internal, error.message().to_owned()))?;
    running.warnings.iter().for_each(|warning| eprintln!("dhow oci: warning: {warning}"));
    let code = stay(&running, pid_file);
    clean_up(&cgroup)?;
    drop(claim);
    code
}

/// Waits for the end of the container's first process and passes signals on.
fn stay(running: &Running, pid_file: Option<&Path>) -> Result<u8> {
    if let Some(file) = pid_file {
        fs::write(file, running.pid.to_string()).map_err(|error| {
            // Whoever waits for the file will never hear of this container.
            let _ = send_signal(running.pidfd.as_fd(), 9);
            Error::caused(Kind::Invalid, format!("cannot write {}", file.display()), error)
        })?;
    }
    let lost = |error: Errno| Error::caused(Kind::Internal, "cannot wait for the container", error);
    loop {
        match wait_signal() {
            Ok(SIGCHLD) => match reap(running.pidfd.as_fd()).map_err(lost)? {
                Some(Ended::Code(code)) => return Ok(u8::try_from(code).unwrap_or(255)),
                Some(Ended::Signal(signal)) => return Ok(u8::try_from(128 + signal).unwrap_or(255)),
                None => {}
            },
            // A container that has just ended needs no signal.
            Ok(signal) => drop(send_signal(running.pidfd.as_fd(), signal)),
            Err(Errno::INTR) => {}
            Err(error) => return Err(lost(error)),
        }
    }
}

/// Ends what is left in the control group, and removes it.
fn clean_up(cgroup: &str) -> Result<()> {
    let cgroup = Layout::detect()?.open(cgroup);
    cgroup.kill()?;
    cgroup.destroy()?;
    Ok(())
}

/// The control group that the configuration names, or one of our own.
fn cgroup_path(spec: &Spec, id: &str) -> String {
    let named = spec.linux().as_ref().and_then(|linux| linux.cgroups_path().as_ref());
    match named {
        Some(path) => format!("/{}", path.display().to_string().trim_start_matches('/')),
        None => format!("/dhow-oci-{id}"),
    }
}

/// The folder of the root file system.
fn rootfs(spec: &Spec, bundle: &Path) -> Result<PathBuf> {
    let root = spec.root().as_ref().ok_or_else(|| Error::invalid("config.json has no root"))?;
    let path = bundle.join(root.path());
    path.canonicalize().map_err(|error| {
        Error::caused(Kind::NotFound, format!("cannot use the root {}", path.display()), error)
    })
}

fn seccomp(spec: &Spec) -> Result<Option<Program>> {
    let profile = spec.linux().as_ref().and_then(|linux| linux.seccomp().as_ref());
    Ok(profile.map(dhow_seccomp::compile).transpose()?)
}

/// Our standard streams, for the container.
fn own_streams() -> Result<Stdio> {
    let copy = |stream: BorrowedFd<'_>| -> Result<OwnedFd> {
        stream.try_clone_to_owned().map_err(|error| {
            Error::caused(Kind::Internal, "cannot hand on a standard stream", error)
        })
    };
    Ok(Stdio::Fds {
        stdin: copy(std::io::stdin().as_fd())?,
        stdout: copy(std::io::stdout().as_fd())?,
        stderr: copy(std::io::stderr().as_fd())?,
    })
}

/// An id that is in use: a folder below the root, there while its container runs.
struct Claim(PathBuf);

impl Claim {
    fn take(root: &Path, id: &str) -> Result<Self> {
        let path = root.join(id);
        match fs::create_dir(&path) {
            Ok(()) => Ok(Self(path)),
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {
                Err(Error::conflict(format!("container with id {id} exists")).with_hint(format!(
                    "if none runs, a killed one left {}: remove it",
                    path.display()
                )))
            }
            Err(error) => {
                Err(Error::caused(Kind::Internal, format!("cannot make {}", path.display()), error))
            }
        }
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        let _ = fs::remove_dir(&self.0);
    }
}
