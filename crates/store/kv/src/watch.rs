//! Watches: the stream of what was committed below a prefix.
//!
//! A watcher has a bounded queue. One that does not keep up is cut off and told so
//! ([`KvError::Lagged`]), rather than slowing commits down or growing without limit.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::mpsc;

use crate::{KvError, Result, Revision};

/// How many commits a watcher may be behind.
const QUEUE: usize = 1024;

/// What happened to a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// It has this value now.
    Put(Vec<u8>),
    /// It has none any more.
    Delete,
}

/// One change of one key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// The commit it was part of.
    pub revision: Revision,
    /// The key.
    pub key: String,
    /// What happened to it.
    pub change: Change,
}

/// A stream of events below a prefix; dropping it ends the watch.
#[derive(Debug)]
pub struct Watch {
    queue: mpsc::Receiver<Vec<Event>>,
    taken: VecDeque<Event>,
    lagged: Arc<AtomicBool>,
}

impl Watch {
    /// The next event, or `None` once the store is closed. [`KvError::Lagged`] once, and then `None`, if
    /// events were lost.
    pub async fn next(&mut self) -> Option<Result<Event>> {
        loop {
            if let Some(event) = self.taken.pop_front() {
                return Some(Ok(event));
            }
            match self.queue.recv().await {
                Some(batch) => self.taken.extend(batch),
                None if self.lagged.swap(false, Ordering::AcqRel) => {
                    return Some(Err(KvError::Lagged));
                }
                None => return None,
            }
        }
    }
}

/// Everyone who watches.
#[derive(Debug, Default)]
pub(crate) struct Watchers(Mutex<Vec<Watcher>>);

#[derive(Debug)]
struct Watcher {
    prefix: String,
    queue: mpsc::Sender<Vec<Event>>,
    lagged: Arc<AtomicBool>,
}

impl Watchers {
    /// A watch of what comes from now on.
    pub(crate) fn add(&self, prefix: &str) -> Watch {
        let (sender, queue) = mpsc::channel(QUEUE);
        let lagged = Arc::new(AtomicBool::new(false));
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(Watcher {
            prefix: prefix.to_owned(),
            queue: sender,
            lagged: lagged.clone(),
        });
        Watch { queue, taken: VecDeque::new(), lagged }
    }

    /// Tells everyone concerned of one commit.
    pub(crate) fn notify(&self, revision: Revision, changes: &[(String, Change)]) {
        let mut watchers = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        watchers.retain(|watcher| watcher.tell(revision, changes));
    }
}

impl Watcher {
    /// Whether the watcher is still there, having been told of the changes that concern it.
    fn tell(&self, revision: Revision, changes: &[(String, Change)]) -> bool {
        if self.queue.is_closed() {
            return false;
        }
        let batch: Vec<Event> = changes
            .iter()
            .filter(|(key, _)| key.starts_with(&self.prefix))
            .map(|(key, change)| Event { revision, key: key.clone(), change: change.clone() })
            .collect();
        match if batch.is_empty() { Ok(()) } else { self.queue.try_send(batch) } {
            Ok(()) => true,
            Err(mpsc::error::TrySendError::Full(_)) => {
                self.lagged.store(true, Ordering::Release);
                false
            }
            Err(mpsc::error::TrySendError::Closed(_)) => false,
        }
    }
}
