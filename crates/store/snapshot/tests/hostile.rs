//! Layers that mean harm: nothing leads out of the layer, and nothing refused is left.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "these are tests")]

mod archive;

use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use archive::{Archive, Attributes, gzip, unpack, zeros};
use dhow_error::{Classify, Kind, chain};
use dhow_snapshot::{Limits, Snapshots, chain_id};
use dhow_spec::Digest;
use dhow_sys::rustix::mount::{MountFlags, UnmountFlags, mount, unmount};
use tar::EntryType;

/// A store, and beside it what no layer may touch.
struct Victim {
    scratch: tempfile::TempDir,
    snapshots: Snapshots,
}

impl Victim {
    fn new() -> Self {
        Self::with(Limits::default())
    }

    fn with(limits: Limits) -> Self {
        let scratch = tempfile::tempdir().unwrap();
        fs::create_dir(scratch.path().join("outside")).unwrap();
        fs::write(scratch.path().join("outside/secret"), "secret").unwrap();
        let snapshots = Snapshots::open_with(scratch.path().join("store"), limits).unwrap();
        Self { scratch, snapshots }
    }

    fn outside(&self) -> PathBuf {
        self.scratch.path().join("outside")
    }

    /// Unpacks what must be refused, for a reason with these words; returns all it said.
    fn refuses(&self, archive: Archive, words: &str) -> String {
        self.refuses_bytes(&archive.end(), words)
    }

    fn refuses_bytes(&self, bytes: &[u8], words: &str) -> String {
        let before = self.snapshots.list().unwrap();
        let error = unpack(&self.snapshots, &[], bytes).expect_err(words);
        let said = chain(&error);
        assert!(said.contains(words), "{said}");
        assert!(said.contains(&Digest::of(bytes).to_string()), "the layer is named: {said}");
        assert_eq!(error.kind(), Kind::Invalid, "{said}");
        assert_eq!(self.snapshots.list().unwrap(), before);
        self.check();
        said
    }

    fn accepts(&self, archive: Archive) -> PathBuf {
        let (chain, _) = unpack(&self.snapshots, &[], &archive.end()).unwrap();
        self.check();
        self.snapshots.lower_dirs(&[chain]).unwrap().remove(0)
    }

    /// Nothing outside has changed, and nothing unfinished is left.
    fn check(&self) {
        let names: Vec<_> = fs::read_dir(self.outside()).unwrap().collect();
        assert_eq!(names.len(), 1);
        assert_eq!(fs::read_to_string(self.outside().join("secret")).unwrap(), "secret");
        assert_eq!(fs::read_dir(self.scratch.path().join("store/tmp")).unwrap().count(), 0);
    }
}

#[test]
fn names_with_dots_are_refused() {
    let victim = Victim::new();
    for name in ["../outside/x", "a/../../x", "..", "/../x", "a/..", "./../x", "a/b/../c"] {
        let said = victim.refuses(Archive::new().file(name, "x"), "leads out of the layer");
        assert!(said.contains(&format!("{name:?}")), "{said}");
    }
    victim.refuses(Archive::new().hard_link("x", "../outside/secret"), "leads out of the layer");
    victim.refuses(Archive::new().file("../.wh.secret", ""), "leads out of the layer");
    let long = format!("{}../x", "a/".repeat(200));
    victim.refuses(Archive::new().pax("path", long).file("x", ""), "leads out of the layer");
}

#[test]
fn absolute_names_are_within_the_layer() {
    let victim = Victim::new();
    let name = victim.outside().join("new");
    let name = name.to_str().unwrap();
    let fs = victim.accepts(Archive::new().pax("path", name).file("x", "x"));
    assert!(fs.join(name.trim_start_matches('/')).exists());
}

#[test]
fn links_lead_nowhere_but_into_the_layer() {
    let victim = Victim::new();
    let outside = victim.outside();
    let outside = outside.to_str().unwrap();
    let up = format!("{}{outside}", "../".repeat(30));
    for target in [outside, &up] {
        victim.refuses(
            Archive::new().pax("linkpath", target).symlink("l", "").file("l/x", "x"),
            "is not a folder",
        );
        victim.refuses(
            Archive::new().pax("linkpath", target).symlink("l", "").hard_link("x", "l/secret"),
            "not there",
        );
        victim.refuses(
            Archive::new().pax("linkpath", target).symlink("l", "").file("l/.wh..wh..opq", ""),
            "is not a folder",
        );
    }
    // Where the layer has such a folder itself, that is the one that is meant.
    let inner = format!("{}/", outside.trim_start_matches('/'));
    let fs = victim.accepts(
        Archive::new()
            .pax("path", &inner)
            .folder("x", 0o755)
            .pax("linkpath", outside)
            .symlink("l", "")
            .file("l/x", "x"),
    );
    assert!(fs.join(inner).join("x").exists());
}

#[test]
fn files_are_not_written_through_links() {
    let victim = Victim::new();
    let secret = victim.outside().join("secret");
    let secret = secret.to_str().unwrap();
    let plain = Attributes::default();
    for kind in [EntryType::Regular, EntryType::Directory, EntryType::Fifo, EntryType::Char] {
        let fs = victim.accepts(
            Archive::new()
                .pax("linkpath", secret)
                .symlink("l", "")
                .entry(kind, "l", "", plain, b""),
        );
        assert!(!fs::symlink_metadata(fs.join("l")).unwrap().is_symlink());
    }
    // A hard link to a link is one to the link.
    let fs =
        victim.accepts(Archive::new().pax("linkpath", secret).symlink("l", "").hard_link("h", "l"));
    assert!(fs::symlink_metadata(fs.join("h")).unwrap().is_symlink());
}

#[test]
fn hard_links_to_nothing_are_refused() {
    let victim = Victim::new();
    for target in ["nothing", "/etc/passwd", "", ".", "self", "d"] {
        victim.refuses(Archive::new().folder("d/", 0o755).hard_link("self", target), "hard link");
    }
}

#[test]
fn whiteouts_of_the_folder_itself_are_refused() {
    let victim = Victim::new();
    for name in [".wh.", ".wh..", ".wh...", "a/.wh..", "a/.wh...", ".wh.a/b"] {
        victim.refuses(Archive::new().folder("a/", 0o755).file(name, ""), "name is not valid");
    }
}

#[test]
fn attributes_of_overlayfs_are_refused() {
    let victim = Victim::new();
    for name in ["trusted.overlay.redirect", "trusted.overlay.opaque", "user.overlay.opaque"] {
        let key = format!("SCHILY.xattr.{name}");
        victim.refuses(Archive::new().pax(&key, "/etc").folder("d/", 0o755), name);
        victim.refuses(Archive::new().pax(&key, "/etc").file("f", ""), name);
    }
}

#[test]
fn what_is_no_archive_is_refused() {
    let victim = Victim::new();
    let tar = Archive::new().file("f", vec![b'x'; 5000]).end();
    victim.refuses_bytes(&[b'x'; 1024], "checksum");
    victim.refuses_bytes(&tar[..3000], "cut off");
    victim.refuses_bytes(b"\xfd7zXZ\0\0\0\0", "xz");
    victim.refuses(
        Archive::new().entry(EntryType::new(b'V'), "f", "", Attributes::default(), b""),
        "type 'V'",
    );
    victim.refuses(Archive::new().pax("GNU.sparse.major", "1").file("f", ""), "sparse");
    victim.refuses(Archive::new().symlink("l", ""), "name is not valid");
    victim.refuses(Archive::new().pax("path", "a\0b").file("f", ""), "name is not valid");
    victim.refuses(Archive::new().pax("uid", "4294967295").file("f", ""), "owner");
    victim.refuses(Archive::new().pax("size", "18446744073709551615").file("f", ""), "size");
    victim.refuses(Archive::new().file("f", "").file("f/below", ""), "\"f\" is not a folder");
    let twice = Archive::new().entry(EntryType::XHeader, "x", "", Attributes::default(), b"");
    victim.refuses(twice.pax("path", "a").file("f", ""), "in two ways");

    let packed = gzip(&tar);
    for (bytes, words) in [(&packed[..packed.len() / 2], ""), (&packed[..12], "")] {
        let digest = Digest::of(&tar);
        let error = victim.snapshots.unpack(&digest, &[], bytes, &digest).unwrap_err();
        assert!(chain(&error).contains(words));
        victim.check();
    }
}

#[test]
fn other_content_than_promised_leaves_nothing() {
    let victim = Victim::new();
    let tar = Archive::new().file("f", "x").end();
    let promised = Digest::of(b"something else");
    let error = victim.snapshots.unpack(&promised, &[], tar.as_slice(), &promised).unwrap_err();
    let said = error.to_string();
    assert!(said.contains(&promised.to_string()) && said.contains(&Digest::of(&tar).to_string()));
    assert!(error.hint().is_some());
    assert!(!victim.snapshots.has(&promised).unwrap());
    victim.check();

    // However the damage shows: in the data, in a header, by what is missing.
    let right = Archive::new().file("f", vec![b'x'; 5000]).file("g", "").end();
    let mut in_data = right.clone();
    in_data[2000] ^= 1;
    let mut in_header = right.clone();
    in_header[5632 + 3] ^= 1;
    let digest = Digest::of(&right);
    for wrong in [&in_data, &in_header, &right[..3000].to_vec()] {
        for packed in [wrong.clone(), gzip(wrong)] {
            let error =
                victim.snapshots.unpack(&digest, &[], packed.as_slice(), &digest).unwrap_err();
            let said = error.to_string();
            assert!(said.contains(&digest.to_string()), "{said}");
            assert!(said.contains(&Digest::of(wrong).to_string()), "{}", chain(&error));
            victim.check();
        }
    }

    // What follows the end of the archive is part of the digest.
    let longer = [tar.as_slice(), b"more"].concat();
    let digest = Digest::of(&tar);
    assert!(victim.snapshots.unpack(&digest, &[], longer.as_slice(), &digest).is_err());
    victim.check();

    let other = chain_id(Some(&promised), &digest);
    assert!(victim.snapshots.unpack(&other, &[], tar.as_slice(), &digest).is_err());
}

#[test]
fn bombs_go_off_early() {
    let victim = Victim::with(Limits {
        entries: 100,
        path_bytes: 200,
        size_bytes: 64 << 20,
        expansion: 100,
        expansion_from_bytes: 1 << 20,
    });
    let many = (0..101).fold(Archive::new(), |tar, n| tar.file(format!("{n}"), ""));
    victim.refuses(many, "number of entries");
    victim.refuses(Archive::new().pax("path", "a/".repeat(101)).file("x", ""), "its name exceeds");
    victim.refuses(Archive::new().pax("path", "a".repeat(256)).file("x", ""), "exceeds");

    // Two implied folders an entry: what a name implies counts too.
    let deep = (0..60).fold(Archive::new(), |tar, n| tar.file(format!("{n}/x"), ""));
    victim.refuses(deep, "number of entries");

    let digest = Digest::of(b"");
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    io::copy(&mut zeros(32 << 20), &mut encoder).unwrap();
    let bomb = encoder.finish().unwrap();
    let error = victim.snapshots.unpack(&digest, &[], bomb.as_slice(), &digest).unwrap_err();
    assert!(chain(&error).contains("expands more than 100 times"), "{}", chain(&error));

    let error = victim.snapshots.unpack(&digest, &[], zeros(65 << 20), &digest).unwrap_err();
    assert!(chain(&error).contains("more than"), "{}", chain(&error));
    victim.check();
}

#[test]
fn copies_of_what_is_below_are_counted() {
    let victim = Victim::with(Limits { size_bytes: 8 << 20, ..Limits::default() });
    let (base, _) =
        unpack(&victim.snapshots, &[], &Archive::new().file("f", vec![1; 1 << 20]).end()).unwrap();
    let many = (0..20).fold(Archive::new(), |tar, n| tar.hard_link(format!("{n}"), "f"));
    let error = unpack(&victim.snapshots, &[base], &many.end()).unwrap_err();
    assert!(chain(&error).contains("exceeds the limit"), "{}", chain(&error));
    victim.check();
}

#[test]
fn a_source_that_fails_is_said_to_have() {
    struct Broken;
    impl Read for Broken {
        fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
            Err(io::Error::new(io::ErrorKind::ConnectionReset, "the registry hung up"))
        }
    }
    let victim = Victim::new();
    let tar = Archive::new().file("f", vec![b'x'; 5000]).end();
    let digest = Digest::of(&tar);
    let cut = tar.get(..2000).unwrap().chain(Broken);
    let error = victim.snapshots.unpack(&digest, &[], cut, &digest).unwrap_err();
    assert_eq!(chain(&error), format!("cannot read layer {digest}: the registry hung up"));
    assert_eq!(error.kind(), Kind::Internal);
    victim.check();
}

#[test]
fn a_parent_that_is_missing_is_named() {
    let victim = Victim::new();
    let missing = Digest::of(b"missing");
    let error = unpack(&victim.snapshots, &[missing], &Archive::new().end()).unwrap_err();
    assert_eq!(error.kind(), Kind::NotFound);
    assert!(error.to_string().contains(&missing.to_string()));
    victim.check();
}

#[test]
fn deep_paths_unpack_and_go() {
    let victim = Victim::new();
    let deep = "d/".repeat(2000);
    let fs = victim.accepts(Archive::new().pax("path", &deep).folder("x", 0o755));
    assert!(fs.join("d/d/d").exists());
    let chain = victim.snapshots.list().unwrap()[0];
    assert!(victim.snapshots.remove(&chain).unwrap());
    victim.check();
    assert!(!Path::new(&fs).exists());
}

/// A filesystem of four mebibytes, unmounted when dropped.
struct SmallDisk(tempfile::TempDir);

impl SmallDisk {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        mount("tmpfs", folder.path(), "tmpfs", MountFlags::empty(), c"size=4m").unwrap();
        Self(folder)
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        unmount(self.0.path(), UnmountFlags::DETACH).unwrap();
    }
}

#[test]
fn a_full_disk_is_said_and_given_back() {
    let disk = SmallDisk::new();
    let snapshots = Snapshots::open(disk.0.path()).unwrap();
    let large = Archive::new().file("a", vec![1; 3 << 20]).file("b", vec![2; 3 << 20]).end();
    let error = unpack(&snapshots, &[], &large).unwrap_err();
    assert_eq!(error.kind(), Kind::Exhausted, "{}", chain(&error));
    assert!(chain(&error).contains("entry \"b\": cannot write it"), "{}", chain(&error));
    assert_eq!(fs::read_dir(disk.0.path().join("tmp")).unwrap().count(), 0);
    unpack(&snapshots, &[], &Archive::new().file("a", vec![1; 3 << 20]).end()).unwrap();
}
