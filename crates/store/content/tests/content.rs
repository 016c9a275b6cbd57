//! Blobs come in whole and verified, or not at all.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "these are tests")]

use std::fs;
use std::io::{Read, Write};
use std::path::Path;
use std::process::{Command, Stdio};

use dhow_content::{Content, ContentError};
use dhow_error::{Classify, Kind};
use dhow_spec::Digest;
use dhow_sys::rustix::mount::{MountFlags, UnmountFlags, mount, unmount};

/// Set in the child that is to be killed: the store's folder.
const CHILD: &str = "DHOW_CONTENT_TEST_CHILD";

fn store() -> (tempfile::TempDir, Content) {
    let scratch = tempfile::tempdir().unwrap();
    let content = Content::open(scratch.path()).unwrap();
    (scratch, content)
}

fn ingests(root: &Path) -> usize {
    fs::read_dir(root.join("ingest")).unwrap().count()
}

#[test]
fn a_blob_comes_back() {
    let (scratch, content) = store();
    let mut ingest = content.ingest().unwrap();
    ingest.write_all(b"hello ").unwrap();
    ingest.write_all(b"world").unwrap();
    assert_eq!(ingest.written(), 11);
    let digest = Digest::of(b"hello world");
    assert!(!content.has(&digest).unwrap());
    assert_eq!(ingest.finish(Some(&digest), Some(11)).unwrap(), digest);
    assert_eq!(content.size(&digest).unwrap(), Some(11));
    assert_eq!(content.read(&digest, 11).unwrap(), b"hello world");
    let mut text = String::new();
    content.blob(&digest).unwrap().read_to_string(&mut text).unwrap();
    assert_eq!(text, "hello world");
    assert_eq!(fs::read(content.path(&digest)).unwrap(), b"hello world");
    assert_eq!(content.list().unwrap(), [(digest, 11)]);
    assert_eq!(ingests(scratch.path()), 0);
    assert!(content.remove(&digest).unwrap() && !content.remove(&digest).unwrap());
    assert!(matches!(content.blob(&digest), Err(ContentError::NotFound(_))));
}

#[test]
fn what_was_not_promised_is_not_kept() {
    let (scratch, content) = store();
    let expected = Digest::of(b"right");
    let mut ingest = content.ingest().unwrap();
    ingest.write_all(b"wrong").unwrap();
    let error = ingest.finish(Some(&expected), None).unwrap_err();
    let said = error.to_string();
    assert!(
        said.contains(&expected.to_string()) && said.contains(&Digest::of(b"wrong").to_string())
    );
    let mut ingest = content.ingest().unwrap();
    ingest.write_all(b"right").unwrap();
    let error = ingest.finish(Some(&expected), Some(6)).unwrap_err();
    assert_eq!(error.to_string(), "content has 5 bytes, expected 6");
    drop(content.ingest().unwrap());
    assert!(content.list().unwrap().is_empty());
    assert_eq!(ingests(scratch.path()), 0);
}

#[test]
fn reading_is_bounded_and_verified() {
    let (_scratch, content) = store();
    let digest = content.put(b"manifest").unwrap();
    assert!(matches!(content.read(&digest, 7), Err(ContentError::TooLarge { .. })));
    fs::write(content.path(&digest), b"Manifest").unwrap();
    assert!(matches!(content.read(&digest, 100), Err(ContentError::Digest { .. })));
}

#[test]
fn the_same_blob_many_times_at_once() {
    let (scratch, content) = store();
    let bytes = vec![3; 100_000];
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                let mut ingest = content.ingest().unwrap();
                ingest.write_all(&bytes).unwrap();
                ingest.finish(None, None).unwrap();
            });
        }
    });
    assert_eq!(content.list().unwrap(), [(Digest::of(&bytes), 100_000)]);
    assert_eq!(ingests(scratch.path()), 0);
}

#[test]
fn a_batch_shows_when_it_is_whole() {
    let (scratch, content) = store();
    for count in [3_u32, 300] {
        let mut batch = content.batch();
        let mut digests = Vec::new();
        // The last is the first once more.
        for number in (0..count).chain([0]) {
            let text = format!("{number} of {count}");
            let mut ingest = content.ingest().unwrap();
            ingest.write_all(text.as_bytes()).unwrap();
            let size = Some(text.len() as u64);
            digests.push(batch.add(ingest, Some(&Digest::of(text.as_bytes())), size).unwrap());
        }
        let mut wrong = content.ingest().unwrap();
        wrong.write_all(b"wrong").unwrap();
        let error = batch.add(wrong, Some(&Digest::of(b"right")), None).unwrap_err();
        assert!(matches!(error, ContentError::Digest { .. }));
        assert_eq!((batch.len(), ingests(scratch.path())), (digests.len(), digests.len()));
        let synced = batch.sync().unwrap();
        assert!(digests.iter().all(|digest| !content.has(digest).unwrap()));
        assert_eq!(synced.publish().unwrap(), digests);
        assert_eq!(content.read(&digests[1], 100).unwrap(), format!("1 of {count}").as_bytes());
        assert_eq!(ingests(scratch.path()), 0);
    }
    assert_eq!(content.list().unwrap().len(), 303);
}

#[test]
fn a_batch_given_up_leaves_nothing() {
    let (scratch, content) = store();
    let mut batch = content.batch();
    for text in ["a", "b"] {
        let mut ingest = content.ingest().unwrap();
        ingest.write_all(text.as_bytes()).unwrap();
        batch.add(ingest, None, None).unwrap();
    }
    drop(batch.sync().unwrap());
    assert_eq!((content.list().unwrap().len(), ingests(scratch.path())), (0, 0));
    assert!(content.batch().sync().unwrap().publish().unwrap().is_empty());
}

#[test]
fn opening_again_leaves_running_ingests_alone() {
    let (scratch, content) = store();
    let mut ingest = content.ingest().unwrap();
    fs::write(scratch.path().join("ingest/stale"), "left by somebody").unwrap();
    let again = Content::open(scratch.path()).unwrap();
    assert_eq!(ingests(scratch.path()), 1);
    ingest.write_all(b"x").unwrap();
    let digest = ingest.finish(None, None).unwrap();
    assert!(again.has(&digest).unwrap());
}

/// Not a test by itself: what [`sigkill_leaves_nothing`] runs and kills.
#[test]
fn child_that_ingests_until_killed() {
    let Some(root) = std::env::var_os(CHILD) else { return };
    let content = Content::open(Path::new(&root)).unwrap();
    let mut ingest = content.ingest().unwrap();
    loop {
        ingest.write_all(&[1; 1000]).unwrap();
        println!("written");
        std::io::stdout().flush().unwrap();
    }
}

#[test]
#[allow(clippy::disallowed_methods, reason = "the test runs itself in order to kill it")]
fn sigkill_leaves_nothing() {
    let scratch = tempfile::tempdir().unwrap();
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "child_that_ingests_until_killed", "--nocapture"])
        .env(CHILD, scratch.path())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut out = child.stdout.take().unwrap();
    let mut said = Vec::new();
    while !String::from_utf8_lossy(&said).contains("written") {
        let mut piece = [0; 100];
        let length = out.read(&mut piece).unwrap();
        assert!(length > 0, "the child goes on until it is killed");
        said.extend_from_slice(&piece[..length]);
    }
    child.kill().unwrap();
    child.wait().unwrap();
    assert_eq!(ingests(scratch.path()), 1);
    let content = Content::open(scratch.path()).unwrap();
    assert_eq!(ingests(scratch.path()), 0);
    assert!(content.list().unwrap().is_empty());
}

/// A filesystem of one mebibyte, unmounted when dropped.
struct SmallDisk(tempfile::TempDir);

impl SmallDisk {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        mount("tmpfs", folder.path(), "tmpfs", MountFlags::empty(), c"size=1m").unwrap();
        Self(folder)
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        unmount(self.0.path(), UnmountFlags::DETACH).unwrap();
    }
}

#[test]
fn a_full_disk_is_given_back_at_once() {
    let disk = SmallDisk::new();
    let content = Content::open(disk.0.path()).unwrap();
    let kept = content.put(&[5; 1000]).unwrap();
    let mut ingest = content.ingest().unwrap();
    let error = loop {
        if let Err(error) = ingest.take_in(&vec![6; 100_000]) {
            break error;
        }
    };
    assert_eq!(error.kind(), Kind::Exhausted);
    // Even before the ingest is dropped.
    assert_eq!(ingests(disk.0.path()), 0);
    content.put(&vec![7; 500_000]).unwrap();
    assert!(matches!(ingest.take_in(b"more"), Err(ContentError::Failed)));
    assert!(matches!(ingest.finish(None, None), Err(ContentError::Failed)));
    assert!(content.has(&kept).unwrap());
}
