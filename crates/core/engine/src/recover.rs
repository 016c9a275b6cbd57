//! Taking over from an earlier daemon, however it ended.
//!
//! ```text
//!   store: containers ──┐
//!                       ├─► for each: what does its state folder say?
//!   RUN/containers/* ───┘     shim answers      runs on: watch it, give its network back
//!                             exit.json         ended meanwhile: settle, auto-remove, restart policy
//!                             shim is dead      lost with its shim: clear the cgroup, code 137
//!                             launch under way  wait for the shim a moment
//!                             nothing           ended with the machine if it ran (code 255)
//!
//!   folders, layers and shims of no container ──► removed
//! ```
//!
//! The folder is believed before the store: a start is acknowledged only when both know of it, and an
//! exit is taken out of the folder only when the store has it.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use dhow_error::{Error, Kind, Result};
use dhow_shim::client::{self, Found};
use dhow_shim::protocol::{Exit, Reply, Request, ShimState};
use dhow_spec::ContainerId;
use dhow_sys::rustix::fs::{FlockOperation, Mode, OFlags, flock, open};
use dhow_sys::rustix::io::retry_on_intr;

use crate::clock::now_ns;
use crate::container::{Connection, Container};
use crate::engine::Shared;
use crate::launch::remove_folder;
use crate::networks::Survivor;
use crate::shim::Shim;
use crate::state::{State, Status};
use crate::{record, restart, signal, stop};

/// How long a launch that was under way when the daemon died may take to show.
const LAUNCH_PATIENCE: Duration = Duration::from_secs(2);
/// How often to look for it.
const LAUNCH_POLL: Duration = Duration::from_millis(5);
/// How long the shim of an unknown container may take to end it.
const STRAY_PATIENCE: Duration = Duration::from_secs(2);
/// The exit code of what ended with the machine, as Docker has it.
const LOST_WITH_MACHINE: i32 = 255;

/// What is to be done with a container once all of them are known.
enum Next {
    /// It runs: look out for its end.
    Watch(Arc<Shim>, u64),
    /// It ended since the store last knew.
    Ended,
    /// It had ended before.
    Rests,
}

impl Shared {
    /// Takes over everything. Called once, before any other operation.
    pub(crate) async fn recover(self: &Arc<Self>) -> Result<()> {
        let mut found = Vec::new();
        for (record, state) in record::load(self.kv.as_ref()).await? {
            let folders = self.folders(&record.id);
            self.registry.reserve(&record.name, &record.id)?;
            // Killed while it was created, or while it removed itself.
            if let Err(error) = self.make_folders(&record.id, &folders) {
                let error = error.chain();
                tracing::warn!(container = %record.id, error, "cannot make missing folders");
            }
            let container = Arc::new(Container::new(record, state, folders));
            self.registry.insert(Arc::clone(&container));
            let next = self.take_over(&container).await?;
            found.push((container, next));
        }
        let is_watched = |next: &Next| matches!(next, Next::Watch(..));
        let survivors = found.iter().filter(|(_, next)| is_watched(next));
        let survivors = survivors.filter_map(|(container, _)| survivor(container)).collect();
        self.networks.restore(survivors).await?;
        self.sweep().await?;
        for (container, next) in found {
            match next {
                Next::Watch(shim, run) => self.watch_exit(&container, shim, run),
                Next::Ended => self.resume(&container, true).await,
                Next::Rests => self.resume(&container, false).await,
            }
        }
        Ok(())
    }

    /// Finds out how a container is, and makes memory and store say so.
    async fn take_over(&self, container: &Arc<Container>) -> Result<Next> {
        let folder = &container.folders.run;
        match look(folder).await? {
            Found::Running(state) => self.take_over_running(container, &state).await,
            Found::Ended(exit) => {
                released(folder).await?;
                self.take_over_ended(container, Some(exit), 128 + signal::KILL).await
            }
            Found::Lost(_) => {
                self.clear_cgroup(container).await;
                self.take_over_ended(container, None, 128 + signal::KILL).await
            }
            Found::Unknown => {
                let was_running = container.status().is_live();
                if folder.exists() || was_running {
                    self.clear_cgroup(container).await;
                    remove_folder(folder);
                }
                if was_running {
                    return self.take_over_ended(container, None, LOST_WITH_MACHINE).await;
                }
                Ok(Next::Rests)
            }
        }
    }

    async fn take_over_running(
        &self,
        container: &Arc<Container>,
        shim_state: &ShimState,
    ) -> Result<Next> {
        let folder = &container.folders.run;
        let shim = Arc::new(Shim::new(folder, shim_state.shim_pid));
        let hostname = self.hostname(container).unwrap_or_default();
        let was_known = container.status().is_live();
        let is_paused = stop::is_marked_paused(container);
        let (state, run) = {
            let mut live = container.live();
            live.state.status = if is_paused { Status::Paused } else { Status::Running };
            live.state.started_at_ns = shim_state.started_at_ns;
            live.state.error = String::new();
            live.pid = shim_state.pid;
            live.shim = Some(Arc::clone(&shim));
            live.connection = read_connection(&container.folders.connection());
            live.hostname = hostname;
            live.run = 1;
            (State { status: Status::Running, ..live.state.clone() }, live.run)
        };
        container.announce(container.status());
        if !was_known {
            record::write_state(self.kv.as_ref(), &container.id, &state).await?;
        }
        tracing::info!(container = container.id.short(), "runs on");
        Ok(Next::Watch(shim, run))
    }

    async fn take_over_ended(
        &self,
        container: &Arc<Container>,
        exit: Option<Exit>,
        unknown_code: i32,
    ) -> Result<Next> {
        let state = {
            let mut live = container.live();
            let state = &mut live.state;
            state.status = Status::Exited;
            state.exit_code = exit.as_ref().map_or(unknown_code, |exit| exit.code);
            state.oom_killed = exit.as_ref().is_some_and(|exit| exit.oom_killed);
            state.finished_at_ns = exit.as_ref().map_or_else(now_ns, |exit| exit.finished_at_ns);
            state.clone()
        };
        container.announce(Status::Exited);
        if !container.spec().auto_remove {
            record::write_state(self.kv.as_ref(), &container.id, &state).await?;
            remove_folder(&container.folders.run);
        }
        Ok(Next::Ended)
    }

    /// What a container that does not run is due: removal, or another run.
    async fn resume(self: &Arc<Self>, container: &Arc<Container>, just_ended: bool) {
        let (spec, state) = (container.spec(), container.live().state.clone());
        if state.status == Status::Created {
            return;
        }
        if spec.auto_remove {
            self.remove_ended(container).await;
            return;
        }
        let is_wanted = if just_ended {
            restart::is_wanted(spec.restart, &state)
        } else {
            restart::is_wanted_at_open(spec.restart, &state)
        };
        if is_wanted {
            container.live().state.status = Status::Restarting;
            container.announce(Status::Restarting);
            let run = container.live().run;
            self.restart_later(container, run);
        }
    }

    /// Removes what belongs to no container.
    async fn sweep(&self) -> Result<()> {
        for id in list_ids(&self.config.run.join("containers"))? {
            if self.registry.find(id.as_str()).is_err() {
                self.end_stray(&id).await;
            }
        }
        for id in list_ids(&self.config.root.join("containers"))? {
            if self.registry.find(id.as_str()).is_err() {
                tracing::info!(container = id.short(), "removing what is left of a container");
                self.discard_files(&self.folders(&id), &id);
            }
        }
        for id in self.snapshots.writables()? {
            if self.registry.find(id.as_str()).is_err() {
                self.snapshots.discard_writable(&id)?;
            }
        }
        Ok(())
    }

    /// Ends a shim whose container nobody knows: it was removed, or never acknowledged.
    async fn end_stray(&self, id: &ContainerId) {
        let folders = self.folders(id);
        if let Ok(Reply::Status(status)) = ask(&folders.run).await {
            tracing::info!(container = id.short(), "ending a container that is not known");
            let shim = Shim::new(&folders.run, status.shim_pid);
            let kill = Request::Signal { exec: None, signal: signal::KILL };
            let _ = shim.tell(&kill).await;
            shim.cleaned_up(&self.cgroups.open(&folders.cgroup), STRAY_PATIENCE).await;
        }
        let cgroup = self.cgroups.open(&folders.cgroup);
        let cleared = tokio::task::spawn_blocking(move || {
            cgroup.kill()?;
            cgroup.destroy()
        });
        if let Ok(Err(error)) = cleared.await {
            tracing::warn!(container = %id, %error, "cannot clear the cgroup");
        }
        remove_folder(&folders.run);
    }
}

/// What has become of a container; a launch that is under way gets a moment to show.
async fn look(folder: &Path) -> Result<Found> {
    let deadline = Instant::now() + LAUNCH_PATIENCE;
    loop {
        let found = client::find(folder)?;
        let is_under_way = found == Found::Unknown && folder.join("network.json").exists();
        if !is_under_way || Instant::now() > deadline {
            return Ok(found);
        }
        tokio::time::sleep(LAUNCH_POLL).await;
    }
}

/// Waits until the shim of a container that has ended has cleared its cgroup: it holds a lock on the folder
/// until then, and its end is near.
async fn released(folder: &Path) -> Result<()> {
    let folder = folder.to_owned();
    let wait = tokio::task::spawn_blocking(move || {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let opened = open(&folder, flags, Mode::empty())?;
        retry_on_intr(|| flock(&opened, FlockOperation::LockExclusive))
    });
    match wait.await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(errno)) => {
            Err(Error::caused(Kind::Internal, "cannot lock a container's state folder", errno))
        }
        Err(_) => Err(Error::internal("locking a state folder panicked")),
    }
}

/// Asks a shim how things are, off the runtime's threads: it is not known to be well.
async fn ask(folder: &Path) -> Result<Reply> {
    let folder = folder.to_owned();
    let asked = tokio::task::spawn_blocking(move || client::call(&folder, &Request::Status));
    match asked.await {
        Ok(answer) => Ok(answer?.0),
        Err(_) => Err(Error::internal("asking a shim panicked")),
    }
}

/// What the network service has to know of a container that runs on.
fn survivor(container: &Container) -> Option<Survivor> {
    let live = container.live();
    live.connection.attached.then(|| Survivor {
        id: container.id.to_string(),
        endpoint: live.connection.endpoint.clone(),
        ports: live.connection.ports.clone(),
    })
}

/// The network connection as the last daemon wrote it down.
fn read_connection(path: &Path) -> Connection {
    let text = fs::read(path).unwrap_or_default();
    serde_json::from_slice(&text).unwrap_or_else(|error| {
        tracing::warn!(path = %path.display(), %error, "cannot read a container's network connection");
        Connection::default()
    })
}

/// The names in a folder that are ids.
fn list_ids(folder: &Path) -> Result<Vec<ContainerId>> {
    let failed =
        |error| Error::caused(Kind::Internal, format!("cannot list {}", folder.display()), error);
    let mut ids = Vec::new();
    for entry in fs::read_dir(folder).map_err(failed)? {
        let name = entry.map_err(failed)?.file_name();
        ids.extend(name.to_str().and_then(|name| name.parse().ok()));
    }
    Ok(ids)
}
