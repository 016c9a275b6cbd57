//! Transactions: what is expected, what is written, what is deleted. Values only; nothing here does I/O.
//!
//! Expectations are all checked first, against the state before the transaction. Then the operations
//! apply in the order in which they were added; the last one on a key wins. The limits are those of
//! etcd's defaults, so that a transaction which fits one backend fits all.

use crate::{Change, KvError, Result};

/// The longest key, in bytes.
pub const KEY_MAX: usize = 1024;
/// The largest value, in bytes.
pub const VALUE_MAX: usize = 1 << 20;
/// The most operations and expectations in one transaction, together.
pub const OPERATIONS_MAX: usize = 128;

/// A change of several keys that applies as a whole.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Transaction {
    pub(crate) expectations: Vec<(String, Expectation)>,
    pub(crate) operations: Vec<(String, Change)>,
}

/// What a key must be like for a transaction to apply.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Expectation {
    /// There is no value.
    Absent,
    /// There is some value.
    Present,
    /// The value is exactly this one: it was not changed since it was read.
    Value(Vec<u8>),
}

impl Expectation {
    /// Whether `value` is as expected.
    pub fn holds(&self, value: Option<&[u8]>) -> bool {
        match self {
            Self::Absent => value.is_none(),
            Self::Present => value.is_some(),
            Self::Value(expected) => value == Some(expected.as_slice()),
        }
    }
}

impl Transaction {
    /// A transaction that changes nothing yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Applies only if `key` is as `expectation` says.
    #[must_use]
    pub fn expect(mut self, key: impl Into<String>, expectation: Expectation) -> Self {
        self.expectations.push((key.into(), expectation));
        self
    }

    /// Gives `key` this value.
    #[must_use]
    pub fn put(mut self, key: impl Into<String>, value: impl Into<Vec<u8>>) -> Self {
        self.operations.push((key.into(), Change::Put(value.into())));
        self
    }

    /// Takes the value of `key` away; that it has none is fine.
    #[must_use]
    pub fn delete(mut self, key: impl Into<String>) -> Self {
        self.operations.push((key.into(), Change::Delete));
        self
    }

    /// [`KvError::TooLarge`] if some backend could not take this transaction.
    pub fn check_size(&self) -> Result<()> {
        let count = self.expectations.len() + self.operations.len();
        within("transaction".to_owned(), count, OPERATIONS_MAX)?;
        let expected = self.expectations.iter().map(|(key, _)| key);
        for key in expected.chain(self.operations.iter().map(|(key, _)| key)) {
            within("key".to_owned(), key.len(), KEY_MAX)?;
        }
        for (key, change) in &self.operations {
            if let Change::Put(value) = change {
                within(format!("value of {key:?}"), value.len(), VALUE_MAX)?;
            }
        }
        Ok(())
    }
}

fn within(what: String, size: usize, limit: usize) -> Result<()> {
    if size > limit { Err(KvError::TooLarge { what, size, limit }) } else { Ok(()) }
}
