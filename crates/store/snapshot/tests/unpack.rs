//! What is in an archive is in the layer, exactly.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "these are tests")]

mod archive;

use std::ffi::OsStr;
use std::fs;
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use archive::{Archive, Attributes, gzip, unpack};
use dhow_error::chain;
use dhow_snapshot::{Snapshots, chain_id};
use dhow_spec::{ContainerId, Digest};
use dhow_sys::rustix::fs::lgetxattr;
use tar::EntryType;

struct Store {
    _scratch: tempfile::TempDir,
    root: PathBuf,
    snapshots: Snapshots,
}

impl Store {
    fn new() -> Self {
        let scratch = tempfile::tempdir().unwrap();
        let root = scratch.path().join("snapshots");
        let snapshots = Snapshots::open(&root).unwrap();
        Self { _scratch: scratch, root, snapshots }
    }

    fn layer(&self, parents: &[Digest], archive: Archive) -> (Digest, PathBuf) {
        let (chain, _) = unpack(&self.snapshots, parents, &archive.end()).unwrap_or_else(|error| {
            panic!("{}", chain(&error));
        });
        (chain, self.snapshots.lower_dirs(&[chain]).unwrap().remove(0))
    }
}

fn xattr(path: &Path, name: &str) -> Option<Vec<u8>> {
    let mut value = vec![0; 1024];
    let length = lgetxattr(path, name, value.as_mut_slice()).ok()?;
    value.truncate(length);
    Some(value)
}

fn is_whiteout(path: &Path) -> bool {
    fs::symlink_metadata(path)
        .is_ok_and(|there| there.file_type().is_char_device() && there.rdev() == 0)
}

fn is_opaque(path: &Path) -> bool {
    xattr(path, "trusted.overlay.opaque").as_deref() == Some(b"y")
}

#[test]
fn files_have_their_attributes() {
    let store = Store::new();
    let attributes = Attributes { mode: 0o4751, owner: (1000, 2000), mtime: 1_234_567_890 };
    let folder = Attributes { mode: 0o1777, owner: (7, 8), mtime: 1_111_111_111 };
    // A file capability (cap_dac_override and cap_fowner) has a newline in it.
    let capability = b"\x01\0\0\x02\x0a\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0";
    let (_, fs) = store.layer(
        &[],
        Archive::new()
            .entry(EntryType::Directory, "d/", "", folder, b"")
            .pax("mtime", "1234567890.123456789")
            .pax("SCHILY.xattr.security.capability", capability)
            .pax("SCHILY.xattr.user.note", "hello\nworld")
            .entry(EntryType::Regular, "d/f", "", attributes, b"content"),
    );
    let file = fs::symlink_metadata(fs.join("d/f")).unwrap();
    assert_eq!(file.permissions().mode() & 0o7777, 0o4751);
    assert_eq!((file.uid(), file.gid()), (1000, 2000));
    assert_eq!((file.mtime(), file.mtime_nsec()), (1_234_567_890, 123_456_789));
    assert_eq!(fs::read(fs.join("d/f")).unwrap(), b"content");
    assert_eq!(xattr(&fs.join("d/f"), "security.capability").as_deref(), Some(&capability[..]));
    assert_eq!(xattr(&fs.join("d/f"), "user.note").as_deref(), Some(&b"hello\nworld"[..]));
    let folder = fs::symlink_metadata(fs.join("d")).unwrap();
    assert_eq!(folder.permissions().mode() & 0o7777, 0o1777);
    assert_eq!((folder.uid(), folder.gid(), folder.mtime()), (7, 8, 1_111_111_111));
}

#[test]
fn every_kind_of_file() {
    let store = Store::new();
    let plain = Attributes { mode: 0o620, ..Attributes::default() };
    let (_, fs) = store.layer(
        &[],
        Archive::new()
            .file("file", "x")
            .symlink("link", "/nowhere/at/all")
            .hard_link("hard", "./file")
            .entry(EntryType::Char, "null", "", plain, b"")
            .entry(EntryType::Block, "disk", "", plain, b"")
            .entry(EntryType::Fifo, "fifo", "", plain, b"")
            .file(b"not-utf8-\xff\xfe", "y"),
    );
    assert_eq!(fs::read_link(fs.join("link")).unwrap(), Path::new("/nowhere/at/all"));
    assert_eq!(fs::symlink_metadata(fs.join("link")).unwrap().mtime(), 1_700_000_000);
    let inode = |name: &str| fs::symlink_metadata(fs.join(name)).unwrap();
    assert_eq!(inode("file").ino(), inode("hard").ino());
    assert!(inode("null").file_type().is_char_device());
    assert_eq!(inode("null").rdev(), 0x103);
    assert!(inode("disk").file_type().is_block_device());
    assert!(inode("fifo").file_type().is_fifo());
    assert_eq!(inode("fifo").permissions().mode() & 0o7777, 0o620);
    assert_eq!(fs::read(fs.join(OsStr::from_bytes(b"not-utf8-\xff\xfe"))).unwrap(), b"y");
}

#[test]
fn long_names_and_links() {
    let store = Store::new();
    let name = format!("{}/{}", "d".repeat(255), "f".repeat(255));
    let target = "t".repeat(3000);
    let (_, fs) = store.layer(
        &[],
        Archive::new()
            .pax("path", &name)
            .file("short", "x")
            .pax("linkpath", &target)
            .symlink("l", ""),
    );
    assert_eq!(fs::read(fs.join(name)).unwrap(), b"x");
    assert_eq!(fs::read_link(fs.join("l")).unwrap(), Path::new(&target));
}

#[test]
fn whiteouts_and_opaque_folders() {
    let store = Store::new();
    let (base, _) = store.layer(&[], Archive::new().file("gone", "x").file("d/old", "x"));
    let (_, fs) = store.layer(
        &[base],
        Archive::new()
            .file(".wh.gone", "")
            .folder("d/", 0o755)
            .file("d/.wh..wh..opq", "")
            .file("d/new", "x")
            .file("both", "x")
            .file(".wh.both", "")
            .folder("kept/", 0o755)
            .file(".wh.kept", "")
            .file(".wh.again", "")
            .folder("again/", 0o755)
            .file(".wh..wh.aufs", "")
            .file(".wh..wh.plnk/1.2", ""),
    );
    assert!(is_whiteout(&fs.join("gone")));
    assert!(is_opaque(&fs.join("d")) && fs.join("d/new").exists());
    assert!(!fs.join("d/.wh..wh..opq").exists());
    assert!(!is_whiteout(&fs.join("both")));
    assert!(is_opaque(&fs.join("kept")), "a folder that is also removed hides the one below");
    assert!(is_opaque(&fs.join("again")));
    let mut names: Vec<_> =
        fs::read_dir(&fs).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    names.sort();
    assert_eq!(names, ["again", "both", "d", "gone", "kept"]);
}

#[test]
fn implied_folders_are_as_below() {
    let store = Store::new();
    let attributes = Attributes { mode: 0o2750, owner: (5, 6), mtime: 1_000_000_000 };
    let (base, _) = store.layer(
        &[],
        Archive::new()
            .folder("./", 0o711)
            .pax("SCHILY.xattr.user.note", "kept")
            .entry(EntryType::Directory, "a/b/", "", attributes, b"")
            .folder("hidden/x/", 0o700)
            .folder("removed/y/", 0o700),
    );
    let (middle, _) = store
        .layer(&[base], Archive::new().file("hidden/.wh..wh..opq", "").file(".wh.removed", ""));
    let (_, fs) = store.layer(
        &[base, middle],
        Archive::new().file("a/b/c/new", "x").file("hidden/x/f", "").file("removed/y/f", ""),
    );
    let there = fs::symlink_metadata(fs.join("a/b")).unwrap();
    assert_eq!(there.permissions().mode() & 0o7777, 0o2750);
    assert_eq!((there.uid(), there.gid(), there.mtime()), (5, 6, 1_000_000_000));
    assert_eq!(xattr(&fs.join("a/b"), "user.note").as_deref(), Some(&b"kept"[..]));
    let mode =
        |name: &str| fs::symlink_metadata(fs.join(name)).unwrap().permissions().mode() & 0o7777;
    assert_eq!(mode("a/b/c"), 0o755);
    assert_eq!(mode("hidden/x"), 0o755, "nothing shows through an opaque folder");
    assert_eq!(mode("removed/y"), 0o755, "nothing shows through a whiteout");
    assert_eq!(mode("."), 0o711, "the root is as below");
}

#[test]
fn hard_links_to_files_below_become_copies() {
    let store = Store::new();
    let attributes = Attributes { mode: 0o4755, owner: (9, 9), mtime: 1_000_000_000 };
    let (base, _) = store.layer(
        &[],
        Archive::new()
            .entry(EntryType::Regular, "bin/su", "", attributes, b"program")
            .symlink("bin/link", "su"),
    );
    let (_, fs) = store.layer(
        &[base],
        Archive::new().hard_link("bin/doas", "/bin/su").hard_link("bin/link2", "bin/link"),
    );
    let copy = fs::symlink_metadata(fs.join("bin/doas")).unwrap();
    assert_eq!(fs::read(fs.join("bin/doas")).unwrap(), b"program");
    assert_eq!((copy.permissions().mode() & 0o7777, copy.uid()), (0o4755, 9));
    assert_eq!(copy.mtime(), 1_000_000_000);
    assert_eq!(fs::read_link(fs.join("bin/link2")).unwrap(), Path::new("su"));
    assert!(!fs.join("bin/su").exists());
}

#[test]
fn later_entries_replace_earlier_ones() {
    let store = Store::new();
    let (_, fs) = store.layer(
        &[],
        Archive::new()
            .file("f", "first")
            .file("f", "second")
            .file("d", "file")
            .folder("d/", 0o700)
            .file("d/x", "")
            .folder("e/", 0o700)
            .file("e/x", "")
            .file("e", "now a file")
            .folder("g/", 0o700)
            .file("g/kept", "")
            .folder("g/", 0o711)
            .symlink("h", "f")
            .file("h", "no link any more"),
    );
    assert_eq!(fs::read_to_string(fs.join("f")).unwrap(), "second");
    assert!(fs.join("d/x").exists());
    assert_eq!(fs::read_to_string(fs.join("e")).unwrap(), "now a file");
    assert!(fs.join("g/kept").exists());
    assert_eq!(fs::metadata(fs.join("g")).unwrap().permissions().mode() & 0o777, 0o711);
    assert_eq!(fs::read_to_string(fs.join("h")).unwrap(), "no link any more");
}

#[test]
fn links_within_the_layer_are_followed() {
    let store = Store::new();
    let (_, fs) = store.layer(
        &[],
        Archive::new()
            .folder("usr/bin/", 0o755)
            .symlink("bin", "usr/bin")
            .symlink("sbin", "/usr/bin")
            .file("bin/a", "a")
            .file("sbin/b", "b"),
    );
    assert_eq!(fs::read(fs.join("usr/bin/a")).unwrap(), b"a");
    assert_eq!(fs::read(fs.join("usr/bin/b")).unwrap(), b"b");
    assert!(fs::symlink_metadata(fs.join("bin")).unwrap().is_symlink());
}

#[test]
fn sparse_files_of_gnu() {
    let store = Store::new();
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(EntryType::GNUSparse);
    header.set_path("sparse").unwrap();
    header.set_mode(0o644);
    header.set_size(512);
    let gnu = header.as_gnu_mut().unwrap();
    gnu.set_real_size(1 << 20);
    gnu.sparse[0].set_offset(512 * 1024);
    gnu.sparse[0].set_length(512);
    gnu.sparse[1].set_offset(1 << 20);
    gnu.sparse[1].set_length(0);
    header.set_cksum();
    let bytes = [header.as_bytes().as_slice(), &[7; 512], &[0; 1024]].concat();
    let (chain, info) = unpack(&store.snapshots, &[], &bytes).unwrap();
    assert_eq!(info.size_bytes, 1 << 20);
    let path = store.snapshots.lower_dirs(&[chain]).unwrap()[0].join("sparse");
    let content = fs::read(&path).unwrap();
    assert_eq!(content.len(), 1 << 20);
    assert!(content[512 * 1024..][..512].iter().all(|&byte| byte == 7));
    assert_eq!(content.iter().filter(|&&byte| byte != 0).count(), 512);
    assert!(fs::metadata(&path).unwrap().blocks() < 100, "holes stay holes");
}

#[test]
fn every_compression() {
    let store = Store::new();
    let mut content = vec![0_u8; 300_000];
    content.iter_mut().enumerate().for_each(|(at, byte)| *byte = ((at * at) >> 7) as u8);
    for (name, pack) in [("plain", 0), ("gzip", 1), ("members", 2), ("zstd", 3), ("frames", 4)] {
        let tar = Archive::new().file(name, &content).end();
        let (head, tail) = tar.split_at(100_000);
        let zstd = |bytes: &[u8]| zstd::encode_all(bytes, 3).unwrap();
        let packed = match pack {
            0 => tar.clone(),
            1 => gzip(&tar),
            2 => [gzip(head), gzip(tail)].concat(),
            3 => zstd(&tar),
            _ => [zstd(head), zstd(tail)].concat(),
        };
        let diff_id = Digest::of(&tar);
        let info = store.snapshots.unpack(&diff_id, &[], packed.as_slice(), &diff_id).unwrap();
        assert_eq!((info.diff_id, info.size_bytes, info.inodes), (diff_id, 300_000, 1), "{name}");
        let fs = store.snapshots.lower_dirs(&[diff_id]).unwrap().remove(0);
        assert_eq!(fs::read(fs.join(name)).unwrap(), content, "{name}");
    }
}

#[test]
fn an_empty_layer_is_one() {
    let store = Store::new();
    let (chain, info) = unpack(&store.snapshots, &[], &Archive::new().end()).unwrap();
    assert_eq!((info.size_bytes, info.inodes), (0, 0));
    assert!(store.snapshots.has(&chain).unwrap());
}

#[test]
fn import_tells_the_digest() {
    let store = Store::new();
    let tar = Archive::new().file("f", "x").end();
    let (base, _) = store.layer(&[], Archive::new().file("base", ""));
    let imported = store.snapshots.import(&[base], gzip(&tar).as_slice()).unwrap();
    assert_eq!(imported.diff_id, Digest::of(&tar));
    assert_eq!(imported.chain, chain_id(Some(&base), &imported.diff_id));
    assert_eq!(store.snapshots.info(&imported.chain).unwrap(), imported.info);
}

#[test]
fn the_same_layer_at_the_same_time() {
    let store = Store::new();
    let tar = Archive::new().file("f", vec![1; 1 << 20]).end();
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| unpack(&store.snapshots, &[], &tar).unwrap());
        }
    });
    assert_eq!(store.snapshots.list().unwrap(), [Digest::of(&tar)]);
    assert_eq!(fs::read_dir(store.root.join("tmp")).unwrap().count(), 0);
}

#[test]
fn many_files_are_synced_at_once() {
    let store = Store::new();
    let many = (0..200).fold(Archive::new(), |tar, number| tar.file(format!("d/{number}"), "x"));
    let (chain, fs) = store.layer(&[], many);
    assert_eq!(fs::read_dir(fs.join("d")).unwrap().count(), 200);
    assert_eq!(store.snapshots.info(&chain).unwrap().inodes, 201);
}

#[test]
fn layers_come_topmost_first_and_go() {
    let store = Store::new();
    let (a, fs_a) = store.layer(&[], Archive::new().file("a", ""));
    let (b, fs_b) = store.layer(&[a], Archive::new().file("b", ""));
    assert_eq!(store.snapshots.lower_dirs(&[a, b]).unwrap(), [fs_b, fs_a]);
    assert!(store.snapshots.remove(&b).unwrap());
    assert!(!store.snapshots.remove(&b).unwrap());
    let error = store.snapshots.lower_dirs(&[a, b]).unwrap_err();
    assert_eq!(error.to_string(), format!("no such layer: {b}"));
    assert_eq!(store.snapshots.list().unwrap(), [a]);
}

#[test]
fn writable_folders_come_and_go() {
    let store = Store::new();
    let id = ContainerId::random().unwrap();
    let writable = store.snapshots.create_writable(&id).unwrap();
    assert_eq!(fs::metadata(&writable.upper).unwrap().permissions().mode() & 0o777, 0o755);
    assert!(store.snapshots.create_writable(&id).is_err());
    assert_eq!(store.snapshots.writable(&id).unwrap(), writable);
    assert_eq!(store.snapshots.writables().unwrap(), vec![id.clone()]);
    fs::create_dir_all(writable.upper.join("a/b")).unwrap();
    fs::File::create(writable.work.join("x")).unwrap().write_all(b"x").unwrap();
    assert!(store.snapshots.discard_writable(&id).unwrap());
    assert!(!store.snapshots.discard_writable(&id).unwrap());
    assert!(!writable.upper.exists());
    assert!(store.snapshots.writable(&id).is_err());
    assert_eq!(fs::read_dir(store.root.join("tmp")).unwrap().count(), 0);
}
