//! One at a time per digest: two pulls that want the same layer fetch and unpack it once.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use dhow_spec::Digest;
use tokio::sync::{Mutex as AsyncMutex, OwnedMutexGuard};

/// Locks by digest. Cheap to clone; a lock that nobody holds takes no room.
#[derive(Debug, Clone, Default)]
pub(crate) struct Turns(Arc<Mutex<HashMap<Digest, Weak<AsyncMutex<()>>>>>);

/// The holder's turn, until dropped.
pub(crate) type Turn = OwnedMutexGuard<()>;

impl Turns {
    /// Waits for one's turn with `digest`.
    pub(crate) async fn take(&self, digest: Digest) -> Turn {
        let lock = {
            let mut locks = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            locks.retain(|_, lock| lock.strong_count() > 0);
            let held = locks.get(&digest).and_then(Weak::upgrade);
            held.unwrap_or_else(|| {
                let lock = Arc::new(AsyncMutex::new(()));
                locks.insert(digest, Arc::downgrade(&lock));
                lock
            })
        };
        lock.lock_owned().await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_second_waits_and_others_do_not() {
        let turns = Turns::default();
        let [a, b] = [Digest::of(b"a"), Digest::of(b"b")];
        let first = turns.take(a).await;
        let second = tokio::spawn({
            let turns = turns.clone();
            async move { drop(turns.take(a).await) }
        });
        drop(turns.take(b).await);
        assert!(!second.is_finished());
        drop(first);
        second.await.unwrap();
    }
}
