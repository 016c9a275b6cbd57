//! Ending, freezing and signalling containers.
//!
//! Nothing here changes a container's status on an exit: that is [`crate::exit`]'s, whatever caused it.
//! Stopping is a signal, patience, and SIGKILL; then waiting for what the exit brings.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use dhow_error::{Error, Kind, Result};
use dhow_shim::protocol::Request;
use tokio::sync::watch;

use crate::container::{Container, Phase};
use crate::engine::Shared;
use crate::networks::BoxFuture;
use crate::options::StopOptions;
use crate::signal;
use crate::state::{Action, ExitStatus, Status, WaitCondition};

/// Docker's patience.
const STOP_TIMEOUT_SECS: i64 = 10;
/// How long SIGKILL by the shim may take, before the cgroup is killed without it.
const KILL_PATIENCE: Duration = Duration::from_secs(5);
/// How long a killed container may take to be settled.
const SETTLE_PATIENCE: Duration = Duration::from_secs(30);

impl Shared {
    /// See [`crate::Engine::stop`].
    pub(crate) async fn stop(
        self: &Arc<Self>,
        container: &Arc<Container>,
        options: &StopOptions,
    ) -> Result<()> {
        let spec = container.spec();
        let number = match options.signal.as_deref().filter(|signal| !signal.is_empty()) {
            Some(text) => signal::parse(text)?,
            None => stop_signal(container)?,
        };
        if self.end_restarting(container).await {
            return Ok(());
        }
        let mut phase = container.watch();
        if !container.status().is_live() {
            let message = format!("container {} is already stopped", container.id);
            return Err(Error::new(Kind::NotModified, message));
        }
        let exits = phase.borrow_and_update().exits;
        container.live().state.stopped_by_user = true;
        self.signal(container, number).await?;
        let seconds = options.timeout_secs.or(spec.stop_timeout_secs).unwrap_or(STOP_TIMEOUT_SECS);
        let patience = u64::try_from(seconds).ok().map(Duration::from_secs);
        if !ended(&mut phase, exits, patience).await {
            self.kill_hard(container, &mut phase, exits).await?;
        }
        self.publish(container, "stop", BTreeMap::new());
        Ok(())
    }

    /// See [`crate::Engine::kill`].
    pub(crate) async fn kill(&self, container: &Arc<Container>, text: Option<&str>) -> Result<()> {
        let number = match text.filter(|text| !text.is_empty()) {
            Some(text) => signal::parse(text)?,
            None => signal::KILL,
        };
        if !container.status().is_live() {
            let message = format!(
                "cannot kill container: {}: container {} is not running",
                container.name(),
                container.id
            );
            return Err(Error::conflict(message));
        }
        if number == signal::KILL || number == stop_signal(container)? {
            container.live().state.stopped_by_user = true;
        }
        self.signal(container, number).await?;
        let more = [("signal".to_owned(), number.to_string())].into();
        self.publish(container, "kill", more);
        Ok(())
    }

    /// See [`crate::Engine::restart`].
    pub(crate) async fn restart(
        self: &Arc<Self>,
        container: &Arc<Container>,
        options: &StopOptions,
    ) -> Result<()> {
        match self.stop(container, options).await {
            Err(error) if error.kind() != Kind::NotModified => return Err(error),
            _ => {}
        }
        self.start(container).await?;
        self.publish(container, "restart", BTreeMap::new());
        Ok(())
    }

    /// Kills a container and waits until its end is settled.
    pub(crate) async fn kill_and_settle(
        self: &Arc<Self>,
        container: &Arc<Container>,
    ) -> Result<()> {
        self.end_restarting(container).await;
        let mut phase = container.watch();
        let exits = phase.borrow_and_update().exits;
        if !container.status().is_live() {
            return Ok(());
        }
        container.live().state.stopped_by_user = true;
        self.kill_hard(container, &mut phase, exits).await
    }

    /// SIGKILL, by the shim or without it, until the end is settled.
    async fn kill_hard(
        &self,
        container: &Arc<Container>,
        phase: &mut watch::Receiver<Phase>,
        exits: u64,
    ) -> Result<()> {
        let sent = self.signal(container, signal::KILL).await;
        if sent.is_ok() && ended(phase, exits, Some(KILL_PATIENCE)).await {
            return Ok(());
        }
        let cgroup = self.cgroups.open(&container.folders.cgroup);
        let killed = tokio::task::spawn_blocking(move || cgroup.kill()).await;
        if let Ok(Err(error)) = killed {
            tracing::warn!(container = %container.id, %error, "cannot kill the cgroup");
        }
        if ended(phase, exits, Some(SETTLE_PATIENCE)).await {
            return Ok(());
        }
        let message =
            format!("cannot kill container {}: its processes do not end", container.id.short());
        Err(Error::internal(message).with_hint("look for a process in state D, waiting for a disk"))
    }

    /// Sends a signal to the first process. Being frozen must not hold up an end that was asked for.
    async fn signal(&self, container: &Arc<Container>, number: i32) -> Result<()> {
        let Ok(shim) = container.running_shim() else { return Ok(()) };
        let told = shim.tell(&Request::Signal { exec: None, signal: number }).await;
        let still_runs =
            container.status().is_live() && container.watch().borrow().status.is_live();
        match told {
            Err(error) if still_runs && error.kind() != Kind::Unavailable => {
                return Err(
                    error.context(format!("cannot signal container {}", container.id.short()))
                );
            }
            // The shim is going: the end is on its way.
            _ => {}
        }
        if container.status() == Status::Paused {
            let _gate = container.gate.lock().await;
            if container.status() == Status::Paused {
                self.thaw(container).await?;
            }
        }
        Ok(())
    }

    /// See [`crate::Engine::pause`].
    pub(crate) async fn pause(&self, container: &Arc<Container>) -> Result<()> {
        let _gate = container.gate.lock().await;
        container.status().may(Action::Pause, container.id.as_str())?;
        // The mark comes first: a frozen container without it could not be thawed after a restart.
        fs::write(paused_mark(container), []).map_err(cannot_mark)?;
        let cgroup = self.cgroups.open(&container.folders.cgroup);
        match tokio::task::spawn_blocking(move || cgroup.freeze()).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => {
                let _ = fs::remove_file(paused_mark(container));
                return Err(error.into());
            }
            Err(_) => return Err(Error::internal("freezing the container panicked")),
        }
        self.set_frozen(container, Status::Paused, "pause");
        Ok(())
    }

    /// See [`crate::Engine::unpause`].
    pub(crate) async fn unpause(&self, container: &Arc<Container>) -> Result<()> {
        let _gate = container.gate.lock().await;
        container.status().may(Action::Unpause, container.id.as_str())?;
        self.thaw(container).await
    }

    /// Thaws; the gate is held.
    async fn thaw(&self, container: &Container) -> Result<()> {
        let cgroup = self.cgroups.open(&container.folders.cgroup);
        match tokio::task::spawn_blocking(move || cgroup.thaw()).await {
            Ok(result) => result?,
            Err(_) => return Err(Error::internal("thawing the container panicked")),
        }
        let _ = fs::remove_file(paused_mark(container));
        self.set_frozen(container, Status::Running, "unpause");
        Ok(())
    }

    fn set_frozen(&self, container: &Container, status: Status, action: &str) {
        container.live().state.status = status;
        container.announce(status);
        self.publish(container, action, BTreeMap::new());
    }

    /// Ends a restart policy's back-off; says whether there was one.
    async fn end_restarting(&self, container: &Container) -> bool {
        let _gate = container.gate.lock().await;
        let state = {
            let mut live = container.live();
            if live.state.status != Status::Restarting {
                return false;
            }
            live.state.status = Status::Exited;
            live.state.stopped_by_user = true;
            live.state.clone()
        };
        container.stop_restarting.notify_waiters();
        container.announce(Status::Exited);
        let written = crate::record::write_state(self.kv.as_ref(), &container.id, &state).await;
        if let Err(error) = written {
            tracing::error!(container = %container.id, error = %error.chain(), "cannot write the state");
        }
        true
    }
}

/// Waits as `condition` says. The waiting has begun when this returns.
pub(crate) fn wait(
    container: Arc<Container>,
    condition: WaitCondition,
) -> BoxFuture<'static, ExitStatus> {
    let mut phase = container.watch();
    let begin = phase.borrow_and_update().clone();
    Box::pin(async move {
        let is_met = |now: &Phase| {
            let has_ended = now.exits > begin.exits;
            now.removed
                || match condition {
                    WaitCondition::NotRunning => {
                        !now.status.is_live() && now.status != Status::Restarting
                    }
                    WaitCondition::NextExit => has_ended,
                    WaitCondition::Removed => false,
                }
        };
        // The container is held, so that the sender lives; an error could only mean that it does not.
        let last = match phase.wait_for(is_met).await {
            Ok(now) => now.last.clone(),
            Err(_) => begin.last.clone(),
        };
        drop(container);
        last
    })
}

/// Whether a file in the state folder says that the container was paused.
pub(crate) fn is_marked_paused(container: &Container) -> bool {
    paused_mark(container).exists()
}

fn paused_mark(container: &Container) -> PathBuf {
    container.folders.run.join("paused")
}

/// Waits for the next exit after `exits`; false if patience ends first.
async fn ended(phase: &mut watch::Receiver<Phase>, exits: u64, patience: Option<Duration>) -> bool {
    let exit = phase.wait_for(|now| now.exits > exits || now.removed);
    match patience {
        Some(patience) => tokio::time::timeout(patience, exit).await.is_ok(),
        None => exit.await.is_ok(),
    }
}

fn stop_signal(container: &Container) -> Result<i32> {
    match container.spec().stop_signal.as_str() {
        "" => Ok(signal::TERM),
        text => signal::parse(text),
    }
}

fn cannot_mark(error: std::io::Error) -> Error {
    Error::caused(Kind::Internal, "cannot write to the container's state folder", error)
}
