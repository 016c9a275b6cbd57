//! The daemon's side: start the launcher, hand it containers, reach shims by their state folder.
//!
//! Everything is synchronous and short: a launch is one memfd and one message to a warm process, and its
//! answer comes on a socket that the caller waits on as it likes. An asynchronous caller takes the
//! [`UnixStream`] of [`connect`] and the functions of [`frame`].
//!
//! A container is found again by its folder alone ([`find`]):
//!
//! ```text
//!   exit.json there                       Ended    with this exit
//!   shim.json there, socket answers       Running
//!   shim.json there, nobody listens       Lost     the shim was killed, and with it the container
//!   nothing there                         Unknown  never started
//! ```

use std::ffi::CString;
use std::fs::File;
use std::io::Write;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use dhow_error::{Classify, Kind};
use dhow_sys::rustix::fs::{Mode, OFlags};
use dhow_sys::rustix::io::Errno;
use dhow_sys::rustix::process::PidfdFlags;
use dhow_sys::seal::Binary;
use dhow_sys::{event, fdpass, process};
use serde::de::DeserializeOwned;

use crate::LAUNCHER_ARGV0;
use crate::frame::{self, FrameError};
use crate::protocol::{
    AttachStreams, EXIT_FILE, Envelope, Exit, LaunchRequest, Reply, Request, SOCKET_FILE,
    STATE_FILE, ShimState,
};

/// The most attach sockets of one launch.
pub const MAX_ATTACH: usize = 64;

/// Why a launcher or shim cannot be reached.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// No read-only view of our binary.
    #[error("cannot seal the binary with {}", .0.display())]
    Seal(PathBuf, #[source] std::io::Error),
    /// The launcher does not start.
    #[error("cannot start the launcher")]
    Spawn(#[source] std::io::Error),
    /// The launcher does not take the request.
    #[error("cannot hand container {0} to the launcher")]
    Send(String, #[source] std::io::Error),
    /// More than [`MAX_ATTACH`] attach sockets.
    #[error("cannot attach {0} clients at the start: the limit is {MAX_ATTACH}")]
    TooManyClients(usize),
    /// The request cannot be written, or the answer not read.
    #[error("cannot exchange a message with the shim")]
    Frame(#[from] FrameError),
    /// The shim ended without an answer.
    #[error("shim ended without an answer")]
    Silent,
    /// Nobody listens on the shim's socket.
    #[error("cannot reach the shim in {}", .0.display())]
    Connect(PathBuf, #[source] std::io::Error),
    /// A file of the state folder cannot be read.
    #[error("cannot read {}", .0.display())]
    State(PathBuf, #[source] std::io::Error),
}

impl Classify for ClientError {
    fn kind(&self) -> Kind {
        match self {
            Self::TooManyClients(_) => Kind::Invalid,
            Self::Frame(error) => error.kind(),
            Self::Silent | Self::Connect(..) => Kind::Unavailable,
            Self::Seal(..) | Self::Spawn(_) | Self::Send(..) | Self::State(..) => Kind::Internal,
        }
    }
}

/// The descriptors of a launch, besides what it says in words.
#[derive(Debug)]
pub struct LaunchFds {
    /// One end of a stream pair (such as [`UnixStream::pair`]): the shim writes one frame to it, a
    /// [`Reply::Started`] or [`Reply::Failed`], and closes it. Closed without a frame, the launcher or the
    /// shim was killed.
    pub reply: OwnedFd,
    /// The network namespace to join.
    pub netns: Option<OwnedFd>,
    /// Stream sockets that are attached from the container's first byte on.
    pub attach: Vec<(OwnedFd, AttachStreams)>,
}

/// A warm launcher and the sealed binary to start the next one from. Dropping it ends the launcher;
/// the shims live on.
#[derive(Debug)]
pub struct Launcher {
    binary: Binary,
    process: Process,
}

/// A running launcher.
#[derive(Debug)]
struct Process {
    socket: Option<OwnedFd>,
    pid: i32,
    pidfd: OwnedFd,
}

impl Launcher {
    /// Seals our binary (an empty folder appears in `scratch` for an instant) and starts a launcher.
    pub fn spawn(scratch: &Path) -> Result<Self, ClientError> {
        let binary = Binary::seal(scratch)
            .map_err(|error| ClientError::Seal(scratch.to_owned(), error.into()))?;
        let process = Process::spawn(&binary)?;
        Ok(Self { binary, process })
    }

    /// The launcher's pid.
    pub fn pid(&self) -> i32 {
        self.process.pid
    }

    /// The launcher's pid descriptor, readable once it has ended.
    pub fn pidfd(&self) -> BorrowedFd<'_> {
        self.process.pidfd.as_fd()
    }

    /// The sealed binary.
    pub fn binary(&self) -> &Binary {
        &self.binary
    }

    /// Hands a container to the launcher; the outcome comes on the other end of `descriptors.reply`.
    /// `seccomp` is the compiled filter's bytes, empty for none. A launcher that has died is replaced.
    pub fn launch(
        &mut self,
        request: &LaunchRequest,
        seccomp: &[u8],
        descriptors: LaunchFds,
    ) -> Result<(), ClientError> {
        if descriptors.attach.len() > MAX_ATTACH {
            return Err(ClientError::TooManyClients(descriptors.attach.len()));
        }
        let failed = |error: Errno| ClientError::Send(request.id.clone(), error.into());
        let memory = write_envelope(request, seccomp, &descriptors)?;
        let mut all = vec![memory.as_fd(), descriptors.reply.as_fd()];
        all.extend(descriptors.netns.as_ref().map(AsFd::as_fd));
        all.extend(descriptors.attach.iter().map(|(socket, _)| socket.as_fd()));
        match self.process.send(&all) {
            Err(Errno::PIPE | Errno::CONNRESET) => {
                self.process = Process::spawn(&self.binary)?;
                self.process.send(&all).map_err(failed)
            }
            other => other.map_err(failed),
        }
    }
}

impl Process {
    fn spawn(binary: &Binary) -> Result<Self, ClientError> {
        let failed = |error: Errno| ClientError::Spawn(error.into());
        let (ours, theirs) = fdpass::packet_pair().map_err(failed)?;
        let name = CString::new(LAUNCHER_ARGV0).map_err(|_| failed(Errno::INVAL))?;
        let pid = binary.spawn(&[name], theirs.as_fd()).map_err(failed)?;
        // Our own child that nobody has waited for: the pid cannot be another's.
        let number = dhow_sys::rustix::process::Pid::from_raw(pid).ok_or(failed(Errno::SRCH))?;
        let pidfd =
            dhow_sys::rustix::process::pidfd_open(number, PidfdFlags::empty()).map_err(failed)?;
        Ok(Self { socket: Some(ours), pid, pidfd })
    }

    fn send(&self, descriptors: &[BorrowedFd<'_>]) -> Result<(), Errno> {
        let socket = self.socket.as_ref().ok_or(Errno::PIPE)?;
        fdpass::send(socket, &[crate::protocol::VERSION as u8], descriptors)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // The end of its socket ends it; it does nothing in between that could take long.
        self.socket = None;
        let _ = event::reap_blocking(self.pidfd.as_fd());
    }
}

/// The request in memory that only the kernel and the shim see: the launcher passes it on unread.
fn write_envelope(
    request: &LaunchRequest,
    seccomp: &[u8],
    descriptors: &LaunchFds,
) -> Result<File, ClientError> {
    let envelope = Envelope {
        request,
        netns: descriptors.netns.is_some(),
        attach: descriptors.attach.iter().map(|(_, streams)| *streams).collect(),
        sent_at_ns: process::monotonic_ns(),
    };
    let mut bytes = frame::encode(&envelope)?;
    bytes.extend_from_slice(seccomp);
    let flags = dhow_sys::rustix::fs::MemfdFlags::CLOEXEC;
    let failed = |error: std::io::Error| ClientError::Send(request.id.clone(), error);
    let memory = dhow_sys::rustix::fs::memfd_create("dhow-launch", flags)
        .map_err(|error| failed(error.into()))?;
    let mut file = File::from(memory);
    file.write_all(&bytes).map_err(failed)?;
    Ok(file)
}

/// Connects to the shim whose state folder this is.
///
/// Errors: [`ClientError::Connect`], with `NotFound` or `ConnectionRefused` as its source when no shim
/// is there (any more): see [`find`].
pub fn connect(state_dir: &Path) -> Result<UnixStream, ClientError> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    dhow_sys::rustix::fs::open(state_dir, flags, Mode::empty())
        .and_then(|folder| fdpass::connect_in(folder.as_fd(), SOCKET_FILE))
        .map(UnixStream::from)
        .map_err(|error| ClientError::Connect(state_dir.to_owned(), error.into()))
}

/// Asks the shim and waits for its answer; the connection comes along, for what is raw after the answer.
pub fn call(state_dir: &Path, request: &Request) -> Result<(Reply, UnixStream), ClientError> {
    let mut stream = connect(state_dir)?;
    frame::write(&mut stream, request)?;
    let reply = frame::read(&mut stream)?.ok_or(ClientError::Silent)?;
    Ok((reply, stream))
}

/// What has become of a container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Found {
    /// Its shim answers.
    Running(ShimState),
    /// It has ended.
    Ended(Exit),
    /// Its shim was killed, and with it the container; nobody knows the exit code. The control group may
    /// be left.
    Lost(ShimState),
    /// Nothing was ever started here, or not completely.
    Unknown,
}

/// What has become of the container whose state folder this is.
pub fn find(state_dir: &Path) -> Result<Found, ClientError> {
    if let Some(exit) = read_file(&state_dir.join(EXIT_FILE))? {
        return Ok(Found::Ended(exit));
    }
    let Some(state) = read_file(&state_dir.join(STATE_FILE))? else {
        return Ok(Found::Unknown);
    };
    match connect(state_dir) {
        Ok(_) => Ok(Found::Running(state)),
        // It may have ended since we looked.
        Err(_) => {
            Ok(read_file(&state_dir.join(EXIT_FILE))?.map_or(Found::Lost(state), Found::Ended))
        }
    }
}

/// How the container ended, if its shim has said so.
pub fn read_exit(state_dir: &Path) -> Result<Option<Exit>, ClientError> {
    read_file(&state_dir.join(EXIT_FILE))
}

/// A JSON file that may be absent. It is written by rename, so it is never half there.
fn read_file<T: DeserializeOwned>(path: &Path) -> Result<Option<T>, ClientError> {
    let failed = |error: std::io::Error| ClientError::State(path.to_owned(), error);
    match std::fs::read(path) {
        Ok(bytes) => serde_json::from_slice(&bytes).map(Some).map_err(|error| failed(error.into())),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(failed(error)),
    }
}
