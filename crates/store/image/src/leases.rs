//! Who still needs a blob or a layer: pins, and the sweep that respects them.
//!
//! ```text
//!   free ──pin──► pinned(n) ──unpin──► free
//!     └──condemn──► condemned ──(removed from its store)──► free; whoever waits to pin goes on
//! ```
//!
//! Invariant: nothing is both pinned and condemned. So a pull that finds a layer in the store after it
//! pinned it keeps it, and one that comes while it is being removed waits and then fetches it anew.
//! This module touches no store; it only says who may.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use dhow_spec::Digest;
use tokio::sync::Notify;

/// Something that a sweep could remove.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Item {
    /// A blob of the content store.
    Blob(Digest),
    /// A layer of the snapshot store, by chain id.
    Layer(Digest),
    /// An image as a whole: pinned while a container of it is being created.
    Image(Digest),
}

/// All pins of one store. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub(crate) struct Leases(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    freed: Notify,
    /// Held for reading while a blob of unknown digest gets its name and its pin, for writing while
    /// blobs are removed; both are brief.
    naming: RwLock<()>,
}

#[derive(Debug, Default)]
struct State {
    pinned: HashMap<Item, usize>,
    condemned: HashSet<Item>,
}

/// A set of pins, released when dropped.
#[derive(Debug)]
pub(crate) struct Lease {
    leases: Leases,
    items: Mutex<HashSet<Item>>,
}

/// Items that only the holder may remove; freed when dropped.
#[derive(Debug)]
pub(crate) struct Condemned {
    leases: Leases,
    items: Vec<Item>,
}

impl Leases {
    /// A lease that pins nothing yet.
    pub(crate) fn lease(&self) -> Lease {
        Lease { leases: self.clone(), items: Mutex::default() }
    }

    /// Claims those of `candidates` that nobody pins and that are not among those `needed` tells. The
    /// claim is atomic: `needed` is asked while nobody can pin or let go.
    pub(crate) fn condemn(
        &self,
        candidates: impl IntoIterator<Item = Item>,
        needed: impl FnOnce() -> HashSet<Item>,
    ) -> Condemned {
        let mut state = self.state();
        let needed = needed();
        let mut items = Vec::new();
        for item in candidates {
            if !state.pinned.contains_key(&item)
                && !needed.contains(&item)
                && state.condemned.insert(item)
            {
                items.push(item);
            }
        }
        drop(state);
        Condemned { leases: self.clone(), items }
    }

    /// Keeps blobs from being removed while one gets its name. Never held across an await.
    pub(crate) fn naming(&self) -> RwLockReadGuard<'_, ()> {
        self.0.naming.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keeps blobs from getting names while some are removed. Never held across an await.
    pub(crate) fn removing(&self) -> RwLockWriteGuard<'_, ()> {
        self.0.naming.write().unwrap_or_else(PoisonError::into_inner)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds one pin unless the item is being removed.
    fn try_pin(&self, item: Item) -> bool {
        let mut state = self.state();
        if state.condemned.contains(&item) {
            return false;
        }
        *state.pinned.entry(item).or_default() += 1;
        true
    }
}

impl Lease {
    /// Pins `item`; if it is just being removed, after that.
    pub(crate) async fn pin(&self, item: Item) {
        if self.items().contains(&item) {
            return;
        }
        loop {
            let freed = self.leases.0.freed.notified();
            let mut freed = std::pin::pin!(freed);
            freed.as_mut().enable();
            if self.leases.try_pin(item) {
                break;
            }
            freed.await;
        }
        if !self.items().insert(item) {
            // Two tasks pinned it under the same lease; one pin is enough.
            self.leases.unpin(item);
        }
    }

    /// Pins a blob that has just got its name. Whoever calls it holds [`Leases::naming`], so that it
    /// cannot be condemned.
    pub(crate) fn pin_named(&self, blob: Digest) {
        let item = Item::Blob(blob);
        let mut items = self.items();
        if !items.contains(&item) && self.leases.try_pin(item) {
            items.insert(item);
        }
    }

    /// Lets go of everything, and tells what it was.
    pub(crate) fn release(&self) -> Vec<Item> {
        let items: Vec<Item> = self.items().drain().collect();
        for item in &items {
            self.leases.unpin(*item);
        }
        items
    }

    fn items(&self) -> MutexGuard<'_, HashSet<Item>> {
        self.items.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Leases {
    fn unpin(&self, item: Item) {
        let mut state = self.state();
        if let Some(count) = state.pinned.get_mut(&item) {
            *count -= 1;
            if *count == 0 {
                state.pinned.remove(&item);
            }
        }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.release();
    }
}

impl Condemned {
    /// What may be removed now.
    pub(crate) fn items(&self) -> &[Item] {
        &self.items
    }
}

impl Drop for Condemned {
    fn drop(&mut self) {
        let mut state = self.leases.state();
        for item in &self.items {
            state.condemned.remove(item);
        }
        drop(state);
        self.leases.0.freed.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn blob(text: &str) -> Item {
        Item::Blob(Digest::of(text.as_bytes()))
    }

    #[tokio::test]
    async fn what_is_pinned_is_not_condemned() {
        let leases = Leases::default();
        let lease = leases.lease();
        lease.pin(blob("a")).await;
        lease.pin(blob("a")).await;
        assert!(leases.condemn([blob("a")], HashSet::new).items().is_empty());
        assert_eq!(lease.release(), [blob("a")]);
        assert_eq!(leases.condemn([blob("a")], HashSet::new).items(), [blob("a")]);
        assert!(leases.condemn([blob("a")], || HashSet::from([blob("a")])).items().is_empty());
    }

    #[tokio::test]
    async fn pinning_waits_for_a_removal() {
        let leases = Leases::default();
        let condemned = leases.condemn([blob("a")], HashSet::new);
        let lease = Arc::new(leases.lease());
        let waiter = tokio::spawn({
            let lease = Arc::clone(&lease);
            async move { lease.pin(blob("a")).await }
        });
        tokio::task::yield_now().await;
        assert!(!waiter.is_finished());
        drop(condemned);
        waiter.await.unwrap();
        assert_eq!(lease.release(), [blob("a")]);
    }
}
