//! The engine: every operation on containers, and what they share.
//!
//! A container is meant by its full id, by a unique beginning of it, or by its name. Not finding it is
//! [`Kind::NotFound`](dhow_error::Kind::NotFound) with `No such container: x`.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;

use dhow_error::{Error, Kind, Result};
use dhow_image::Images;
use dhow_kv::Kv;
use dhow_spec::Digest;

use crate::attached::Attached;
use crate::events::Events;
use crate::logs::LogStream;
use crate::networks::{BoxFuture, Networks};
use crate::options::{
    Counts, Created, ExecSpec, ExecView, ListOptions, LogOptions, RemoveOptions, StartTrace,
    StopOptions, Streams,
};
use crate::spec::{ConsoleSize, ContainerSpec, Ulimit};
use crate::state::{ExitStatus, WaitCondition};
use crate::view::{Summary, View};

/// How an engine is set up.
#[derive(Debug, Clone)]
pub struct Config {
    /// What outlives the machine's restart: `/var/lib/dhow`. The engine uses `containers/` and `volumes/`.
    pub root: PathBuf,
    /// What does not: `/run/dhow`. The engine uses `containers/`.
    pub run: PathBuf,
    /// The cgroup below which each container gets one: `/dhow`.
    pub cgroup_parent: String,
    /// Resource limits of containers that do not ask for others.
    pub ulimits: Vec<Ulimit>,
    /// Name servers instead of the host's.
    pub dns: Vec<IpAddr>,
    /// Search domains instead of the host's.
    pub dns_search: Vec<String>,
    /// Resolver options instead of the host's.
    pub dns_options: Vec<String>,
    /// A seccomp profile in Docker's JSON instead of the built-in one.
    pub seccomp_profile: Option<String>,
}

impl Config {
    /// The usual set-up in these two folders.
    pub fn new(root: impl Into<PathBuf>, run: impl Into<PathBuf>) -> Self {
        Self {
            root: root.into(),
            run: run.into(),
            cgroup_parent: "/dhow".into(),
            ulimits: Vec::new(),
            dns: Vec::new(),
            dns_search: Vec::new(),
            dns_options: Vec::new(),
            seccomp_profile: None,
        }
    }
}

/// What an engine stands on.
pub struct Deps {
    /// Where containers are kept.
    pub kv: Arc<dyn Kv>,
    /// Where they come from.
    pub images: Images,
    /// Who connects them.
    pub networks: Arc<dyn Networks>,
}

/// All containers of one daemon. Clones are the same engine.
#[derive(Clone)]
pub struct Engine {
    shared: Arc<()>,
}

fn unfinished<T>() -> Result<T> {
    Err(Error::new(Kind::Unsupported, "not built"))
}

#[allow(
    clippy::unused_async,
    missing_docs,
    unused_variables,
    clippy::missing_docs_in_private_items
)]
impl Engine {
    /// Takes up what an earlier daemon left: finds the containers that run on, settles those that ended,
    /// cleans what half-done work left behind.
    pub async fn open(config: Config, deps: Deps) -> Result<Self> {
        unfinished()
    }

    /// Makes a container; `name` is made up if there is none.
    ///
    /// Errors: not found (`No such image: x`), conflict (the name is taken), invalid.
    pub async fn create(&self, name: Option<&str>, spec: ContainerSpec) -> Result<Created> {
        unfinished()
    }

    /// Runs a container.
    ///
    /// Errors: not modified (it runs), command not found (127), command not executable (126), a port that
    /// is taken (conflict). A failed start leaves nothing behind but the exit code and message in its state.
    pub async fn start(&self, name: &str) -> Result<()> {
        unfinished()
    }

    /// Asks a container to stop, and kills it when it does not. Not modified if it does not run.
    pub async fn stop(&self, name: &str, options: StopOptions) -> Result<()> {
        unfinished()
    }

    /// Sends a signal (SIGKILL if none), by name with or without `SIG`, or by number.
    pub async fn kill(&self, name: &str, signal: Option<&str>) -> Result<()> {
        unfinished()
    }

    /// Stops a container if it runs, and starts it.
    pub async fn restart(&self, name: &str, options: StopOptions) -> Result<()> {
        unfinished()
    }

    /// Freezes all processes of a container.
    pub async fn pause(&self, name: &str) -> Result<()> {
        unfinished()
    }

    /// Thaws them.
    pub async fn unpause(&self, name: &str) -> Result<()> {
        unfinished()
    }

    /// Gives a container another name.
    pub async fn rename(&self, name: &str, new_name: &str) -> Result<()> {
        unfinished()
    }

    /// Takes a container away, with its writes and logs.
    pub async fn remove(&self, name: &str, options: RemoveOptions) -> Result<()> {
        unfinished()
    }

    /// Begins to wait. When this returns, the waiting has begun: nothing that happens later is missed.
    pub async fn wait(
        &self,
        name: &str,
        condition: WaitCondition,
    ) -> Result<BoxFuture<'static, ExitStatus>> {
        unfinished()
    }

    /// Containers, the newest first.
    pub async fn list(&self, options: &ListOptions) -> Result<Vec<Summary>> {
        unfinished()
    }

    /// Everything about one container.
    pub async fn inspect(&self, name: &str) -> Result<View> {
        unfinished()
    }

    /// The full id of the container that `name` means.
    pub fn resolve(&self, name: &str) -> Result<String> {
        unfinished()
    }

    /// Bytes in the container's writable layer (walks it).
    pub async fn writable_bytes(&self, name: &str) -> Result<u64> {
        unfinished()
    }

    /// Reads a container's log. Unsupported for the log driver `none`.
    pub async fn logs(&self, name: &str, options: LogOptions) -> Result<LogStream> {
        unfinished()
    }

    /// Attaches to a container's streams: now if it runs, else to its next start, from the first byte on.
    pub async fn attach(&self, name: &str, streams: Streams) -> Result<Attached> {
        unfinished()
    }

    /// Sets the size of a container's terminal.
    pub async fn resize(&self, name: &str, size: ConsoleSize) -> Result<()> {
        unfinished()
    }

    /// Memory, CPU and process numbers of a running container.
    pub async fn stats(&self, name: &str) -> Result<dhow_cgroup::Stats> {
        unfinished()
    }

    /// Process ids of a running container, as the host sees them.
    pub async fn processes(&self, name: &str) -> Result<Vec<i32>> {
        unfinished()
    }

    /// Prepares a further process in a running container; returns its id.
    pub async fn exec_create(&self, name: &str, spec: ExecSpec) -> Result<String> {
        unfinished()
    }

    /// Starts it; with `attach` joined to those of its streams that the spec asked for. A command that is
    /// not there or cannot be executed is an error, and its code is in [`Engine::exec_inspect`].
    pub async fn exec_start(
        &self,
        exec: &str,
        attach: bool,
        size: Option<ConsoleSize>,
    ) -> Result<Option<Attached>> {
        unfinished()
    }

    /// How an exec is.
    pub async fn exec_inspect(&self, exec: &str) -> Result<ExecView> {
        unfinished()
    }

    /// Sets the size of an exec's terminal.
    pub async fn exec_resize(&self, exec: &str, size: ConsoleSize) -> Result<()> {
        unfinished()
    }

    /// Waits for an exec's end.
    pub async fn exec_wait(&self, exec: &str) -> Result<ExitStatus> {
        unfinished()
    }

    /// The bus of events. Other services may publish on it too.
    pub fn events(&self) -> &Events {
        unimplemented!()
    }

    /// The steps of a container's last start; empty if this daemon did not start it.
    pub fn start_trace(&self, name: &str) -> Result<StartTrace> {
        unfinished()
    }

    /// How many containers there are.
    pub fn counts(&self) -> Counts {
        Counts::default()
    }

    /// How many containers run or are paused.
    pub fn running_count(&self) -> usize {
        0
    }

    /// Which containers use which image: (container id, whether it runs).
    pub fn image_users(&self) -> BTreeMap<Digest, Vec<(String, bool)>> {
        BTreeMap::new()
    }

    /// Ends the engine; containers run on. Waits for half-done removals.
    pub async fn shutdown(&self) {}
}
