//! Further processes in running containers.
//!
//! ```text
//!   created ── start ──► running ── ends ──► ended (code)
//!      │ could not start: code 126 or 127      ▲
//!      └───────────────────────────────────────┘
//! ```
//!
//! Execs live in the memory of this daemon and of the container's shim; they end with the container and
//! are not durable, as with Docker. The last [`KEPT`] ended ones of a container can be inspected.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use dhow_error::{Error, Kind, Result};
use dhow_shim::protocol::{self, ExecRequest, Reply, Request};
use dhow_spec::ContainerId;
use dhow_sys::caps;
use tokio::net::UnixStream;
use tokio::sync::watch;

use crate::attached::{AttachStream, Attached};
use crate::clock::now_ns;
use crate::container::Container;
use crate::engine::Shared;
use crate::oci::{self, EtcFiles, Joined, Plan};
use crate::options::{ExecSpec, ExecView};
use crate::shim::{self, Shim};
use crate::signal;
use crate::spec::ConsoleSize;
use crate::state::{ExitStatus, Status};

/// How many ended execs of one container are remembered.
const KEPT: usize = 32;

/// All execs by id.
#[derive(Debug, Default)]
pub(crate) struct Execs {
    by_id: Mutex<HashMap<String, Arc<Exec>>>,
}

/// One exec.
#[derive(Debug)]
struct Exec {
    id: ContainerId,
    container: ContainerId,
    spec: ExecSpec,
    created_ns: u64,
    progress: watch::Sender<Progress>,
}

/// How far an exec is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Progress {
    started: bool,
    pid: i32,
    code: Option<i32>,
}

impl Execs {
    fn find(&self, id: &str) -> Result<Arc<Exec>> {
        let id_text: String = id.chars().take(100).collect();
        let found = self.by_id().get(id).cloned();
        found.ok_or_else(|| Error::not_found(format!("No such exec instance: {id_text}")))
    }

    /// Adds one, and forgets the container's oldest ended ones beyond [`KEPT`].
    fn insert(&self, exec: Arc<Exec>) {
        let mut by_id = self.by_id();
        let mut ended: Vec<(u64, String)> = by_id
            .values()
            .filter(|other| other.container == exec.container && other.is_ended())
            .map(|other| (other.created_ns, other.id.to_string()))
            .collect();
        ended.sort_unstable();
        for (_, id) in ended.iter().take(ended.len().saturating_sub(KEPT)) {
            by_id.remove(id);
        }
        by_id.insert(exec.id.to_string(), exec);
    }

    fn by_id(&self) -> MutexGuard<'_, HashMap<String, Arc<Exec>>> {
        self.by_id.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Exec {
    fn progress(&self) -> Progress {
        *self.progress.borrow()
    }

    fn is_ended(&self) -> bool {
        self.progress().code.is_some()
    }

    fn end(&self, code: i32) {
        self.progress.send_if_modified(|progress| {
            let is_first = progress.code.is_none();
            progress.code.get_or_insert(code);
            is_first
        });
    }
}

impl Shared {
    /// See [`crate::Engine::exec_create`].
    pub(crate) fn exec_create(&self, container: &Container, spec: ExecSpec) -> Result<String> {
        if spec.cmd.first().is_none_or(String::is_empty) {
            return Err(Error::invalid("no exec command specified"));
        }
        check_runs(container)?;
        let exec = Exec {
            id: ContainerId::random()?,
            container: container.id.clone(),
            created_ns: now_ns(),
            progress: watch::Sender::default(),
            spec,
        };
        let (id, line) = (exec.id.to_string(), exec.spec.cmd.join(" "));
        self.execs.insert(Arc::new(exec));
        self.publish(container, &format!("exec_create: {line}"), about(&id));
        Ok(id)
    }

    /// See [`crate::Engine::exec_start`].
    pub(crate) async fn exec_start(
        self: &Arc<Self>,
        id: &str,
        attach: bool,
        size: Option<ConsoleSize>,
    ) -> Result<Option<Attached>> {
        let exec = self.execs.find(id)?;
        let container = self.registry.find(exec.container.as_str())?;
        check_runs(&container)?;
        let is_first = exec.progress.send_if_modified(|progress| {
            let is_first = !progress.started && progress.code.is_none();
            progress.started = true;
            is_first
        });
        if !is_first {
            let what = if exec.is_ended() { "has already run" } else { "is already running" };
            return Err(Error::conflict(format!("exec command {id} {what}")));
        }
        let called = self.exec_call(&container, &exec, attach, size).await;
        let (shim, reply, stream) = called.inspect_err(|_| exec.end(128 + signal::KILL))?;
        match reply {
            Reply::Started(started) => {
                exec.progress.send_modify(|progress| progress.pid = started.pid);
                let line = format!("exec_start: {}", exec.spec.cmd.join(" "));
                self.publish(&container, &line, about(id));
                self.watch_exec(container, &exec, shim);
                let tty = exec.spec.tty;
                Ok(attach.then(|| Attached { tty, stream: AttachStream::new(stream) }))
            }
            Reply::Failed(failed) => {
                exec.end(failed.exit_code);
                Err(shim::failure(&failed))
            }
            _ => {
                exec.end(128 + signal::KILL);
                Err(Error::internal("cannot exec: the shim gave a strange answer"))
            }
        }
    }

    /// See [`crate::Engine::exec_inspect`].
    pub(crate) async fn exec_inspect(&self, id: &str) -> Result<ExecView> {
        let exec = self.execs.find(id)?;
        // A client that saw the end of the output asks at once, perhaps before our own waiting has heard.
        if exec.progress().pid != 0 && !exec.is_ended() {
            self.refresh(&exec).await;
        }
        let progress = exec.progress();
        Ok(ExecView {
            id: exec.id.to_string(),
            container: exec.container.to_string(),
            spec: exec.spec.clone(),
            running: progress.pid != 0 && progress.code.is_none(),
            pid: progress.pid,
            exit_code: progress.code,
        })
    }

    /// See [`crate::Engine::exec_resize`].
    pub(crate) async fn exec_resize(&self, id: &str, size: ConsoleSize) -> Result<()> {
        let exec = self.execs.find(id)?;
        let container = self.registry.find(exec.container.as_str())?;
        let ConsoleSize { rows, cols } = size;
        let request = Request::Resize { exec: Some(id.to_owned()), rows, cols };
        container.running_shim()?.tell(&request).await
    }

    /// See [`crate::Engine::exec_wait`].
    pub(crate) async fn exec_wait(&self, id: &str) -> Result<ExitStatus> {
        let exec = self.execs.find(id)?;
        let mut progress = exec.progress.subscribe();
        let code = match progress.wait_for(|progress| progress.code.is_some()).await {
            Ok(progress) => progress.code.unwrap_or_default(),
            Err(_) => 128 + signal::KILL,
        };
        Ok(ExitStatus { code, error: None })
    }

    /// The ids of a container's execs that have not ended.
    pub(crate) fn execs_of(&self, container: &ContainerId) -> Vec<String> {
        let by_id = self.execs.by_id();
        let own = by_id.values().filter(|exec| exec.container == *container && !exec.is_ended());
        own.map(|exec| exec.id.to_string()).collect()
    }

    /// Forgets the execs of a container that goes.
    pub(crate) fn forget_execs(&self, container: &ContainerId) {
        self.execs.by_id().retain(|_, exec| exec.container != *container);
    }

    async fn exec_call(
        &self,
        container: &Container,
        exec: &Exec,
        attach: bool,
        size: Option<ConsoleSize>,
    ) -> Result<(Arc<Shim>, Reply, UnixStream)> {
        let shim = container.running_shim()?;
        let request = self.exec_request(container, exec, attach, size)?;
        let (reply, stream) = shim.call(&Request::Exec(Box::new(request))).await?;
        Ok((shim, reply, stream))
    }

    fn exec_request(
        &self,
        container: &Container,
        exec: &Exec,
        attach: bool,
        size: Option<ConsoleSize>,
    ) -> Result<ExecRequest> {
        let spec = container.spec();
        let mut capabilities = self.capabilities(spec)?;
        if exec.spec.privileged {
            capabilities = caps::names(self.machine.capabilities).into_iter().collect();
        }
        let plan = Plan {
            spec,
            machine: &self.machine,
            hostname: &self.hostname(container).unwrap_or_default(),
            capabilities: &capabilities,
            ulimits: &self.config.ulimits,
            mounts: &[],
            etc: &EtcFiles::default(),
            groups: &self.groups(container)?,
            joined: &Joined::default(),
            cgroup: &container.folders.cgroup,
        };
        let size = size.or(exec.spec.console_size).filter(|_| exec.spec.tty);
        Ok(ExecRequest {
            exec_id: exec.id.to_string(),
            process: oci::exec_process(&plan, &exec.spec, &capabilities)?,
            tty: exec.spec.tty,
            console_size: size
                .map(|size| protocol::ConsoleSize { rows: size.rows, cols: size.cols }),
            attach: attach.then(|| exec.spec.attach.into()),
            stdin_open: attach && exec.spec.attach.stdin,
        })
    }

    /// Takes in the exec's end when it comes.
    fn watch_exec(self: &Arc<Self>, container: Arc<Container>, exec: &Arc<Exec>, shim: Arc<Shim>) {
        let (engine, exec) = (Arc::clone(self), Arc::clone(exec));
        tokio::spawn(async move {
            let exit = shim.wait_exec(exec.id.as_str()).await;
            // Without an answer the container has ended, and killed what was in it.
            exec.end(exit.map_or(128 + signal::KILL, |exit| exit.code));
            let mut attributes = about(exec.id.as_str());
            let code = exec.progress().code.unwrap_or_default();
            attributes.insert("exitCode".into(), code.to_string());
            engine.publish(&container, "exec_die", attributes);
        });
    }

    /// Asks the shim how the exec is.
    async fn refresh(&self, exec: &Exec) {
        let Ok(container) = self.registry.find(exec.container.as_str()) else { return };
        let Ok(shim) = container.running_shim() else { return };
        if let Ok((Reply::Status(status), _)) = shim.call(&Request::Status).await {
            let own = status.execs.iter().find(|other| other.exec_id == exec.id.as_str());
            if let Some(exit) = own.and_then(|own| own.exit.as_ref()) {
                exec.end(exit.code);
            }
        }
    }
}

fn check_runs(container: &Container) -> Result<()> {
    let id = &container.id;
    match container.status() {
        Status::Running => Ok(()),
        Status::Paused => Err(Error::conflict(format!(
            "container {id} is paused, unpause the container before exec"
        ))),
        Status::Restarting => Err(Error::conflict(format!(
            "container {id} is restarting, wait until the container is running"
        ))),
        _ => Err(Error::new(Kind::Conflict, format!("container {id} is not running"))),
    }
}

fn about(id: &str) -> BTreeMap<String, String> {
    BTreeMap::from([("execID".to_owned(), id.to_owned())])
}
