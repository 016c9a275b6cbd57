//! The engine: every operation on containers, and what they share.
//!
//! A container is meant by its full id, by a unique beginning of it, or by its name. Not finding it is
//! [`Kind::NotFound`](dhow_error::Kind::NotFound) with `No such container: x`.

use std::collections::BTreeMap;
use std::fs::DirBuilder;
use std::future::Future;
use std::net::IpAddr;
use std::os::unix::fs::DirBuilderExt;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use dhow_cgroup::Layout;
use dhow_error::{Error, Kind, Result};
use dhow_image::Images;
use dhow_kv::Kv;
use dhow_shim::client::Launcher;
use dhow_snapshot::Snapshots;
use dhow_spec::Digest;

use crate::attached::Attached;
use crate::busy::Busy;
use crate::events::Events;
use crate::exec::Execs;
use crate::logs::LogStream;
use crate::networks::{BoxFuture, Networks};
use crate::options::{
    Counts, Created, ExecSpec, ExecView, ListOptions, LogOptions, RemoveOptions, StartTrace,
    StopOptions, Streams,
};
use crate::profile::Profiles;
use crate::registry::Registry;
use crate::spec::{ConsoleSize, ContainerSpec, Ulimit};
use crate::state::{ExitStatus, WaitCondition};
use crate::validate::Machine;
use crate::view::{Summary, View};
use crate::{logs, stop};

/// How long the shim of a container that has ended may take to clear its cgroup at shutdown.
const SHIM_PATIENCE: Duration = Duration::from_secs(2);

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
    /// Their layers and what they write.
    pub snapshots: Snapshots,
    /// Who connects them.
    pub networks: Arc<dyn Networks>,
    /// Who starts them.
    pub launcher: Launcher,
}

/// All containers of one daemon. Clones are the same engine.
#[derive(Clone)]
pub struct Engine {
    shared: Arc<Shared>,
}

/// What all operations share.
pub(crate) struct Shared {
    pub(crate) config: Config,
    pub(crate) kv: Arc<dyn Kv>,
    pub(crate) images: Images,
    pub(crate) snapshots: Snapshots,
    pub(crate) networks: Arc<dyn Networks>,
    pub(crate) cgroups: Layout,
    pub(crate) machine: Machine,
    pub(crate) profiles: Profiles,
    pub(crate) registry: Registry,
    pub(crate) execs: Execs,
    pub(crate) events: Events,
    pub(crate) busy: Busy,
    launcher: Mutex<Launcher>,
    closed: AtomicBool,
}

impl Shared {
    /// The launcher; held for one message.
    pub(crate) fn launcher(&self) -> MutexGuard<'_, Launcher> {
        self.launcher.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether the engine is ending.
    pub(crate) fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Acquire)
    }
}

impl Engine {
    /// Takes up what an earlier daemon left: finds the containers that run on, settles those that ended,
    /// cleans what half-done work left behind. Must run on a tokio runtime.
    ///
    /// Errors: unsupported if a newer version wrote the store; internal for what the machine refuses.
    pub async fn open(config: Config, deps: Deps) -> Result<Self> {
        for folder in [config.root.join("containers/.empty"), config.run.join("containers")] {
            DirBuilder::new().recursive(true).mode(0o700).create(&folder).map_err(|error| {
                let message = format!("cannot make {}", folder.display());
                Error::caused(Kind::Internal, message, error)
            })?;
        }
        let shared = Arc::new(Shared {
            profiles: Profiles::new(config.seccomp_profile.as_deref())?,
            machine: Machine::detect()?,
            cgroups: Layout::detect()?,
            config,
            kv: deps.kv,
            images: deps.images,
            snapshots: deps.snapshots,
            networks: deps.networks,
            launcher: Mutex::new(deps.launcher),
            registry: Registry::default(),
            execs: Execs::default(),
            events: Events::default(),
            busy: Busy::default(),
            closed: AtomicBool::new(false),
        });
        shared.recover().await?;
        Ok(Self { shared })
    }

    /// Makes a container; `name` is made up if there is none.
    ///
    /// Errors: not found (`No such image: x`), conflict (the name is taken), invalid, unsupported.
    pub async fn create(&self, name: Option<&str>, spec: ContainerSpec) -> Result<Created> {
        let name = name.map(str::to_owned);
        self.whole(|shared| async move { shared.create(name, spec).await }).await
    }

    /// Runs a container.
    ///
    /// Errors: not modified (it runs), command not found (127), command not executable (126), a port that
    /// is taken (conflict). A failed start leaves nothing behind but the exit code and message in its state.
    pub async fn start(&self, name: &str) -> Result<()> {
        let container = self.shared.registry.find(name)?;
        self.whole(|shared| async move { shared.start(&container).await }).await
    }

    /// Asks a container to stop, and kills it when it does not. Not modified if it does not run.
    pub async fn stop(&self, name: &str, options: StopOptions) -> Result<()> {
        let container = self.shared.registry.find(name)?;
        self.whole(|shared| async move { shared.stop(&container, &options).await }).await
    }

    /// Sends a signal (SIGKILL if none), by name with or without `SIG`, or by number. Conflict if it does
    /// not run.
    pub async fn kill(&self, name: &str, signal: Option<&str>) -> Result<()> {
        let container = self.shared.registry.find(name)?;
        let signal = signal.map(str::to_owned);
        self.whole(|shared| async move { shared.kill(&container, signal.as_deref()).await }).await
    }

    /// Stops a container if it runs, and starts it.
    pub async fn restart(&self, name: &str, options: StopOptions) -> Result<()> {
        let container = self.shared.registry.find(name)?;
        self.whole(|shared| async move { shared.restart(&container, &options).await }).await
    }

    /// Freezes all processes of a container. Conflict if it does not run or is frozen.
    pub async fn pause(&self, name: &str) -> Result<()> {
        let container = self.shared.registry.find(name)?;
        self.whole(|shared| async move { shared.pause(&container).await }).await
    }

    /// Thaws them. Conflict if it is not frozen.
    pub async fn unpause(&self, name: &str) -> Result<()> {
        let container = self.shared.registry.find(name)?;
        self.whole(|shared| async move { shared.unpause(&container).await }).await
    }

    /// Gives a container another name. Conflict if it is taken.
    pub async fn rename(&self, name: &str, new_name: &str) -> Result<()> {
        let (name, new_name) = (name.to_owned(), new_name.to_owned());
        self.whole(|shared| async move { shared.rename(&name, &new_name).await }).await
    }

    /// Takes a container away, with its writes, logs and anonymous volumes. Conflict if it runs and is not
    /// forced.
    pub async fn remove(&self, name: &str, options: RemoveOptions) -> Result<()> {
        let container = self.shared.registry.find(name)?;
        self.whole(|shared| async move { shared.remove(&container, options).await }).await
    }

    /// Begins to wait. When this returns, the waiting has begun: nothing that happens later is missed.
    #[allow(clippy::unused_async, reason = "another backend may have to ask for it")]
    pub async fn wait(
        &self,
        name: &str,
        condition: WaitCondition,
    ) -> Result<BoxFuture<'static, ExitStatus>> {
        Ok(stop::wait(self.shared.registry.find(name)?, condition))
    }

    /// Containers, the newest first. Not found for a `before` or `since` that is not there.
    pub async fn list(&self, options: &ListOptions) -> Result<Vec<Summary>> {
        self.shared.list(options).await
    }

    /// Everything about one container.
    #[allow(clippy::unused_async, reason = "another backend may have to ask for it")]
    pub async fn inspect(&self, name: &str) -> Result<View> {
        let container = self.shared.registry.find(name)?;
        self.shared.view(&container)
    }

    /// The full id of the container that `name` means.
    pub fn resolve(&self, name: &str) -> Result<String> {
        Ok(self.shared.registry.find(name)?.id.to_string())
    }

    /// Bytes in the container's writable layer (walks it).
    pub async fn writable_bytes(&self, name: &str) -> Result<u64> {
        let container = self.shared.registry.find(name)?;
        let upper = self.shared.snapshots.writable(&container.id)?.upper;
        let walk = tokio::task::spawn_blocking(move || dhow_snapshot::usage(&upper));
        match walk.await {
            Ok(usage) => Ok(usage?.size_bytes),
            Err(_) => Err(Error::internal("measuring the writable layer panicked")),
        }
    }

    /// Reads a container's log. Unsupported for the log driver `none`, invalid without a stream.
    #[allow(clippy::unused_async, reason = "another backend may have to ask for it")]
    pub async fn logs(&self, name: &str, options: LogOptions) -> Result<LogStream> {
        logs::read(self.shared.registry.find(name)?, options)
    }

    /// Attaches to a container's streams: now if it runs, else to its next start, from the first byte on.
    pub async fn attach(&self, name: &str, streams: Streams) -> Result<Attached> {
        let container = self.shared.registry.find(name)?;
        self.shared.attach(&container, streams).await
    }

    /// Sets the size of a container's terminal. Conflict if it does not run.
    pub async fn resize(&self, name: &str, size: ConsoleSize) -> Result<()> {
        let container = self.shared.registry.find(name)?;
        self.shared.resize(&container, size).await
    }

    /// Memory, CPU and process numbers of a running container. Conflict if it does not run.
    pub async fn stats(&self, name: &str) -> Result<dhow_cgroup::Stats> {
        self.ask_cgroup(name, |cgroup| cgroup.stats()).await
    }

    /// Process ids of a running container, as the host sees them. Conflict if it does not run.
    pub async fn processes(&self, name: &str) -> Result<Vec<i32>> {
        self.ask_cgroup(name, |cgroup| cgroup.procs()).await
    }

    /// Prepares a further process in a running container; returns its id. Conflict if it does not run.
    #[allow(clippy::unused_async, reason = "another backend may have to ask for it")]
    pub async fn exec_create(&self, name: &str, spec: ExecSpec) -> Result<String> {
        let container = self.shared.registry.find(name)?;
        self.shared.exec_create(&container, spec)
    }

    /// Starts it; with `attach` joined to those of its streams that the spec asked for. A command that is
    /// not there or cannot be executed is an error, and its code is in [`Engine::exec_inspect`].
    pub async fn exec_start(
        &self,
        exec: &str,
        attach: bool,
        size: Option<ConsoleSize>,
    ) -> Result<Option<Attached>> {
        let exec = exec.to_owned();
        self.whole(|shared| async move { shared.exec_start(&exec, attach, size).await }).await
    }

    /// How an exec is.
    pub async fn exec_inspect(&self, exec: &str) -> Result<ExecView> {
        self.shared.exec_inspect(exec).await
    }

    /// Sets the size of an exec's terminal.
    pub async fn exec_resize(&self, exec: &str, size: ConsoleSize) -> Result<()> {
        self.shared.exec_resize(exec, size).await
    }

    /// Waits for an exec's end.
    pub async fn exec_wait(&self, exec: &str) -> Result<ExitStatus> {
        self.shared.exec_wait(exec).await
    }

    /// The bus of events. Other services may publish on it too.
    pub fn events(&self) -> &Events {
        &self.shared.events
    }

    /// The steps of a container's last start; empty if this daemon did not start it.
    pub fn start_trace(&self, name: &str) -> Result<StartTrace> {
        Ok(self.shared.registry.find(name)?.live().trace.clone())
    }

    /// How many containers there are.
    pub fn counts(&self) -> Counts {
        self.shared.counts()
    }

    /// How many containers run or are paused.
    pub fn running_count(&self) -> usize {
        let all = self.shared.registry.all();
        all.iter().filter(|container| container.status().is_live()).count()
    }

    /// Which containers use which image: (container id, whether it runs).
    pub fn image_users(&self) -> BTreeMap<Digest, Vec<(String, bool)>> {
        let mut users: BTreeMap<Digest, Vec<(String, bool)>> = BTreeMap::new();
        for container in self.shared.registry.all() {
            let user = (container.id.to_string(), container.status().is_live());
            users.entry(container.fixed().image).or_default().push(user);
        }
        users
    }

    /// Ends the engine; containers run on. Takes no new work and waits for what is half done, and for the
    /// cgroups of containers that have just ended.
    pub async fn shutdown(&self) {
        let shared = &self.shared;
        shared.closed.store(true, Ordering::Release);
        shared.busy.idle().await;
        for container in shared.registry.all() {
            let shim = {
                let live = container.live();
                live.shim.clone().filter(|_| !live.state.status.is_live())
            };
            if let Some(shim) = shim {
                let cgroup = shared.cgroups.open(&container.folders.cgroup);
                shim.cleaned_up(&cgroup, SHIM_PATIENCE).await;
            }
        }
    }

    /// Does a piece of work wholly, even if whoever asked for it goes away.
    async fn whole<T, W, F>(&self, work: W) -> Result<T>
    where
        T: Send + 'static,
        W: FnOnce(Arc<Shared>) -> F,
        F: Future<Output = Result<T>> + Send + 'static,
    {
        if self.shared.is_closed() {
            return Err(Error::new(Kind::Unavailable, "the daemon is ending"));
        }
        let busy = self.shared.busy.enter();
        let future = work(Arc::clone(&self.shared));
        let task = tokio::spawn(async move {
            let result = future.await;
            drop(busy);
            result
        });
        task.await.unwrap_or_else(|error| {
            Err(Error::caused(Kind::Internal, "an operation on a container panicked", error))
        })
    }

    /// Asks a running container's cgroup.
    async fn ask_cgroup<T: Send + 'static>(
        &self,
        name: &str,
        ask: impl FnOnce(dhow_cgroup::Cgroup) -> dhow_cgroup::Result<T> + Send + 'static,
    ) -> Result<T> {
        let container = self.shared.registry.find(name)?;
        container.running_shim()?;
        let cgroup = self.shared.cgroups.open(&container.folders.cgroup);
        match tokio::task::spawn_blocking(move || ask(cgroup)).await {
            Ok(answer) => Ok(answer?),
            Err(_) => Err(Error::internal("asking a cgroup panicked")),
        }
    }
}
