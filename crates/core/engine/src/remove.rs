//! Taking a container away.
//!
//! ```text
//!   gate ──► removing ──► one durable transaction ──► name free ──► folders ──► waiters hear
//!                          from here on it is gone       (leftovers are swept at the next start)
//! ```
//!
//! With a container that removes itself at its end transaction and folders go at once: nobody can want it
//! back, and the next daemon removes whatever is left of it in the store or on disk.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use dhow_error::{Error, Result};

use crate::container::Container;
use crate::engine::Shared;
use crate::options::RemoveOptions;
use crate::record;
use crate::shim::Shim;
use crate::state::{Action, Status};

/// How long the shim may take to clear the cgroup, before it is killed.
const SHIM_PATIENCE: Duration = Duration::from_secs(10);

/// What goes first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Order {
    /// The store: until it has forgotten the container, nothing of it may be missing.
    StoreFirst,
    /// Nothing: it has ended and was to remove itself, so whatever is left, the next daemon removes it.
    AllAtOnce,
}

impl Shared {
    /// See [`crate::Engine::remove`].
    pub(crate) async fn remove(
        self: &Arc<Self>,
        container: &Arc<Container>,
        options: RemoveOptions,
    ) -> Result<()> {
        let status = container.status();
        if status.is_live() || status == Status::Restarting {
            if !options.force {
                return Err(must_stop_first(container, status));
            }
            self.kill_and_settle(container).await?;
        }
        // A container that removes itself may be ahead of us: that is what was asked for.
        let gate = container.gate.lock().await;
        if container.watch().borrow().removed {
            return Ok(());
        }
        container.status().may(Action::Remove, container.id.as_str())?;
        self.take_away(container, Order::StoreFirst).await?;
        drop(gate);
        Ok(())
    }

    /// Removes a container that ended and was to remove itself. A failure is for the log.
    pub(crate) async fn remove_ended(self: &Arc<Self>, container: &Arc<Container>) {
        let _gate = container.gate.lock().await;
        if container.watch().borrow().removed || container.status().is_live() {
            return;
        }
        // One that could not even be started is for the next daemon a container that may be started.
        let order = match container.status() {
            Status::Created => Order::StoreFirst,
            _ => Order::AllAtOnce,
        };
        if let Err(error) = self.take_away(container, order).await {
            tracing::error!(container = %container.id, error = %error.chain(), "cannot auto-remove");
        }
    }

    /// The removal itself; the gate is held.
    async fn take_away(self: &Arc<Self>, container: &Arc<Container>, order: Order) -> Result<()> {
        let (name, shim) = {
            let mut live = container.live();
            live.state.status = Status::Removing;
            live.waiting.clear();
            (live.name.clone(), live.shim.take())
        };
        container.announce(Status::Removing);
        let forget = self.forget(container, &name);
        let clean = self.clean(container, shim);
        match order {
            Order::StoreFirst => {
                forget.await?;
                clean.await;
            }
            Order::AllAtOnce => tokio::join!(forget, clean).0?,
        }
        self.publish(container, "destroy", BTreeMap::new());
        container.announce_removed();
        Ok(())
    }

    /// Takes a container out of the store, and then out of memory.
    async fn forget(&self, container: &Container, name: &str) -> Result<()> {
        if let Err(error) = record::remove(self.kv.as_ref(), &container.id, name).await {
            container.live().state.status = Status::Dead;
            container.announce(Status::Dead);
            return Err(error);
        }
        self.registry.remove(container);
        self.forget_execs(&container.id);
        Ok(())
    }

    /// Takes a container's folders away, and waits until its shim has taken its cgroup away.
    async fn clean(self: &Arc<Self>, container: &Arc<Container>, shim: Option<Arc<Shim>>) {
        let (engine, gone) = (Arc::clone(self), Arc::clone(container));
        let files = tokio::task::spawn_blocking(move || {
            engine.discard_files(&gone.folders, &gone.id);
        });
        if let Some(shim) = shim {
            let cgroup = self.cgroups.open(&container.folders.cgroup);
            shim.cleaned_up(&cgroup, SHIM_PATIENCE).await;
        }
        if files.await.is_err() {
            tracing::error!(container = %container.id, "removing the container's files panicked");
        }
    }
}

fn must_stop_first(container: &Container, status: Status) -> Error {
    let what = match status {
        Status::Paused => "is paused and must be unpaused first",
        _ => "is running: stop the container before removing or force remove",
    };
    let message = format!("cannot remove container \"/{}\": container {what}", container.name());
    Error::conflict(message).with_hint("stop it first, or remove it with -f")
}
