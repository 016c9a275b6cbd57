//! The beginning of a shim: from the launcher's fork to `Started` or `Failed`.
//!
//! ```text
//!   clean process ─► read the memfd ─► lock the state folder ─► streams, log
//!        ─► dhow_runtime::launch, and while its child gets ready the control socket
//!        ─► shim.json ─► Started ─► loop (shim.rs)
//!   any failure ─► undo ─► Failed ─► end
//! ```
//!
//! Everything that can block (mounts, a log on a dead NFS) happens here, in a process of its own.

use std::fs::File;
use std::io::Read;
use std::os::fd::{AsFd, OwnedFd};

use dhow_error::{Classify, chain};
use dhow_runtime::{Bare, Help, Launch, LaunchError, Running};
use dhow_seccomp::Program;
use dhow_sys::rustix::fs::Mode;
use dhow_sys::rustix::process::DumpableBehavior;
use dhow_sys::{event, process};

use crate::connection::{Attachment, Connection, Phase};
use crate::frame::{self, HEADER_BYTES};
use crate::log::Log;
use crate::protocol::{
    AttachStreams, Envelope, Failed, LaunchRequest, Reply, SOCKET_FILE, STATE_FILE, ShimState,
    Started, VERSION,
};
use crate::shim::{Container, FIRST_UNIT, Shim, Station};
use crate::state::StateFolder;
use crate::unit::{self, Unit};

/// What a launch message brought.
struct Order {
    request: LaunchRequest,
    seccomp: Option<Program>,
    netns: Option<OwnedFd>,
    attach: Vec<(OwnedFd, AttachStreams)>,
    trace: Vec<(String, u64)>,
}

/// Is the shim: `descriptors` are those of the launch message. Gives the exit code.
pub(crate) fn run(descriptors: Vec<OwnedFd>, bare: Option<Bare>, received_at_ns: u64) -> u8 {
    let forked_at_ns = process::monotonic_ns();
    become_clean();
    let mut descriptors = descriptors.into_iter();
    let (Some(memory), Some(reply)) = (descriptors.next(), descriptors.next()) else {
        return 1;
    };
    let started = read_order(memory, descriptors.collect()).and_then(|mut order| {
        order.trace.push(("request received".to_owned(), received_at_ns));
        order.trace.push(("forked".to_owned(), forked_at_ns));
        order.trace.push(("request read".to_owned(), process::monotonic_ns()));
        start(order, bare)
    });
    let (answer, shim) = match started {
        Ok((started, shim)) => (Reply::Started(started), Some(shim)),
        Err(failed) => (Reply::Failed(failed), None),
    };
    // A daemon that is gone does not hear it; the container runs all the same.
    let _ = frame::write(&mut File::from(reply), &answer);
    drop(answer);
    shim.map_or(0, Shim::run)
}

/// Makes this copy of the launcher a process of its own.
fn become_clean() {
    use dhow_sys::rustix;
    // None of these can fail in a way that would matter more than going on. The signals stay blocked:
    // neither a broken pipe nor a stray SIGTERM may end what keeps a container.
    process::reset_signals();
    process::SignalMask::block_all();
    let _ = rustix::process::setsid();
    let _ = rustix::thread::set_name(c"dhow-shim");
    let _ = rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable);
    rustix::process::umask(Mode::RWXG | Mode::RWXO);
}

/// A failure of the shim's own.
fn failed(step: &str, message: impl Into<String>) -> Failed {
    Failed { step: step.to_owned(), message: message.into(), hint: None, exit_code: 125 }
}

/// A failure that the runtime reports.
pub(crate) fn launch_failed(error: &LaunchError) -> Failed {
    Failed {
        step: error.step().to_owned(),
        message: chain(error),
        hint: error.hint(),
        exit_code: error.exit_code(),
    }
}

/// Reads the memfd and gives each descriptor its meaning.
fn read_order(memory: OwnedFd, rest: Vec<OwnedFd>) -> Result<Order, Failed> {
    let step = "request";
    let mut bytes = Vec::new();
    let mut file = File::from(memory);
    std::io::Seek::rewind(&mut file)
        .and_then(|()| file.read_to_end(&mut bytes))
        .map_err(|error| failed(step, format!("cannot read the launch request: {error}")))?;
    let malformed = |reason: String| failed(step, format!("malformed launch request: {reason}"));
    let header =
        bytes.first_chunk::<HEADER_BYTES>().ok_or_else(|| malformed("no header".into()))?;
    let length = frame::decode_length(*header).map_err(|error| malformed(error.to_string()))?;
    let (payload, filter) = bytes[HEADER_BYTES..]
        .split_at_checked(length)
        .ok_or_else(|| malformed("cut off".to_owned()))?;
    let envelope: Envelope<LaunchRequest> =
        frame::decode(payload).map_err(|error| malformed(chain(&error)))?;
    if envelope.request.version != VERSION {
        let theirs = envelope.request.version;
        return Err(malformed(format!("version {theirs}, this shim speaks {VERSION}")));
    }
    let seccomp = (!filter.is_empty())
        .then(|| Program::from_bytes(filter))
        .transpose()
        .map_err(|error| malformed(chain(&error)))?;
    if rest.len() != usize::from(envelope.netns) + envelope.attach.len() {
        return Err(malformed("descriptors do not match".to_owned()));
    }
    let mut rest = rest.into_iter();
    let netns = if envelope.netns { rest.next() } else { None };
    Ok(Order {
        request: envelope.request,
        seccomp,
        netns,
        attach: rest.zip(envelope.attach).collect(),
        trace: vec![("request sent".to_owned(), envelope.sent_at_ns)],
    })
}

/// Starts the container. On failure nothing of it is left.
fn start(order: Order, bare: Option<Bare>) -> Result<(Started, Shim), Failed> {
    let Order { request, seccomp, netns, attach, mut trace } = order;
    let folder = StateFolder::open(&request.state_dir).map_err(|error| {
        let path = request.state_dir.display();
        failed("state", format!("cannot open state folder {path}: {}", process::Reason(error)))
    })?;
    let log = request.log.clone().map(Log::open).transpose().map_err(|error| {
        failed("log", format!("cannot open the log of container {}: {error}", request.id))
    })?;
    let (stdio, ends) = unit::streams(request.tty, request.stdin_open, true).map_err(|error| {
        failed(
            "streams",
            format!("cannot make the container's streams: {}", process::Reason(error)),
        )
    })?;
    let launch = Launch {
        spec: &request.spec,
        root: &request.root,
        cgroup: &request.cgroup,
        seccomp: seccomp.as_ref(),
        netns: netns.as_ref().map(AsFd::as_fd),
        stdio,
        init: request.init,
        console_size: request.console_size,
    };
    let mut station = None;
    let mut meanwhile = || station = Some(Station::new(&folder, &request.cgroup));
    let mut running =
        dhow_runtime::launch_with(launch, Help { bare: bare.as_ref(), meanwhile: &mut meanwhile })
            .map_err(|error| {
                let _ = folder.remove(SOCKET_FILE);
                launch_failed(&error)
            })?;
    // The container keeps its network by itself.
    drop((netns, bare));
    trace.append(&mut running.trace);
    let warnings = std::mem::take(&mut running.warnings);
    let container = Container {
        folder,
        root: running.root.take(),
        cgroup_path: request.cgroup.clone(),
        seccomp,
        stdin_once: request.stdin_once,
        log,
    };
    let pid = running.pid;
    let (shim, started_at_ns) = settle(running, ends, &request, (container, station), attach)?;
    trace.push(("replied".to_owned(), process::monotonic_ns()));
    // The runtime's two sides of the clone report by turns.
    trace.sort_by_key(|(_, at_ns)| *at_ns);
    Ok((Started { shim_pid: our_pid(), pid, started_at_ns, trace, warnings }, shim))
}

/// Sets up the loop around a container that runs. If that fails, the container is killed.
fn settle(
    running: Running,
    ends: unit::Ends,
    request: &LaunchRequest,
    (container, station): (Container, Option<std::io::Result<Station>>),
    attach: Vec<(OwnedFd, AttachStreams)>,
) -> Result<(Shim, u64), Failed> {
    let spare = running.pidfd.try_clone();
    let cgroup = container.cgroup_path.clone();
    // The runtime leaves nothing out; if it did, there would be no socket yet.
    let station = station.unwrap_or_else(|| Station::new(&container.folder, &cgroup));
    let settled =
        station.and_then(|station| watch(running, ends, request, container, station, attach));
    settled.map_err(|error| {
        if let Ok(pidfd) = spare {
            let _ = event::send_signal(pidfd.as_fd(), 9);
            let _ = event::reap_blocking(pidfd.as_fd());
        }
        if let Ok(layout) = dhow_cgroup::Layout::detect() {
            let _ = layout.open(&cgroup).kill();
            let _ = layout.open(&cgroup).destroy();
        }
        // Opening it removes what it holds.
        drop(StateFolder::open(&request.state_dir));
        failed("shim", format!("cannot watch container {}: {error}", request.id))
    })
}

fn watch(
    running: Running,
    ends: unit::Ends,
    request: &LaunchRequest,
    container: Container,
    station: Station,
    attach: Vec<(OwnedFd, AttachStreams)>,
) -> std::io::Result<(Shim, u64)> {
    let unit = Unit::new(None, running, ends, request.stdin_open)?;
    let (framed, started_at_ns) = (!unit.tty, unit.started_at_ns);
    let state = ShimState {
        version: VERSION,
        shim_pid: our_pid(),
        pid: unit.pid,
        started_at_ns,
        cgroup: container.cgroup_path.clone(),
    };
    container.folder.write(STATE_FILE, &state)?;
    let mut shim = Shim::new(station, container, unit)?;
    for (socket, streams) in attach {
        event::set_nonblocking(&socket)?;
        let attachment = Attachment { unit: FIRST_UNIT, streams, framed };
        shim.add(Connection::new(socket, Phase::Attached(attachment)));
    }
    Ok((shim, started_at_ns))
}

/// The shim's pid.
pub(crate) fn our_pid() -> i32 {
    dhow_sys::rustix::process::getpid().as_raw_nonzero().get()
}
