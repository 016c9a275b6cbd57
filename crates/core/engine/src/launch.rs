//! Starting a container: everything between the request and the first instruction of its command.
//!
//! ```text
//!            ┌─ network: namespace, address, ports ─┐
//!   gate ──► │                                      ├─► /etc/hosts ─► launcher ─┬─► shim: Started ─┐
//!            └─ specification, filter, /etc files ──┘   network.json            │                  ├─► ok
//!                                                                               └─► durable state ─┘
//! ```
//!
//! The durable write runs beside the launch and both must succeed before the start is acknowledged. If
//! the daemon is killed in between, the next one finds the shim by its folder, and what network it has in
//! `network.json`, whatever the store says. A failed start takes everything back but the exit code and
//! the message in the container's state.

use std::fs;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream as StdStream;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use dhow_error::{Error, Kind, Result};
use dhow_rootfs::Root;
use dhow_shim::client::LaunchFds;
use dhow_shim::protocol::{self, LaunchRequest, LogFile, Reply, Request, Started};
use dhow_sys::process::monotonic_ns;
use tokio::net::UnixStream;

use crate::clock::now_ns;
use crate::container::{Connection, Container};
use crate::engine::Shared;
use crate::options::StartTrace;
use crate::shim::{self, Shim};
use crate::state::{Action, State, Status};
use crate::{prepare, record, signal};

/// How long the shim of the last run may take to clean up, before the next run kills it.
const PREVIOUS_SHIM: Duration = Duration::from_secs(10);

/// What a start hands on when it succeeded.
struct Launched {
    started: Started,
    shim: Arc<Shim>,
    connection: Connection,
}

/// The steps of a start as they are done.
pub(crate) struct Steps {
    begin_ns: u64,
    trace: StartTrace,
}

impl Steps {
    fn begin() -> Self {
        let begin_ns = monotonic_ns();
        Self { begin_ns, trace: StartTrace { begin_ns, ..StartTrace::default() } }
    }

    /// `step` is done.
    fn done(&mut self, step: &str) {
        self.at(step, monotonic_ns());
    }

    /// `step` was done at this time of CLOCK_MONOTONIC.
    fn at(&mut self, step: &str, time_ns: u64) {
        let micros = time_ns.saturating_sub(self.begin_ns) / 1000;
        self.trace.steps.push((step.to_owned(), micros));
    }
}

impl Shared {
    /// See [`crate::Engine::start`].
    pub(crate) async fn start(self: &Arc<Self>, container: &Arc<Container>) -> Result<()> {
        let mut steps = Steps::begin();
        let gate = container.gate.lock().await;
        let id = container.id.as_str();
        container.status().may(Action::Start, id)?;
        let previous = container.live().shim.clone();
        if let Some(previous) = previous {
            // It still clears the cgroup that the next run will have.
            let cgroup = self.cgroups.open(&container.folders.cgroup);
            previous.cleaned_up(&cgroup, PREVIOUS_SHIM).await;
        }
        steps.done("begin");
        match self.launch(container, &mut steps).await {
            Ok(launched) => {
                self.started(container, launched, steps);
                Ok(())
            }
            Err(error) => {
                self.failed_to_start(container, &error).await;
                drop(gate);
                if container.spec().auto_remove {
                    self.remove_ended(container).await;
                }
                Err(error)
            }
        }
    }

    /// Runs the container; on failure takes everything back.
    async fn launch(&self, container: &Container, steps: &mut Steps) -> Result<Launched> {
        let connection = Connection::default();
        let waiting = std::mem::take(&mut container.live().waiting);
        let result = self.launch_with(container, connection, waiting, steps).await;
        if result.is_err() {
            self.detach(container).await;
            remove_folder(&container.folders.run);
        }
        result
    }

    async fn launch_with(
        &self,
        container: &Container,
        mut connection: Connection,
        waiting: Vec<(OwnedFd, protocol::AttachStreams)>,
        steps: &mut Steps,
    ) -> Result<Launched> {
        let folders = &container.folders;
        prepare::make_state_folder(&folders.run)?;
        let (network, plan) =
            tokio::join!(self.connect(container), async { self.prepare(container) });
        steps.done("network");
        let mut plan = plan?;
        let network = network?;
        connection.endpoint = network.endpoint;
        connection.ports = network.ports;
        connection.attached = network.attached;
        self.write_hosts(container, &plan, &connection)?;
        prepare::write_connection(&folders.connection(), &connection)?;
        container.live().connection = connection.clone();
        let (reply, theirs) = StdStream::pair().map_err(cannot_launch)?;
        let request = self.request(container, &mut plan)?;
        let descriptors = LaunchFds { reply: theirs.into(), netns: network.netns, attach: waiting };
        self.launcher().launch(&request, &plan.filter, descriptors)?;
        drop(request);
        steps.done("sent");
        let running = State {
            status: Status::Running,
            started_at_ns: now_ns(),
            error: String::new(),
            exit_code: 0,
            oom_killed: false,
            stopped_by_user: false,
            ..container.live().state.clone()
        };
        let (started, written) = tokio::join!(
            answer(reply),
            record::write_state(self.kv.as_ref(), &container.id, &running)
        );
        let started = started?;
        for (step, time_ns) in &started.trace {
            steps.at(step, *time_ns);
        }
        let shim = Arc::new(Shim::new(&folders.run, started.shim_pid));
        if let Err(error) = written {
            // Nobody would know of it after a restart: it must not run.
            let kill = Request::Signal { exec: None, signal: signal::KILL };
            let _ = shim.tell(&kill).await;
            shim.cleaned_up(&self.cgroups.open(&folders.cgroup), PREVIOUS_SHIM).await;
            return Err(error);
        }
        steps.done("durable");
        Ok(Launched { started, shim, connection })
    }

    /// What the shim is told.
    fn request(
        &self,
        container: &Container,
        plan: &mut prepare::Prepared,
    ) -> Result<LaunchRequest> {
        let (spec, folders) = (container.spec(), &container.folders);
        let log = container.log_path().map(|path| LogFile {
            path,
            max_size_bytes: spec.log.max_size_bytes,
            max_files: spec.log.max_files.unwrap_or(1),
        });
        let writable = self.snapshots.writable(&container.id)?;
        let mut lower = self.snapshots.lower_dirs(&container.fixed().chain)?;
        if lower.is_empty() {
            // An image without layers: overlay wants at least one folder.
            lower.push(self.config.root.join("containers/.empty"));
        }
        Ok(LaunchRequest {
            version: protocol::VERSION,
            id: container.id.to_string(),
            state_dir: folders.run.clone(),
            spec: std::mem::take(&mut plan.oci),
            root: Root::Overlay { lower, upper: writable.upper, work: writable.work },
            cgroup: folders.cgroup.clone(),
            log,
            tty: spec.tty,
            console_size: spec
                .console_size
                .map(|size| protocol::ConsoleSize { rows: size.rows, cols: size.cols }),
            stdin_open: spec.open_stdin,
            stdin_once: spec.open_stdin && spec.stdin_once,
            init: spec.init,
        })
    }

    /// Marks the container as running and looks out for its end.
    fn started(self: &Arc<Self>, container: &Arc<Container>, launched: Launched, steps: Steps) {
        let Launched { started, shim, connection } = launched;
        let run = {
            let mut live = container.live();
            live.state = State {
                status: Status::Running,
                started_at_ns: started.started_at_ns,
                exit_code: 0,
                oom_killed: false,
                error: String::new(),
                stopped_by_user: false,
                ..live.state.clone()
            };
            live.pid = started.pid;
            live.shim = Some(Arc::clone(&shim));
            live.connection = connection;
            live.trace = steps.trace;
            live.run += 1;
            live.run
        };
        container.announce(Status::Running);
        self.publish(container, "start", std::collections::BTreeMap::new());
        self.watch_exit(container, shim, run);
    }

    /// Keeps the exit code and the message, as Docker does; the status stays what it was.
    async fn failed_to_start(&self, container: &Container, error: &Error) {
        let code = match error.kind() {
            Kind::CommandNotFound => 127,
            Kind::CommandNotExecutable => 126,
            _ => 128,
        };
        let state = {
            let mut live = container.live();
            // A restart that failed does not come back by itself.
            if live.state.status == Status::Restarting {
                live.state.status = Status::Exited;
            }
            live.state.exit_code = code;
            live.state.error = error.chain();
            live.pid = 0;
            live.shim = None;
            live.connection = Connection::default();
            live.state.clone()
        };
        if let Err(error) = record::write_state(self.kv.as_ref(), &container.id, &state).await {
            tracing::error!(container = %container.id, error = %error.chain(), "cannot write the state");
        }
        let status = state.status;
        container
            .announce_exit(status, crate::state::ExitStatus { code, error: Some(state.error) });
    }
}

/// The shim's answer to a launch.
async fn answer(reply: StdStream) -> Result<Started> {
    reply.set_nonblocking(true).map_err(cannot_launch)?;
    let mut reply = UnixStream::from_std(reply).map_err(cannot_launch)?;
    match shim::read_reply(&mut reply).await? {
        Some(Reply::Started(started)) => Ok(started),
        Some(Reply::Failed(failed)) => Err(shim::failure(&failed)),
        Some(_) => {
            Err(Error::internal("cannot start the container: the shim gave a strange answer"))
        }
        None => {
            Err(Error::internal("cannot start the container: its shim or the launcher was killed")
                .with_hint("start it again"))
        }
    }
}

/// Removes a folder in /run that may be absent.
pub(crate) fn remove_folder(folder: &Path) {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            tracing::warn!(folder = %folder.display(), %error, "cannot remove a folder");
        }
        _ => {}
    }
}

fn cannot_launch(error: std::io::Error) -> Error {
    Error::caused(Kind::Internal, "cannot talk to the launcher", error)
}
