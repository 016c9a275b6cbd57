//! Warm namespaces: made before anybody asks, so that a start does not wait for them.
//!
//! ```text
//!              take (start path, takes what is there or makes one)
//!                │
//!   shelf ◄──────┴───── wake ────► filler (one task): waits until starts pause, makes one at a time
//!   plain | wired
//! ```
//!
//! There are two shelves: plain namespaces with loopback, and wired ones with a veth on the bridge. How
//! many stand on a shelf follows from how often it was found empty ([`Sizing`]). The filler keeps out of
//! the way of starts: with two cores, making one costs a start that runs beside it.
//!
//! Namespaces are held by descriptors alone; when the daemon dies, however it dies, the kernel removes
//! them and their veths.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use dhow_netns::{Bridge, Namespace};
use dhow_sys::netlink::Socket;
use tokio::sync::Notify;
use tokio::task::{JoinHandle, spawn_blocking};
use tokio::time::{Instant, sleep, timeout};

use crate::error::Error;
use crate::types::Mode;

/// How long starts have to pause before the filler works, unless a shelf is nearly empty. Longer than the
/// rest of a start and a short run, which would have to share the CPUs and the kernel's link lock with it.
const PAUSE: Duration = Duration::from_millis(25);
/// How long the filler lets starts keep it waiting.
const PATIENCE: Duration = Duration::from_millis(100);
/// How long nothing must happen before a shelf shrinks by half.
const IDLE: Duration = Duration::from_secs(30);
/// How long the filler waits after a failure.
const BACKOFF: Duration = Duration::from_secs(2);
/// By how much a shelf may grow.
const GROWTH: usize = 4;

/// The warm namespaces of one bridge.
#[derive(Debug)]
pub(crate) struct Pool {
    shared: Arc<Shared>,
    filler: JoinHandle<()>,
}

#[derive(Debug)]
struct Shared {
    bridge: Bridge,
    shelves: Mutex<Shelves>,
    /// A route socket of the host for plugging; none once the pool is closed.
    host: Mutex<Option<Socket>>,
    wake: Notify,
}

#[derive(Debug)]
struct Shelves {
    plain: Shelf,
    wired: Shelf,
    last_take: Instant,
}

#[derive(Debug)]
struct Shelf {
    ready: Vec<Namespace>,
    sizing: Sizing,
}

/// How many namespaces a shelf should hold. Pure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Sizing {
    base: usize,
    target: usize,
}

impl Sizing {
    fn new(base: usize) -> Self {
        Self { base, target: base }
    }

    /// One was wanted; `left` remain. An empty shelf was too small.
    fn taken(&mut self, left: usize) {
        if left == 0 {
            self.target = (self.target * 2).min(self.base * GROWTH);
        }
    }

    /// Nothing has happened for a while.
    fn idle(&mut self) {
        self.target = (self.target / 2).max(self.base);
    }
}

impl Pool {
    /// Starts filling in the background. `host` is a route socket in the bridge's namespace.
    pub(crate) fn start(bridge: Bridge, host: Socket, base: usize) -> Self {
        let shelf = || Shelf { ready: Vec::new(), sizing: Sizing::new(base) };
        let shelves = Shelves { plain: shelf(), wired: shelf(), last_take: Instant::now() };
        let shared = Arc::new(Shared {
            bridge,
            shelves: Mutex::new(shelves),
            host: Mutex::new(Some(host)),
            wake: Notify::new(),
        });
        let filler = tokio::spawn(fill(Arc::clone(&shared)));
        Self { shared, filler }
    }

    /// A namespace: a warm one if there is one, else one made now. Blocks in the latter case.
    pub(crate) fn take(&self, mode: Mode) -> Result<Namespace, Error> {
        let found = {
            let mut shelves = lock(&self.shared.shelves);
            shelves.last_take = Instant::now();
            let shelf = shelves.shelf(mode);
            let found = shelf.ready.pop();
            shelf.sizing.taken(shelf.ready.len());
            found
        };
        self.shared.wake.notify_one();
        found.map_or_else(|| self.shared.make(mode), Ok)
    }

    /// Stops filling and lets go of all namespaces. Returns once none is being made any more. Blocks.
    pub(crate) fn close(&self) {
        self.filler.abort();
        // Waits for one that is being plugged; the next finds no socket.
        lock(&self.shared.host).take();
        let mut shelves = lock(&self.shared.shelves);
        shelves.plain.ready.clear();
        shelves.wired.ready.clear();
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.filler.abort();
    }
}

impl Shelves {
    fn shelf(&mut self, mode: Mode) -> &mut Shelf {
        match mode {
            Mode::Bridge => &mut self.wired,
            Mode::None => &mut self.plain,
        }
    }

    /// What to make next: the emptier shelf's kind, and whether that shelf is more than half empty.
    fn missing(&self) -> Option<(Mode, bool)> {
        let of = |mode, shelf: &Shelf| {
            let (ready, target) = (shelf.ready.len(), shelf.sizing.target);
            (ready < target).then_some((ready, (mode, ready * 2 < target)))
        };
        let candidates = [of(Mode::Bridge, &self.wired), of(Mode::None, &self.plain)];
        candidates.into_iter().flatten().min_by_key(|(ready, _)| *ready).map(|(_, what)| what)
    }

    /// Shrinks what has grown; true if anything is still larger than its base.
    fn shrink(&mut self) -> bool {
        [&mut self.plain, &mut self.wired].into_iter().fold(false, |larger, shelf| {
            shelf.sizing.idle();
            shelf.ready.truncate(shelf.sizing.target);
            larger || shelf.sizing.target > shelf.sizing.base
        })
    }
}

impl Shared {
    fn make(&self, mode: Mode) -> Result<Namespace, Error> {
        let mut namespace = Namespace::create()?;
        if mode == Mode::Bridge {
            let mut host = lock(&self.host);
            let host = host.as_mut().ok_or(Error::Closed)?;
            namespace.plug(host, &self.bridge)?;
        }
        Ok(namespace)
    }

    /// Makes one for a shelf. It is put there with the host's socket locked, so that none comes after
    /// the pool has been closed.
    fn stock(&self, mode: Mode) -> Result<(), Error> {
        let namespace = self.make(mode)?;
        let host = lock(&self.host);
        if host.is_some() {
            lock(&self.shelves).shelf(mode).ready.push(namespace);
        }
        Ok(())
    }
}

/// The filler.
async fn fill(shared: Arc<Shared>) {
    let mut larger = false;
    loop {
        let missing = lock(&shared.shelves).missing();
        let Some((mode, urgent)) = missing else {
            if timeout(IDLE, shared.wake.notified()).await.is_err() && larger {
                larger = lock(&shared.shelves).shrink();
            }
            continue;
        };
        larger = true;
        if !urgent {
            wait_for_pause(&shared).await;
        }
        let worker = Arc::clone(&shared);
        match spawn_blocking(move || worker.stock(mode)).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => {
                let error = dhow_error::chain(&error);
                tracing::warn!(%error, "cannot make a network namespace in advance");
                sleep(BACKOFF).await;
            }
            Err(_) => return,
        }
    }
}

/// Returns when no namespace has been taken for a moment, or after a while anyway.
async fn wait_for_pause(shared: &Shared) {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let quiet_at = lock(&shared.shelves).last_take + PAUSE;
        let now = Instant::now();
        if now >= quiet_at || now >= deadline {
            return;
        }
        sleep(quiet_at.min(deadline) - now).await;
    }
}

/// A panic elsewhere does not make what the lock guards wrong: each holder leaves it whole.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shelf_grows_when_empty_and_shrinks_when_idle() {
        let mut sizing = Sizing::new(4);
        sizing.taken(1);
        assert_eq!(sizing.target, 4);
        sizing.taken(0);
        assert_eq!(sizing.target, 8);
        sizing.taken(0);
        sizing.taken(0);
        assert_eq!(sizing.target, 16);
        sizing.idle();
        assert_eq!(sizing.target, 8);
        sizing.idle();
        sizing.idle();
        assert_eq!(sizing.target, 4);
        let mut none = Sizing::new(0);
        none.taken(0);
        assert_eq!(none.target, 0);
    }
}
