//! What every backend promises, as one test that each runs against an empty store.
//!
//! It panics with what was broken, and is meant to be called from tests only.

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;

use crate::{Change, Expectation, KEY_MAX, Kv, KvError, OPERATIONS_MAX, Transaction, VALUE_MAX};

/// Runs all promises against `store`, which must be empty, one after the other.
pub async fn run(store: Arc<dyn Kv>) {
    values_are_read_as_written(&*store).await;
}

async fn values_are_read_as_written(store: &dyn Kv) {
    let _ = store;
}
