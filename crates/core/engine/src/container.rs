//! One container in memory.
//!
//! What it was asked to be never changes. What changes is in [`Live`], under a lock that is held for
//! moments and never across an await. Who changes its status first takes the [`Container::gate`], so that
//! there is one at a time: start, pause, settling an exit, removal. Waiting for something the container
//! does (its exit) is never done with the gate held. Whoever waits hears of changes by [`Phase`].

use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use dhow_error::{Error, Result};
use dhow_shim::protocol::AttachStreams;
use dhow_spec::ContainerId;
use serde::{Deserialize, Serialize};
use tokio::sync::{Notify, watch};

use crate::networks::{Endpoint, PublishedPort};
use crate::options::StartTrace;
use crate::record::Record;
use crate::shim::Shim;
use crate::spec::{ContainerSpec, LogDriver};
use crate::state::{ExitStatus, State, Status};

/// One container.
#[derive(Debug)]
pub(crate) struct Container {
    /// Its id.
    pub(crate) id: ContainerId,
    /// Everything about it that lasts; the name in it is the one it was loaded with.
    record: Record,
    /// Where its files are.
    pub(crate) folders: Folders,
    /// Taken by whoever changes its status.
    pub(crate) gate: tokio::sync::Mutex<()>,
    live: Mutex<Live>,
    phase: watch::Sender<Phase>,
    /// Ends a restart policy's back-off early.
    pub(crate) stop_restarting: Notify,
}

/// What changes.
#[derive(Debug, Default)]
pub(crate) struct Live {
    /// Its name now.
    pub(crate) name: String,
    /// How its runs went.
    pub(crate) state: State,
    /// Its first process on the host; 0 when it does not run.
    pub(crate) pid: i32,
    /// The shim of its last run, until that has ended.
    pub(crate) shim: Option<Arc<Shim>>,
    /// Where it is connected while it runs.
    pub(crate) connection: Connection,
    /// Clients that wait for its start.
    pub(crate) waiting: Vec<(OwnedFd, AttachStreams)>,
    /// How its last start went.
    pub(crate) trace: StartTrace,
    /// Its host name, once known.
    pub(crate) hostname: String,
    /// Counts starts, so that what belongs to an earlier run can be told apart.
    pub(crate) run: u64,
    /// Failed runs in a row, for the restart policy's back-off.
    pub(crate) quick_exits: u32,
}

/// A container's place in the network, as it lies in its state folder.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Connection {
    /// The interface.
    pub(crate) endpoint: Option<Endpoint>,
    /// The published ports.
    pub(crate) ports: Vec<PublishedPort>,
    /// Whether the network service gave it a namespace, so that it must be told of the end.
    #[serde(default)]
    pub(crate) attached: bool,
}

/// What waiters see.
#[derive(Debug, Clone)]
pub(crate) struct Phase {
    /// Where it is in its life.
    pub(crate) status: Status,
    /// How many runs have ended.
    pub(crate) exits: u64,
    /// How the last one did.
    pub(crate) last: ExitStatus,
    /// Whether it is gone.
    pub(crate) removed: bool,
}

/// Where a container's files are.
#[derive(Debug, Clone)]
pub(crate) struct Folders {
    /// `ROOT/containers/<id>`: log, `/etc` files.
    pub(crate) root: PathBuf,
    /// `RUN/containers/<id>`: shim socket, exit status, network connection.
    pub(crate) run: PathBuf,
    /// Its cgroup.
    pub(crate) cgroup: String,
}

impl Container {
    /// A container that was created or found in the object store.
    pub(crate) fn new(record: Record, state: State, folders: Folders) -> Self {
        let status = state.status;
        let last = ExitStatus { code: state.exit_code, error: None };
        let live = Live { name: record.name.clone(), state, ..Live::default() };
        Self {
            id: record.id.clone(),
            record,
            folders,
            gate: tokio::sync::Mutex::new(()),
            live: Mutex::new(live),
            phase: watch::Sender::new(Phase { status, exits: 0, last, removed: false }),
            stop_restarting: Notify::new(),
        }
    }

    /// What it was asked to be.
    pub(crate) fn spec(&self) -> &ContainerSpec {
        &self.record.spec
    }

    /// What lies in the object store, with the name of now.
    pub(crate) fn record(&self) -> Record {
        Record { name: self.live().name.clone(), ..self.record.clone() }
    }

    /// The same without a copy; the name in it may be an old one.
    pub(crate) fn fixed(&self) -> &Record {
        &self.record
    }

    /// What changes. Never hold it across an await.
    pub(crate) fn live(&self) -> MutexGuard<'_, Live> {
        self.live.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Where it is in its life.
    pub(crate) fn status(&self) -> Status {
        self.live().state.status
    }

    /// Its name now.
    pub(crate) fn name(&self) -> String {
        self.live().name.clone()
    }

    /// The shim, if the container runs.
    pub(crate) fn running_shim(&self) -> Result<Arc<Shim>> {
        let live = self.live();
        let shim = live.shim.clone().filter(|_| live.state.status.is_live());
        shim.ok_or_else(|| Error::conflict(format!("container {} is not running", self.id)))
    }

    /// Hears of every change.
    pub(crate) fn watch(&self) -> watch::Receiver<Phase> {
        self.phase.subscribe()
    }

    /// Tells waiters of a new status.
    pub(crate) fn announce(&self, status: Status) {
        self.phase.send_modify(|phase| phase.status = status);
    }

    /// Tells waiters that a run has ended, or could not begin.
    pub(crate) fn announce_exit(&self, status: Status, exit: ExitStatus) {
        self.phase.send_modify(|phase| {
            phase.status = status;
            phase.exits += 1;
            phase.last = exit;
        });
    }

    /// Tells waiters that it is gone.
    pub(crate) fn announce_removed(&self) {
        self.phase.send_modify(|phase| phase.removed = true);
    }

    /// The log, if one is written.
    pub(crate) fn log_path(&self) -> Option<PathBuf> {
        let is_kept = self.record.spec.log.driver == LogDriver::JsonFile;
        is_kept.then(|| self.folders.log(&self.id))
    }
}

impl Folders {
    /// Those of the container `id`.
    pub(crate) fn new(root: &Path, run: &Path, cgroup_parent: &str, id: &str) -> Self {
        Self {
            root: root.join("containers").join(id),
            run: run.join("containers").join(id),
            cgroup: format!("{}/{id}", cgroup_parent.trim_end_matches('/')),
        }
    }

    /// The log file.
    pub(crate) fn log(&self, id: &ContainerId) -> PathBuf {
        self.root.join(format!("{id}-json.log"))
    }

    /// Where the [`Connection`] is kept while the container runs.
    pub(crate) fn connection(&self) -> PathBuf {
        self.run.join("network.json")
    }
}
