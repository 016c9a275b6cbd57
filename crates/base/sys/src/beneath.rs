//! Opening and making paths beneath a root, by openat2.
//!
//! A path inside an image is anybody's: each component may be a symlink to anywhere. Everything here
//! resolves as if the root were `/` (RESOLVE_IN_ROOT), never through a magic link of /proc, and gives a
//! descriptor, so that what was checked is what is used.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{AtFlags, Mode, OFlags, ResolveFlags, mkdirat, openat2, readlinkat_raw};
use rustix::io::{Errno, Result};

/// openat2 gives EAGAIN when a rename elsewhere races with a `..`; this often it is tried again.
const RACES: usize = 64;
/// The kernel's own limit of symlinks followed in one path (path_resolution(7)).
const SYMLINKS: usize = 40;
/// The kernel's own limit of a path (PATH_MAX).
const LONGEST: usize = 4096;

/// Opens `path` beneath `root`; symlinks are followed within the root.
pub fn open(root: BorrowedFd<'_>, path: &[u8], flags: OFlags) -> Result<OwnedFd> {
    let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    resolve_with(root, path, flags, resolve)
}

/// Opens `path` beneath `root`, following no symlink at all and crossing no mount: for file systems of the
/// kernel's own, such as a private procfs (CVE-2025-52881).
pub fn open_strict(root: BorrowedFd<'_>, path: &[u8], flags: OFlags) -> Result<OwnedFd> {
    let resolve = ResolveFlags::BENEATH
        | ResolveFlags::NO_MAGICLINKS
        | ResolveFlags::NO_SYMLINKS
        | ResolveFlags::NO_XDEV;
    resolve_with(root, path, flags, resolve)
}

/// Opens `path` beneath `root`, following no symlink at all.
pub fn open_direct(root: BorrowedFd<'_>, path: &[u8], flags: OFlags) -> Result<OwnedFd> {
    let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS | ResolveFlags::NO_SYMLINKS;
    resolve_with(root, path, flags, resolve)
}

fn resolve_with(
    root: BorrowedFd<'_>,
    path: &[u8],
    flags: OFlags,
    resolve: ResolveFlags,
) -> Result<OwnedFd> {
    let path = if path.is_empty() { b".".as_slice() } else { path };
    let flags = flags | OFlags::CLOEXEC;
    for _ in 0..RACES {
        match openat2(root, path, flags, Mode::empty(), resolve) {
            Err(Errno::AGAIN | Errno::INTR) => {}
            other => return other,
        }
    }
    Err(Errno::AGAIN)
}

/// Opens the directory `path` beneath `root` as a place (O_PATH), making it and its parents with `mode`
/// where they are missing. A symlink that leads to something missing is followed, within the root.
pub fn make_directory(root: BorrowedFd<'_>, path: &[u8], mode: Mode) -> Result<OwnedFd> {
    let place = OFlags::PATH | OFlags::DIRECTORY;
    match open(root, path, place) {
        Err(Errno::NOENT) => walk(root, path, mode, false),
        other => other,
    }
}

/// Opens `path` beneath `root` as a place (O_PATH) that is not a directory, making an empty file, and its
/// parent directories with `mode`, where they are missing.
pub fn make_file(root: BorrowedFd<'_>, path: &[u8], mode: Mode) -> Result<OwnedFd> {
    match open(root, path, OFlags::PATH) {
        Err(Errno::NOENT) => walk(root, path, mode, true),
        other => other,
    }
}

/// Opens the directory that `path`'s last component is in, making it where it is missing; gives that last
/// component too.
pub fn make_parent<'a>(
    root: BorrowedFd<'_>,
    path: &'a [u8],
    mode: Mode,
) -> Result<(OwnedFd, &'a [u8])> {
    let (parent, name) = split(path);
    if name.is_empty() || name == b"." || name == b".." {
        return Err(Errno::INVAL);
    }
    Ok((make_directory(root, parent, mode)?, name))
}

/// The path before the last component, and the last component.
fn split(path: &[u8]) -> (&[u8], &[u8]) {
    let end = path.iter().rposition(|byte| *byte != b'/').map_or(0, |last| last + 1);
    let path = path.get(..end).unwrap_or_default();
    match path.iter().rposition(|byte| *byte == b'/') {
        Some(slash) => {
            (path.get(..slash).unwrap_or_default(), path.get(slash + 1..).unwrap_or_default())
        }
        None => (b"", path),
    }
}

/// Makes the components of `path` one by one. Only taken when something is missing, so it may allocate.
fn walk(root: BorrowedFd<'_>, path: &[u8], mode: Mode, file: bool) -> Result<OwnedFd> {
    let mut path = path.to_vec();
    for _ in 0..SYMLINKS {
        match attempt(root, &path, mode, file)? {
            Step::Done(place) => return Ok(place),
            Step::Elsewhere(other) if other.len() < LONGEST => path = other,
            Step::Elsewhere(_) => return Err(Errno::NAMETOOLONG),
        }
    }
    Err(Errno::LOOP)
}

/// What came of walking along a path once.
enum Step {
    /// It is there now.
    Done(OwnedFd),
    /// A component is a symlink to something missing: go on with this path.
    Elsewhere(Vec<u8>),
}

fn attempt(root: BorrowedFd<'_>, path: &[u8], mode: Mode, file: bool) -> Result<Step> {
    let mut here = open(root, b"", OFlags::PATH | OFlags::DIRECTORY)?;
    let mut ends = component_ends(path).peekable();
    let mut start = 0;
    while let Some(end) = ends.next() {
        let prefix = path.get(..end).unwrap_or_default();
        let last = ends.peek().is_none();
        here = match open(root, prefix, OFlags::PATH) {
            Ok(place) => place,
            Err(Errno::NOENT) => {
                let name = trim(path.get(start..end).unwrap_or_default());
                match make_one(here.as_fd(), name, mode, file && last) {
                    Ok(()) => open(root, prefix, OFlags::PATH)?,
                    Err(Errno::EXIST) => {
                        let rest = path.get(end..).unwrap_or_default();
                        let before = path.get(..start).unwrap_or_default();
                        return redirect(here.as_fd(), name, before, rest).map(Step::Elsewhere);
                    }
                    Err(errno) => return Err(errno),
                }
            }
            Err(errno) => return Err(errno),
        };
        start = end;
    }
    Ok(Step::Done(here))
}

/// Makes one directory or empty file.
fn make_one(parent: BorrowedFd<'_>, name: &[u8], mode: Mode, file: bool) -> Result<()> {
    if !file {
        return mkdirat(parent, name, mode);
    }
    let flags = OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::openat(parent, name, flags, Mode::from_raw_mode(0o644)).map(drop)
}

/// The path that goes on where the symlink `name` points.
fn redirect(parent: BorrowedFd<'_>, name: &[u8], before: &[u8], rest: &[u8]) -> Result<Vec<u8>> {
    let mut space = [const { std::mem::MaybeUninit::uninit() }; LONGEST];
    let (target, _) = readlinkat_raw(parent, name, &mut space)?;
    let mut path = Vec::with_capacity(before.len() + target.len() + rest.len() + 2);
    if target.first() != Some(&b'/') {
        path.extend_from_slice(before);
        path.push(b'/');
    }
    path.extend_from_slice(target);
    path.extend_from_slice(rest);
    Ok(path)
}

/// Where each component of `path` ends.
fn component_ends(path: &[u8]) -> impl Iterator<Item = usize> {
    (1..=path.len()).filter(move |end| {
        path.get(end - 1).is_some_and(|byte| *byte != b'/')
            && path.get(*end).is_none_or(|byte| *byte == b'/')
    })
}

fn trim(name: &[u8]) -> &[u8] {
    let start = name.iter().position(|byte| *byte != b'/').unwrap_or(name.len());
    name.get(start..).unwrap_or_default()
}

/// Whether `place` is a directory.
pub fn is_directory(place: impl AsFd) -> Result<bool> {
    let status = rustix::fs::statx(place, c"", AtFlags::EMPTY_PATH, rustix::fs::StatxFlags::TYPE)?;
    Ok(rustix::fs::FileType::from_raw_mode(u32::from(status.stx_mode))
        == rustix::fs::FileType::Directory)
}
