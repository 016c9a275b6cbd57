//! SIGKILL while a layer is unpacked: nothing half-done is ever seen, and nothing stays.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "these are tests")]

mod archive;

use std::fs;
use std::io::{Read, Write};
use std::path::PathBuf;
use std::process::{Command, Stdio};

use archive::{Archive, unpack};
use dhow_snapshot::Snapshots;
use dhow_spec::{ContainerId, Digest};

/// Set in the child that is to be killed: the store's folder.
const CHILD: &str = "DHOW_SNAPSHOT_TEST_CHILD";

/// Never ends, and says on standard output how far it has come.
struct Endless {
    archive: Vec<u8>,
    given: usize,
}

impl Read for Endless {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let entry = self.archive.len();
        let at = self.given % entry;
        let length = buffer.len().min(entry - at);
        buffer[..length].copy_from_slice(&self.archive[at..at + length]);
        self.given += length;
        if self.given > 4 << 20 {
            println!("unpacking");
            std::io::stdout().flush()?;
        }
        Ok(length)
    }
}

/// Not a test by itself: what [`sigkill_leaves_nothing`] runs and kills.
#[test]
fn child_that_unpacks_until_killed() {
    let Some(root) = std::env::var_os(CHILD) else { return };
    let snapshots = Snapshots::open(PathBuf::from(root)).unwrap();
    let mut archive = Archive::new().file("d/f", vec![7; 100_000]).end();
    archive.truncate(archive.len() - 1024);
    let digest = Digest::of(b"never");
    snapshots.unpack(&digest, &[], Endless { archive, given: 0 }, &digest).unwrap_err();
}

#[test]
#[allow(clippy::disallowed_methods, reason = "the test runs itself in order to kill it")]
fn sigkill_leaves_nothing() {
    let scratch = tempfile::tempdir().unwrap();
    let root = scratch.path().join("store");
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "child_that_unpacks_until_killed", "--nocapture"])
        .env(CHILD, &root)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut out = child.stdout.take().unwrap();
    let mut said = Vec::new();
    while !String::from_utf8_lossy(&said).contains("unpacking") {
        let mut piece = [0; 100];
        let length = out.read(&mut piece).unwrap();
        assert!(length > 0, "the child goes on until it is killed");
        said.extend_from_slice(&piece[..length]);
    }

    // Who opens the store meanwhile sees nothing of it, and lets it go on.
    let meanwhile = Snapshots::open(&root).unwrap();
    assert!(meanwhile.list().unwrap().is_empty());
    assert_eq!(fs::read_dir(root.join("tmp")).unwrap().count(), 1);

    child.kill().unwrap();
    child.wait().unwrap();
    assert_eq!(fs::read_dir(root.join("tmp")).unwrap().count(), 1);
    let after = Snapshots::open(&root).unwrap();
    assert!(after.list().unwrap().is_empty());
    assert_eq!(fs::read_dir(root.join("tmp")).unwrap().count(), 0);
    unpack(&after, &[], &Archive::new().file("f", "x").end()).unwrap();
}

#[test]
fn what_was_unpacked_is_there_after_a_restart() {
    let scratch = tempfile::tempdir().unwrap();
    let id = ContainerId::random().unwrap();
    let snapshots = Snapshots::open(scratch.path()).unwrap();
    let (chain, info) = unpack(&snapshots, &[], &Archive::new().file("f", "x").end()).unwrap();
    let writable = snapshots.create_writable(&id).unwrap();
    drop(snapshots);
    let snapshots = Snapshots::open(scratch.path()).unwrap();
    assert_eq!(snapshots.info(&chain).unwrap(), info);
    assert_eq!(snapshots.writable(&id).unwrap(), writable);
}
