//! What is packed and unpacked is the same tree, and the same tree packs to the same bytes.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "these are tests")]

mod archive;

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use archive::{Archive, Attributes, unpack};
use dhow_error::chain;
use dhow_snapshot::{PackOptions, Snapshots, pack};
use dhow_spec::Digest;
use proptest::prelude::*;
use tar::EntryType;

fn packed(folder: &Path, options: &PackOptions) -> Vec<u8> {
    let mut bytes = Vec::new();
    let told =
        pack(folder, &mut bytes, options).unwrap_or_else(|error| panic!("{}", chain(&error)));
    assert_eq!(told.diff_id, Digest::of(&bytes));
    assert_eq!(told.size_bytes, bytes.len() as u64);
    bytes
}

/// Everything that a layer can have.
fn everything() -> Archive {
    let odd = Attributes { mode: 0o6755, owner: (3_000_000, 4_000_000_000), mtime: 1 };
    Archive::new()
        .folder("./", 0o711)
        .folder("a/", 0o1777)
        .pax("SCHILY.xattr.user.b", "two\nlines")
        .pax("SCHILY.xattr.user.a", "\0binary\n")
        .pax("SCHILY.xattr.security.capability", b"\x01\0\0\x02\x0a\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0")
        .pax("mtime", "1600000000.000000001")
        .file("a/f", vec![9; 200_000])
        .hard_link("a/g", "a/f")
        .symlink("a/h", "f")
        .hard_link("a/i", "a/h")
        .pax("uid", "3000000")
        .pax("gid", "4000000000")
        .entry(EntryType::Regular, "odd", "", Attributes { owner: (0, 0), ..odd }, b"odd")
        .pax("mtime", "-1.25")
        .file("old", "")
        .pax("path", format!("{}/{}", "d".repeat(200), "f".repeat(200)))
        .file("x", "long")
        .file(b"\xff\xfe\n", "not utf-8")
        .pax("SCHILY.xattr.user.note", "x")
        .folder("hides/", 0o755)
        .file("hides/.wh..wh..opq", "")
        .file("hides/more", "")
        .file(".wh.gone", "")
        .entry(EntryType::Fifo, "fifo", "", Attributes::default(), b"")
        .entry(EntryType::Char, "null", "", Attributes::default(), b"")
        .entry(EntryType::Block, "disk", "", Attributes::default(), b"")
}

#[test]
fn a_tree_comes_back_as_it_was() {
    let scratch = tempfile::tempdir().unwrap();
    let snapshots = Snapshots::open(scratch.path()).unwrap();
    let (first, info) = unpack(&snapshots, &[], &everything().end()).unwrap();
    let fs = |chain| snapshots.lower_dirs(&[chain]).unwrap().remove(0);
    let bytes = packed(&fs(first), &PackOptions::default());
    let (second, info_again) = unpack(&snapshots, &[], &bytes).unwrap();
    assert_ne!(first, second);
    assert_eq!(info.size_bytes, info_again.size_bytes);
    // The two trees are the same if all that can be packed of them is.
    assert_eq!(packed(&fs(second), &PackOptions::default()), bytes);
    assert_eq!(bytes, packed(&fs(first), &PackOptions::default()));
}

#[test]
fn the_order_in_which_files_were_made_does_not_matter() {
    let scratch = tempfile::tempdir().unwrap();
    let options = PackOptions { mtime: Some(7), owner: Some((1, 2)), root: false };
    let mut made = Vec::new();
    for order in [["a", "b", "c"], ["c", "a", "b"]] {
        let tree = scratch.path().join(order.concat());
        fs::create_dir(&tree).unwrap();
        for name in order {
            fs::create_dir(tree.join(name)).unwrap();
            fs::write(tree.join(name).join("f"), name).unwrap();
            symlink("f", tree.join(name).join("l")).unwrap();
        }
        made.push(packed(&tree, &options));
    }
    assert_eq!(made[0], made[1]);
}

#[test]
fn sockets_are_left_out_and_whiteout_names_refused() {
    let scratch = tempfile::tempdir().unwrap();
    let _socket = std::os::unix::net::UnixListener::bind(scratch.path().join("s")).unwrap();
    let mut bytes = Vec::new();
    assert_eq!(pack(scratch.path(), &mut bytes, &PackOptions::default()).unwrap().entries, 1);
    fs::write(scratch.path().join(".wh.x"), "").unwrap();
    let error = pack(scratch.path(), &mut bytes, &PackOptions::default()).unwrap_err();
    assert!(chain(&error).contains(".wh.x"), "{}", chain(&error));
}

#[test]
fn links_are_packed_not_followed() {
    let scratch = tempfile::tempdir().unwrap();
    symlink("/etc", scratch.path().join("etc")).unwrap();
    let mut bytes = Vec::new();
    let told = pack(scratch.path(), &mut bytes, &PackOptions::default()).unwrap();
    assert_eq!(told.entries, 2);
}

#[test]
fn a_deep_tree_is_packed() {
    let scratch = tempfile::tempdir().unwrap();
    fs::create_dir_all(scratch.path().join("d/".repeat(300))).unwrap();
    fs::write(scratch.path().join("d/z"), "after the way up").unwrap();
    let mut bytes = Vec::new();
    let told = pack(scratch.path(), &mut bytes, &PackOptions::default()).unwrap();
    assert_eq!(told.entries, 302);
}

#[test]
fn other_readers_understand_it() {
    let scratch = tempfile::tempdir().unwrap();
    let snapshots = Snapshots::open(scratch.path()).unwrap();
    let (chain, _) = unpack(&snapshots, &[], &everything().end()).unwrap();
    let bytes = packed(&snapshots.lower_dirs(&[chain]).unwrap()[0], &PackOptions::default());
    let mut archive = tar::Archive::new(bytes.as_slice());
    let names: Vec<_> =
        archive.entries().unwrap().map(|entry| entry.unwrap().path_bytes().into_owned()).collect();
    for name in [&b"./"[..], b"a/", b"a/f", b".wh.gone", b"hides/.wh..wh..opq"] {
        assert!(names.iter().any(|there| there == name), "{}", String::from_utf8_lossy(name));
    }
    let long = format!("{}/{}", "d".repeat(200), "f".repeat(200));
    assert!(names.iter().any(|there| there == long.as_bytes()));
}

#[derive(Debug, Clone)]
enum Made {
    File(String, Vec<u8>),
    Folder(String),
    Link(String, String),
    HardLink(String, String),
    Whiteout(String),
}

fn made() -> impl Strategy<Value = Made> {
    let name = "[abc](/[abc]){0,3}";
    prop_oneof![
        (name, proptest::collection::vec(any::<u8>(), 0..700)).prop_map(|(n, c)| Made::File(n, c)),
        name.prop_map(Made::Folder),
        (name, "(/|\\.\\./)?[abc](/[abc]){0,2}").prop_map(|(n, t)| Made::Link(n, t)),
        (name, name).prop_map(|(n, t)| Made::HardLink(n, t)),
        "[abc]/".prop_map(|folder| Made::Whiteout(format!("{folder}.wh.x"))),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig {
        failure_persistence: None, cases: 40, ..Default::default()
    })]

    /// Whatever a layer has, it is refused or comes back as it was; and it never leaves its place.
    #[test]
    fn any_layer_is_refused_or_comes_back(things in proptest::collection::vec(made(), 0..20)) {
        let scratch = tempfile::tempdir().unwrap();
        let snapshots = Snapshots::open(scratch.path().join("store")).unwrap();
        let tar = things.iter().fold(Archive::new(), |tar, thing| match thing {
            Made::File(name, content) => tar.file(name, content),
            Made::Folder(name) => tar.folder(format!("{name}/"), 0o755),
            Made::Link(name, target) => tar.symlink(name, target),
            Made::HardLink(name, target) => tar.hard_link(name, target),
            Made::Whiteout(name) => tar.file(name, ""),
        });
        if let Ok((first, _)) = unpack(&snapshots, &[], &tar.end()) {
            let fs = |chain| snapshots.lower_dirs(&[chain]).unwrap().remove(0);
            let bytes = packed(&fs(first), &PackOptions::default());
            let (second, _) = unpack(&snapshots, &[], &bytes).unwrap();
            prop_assert_eq!(packed(&fs(second), &PackOptions::default()), bytes);
        }
        let names: Vec<_> = fs::read_dir(scratch.path()).unwrap().collect();
        prop_assert_eq!(names.len(), 1);
        prop_assert_eq!(fs::read_dir(scratch.path().join("store/tmp")).unwrap().count(), 0);
    }
}
