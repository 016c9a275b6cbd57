//! The embedded store as a daemon meets it: killed, locked, damaged, started anew.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "these are tests")]

use std::io::{BufRead, BufReader, Write};
use std::process::{Command, Stdio};
use std::sync::Arc;

use dhow_error::{Classify, Kind, chain};
use dhow_kv::{Embedded, Expectation, Kv, KvError, Transaction, conformance};
use dhow_sys::rustix::mount::{MountFlags, UnmountFlags, mount, unmount};

/// Set in the child that is to be killed: the path of its store.
const CHILD: &str = "DHOW_KV_TEST_CHILD";

#[tokio::test]
async fn keeps_every_promise() {
    let scratch = tempfile::tempdir().unwrap();
    conformance::run(Arc::new(Embedded::open(scratch.path().join("kv")).unwrap())).await;
}

#[tokio::test]
async fn what_was_committed_is_there_after_a_restart() {
    let scratch = tempfile::tempdir().unwrap();
    let path = scratch.path().join("kv");
    let store = Embedded::open(&path).unwrap();
    let first = store.commit(Transaction::new().put("a", "1")).await.unwrap();
    drop(store);
    let store = Embedded::open(&path).unwrap();
    assert_eq!(store.get("a").await.unwrap().as_deref(), Some(&b"1"[..]));
    assert!(store.commit(Transaction::new().put("a", "2")).await.unwrap() > first);
    let names: Vec<_> = std::fs::read_dir(scratch.path()).unwrap().collect();
    assert_eq!(names.len(), 1, "nothing is left beside the store: {names:?}");
}

/// Not a test by itself: what [`acknowledged_commits_survive_sigkill`] runs and kills.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn child_that_commits_until_killed() {
    let Some(path) = std::env::var_os(CHILD) else { return };
    let store = Arc::new(Embedded::open(std::path::PathBuf::from(path)).unwrap());
    // Several at once, so that groups form.
    let writers: Vec<_> = (0..4)
        .map(|writer| {
            let store = store.clone();
            tokio::spawn(async move {
                for number in 0_u64.. {
                    let key = format!("w{writer}/{number:08}");
                    store.commit(Transaction::new().put(&key, vec![9; 300])).await.unwrap();
                    let mut out = std::io::stdout().lock();
                    writeln!(out, "acknowledged {key}").unwrap();
                    out.flush().unwrap();
                }
            })
        })
        .collect();
    for writer in writers {
        writer.await.unwrap();
    }
}

#[tokio::test]
#[allow(clippy::disallowed_methods, reason = "the test runs itself in order to kill it")]
async fn acknowledged_commits_survive_sigkill() {
    let scratch = tempfile::tempdir().unwrap();
    let path = scratch.path().join("kv");
    let mut all = Vec::new();
    for round in 0..5 {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "child_that_commits_until_killed", "--nocapture"])
            .env(CHILD, &path)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut seen = 0;
        while seen < 40 + round * 17 {
            let line = lines.next().expect("the child goes on until it is killed").unwrap();
            if let Some((_, key)) = line.split_once("acknowledged ") {
                all.push(key.to_owned());
                seen += 1;
            }
        }
        child.kill().unwrap();
        child.wait().unwrap();
        // What it said before it died counts too; the last line may be cut off.
        all.extend(
            lines
                .map_while(Result::ok)
                .filter_map(|line| line.split_once("acknowledged ").map(|(_, key)| key.to_owned()))
                .filter(|key| key.len() == 11),
        );
        let store = Embedded::open(&path).unwrap();
        for key in &all {
            assert!(store.get(key).await.unwrap().is_some(), "{key} was lost in round {round}");
        }
    }
}

#[tokio::test]
async fn a_second_daemon_is_refused() {
    let scratch = tempfile::tempdir().unwrap();
    let path = scratch.path().join("kv");
    let store = Embedded::open(&path).unwrap();
    let error = Embedded::open(&path).unwrap_err();
    assert!(matches!(error, KvError::Locked { .. }), "{error:?}");
    assert_eq!(error.kind(), Kind::Conflict);
    assert!(error.to_string().contains(path.to_str().unwrap()));
    drop(store);
    Embedded::open(&path).unwrap();
}

#[tokio::test]
async fn a_damaged_file_is_named() {
    let scratch = tempfile::tempdir().unwrap();
    let path = scratch.path().join("kv");
    for content in [&b""[..], b"not a store", &[0; 4096], b"redb\x1a\x0a\xa9\x0d\x0a"] {
        std::fs::write(&path, content).unwrap();
        let error = Embedded::open(&path).unwrap_err();
        assert!(matches!(error, KvError::Corrupt { .. }), "{content:?}: {}", chain(&error));
        assert!(error.to_string().contains(path.to_str().unwrap()));
        assert!(error.hint().is_some());
        assert_eq!(std::fs::read(&path).unwrap(), content, "it is left as it was");
    }
}

#[tokio::test]
async fn a_file_that_was_cut_off_is_named() {
    let scratch = tempfile::tempdir().unwrap();
    let path = scratch.path().join("kv");
    let store = Embedded::open(&path).unwrap();
    store.commit(Transaction::new().put("a", vec![1; 100_000])).await.unwrap();
    drop(store);
    let whole = std::fs::read(&path).unwrap();
    for length in [0, 9, 31, 32, 320, 4096, 5000, whole.len() / 2, whole.len() - 1] {
        std::fs::write(&path, &whole[..length]).unwrap();
        let error = Embedded::open(&path).unwrap_err();
        assert!(matches!(error, KvError::Corrupt { .. }), "{length}: {}", chain(&error));
    }
    // Each number of the header, made another.
    for at in 12..32 {
        let mut damaged = whole.clone();
        damaged[at] ^= 0x40;
        std::fs::write(&path, &damaged).unwrap();
        // Fewer full regions than there were may still be a file that can be read.
        if let Err(error) = Embedded::open(&path) {
            assert!(matches!(error, KvError::Corrupt { .. }), "{at}: {}", chain(&error));
        }
    }
    std::fs::write(&path, &whole).unwrap();
    let store = Embedded::open(&path).unwrap();
    assert!(store.get("a").await.unwrap().is_some());
}

#[tokio::test]
async fn a_missing_folder_is_named() {
    let scratch = tempfile::tempdir().unwrap();
    let error = Embedded::open(scratch.path().join("no/kv")).unwrap_err();
    assert!(chain(&error).contains("No such file"), "{}", chain(&error));
}

#[tokio::test]
async fn a_commit_that_is_not_awaited_does_no_harm() {
    let scratch = tempfile::tempdir().unwrap();
    let store = Embedded::open(scratch.path().join("kv")).unwrap();
    for _ in 0..20 {
        drop(store.commit(Transaction::new().put("a", "1")));
        let commit = store.commit(Transaction::new().put("b", "1"));
        // Polled once: it is queued, and then given up.
        let _ = tokio::time::timeout(std::time::Duration::ZERO, commit).await;
    }
    let guarded = Transaction::new().expect("c", Expectation::Absent).put("c", "1");
    store.commit(guarded).await.unwrap();
}

/// A filesystem of eight mebibytes, unmounted when dropped.
struct SmallDisk(tempfile::TempDir);

impl SmallDisk {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        mount("tmpfs", folder.path(), "tmpfs", MountFlags::empty(), c"size=8m").unwrap();
        Self(folder)
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        unmount(self.0.path(), UnmountFlags::DETACH).unwrap();
    }
}

#[tokio::test]
async fn a_full_disk_is_survived() {
    let disk = SmallDisk::new();
    let store = Embedded::open(disk.0.path().join("kv")).unwrap();
    store.commit(Transaction::new().put("kept", "1")).await.unwrap();
    let ballast = disk.0.path().join("ballast");
    let _ = std::fs::write(&ballast, vec![1; 16 << 20]);
    let mut number = 0;
    let error = loop {
        let large = Transaction::new().put(format!("large/{number}"), vec![1; 100_000]);
        match store.commit(large).await {
            Ok(_) => number += 1,
            Err(error) => break error,
        }
        assert!(number < 200, "the disk is never full");
    };
    assert_eq!(error.kind(), Kind::Exhausted, "{}", chain(&error));
    assert_eq!(store.get("kept").await.unwrap().as_deref(), Some(&b"1"[..]));
    std::fs::remove_file(&ballast).unwrap();
    store.commit(Transaction::new().put("after", "1")).await.unwrap();
    assert_eq!(store.range("large/").await.unwrap().len(), number);
    assert!(store.get("after").await.unwrap().is_some());
}
