//! What every backend promises, as one test that each runs against an empty store.
//!
//! It panics with what was broken, and is meant to be called from tests only. No promise here depends on
//! time: nothing is waited for but what the store says.

#![allow(clippy::panic, clippy::expect_used, clippy::unwrap_used, reason = "this is a test")]

use std::sync::Arc;

use crate::{
    Change, Event, Expectation, KEY_MAX, Kv, KvError, OPERATIONS_MAX, Transaction, VALUE_MAX,
};

/// Runs all promises against `store`, which must be empty, one after the other.
pub async fn run(store: Arc<dyn Kv>) {
    values_are_read_as_written(&*store).await;
    ranges_are_sorted_and_end(&*store).await;
    transactions_apply_as_a_whole(&*store).await;
    the_last_operation_wins(&*store).await;
    limits_are_kept(&*store).await;
    revisions_grow(&*store).await;
    watchers_hear_of_their_prefix(&*store).await;
    slow_watchers_are_told(&store).await;
    of_two_writers_one_wins(store).await;
}

async fn put(store: &dyn Kv, key: &str, value: &[u8]) {
    store.commit(Transaction::new().put(key, value)).await.expect("a plain put succeeds");
}

async fn values_are_read_as_written(store: &dyn Kv) {
    assert_eq!(store.get("v/a").await.unwrap(), None);
    for value in [&b""[..], b"one", b"\0\xff two"] {
        put(store, "v/a", value).await;
        assert_eq!(store.get("v/a").await.unwrap().as_deref(), Some(value));
    }
    store.commit(Transaction::new().delete("v/a").delete("v/never")).await.unwrap();
    assert_eq!(store.get("v/a").await.unwrap(), None);
}

async fn ranges_are_sorted_and_end(store: &dyn Kv) {
    for key in ["r/b", "r/a", "r/é", "r/a/x", "r0", "r."] {
        put(store, key, key.as_bytes()).await;
    }
    let found = store.range("r/").await.unwrap();
    let keys: Vec<&str> = found.iter().map(|(key, _)| key.as_str()).collect();
    assert_eq!(keys, ["r/a", "r/a/x", "r/b", "r/é"]);
    assert!(found.iter().all(|(key, value)| key.as_bytes() == value));
    assert!(store.range("r/none").await.unwrap().is_empty());
    assert!(store.range("").await.unwrap().len() >= 6);
}

async fn transactions_apply_as_a_whole(store: &dyn Kv) {
    put(store, "t/there", b"1").await;
    let refused = [
        ("t/there", Expectation::Absent),
        ("t/there", Expectation::Value(b"2".to_vec())),
        ("t/missing", Expectation::Present),
        ("t/missing", Expectation::Value(Vec::new())),
    ];
    for (key, expectation) in refused {
        let transaction = Transaction::new()
            .put("t/new", b"x")
            .delete("t/there")
            .expect("t/there", Expectation::Present)
            .expect(key, expectation.clone());
        match store.commit(transaction).await {
            Err(KvError::Expectation { key: told }) => assert_eq!(told, key),
            other => panic!("{expectation:?} of {key}: {other:?}"),
        }
        assert_eq!(store.get("t/new").await.unwrap(), None);
        assert_eq!(store.get("t/there").await.unwrap().as_deref(), Some(&b"1"[..]));
    }
    let accepted = Transaction::new()
        .expect("t/there", Expectation::Value(b"1".to_vec()))
        .expect("t/missing", Expectation::Absent)
        .put("t/missing", b"x")
        .delete("t/there");
    store.commit(accepted).await.unwrap();
    assert_eq!(store.get("t/there").await.unwrap(), None);
    assert_eq!(store.get("t/missing").await.unwrap().as_deref(), Some(&b"x"[..]));
}

async fn the_last_operation_wins(store: &dyn Kv) {
    let transaction = Transaction::new().put("l/a", b"1").delete("l/a").put("l/a", b"2");
    store.commit(transaction.put("l/b", b"1").delete("l/b")).await.unwrap();
    assert_eq!(store.get("l/a").await.unwrap().as_deref(), Some(&b"2"[..]));
    assert_eq!(store.get("l/b").await.unwrap(), None);
}

async fn limits_are_kept(store: &dyn Kv) {
    let long_key = "k".repeat(KEY_MAX);
    put(store, &long_key, &vec![7; VALUE_MAX]).await;
    assert_eq!(store.get(&long_key).await.unwrap().map(|value| value.len()), Some(VALUE_MAX));
    let mut many = Transaction::new();
    for number in 0..OPERATIONS_MAX {
        many = many.put(format!("many/{number}"), b"x");
    }
    store.commit(many.clone()).await.unwrap();
    for too_large in [
        Transaction::new().put("k".repeat(KEY_MAX + 1), b"x"),
        Transaction::new().put("k", vec![7; VALUE_MAX + 1]),
        many.delete("one more"),
    ] {
        let answer = store.commit(too_large).await;
        assert!(matches!(answer, Err(KvError::TooLarge { .. })), "{answer:?}");
    }
}

async fn revisions_grow(store: &dyn Kv) {
    let first = store.commit(Transaction::new().put("rev", b"1")).await.unwrap();
    let second = store.commit(Transaction::new().put("rev", b"1")).await.unwrap();
    assert!(second > first, "{second:?} after {first:?}");
}

async fn watchers_hear_of_their_prefix(store: &dyn Kv) {
    let mut watch = store.watch("w/");
    put(store, "other", b"x").await;
    let transaction = Transaction::new().put("w/a", b"1").put("x", b"x").delete("w/b");
    let revision = store.commit(transaction).await.unwrap();
    let event = |key: &str, change| Event { revision, key: key.to_owned(), change };
    assert_eq!(watch.next().await.unwrap().unwrap(), event("w/a", Change::Put(b"1".to_vec())));
    assert_eq!(watch.next().await.unwrap().unwrap(), event("w/b", Change::Delete));
}

async fn slow_watchers_are_told(store: &Arc<dyn Kv>) {
    const MANY: usize = 1_500;
    let mut watch = store.watch("slow/");
    // All at once, so that they share their way to the disk.
    let mut commits = tokio::task::JoinSet::new();
    for number in 0..MANY {
        let (store, transaction) = (store.clone(), Transaction::new());
        let transaction = transaction.put(format!("slow/{}", number % 10), b"x");
        commits.spawn(async move { store.commit(transaction).await });
    }
    for commit in commits.join_all().await {
        commit.unwrap();
    }
    let mut heard = 0;
    loop {
        match watch.next().await {
            Some(Ok(_)) => heard += 1,
            Some(Err(KvError::Lagged)) => break,
            other => panic!("after {heard} events: {other:?}"),
        }
        assert!(heard < MANY, "the watcher was never told");
    }
    assert!(watch.next().await.is_none());
}

async fn of_two_writers_one_wins(store: Arc<dyn Kv>) {
    const WRITERS: usize = 50;
    let writers: Vec<_> = (0..WRITERS)
        .map(|number| {
            let store = store.clone();
            tokio::spawn(async move {
                let transaction = Transaction::new()
                    .expect("race", Expectation::Absent)
                    .put("race", number.to_string());
                store.commit(transaction).await.map(|_| number)
            })
        })
        .collect();
    let mut winners = Vec::new();
    for writer in writers {
        match writer.await.expect("a writer does not panic") {
            Ok(number) => winners.push(number.to_string().into_bytes()),
            Err(KvError::Expectation { .. }) => {}
            Err(error) => panic!("{error}"),
        }
    }
    assert_eq!(winners.len(), 1);
    assert_eq!(store.get("race").await.unwrap().as_ref(), winners.first());
}
