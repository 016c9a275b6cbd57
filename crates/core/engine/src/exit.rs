//! What happens when a container ends.
//!
//! ```text
//!   shim says Exited ──► gate ──► disconnect, durable state ──► waiters hear ──┬─► nothing more
//!   (exit.json is there)                                                       ├─► auto-remove
//!                                                                              └─► restart policy
//! ```
//!
//! Waiters hear only when the exit code is durable and the addresses and ports are free again. A container
//! that removes itself needs no durable exit: its next write is its removal. If the daemon dies before
//! either, `exit.json` in the state folder has the code for the next one; the folder goes last.

use std::collections::BTreeMap;
use std::sync::Arc;

use dhow_shim::protocol::Exit;

use crate::clock::now_ns;
use crate::container::Container;
use crate::engine::Shared;
use crate::launch::remove_folder;
use crate::shim::Shim;
use crate::state::{ExitStatus, State, Status};
use crate::{record, restart, signal};

impl Shared {
    /// Settles the end of this run when it comes.
    pub(crate) fn watch_exit(
        self: &Arc<Self>,
        container: &Arc<Container>,
        shim: Arc<Shim>,
        run: u64,
    ) {
        let (engine, container) = (Arc::clone(self), Arc::clone(container));
        tokio::spawn(async move {
            let exit = shim.wait().await;
            engine.settle(&container, run, exit).await;
            shim.gone().await;
            // Nobody needs to wait for it any more; its descriptor can go.
            let mut live = container.live();
            if live.shim.as_ref().is_some_and(|own| Arc::ptr_eq(own, &shim)) {
                live.shim = None;
            }
        });
    }

    /// Takes in how a run ended; `None` if nobody knows.
    pub(crate) async fn settle(
        self: &Arc<Self>,
        container: &Arc<Container>,
        run: u64,
        exit: Option<Exit>,
    ) {
        let _busy = self.busy.enter();
        let gate = container.gate.lock().await;
        {
            let live = container.live();
            if live.run != run || !live.state.status.is_live() {
                return;
            }
        }
        if exit.is_none() {
            self.clear_cgroup(container).await;
        }
        let (state, is_wanted) = self.take_in(container, exit);
        let spec = container.spec();
        if spec.auto_remove {
            self.detach(container).await;
        } else {
            let write = record::write_state(self.kv.as_ref(), &container.id, &state);
            let ((), written) = tokio::join!(self.detach(container), write);
            match written {
                Ok(()) => remove_folder(&container.folders.run),
                // The folder stays: it still has the exit code for the next daemon.
                Err(error) => {
                    let error = error.chain();
                    tracing::error!(container = %container.id, error, "cannot write the exit");
                }
            }
        }
        let status = if is_wanted { Status::Restarting } else { Status::Exited };
        container.live().state.status = status;
        let code = state.exit_code;
        let error = Some(state.error).filter(|error| !error.is_empty());
        self.publish(container, "die", BTreeMap::from([("exitCode".to_owned(), code.to_string())]));
        container.announce_exit(status, ExitStatus { code, error });
        drop(gate);
        if is_wanted {
            self.restart_later(container, run);
        } else if spec.auto_remove {
            self.remove_ended(container).await;
        }
    }

    /// The state after an exit, and whether the restart policy wants another run.
    fn take_in(&self, container: &Container, exit: Option<Exit>) -> (State, bool) {
        let mut live = container.live();
        live.pid = 0;
        let state = &mut live.state;
        // For the store it has ended, whatever the policy does next.
        state.status = Status::Exited;
        if let Some(exit) = exit {
            state.exit_code = exit.code;
            state.oom_killed = exit.oom_killed;
            state.finished_at_ns = exit.finished_at_ns;
            state.error = String::new();
        } else {
            state.exit_code = 128 + signal::KILL;
            state.finished_at_ns = now_ns();
            state.error = "the container's shim was killed, and the container with it".into();
        }
        let state = state.clone();
        let is_quick = restart::was_quick(&state);
        live.quick_exits = if is_quick { live.quick_exits.saturating_add(1) } else { 0 };
        let is_wanted = restart::is_wanted(container.spec().restart, &state) && !self.is_closed();
        (state, is_wanted)
    }

    /// Starts the container again after the back-off, unless it is stopped or removed meanwhile.
    pub(crate) fn restart_later(self: &Arc<Self>, container: &Arc<Container>, run: u64) {
        let (engine, container) = (Arc::clone(self), Arc::clone(container));
        let wait = restart::back_off(container.live().quick_exits);
        tokio::spawn(async move {
            tokio::select! {
                () = tokio::time::sleep(wait) => {}
                () = container.stop_restarting.notified() => return,
            }
            {
                let mut live = container.live();
                let is_due = live.run == run && live.state.status == Status::Restarting;
                if !is_due || engine.is_closed() {
                    return;
                }
                live.state.restart_count += 1;
            }
            let _busy = engine.busy.enter();
            // The failure is in the container's state, for who looks.
            if let Err(error) = Box::pin(engine.start(&container)).await {
                tracing::warn!(container = %container.id, error = %error.chain(), "cannot restart");
            }
        });
    }

    /// Ends all processes of a container whose shim was killed, and takes its cgroup away.
    pub(crate) async fn clear_cgroup(&self, container: &Container) {
        let cgroup = self.cgroups.open(&container.folders.cgroup);
        let id = container.id.clone();
        let work = tokio::task::spawn_blocking(move || {
            if let Err(error) = cgroup.kill().and_then(|()| cgroup.destroy()) {
                tracing::warn!(container = %id, %error, "cannot clear the cgroup");
            }
        });
        if work.await.is_err() {
            tracing::error!(container = %container.id, "clearing the cgroup panicked");
        }
    }
}
