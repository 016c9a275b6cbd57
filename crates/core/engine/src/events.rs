//! What happens, told to whoever listens.
//!
//! A bounded ring keeps the last [`RING`] events for those who ask for the past; a broadcast channel
//! carries new ones. A listener that falls more than [`RING`] behind is told how many it missed instead
//! of holding anybody up. Nothing is durable: after a restart of the daemon the ring is empty.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::broadcast;

use crate::clock::now_ns;

/// How many events are kept, and how far a listener may fall behind.
pub const RING: usize = 1024;

/// Something that happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// When, in nanoseconds since the UNIX epoch.
    pub time_ns: u64,
    /// What kind of object: `container`, `image`, `network`, `volume`.
    pub kind: &'static str,
    /// What was done to it, in Docker's words: `create`, `start`, `die`, `exec_create: ls`.
    pub action: String,
    /// The object's id or name.
    pub id: String,
    /// More: `name`, `image`, `exitCode`, labels.
    pub attributes: BTreeMap<String, String>,
}

/// Where events go. Clones are the same bus.
#[derive(Debug, Clone)]
pub struct Events {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    ring: Mutex<VecDeque<Arc<Event>>>,
    sender: broadcast::Sender<Arc<Event>>,
}

/// What a listener hears.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Heard {
    /// An event.
    Event(Arc<Event>),
    /// So many events were missed, because this listener was too slow.
    Missed(u64),
}

/// Hears events from its making on.
#[derive(Debug)]
pub struct Subscription {
    past: VecDeque<Arc<Event>>,
    receiver: broadcast::Receiver<Arc<Event>>,
}

impl Default for Events {
    fn default() -> Self {
        let (sender, _) = broadcast::channel(RING);
        Self { shared: Arc::new(Shared { ring: Mutex::new(VecDeque::new()), sender }) }
    }
}

impl Events {
    /// Tells of something that happened just now.
    pub fn publish(
        &self,
        kind: &'static str,
        action: impl Into<String>,
        id: impl Into<String>,
        attributes: BTreeMap<String, String>,
    ) {
        let (action, id) = (action.into(), id.into());
        let mut ring = self.shared.ring.lock().unwrap_or_else(PoisonError::into_inner);
        // The time is taken under the lock, so that the ring is in order of time.
        let event = Arc::new(Event { time_ns: now_ns(), kind, action, id, attributes });
        if ring.len() == RING {
            ring.pop_front();
        }
        ring.push_back(Arc::clone(&event));
        // Nobody listening is no failure.
        let _ = self.shared.sender.send(event);
    }

    /// Listens, beginning with the kept events since `since_ns` if given. None is missed or heard twice
    /// between the past and the present.
    pub fn subscribe(&self, since_ns: Option<u64>) -> Subscription {
        let ring = self.shared.ring.lock().unwrap_or_else(PoisonError::into_inner);
        let past = since_ns.map_or_else(VecDeque::new, |since| {
            ring.iter().filter(|event| event.time_ns >= since).cloned().collect()
        });
        Subscription { past, receiver: self.shared.sender.subscribe() }
    }
}

impl Subscription {
    /// The next event; `None` when the engine is gone. Cancel-safe.
    pub async fn next(&mut self) -> Option<Heard> {
        if let Some(event) = self.past.pop_front() {
            return Some(Heard::Event(event));
        }
        match self.receiver.recv().await {
            Ok(event) => Some(Heard::Event(event)),
            Err(broadcast::error::RecvError::Lagged(count)) => Some(Heard::Missed(count)),
            Err(broadcast::error::RecvError::Closed) => None,
        }
    }

    /// The next of the events that were kept before this subscription; `None` when only new ones are left.
    pub fn next_past(&mut self) -> Option<Arc<Event>> {
        self.past.pop_front()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn past_and_present_join_without_a_gap() {
        let events = Events::default();
        events.publish("container", "create", "a", BTreeMap::new());
        let mut listener = events.subscribe(Some(0));
        events.publish("container", "start", "a", BTreeMap::new());
        for expected in ["create", "start"] {
            let Some(Heard::Event(event)) = listener.next().await else { panic!("no event") };
            assert_eq!(event.action, expected);
        }
    }

    #[tokio::test]
    async fn a_slow_listener_is_told_what_it_missed() {
        let events = Events::default();
        let mut listener = events.subscribe(None);
        for _ in 0..RING + 5 {
            events.publish("container", "start", "a", BTreeMap::new());
        }
        assert_eq!(listener.next().await, Some(Heard::Missed(5)));
    }

    #[test]
    fn the_ring_is_bounded() {
        let events = Events::default();
        for _ in 0..RING * 2 {
            events.publish("container", "start", "a", BTreeMap::new());
        }
        assert_eq!(events.subscribe(Some(0)).past.len(), RING);
    }
}
