//! Objects: the one truth for what people asked for, kept crash-safe.
//!
//! [`Kv`] maps text keys to small values and changes them in transactions that apply as a whole or not
//! at all, and are durable before their future is ready. Keys are ordered by their bytes, and people
//! of this store name them like paths (`containers/<id>`), so that a prefix is a kind.
//!
//! ```text
//!   reader ──get/range──────────────► last committed state
//!   writer ──commit──► queue ──► one writer thread: check, apply, fsync ──► answer ──► watchers
//! ```
//!
//! A commit's expectations are checked against the state that the transaction meets when its turn
//! comes, so that two writers can never both win. [`Embedded`] is the backend of one machine; what any
//! backend promises is written down as a test in [`conformance`].
//!
//! Nothing here knows what a value means, and nothing deletes a value by itself.

use std::future::Future;
use std::pin::Pin;

pub mod conformance;
mod embedded;
mod error;
mod header;
mod transaction;
mod watch;

pub use embedded::Embedded;
pub use error::KvError;
pub use transaction::{Expectation, KEY_MAX, OPERATIONS_MAX, Transaction, VALUE_MAX};
pub use watch::{Change, Event, Watch};

/// A result of this store.
pub type Result<T, E = KvError> = std::result::Result<T, E>;

/// An answer that is awaited.
pub type Answer<'a, T> = Pin<Box<dyn Future<Output = Result<T>> + Send + 'a>>;

/// The number of a commit: each one's is greater than that of all before it, across restarts too.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Revision(pub u64);

/// A store of objects. Use it as `Arc<dyn Kv>`.
pub trait Kv: Send + Sync + 'static {
    /// The value of `key`, if it has one.
    fn get<'a>(&'a self, key: &'a str) -> Answer<'a, Option<Vec<u8>>>;

    /// All keys that start with `prefix`, and their values, in the order of the keys, as they were at
    /// one moment.
    fn range<'a>(&'a self, prefix: &'a str) -> Answer<'a, Vec<(String, Vec<u8>)>>;

    /// Applies `transaction` as a whole. When the answer is there, the change is visible to every
    /// reader and survives SIGKILL and power loss. A transaction whose answer is not awaited may still
    /// be applied.
    ///
    /// [`KvError::Expectation`] if the state is not as expected, and then nothing was changed;
    /// [`KvError::TooLarge`] beyond the limits that all backends share.
    fn commit(&self, transaction: Transaction) -> Answer<'_, Revision>;

    /// What is committed from now on to keys that start with `prefix`. To miss nothing, watch first and
    /// read the range then.
    fn watch(&self, prefix: &str) -> Watch;
}
