//! A container to test with: busybox on an overlay, in a folder of its own, cleaned up at the end.

use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{DirBuilderExt, symlink};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use dhow_rootfs::Root;
use dhow_shim::client::{self, LaunchFds, Launcher};
use dhow_shim::frame;
use dhow_shim::protocol::{
    AttachStreams, ConsoleSize, ExecRequest, Exit, Failed, LaunchRequest, LogFile, Reply, Request,
    Started, VERSION,
};
use serde_json::json;

/// All three streams.
pub(crate) const ALL: AttachStreams = AttachStreams { stdin: true, stdout: true, stderr: true };

const APPLETS: &[&str] = &[
    "sh", "cat", "echo", "sleep", "dd", "stty", "yes", "head", "printf", "kill", "wc", "mkdir",
    "env", "tail",
];

/// Folders and names of one container.
pub(crate) struct Container {
    pub(crate) folder: PathBuf,
    /// The compiled filter, as bytes.
    pub(crate) seccomp: Vec<u8>,
    pub(crate) request: LaunchRequest,
    /// Held only where the test owns the folder.
    pub(crate) owner: Option<tempfile::TempDir>,
}

impl Container {
    /// A container that runs `command`, with nothing open and a log.
    pub(crate) fn new(command: &[&str]) -> Self {
        let owner = tempfile::tempdir().unwrap();
        let mut container = Self::in_folder(owner.path(), command);
        container.owner = Some(owner);
        container
    }

    /// The same in a folder of somebody else's.
    pub(crate) fn in_folder(folder: &Path, command: &[&str]) -> Self {
        for name in ["rootfs/bin", "rootfs/proc", "rootfs/dev", "rootfs/tmp", "upper", "work"] {
            std::fs::create_dir_all(folder.join(name)).unwrap();
        }
        let bin = folder.join("rootfs/bin");
        std::fs::copy("/usr/bin/busybox", bin.join("busybox")).unwrap();
        for applet in APPLETS {
            symlink("busybox", bin.join(applet)).unwrap();
        }
        let state = folder.join("state");
        std::fs::DirBuilder::new().mode(0o700).create(&state).unwrap();
        let name = folder.file_name().unwrap().to_string_lossy().trim_start_matches('.').to_owned();
        let request = LaunchRequest {
            version: VERSION,
            id: name.clone(),
            state_dir: state,
            spec: serde_json::from_value(spec(command)).unwrap(),
            root: Root::Overlay {
                lower: vec![folder.join("rootfs")],
                upper: folder.join("upper"),
                work: folder.join("work"),
            },
            cgroup: format!("/dhow-shim-test-{}-{name}", std::process::id()),
            log: Some(LogFile { path: folder.join("log"), max_size_bytes: None, max_files: 1 }),
            tty: false,
            console_size: None,
            stdin_open: false,
            stdin_once: false,
            init: false,
        };
        Self { folder: folder.to_owned(), seccomp: Vec::new(), request, owner: None }
    }

    /// With a terminal of that size.
    pub(crate) fn with_terminal(mut self, rows: u16, cols: u16) -> Self {
        self.request.tty = true;
        self.request.console_size = Some(ConsoleSize { rows, cols });
        let mut process = self.request.spec.process().clone().unwrap();
        process.set_terminal(Some(true));
        self.request.spec.set_process(Some(process));
        self
    }

    /// With its stdin open.
    pub(crate) fn with_stdin(mut self, once: bool) -> Self {
        self.request.stdin_open = true;
        self.request.stdin_once = once;
        self
    }

    /// Changes its specification as JSON.
    pub(crate) fn with_spec(mut self, change: impl FnOnce(&mut serde_json::Value)) -> Self {
        let mut spec = serde_json::to_value(&self.request.spec).unwrap();
        change(&mut spec);
        self.request.spec = serde_json::from_value(spec).unwrap();
        self
    }

    /// A launcher that is sealed with this container's folder.
    pub(crate) fn launcher(&self) -> Launcher {
        Launcher::spawn(&self.folder).unwrap()
    }

    /// Launches it; the answer and the client sockets that are attached from the start.
    pub(crate) fn try_start(
        &self,
        launcher: &mut Launcher,
        attach: &[AttachStreams],
    ) -> (Result<Started, Failed>, Vec<UnixStream>) {
        let (mut ours, reply) = pair();
        let (clients, theirs): (Vec<UnixStream>, Vec<(OwnedFd, AttachStreams)>) = attach
            .iter()
            .map(|streams| {
                let (ours, theirs) = pair();
                (ours, (theirs.into(), *streams))
            })
            .unzip();
        let descriptors = LaunchFds { reply: reply.into(), netns: None, attach: theirs };
        launcher.launch(&self.request, &self.seccomp, descriptors).unwrap();
        let answer = match frame::read(&mut ours).unwrap() {
            Some(Reply::Started(started)) => Ok(started),
            Some(Reply::Failed(failed)) => Err(failed),
            other => panic!("expected Started or Failed, got {other:?}"),
        };
        (answer, clients)
    }

    /// Launches it, which must succeed.
    pub(crate) fn start(
        &self,
        launcher: &mut Launcher,
        attach: &[AttachStreams],
    ) -> (Started, Vec<UnixStream>) {
        let (answer, clients) = self.try_start(launcher, attach);
        (answer.unwrap(), clients)
    }

    /// Launches it without clients under a launcher of its own.
    pub(crate) fn run(&self) -> Started {
        self.start(&mut self.launcher(), &[]).0
    }

    /// Asks its shim.
    pub(crate) fn call(&self, request: &Request) -> Reply {
        client::call(&self.request.state_dir, request).unwrap().0
    }

    /// Attaches to its first process.
    pub(crate) fn attach(&self, streams: AttachStreams) -> UnixStream {
        let request = Request::Attach { exec: None, streams };
        let (reply, stream) = client::call(&self.request.state_dir, &request).unwrap();
        assert_eq!(reply, Reply::Ok);
        limit(stream)
    }

    /// Waits for its end.
    pub(crate) fn wait(&self) -> Exit {
        match client::call(&self.request.state_dir, &Request::Wait { exec: None }) {
            Ok((Reply::Exited(exit), _)) => exit,
            Ok((other, _)) => panic!("expected the exit, got {other:?}"),
            // It was faster.
            Err(_) => client::read_exit(&self.request.state_dir).unwrap().expect("an exit file"),
        }
    }

    /// Sends its first process a signal.
    pub(crate) fn signal(&self, signal: i32) {
        assert_eq!(self.call(&Request::Signal { exec: None, signal }), Reply::Ok);
    }

    /// Starts an exec; the answer and the connection.
    pub(crate) fn exec(
        &self,
        id: &str,
        command: &[&str],
        attach: Option<AttachStreams>,
    ) -> (Reply, UnixStream) {
        let request = exec_request(id, command, attach);
        let (reply, stream) =
            client::call(&self.request.state_dir, &Request::Exec(Box::new(request))).unwrap();
        (reply, limit(stream))
    }

    /// What it has logged: (stream, text) of each line.
    pub(crate) fn logged(&self) -> Vec<(String, String)> {
        let text = std::fs::read_to_string(self.folder.join("log")).unwrap();
        let objects =
            text.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
        objects
            .map(|object| {
                let field = |name: &str| object[name].as_str().unwrap().to_owned();
                (field("stream"), field("log"))
            })
            .collect()
    }

    /// The control group's directories that exist.
    pub(crate) fn cgroups(&self) -> Vec<PathBuf> {
        let name = self.request.cgroup.trim_start_matches('/');
        let Ok(hierarchies) = std::fs::read_dir("/sys/fs/cgroup") else {
            return Vec::new();
        };
        let mut places: Vec<PathBuf> =
            hierarchies.map(|entry| entry.unwrap().path().join(name)).collect();
        places.push(Path::new("/sys/fs/cgroup").join(name));
        places.retain(|path| path.exists());
        places
    }

    /// Waits for the end of its shim, and checks that nothing is left.
    pub(crate) fn assert_gone(&self, started: &Started) {
        wait_for_process(started.shim_pid);
        assert_no_zombie(started.shim_pid);
        assert_eq!(self.cgroups(), Vec::<PathBuf>::new());
        assert!(!self.request.state_dir.join("shim.sock").exists());
    }
}

impl Drop for Container {
    fn drop(&mut self) {
        // After a failed test.
        let _ = client::call(&self.request.state_dir, &Request::Signal { exec: None, signal: 9 });
    }
}

/// A request for an exec.
pub(crate) fn exec_request(
    id: &str,
    command: &[&str],
    attach: Option<AttachStreams>,
) -> ExecRequest {
    let process = spec(command)["process"].take();
    ExecRequest {
        exec_id: id.to_owned(),
        process: serde_json::from_value(process).unwrap(),
        tty: false,
        console_size: None,
        attach,
        stdin_open: attach.is_some_and(|streams| streams.stdin),
    }
}

/// A stream pair whose first end gives up after a while instead of hanging the test.
pub(crate) fn pair() -> (UnixStream, UnixStream) {
    let (ours, theirs) = UnixStream::pair().unwrap();
    (limit(ours), theirs)
}

fn limit(stream: UnixStream) -> UnixStream {
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    stream
}

/// Everything until the end of a raw connection.
pub(crate) fn read_all(stream: &mut UnixStream) -> String {
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).unwrap();
    String::from_utf8(bytes).unwrap()
}

/// Reads until `text` has come; all that came.
pub(crate) fn read_until(stream: &mut UnixStream, text: &str) -> String {
    let (mut got, mut buffer) = (String::new(), [0; 4096]);
    while !got.contains(text) {
        let count = stream.read(&mut buffer).unwrap();
        assert!(count > 0, "the stream ended before {text:?}: {got:?}");
        got.push_str(std::str::from_utf8(&buffer[..count]).unwrap());
    }
    got
}

/// Takes the headers off: what came on stdout and on stderr.
pub(crate) fn demultiplex(bytes: &[u8]) -> (Vec<u8>, Vec<u8>) {
    let (mut outputs, mut rest) = ([Vec::new(), Vec::new()], bytes);
    while let Some((header, tail)) = rest.split_first_chunk::<8>() {
        let length = u32::from_be_bytes(header[4..].try_into().unwrap()) as usize;
        outputs[usize::from(header[0]) - 1].extend_from_slice(&tail[..length]);
        rest = &tail[length..];
    }
    assert!(rest.is_empty(), "half a header");
    let [stdout, stderr] = outputs;
    (stdout, stderr)
}

/// Everything until the end of a framed connection.
pub(crate) fn read_framed(stream: &mut UnixStream) -> (String, String) {
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).unwrap();
    let (stdout, stderr) = demultiplex(&bytes);
    (String::from_utf8(stdout).unwrap(), String::from_utf8(stderr).unwrap())
}

/// Sends input; with `last`, ends it.
pub(crate) fn send(stream: &mut UnixStream, text: &str, last: bool) {
    stream.write_all(text.as_bytes()).unwrap();
    if last {
        stream.shutdown(Shutdown::Write).unwrap();
    }
}

/// Waits until a process that is not our child has ended and was reaped.
pub(crate) fn wait_for_process(pid: i32) {
    use dhow_sys::rustix::event::{PollFd, PollFlags, poll};
    use dhow_sys::rustix::process::{Pid, PidfdFlags, pidfd_open};
    if let Ok(pidfd) = pidfd_open(Pid::from_raw(pid).unwrap(), PidfdFlags::empty()) {
        let limit = dhow_sys::rustix::event::Timespec { tv_sec: 20, tv_nsec: 0 };
        let ready = poll(&mut [PollFd::new(&pidfd, PollFlags::IN)], Some(&limit)).unwrap();
        assert_eq!(ready, 1, "process {pid} still runs");
    }
}

/// A process that has ended is reaped, or waits for pid 1 to do so (as when its launcher has ended too).
fn assert_no_zombie(pid: i32) {
    if let Ok(stat) = std::fs::read_to_string(format!("/proc/{pid}/stat")) {
        let parent = stat.rsplit(") ").next().unwrap().split(' ').nth(1).unwrap();
        assert_eq!(parent, "1", "process {pid} is a zombie");
    }
}

fn spec(command: &[&str]) -> serde_json::Value {
    json!({
        "ociVersion": "1.2.0",
        "process": {
            "user": {"uid": 0, "gid": 0},
            "args": command,
            "env": ["PATH=/bin", "SECRET=of-this-container"],
            "cwd": "/",
            "capabilities": {
                "bounding": ["CAP_KILL", "CAP_CHOWN"],
                "permitted": ["CAP_KILL", "CAP_CHOWN"],
                "effective": ["CAP_KILL", "CAP_CHOWN"],
            },
        },
        "root": {"path": "rootfs"},
        "mounts": [
            {"destination": "/proc", "type": "proc", "source": "proc",
             "options": ["nosuid", "noexec", "nodev"]},
            {"destination": "/dev", "type": "tmpfs", "source": "tmpfs",
             "options": ["nosuid", "strictatime", "mode=755", "size=65536k"]},
            {"destination": "/dev/pts", "type": "devpts", "source": "devpts",
             "options": ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"]},
        ],
        "linux": {
            "namespaces": [
                {"type": "pid"}, {"type": "ipc"}, {"type": "uts"}, {"type": "mount"},
                {"type": "network"}, {"type": "cgroup"},
            ],
        },
    })
}
