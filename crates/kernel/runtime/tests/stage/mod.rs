//! A stage for a container: a busybox root, a control group, and a specification like Docker's.

// Each test binary uses its part of this.
#![allow(dead_code, clippy::unwrap_used, clippy::panic)]

use std::fs;
use std::io::Read;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use dhow_cgroup::Layout;
use dhow_rootfs::Root;
use dhow_runtime::{Launch, LaunchError, Running, Stdio, Target, exec, launch};
use dhow_spec::oci_runtime::{Process, Spec};
use dhow_sys::rustix::process::{Signal, WaitId, WaitIdOptions, pidfd_send_signal, waitid};
use serde_json::{Value, json};

const APPLETS: [&str; 29] = [
    "sh", "cat", "ls", "id", "echo", "sleep", "mount", "umount", "hostname", "touch", "test",
    "grep", "readlink", "true", "stat", "ps", "kill", "env", "mknod", "ip", "head", "stty", "tty",
    "wc", "sort", "mkdir", "dd", "chmod", "tr",
];
const CAPABILITIES: [&str; 14] = [
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_FSETID",
    "CAP_FOWNER",
    "CAP_MKNOD",
    "CAP_NET_RAW",
    "CAP_SETGID",
    "CAP_SETUID",
    "CAP_SETFCAP",
    "CAP_SETPCAP",
    "CAP_NET_BIND_SERVICE",
    "CAP_SYS_CHROOT",
    "CAP_KILL",
    "CAP_AUDIT_WRITE",
];
static NUMBER: AtomicU32 = AtomicU32::new(0);

pub(crate) struct Stage {
    pub(crate) dir: tempfile::TempDir,
    pub(crate) cgroup: String,
    pub(crate) spec: Value,
    pub(crate) init: bool,
    pub(crate) netns: Option<OwnedFd>,
    pub(crate) seccomp: Option<Value>,
    /// The image itself as the root, without an overlay.
    pub(crate) plain_root: bool,
}

pub(crate) struct Output {
    pub(crate) out: String,
    pub(crate) err: String,
    pub(crate) code: i32,
}

impl Stage {
    /// A container that will run that shell script.
    pub(crate) fn new(script: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        for folder in ["lower/bin", "lower/etc", "lower/root", "lower/tmp", "upper", "work"] {
            fs::create_dir_all(dir.path().join(folder)).unwrap();
        }
        let lower = dir.path().join("lower");
        fs::copy("/bin/busybox", lower.join("bin/busybox")).unwrap();
        for applet in APPLETS {
            symlink("busybox", lower.join("bin").join(applet)).unwrap();
        }
        fs::write(
            lower.join("etc/passwd"),
            "root:x:0:0::/root:/bin/sh\nweb:x:1000:1000::/tmp:/bin/sh\n",
        )
        .unwrap();
        fs::write(lower.join("etc/group"), "root:x:0:\nweb:x:1000:\ntape:x:26:web\n").unwrap();
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let cgroup = format!("/dhow-runtime-test-{}-{number}", std::process::id());
        Self {
            dir,
            cgroup,
            spec: docker_like(&["/bin/sh", "-c", script]),
            init: false,
            netns: None,
            seccomp: None,
            plain_root: false,
        }
    }

    /// A file or folder of the image.
    pub(crate) fn image(&self, path: &str) -> PathBuf {
        self.dir.path().join("lower").join(path)
    }

    pub(crate) fn root(&self) -> Root {
        let path = |name: &str| self.dir.path().join(name);
        if self.plain_root {
            return Root::Dir(path("lower"));
        }
        Root::Overlay { lower: vec![path("lower")], upper: path("upper"), work: path("work") }
    }

    /// Sets a value of the specification by its JSON pointer.
    pub(crate) fn set(mut self, pointer: &str, value: Value) -> Self {
        let (parent, key) = pointer.rsplit_once('/').unwrap();
        self.spec.pointer_mut(parent).unwrap()[key] = value;
        self
    }

    /// Adds a mount.
    pub(crate) fn mount(
        mut self,
        typ: &str,
        source: &str,
        destination: &str,
        options: &[&str],
    ) -> Self {
        let mounts = self.spec["mounts"].as_array_mut().unwrap();
        mounts.push(json!({
            "type": typ, "source": source, "destination": destination, "options": options,
        }));
        self
    }

    pub(crate) fn launch_with(&self, stdio: Stdio) -> Result<Running, LaunchError> {
        let spec: Spec = serde_json::from_value(self.spec.clone()).unwrap();
        let filter = self.filter();
        launch(Launch {
            spec: &spec,
            root: &self.root(),
            cgroup: &self.cgroup,
            seccomp: filter.as_ref(),
            netns: self.netns.as_ref().map(AsFd::as_fd),
            stdio,
            init: self.init,
            console_size: Some(dhow_runtime::ConsoleSize { rows: 33, cols: 77 }),
        })
    }

    /// Runs it to its end.
    fn filter(&self) -> Option<dhow_seccomp::Program> {
        self.seccomp.as_ref().map(|profile| {
            dhow_seccomp::compile(&serde_json::from_value(profile.clone()).unwrap()).unwrap()
        })
    }

    pub(crate) fn run(&self) -> Output {
        self.try_run().unwrap_or_else(|error| panic!("{}: {error}", error.step()))
    }

    pub(crate) fn try_run(&self) -> Result<Output, LaunchError> {
        let (stdio, pipes) = pipes();
        let running = self.launch_with(stdio)?;
        Ok(gather(&running, pipes))
    }

    /// Starts it with its output thrown away.
    pub(crate) fn start(&self) -> Running {
        let null =
            || OwnedFd::from(fs::File::options().read(true).write(true).open("/dev/null").unwrap());
        self.launch_with(Stdio::Fds { stdin: null(), stdout: null(), stderr: null() }).unwrap()
    }

    /// Runs another process in it to its end.
    pub(crate) fn exec(&self, running: &Running, process: &Value) -> Result<Output, LaunchError> {
        let process: Process = serde_json::from_value(process.clone()).unwrap();
        let filter = self.filter();
        let seccomp = filter.as_ref();
        let spec: Spec = serde_json::from_value(self.spec.clone()).unwrap();
        let linux = spec.linux().as_ref();
        let target = Target {
            pidfd: running.pidfd.as_fd(),
            cgroup: &self.cgroup,
            seccomp,
            linux,
            listener: None,
        };
        let (stdio, pipes) = pipes();
        let running = exec(&target, &process, stdio, None)?;
        Ok(gather(&running, pipes))
    }

    /// The process of the specification with other arguments.
    pub(crate) fn process(&self, arguments: &[&str]) -> Value {
        let mut process = self.spec["process"].clone();
        process["args"] = json!(arguments);
        process
    }

    /// Whether anything of its control group is left.
    pub(crate) fn cgroup_exists(&self) -> bool {
        Layout::detect().unwrap().open(&self.cgroup).exists()
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        let cgroup = Layout::detect().unwrap().open(&self.cgroup);
        let _ = cgroup.kill();
        let _ = cgroup.destroy();
    }
}

pub(crate) type Pipes = (fs::File, fs::File);

/// Standard streams as a daemon gives them: no input, output by pipes.
pub(crate) fn pipes() -> (Stdio, Pipes) {
    let (out, stdout) = std::io::pipe().unwrap();
    let (err, stderr) = std::io::pipe().unwrap();
    let stdin = fs::File::open("/dev/null").unwrap();
    let stdio = Stdio::Fds { stdin: stdin.into(), stdout: stdout.into(), stderr: stderr.into() };
    (stdio, (OwnedFd::from(out).into(), OwnedFd::from(err).into()))
}

pub(crate) fn gather(running: &Running, (mut out, mut err): Pipes) -> Output {
    let mut output = Output { out: String::new(), err: String::new(), code: 0 };
    out.read_to_string(&mut output.out).unwrap();
    err.read_to_string(&mut output.err).unwrap();
    output.code = wait(running);
    output
}

/// The code with which it ends, 128 + signal if a signal ended it.
pub(crate) fn wait(running: &Running) -> i32 {
    let status =
        waitid(WaitId::PidFd(running.pidfd.as_fd()), WaitIdOptions::EXITED).unwrap().unwrap();
    status.exit_status().unwrap_or_else(|| 128 + status.terminating_signal().unwrap())
}

pub(crate) fn kill(running: &Running) -> i32 {
    pidfd_send_signal(&running.pidfd, Signal::KILL).unwrap();
    wait(running)
}

/// How many mounts our own namespace has.
pub(crate) fn host_mounts() -> usize {
    fs::read_to_string("/proc/self/mountinfo").unwrap().lines().count()
}

/// The pids of our children.
pub(crate) fn children() -> String {
    let me = dhow_sys::rustix::thread::gettid().as_raw_nonzero();
    fs::read_to_string(Path::new("/proc/self/task").join(me.to_string()).join("children")).unwrap()
}

pub(crate) fn docker_like(arguments: &[&str]) -> Value {
    json!({
        "ociVersion": "1.2.0",
        "process": {
            "user": { "uid": 0, "gid": 0 },
            "args": arguments,
            "env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"],
            "cwd": "/",
            "capabilities": {
                "bounding": CAPABILITIES, "effective": CAPABILITIES, "permitted": CAPABILITIES,
            },
            "oomScoreAdj": 0,
        },
        "root": { "path": "rootfs", "readonly": false },
        "hostname": "stage",
        "mounts": [
            mount("proc", "proc", "/proc", &["nosuid", "noexec", "nodev"]),
            mount("tmpfs", "tmpfs", "/dev", &["nosuid", "strictatime", "mode=755", "size=65536k"]),
            mount("devpts", "devpts", "/dev/pts",
                &["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"]),
            mount("sysfs", "sysfs", "/sys", &["nosuid", "noexec", "nodev", "ro"]),
            mount("cgroup", "cgroup", "/sys/fs/cgroup", &["ro", "nosuid", "noexec", "nodev"]),
            mount("mqueue", "mqueue", "/dev/mqueue", &["nosuid", "noexec", "nodev"]),
            mount("tmpfs", "shm", "/dev/shm",
                &["nosuid", "noexec", "nodev", "mode=1777", "size=67108864"]),
        ],
        "linux": {
            "sysctl": { "net.ipv4.ip_unprivileged_port_start": "0" },
            "namespaces": [
                { "type": "mount" }, { "type": "network" }, { "type": "uts" }, { "type": "pid" },
                { "type": "ipc" }, { "type": "cgroup" },
            ],
            "resources": {
                "devices": [{ "allow": false, "access": "rwm" }],
                "memory": { "limit": 67_108_864 },
                "pids": { "limit": 100 },
            },
            "maskedPaths": [
                "/proc/asound", "/proc/acpi", "/proc/interrupts", "/proc/kcore", "/proc/keys",
                "/proc/latency_stats", "/proc/timer_list", "/proc/timer_stats",
                "/proc/sched_debug", "/proc/scsi", "/sys/firmware",
                "/sys/devices/virtual/powercap",
            ],
            "readonlyPaths": [
                "/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger",
            ],
        },
    })
}

fn mount(typ: &str, source: &str, destination: &str, options: &[&str]) -> Value {
    json!({ "type": typ, "source": source, "destination": destination, "options": options })
}
