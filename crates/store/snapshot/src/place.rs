//! Folders beneath the root of the layer that is being unpacked.
//!
//! Every folder is opened from the root by `openat2(2)`. Links on the way are followed only if the layer
//! itself brought them, and then with the layer's root as `/`, so that no name leads out of it.

use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::rc::Rc;

use dhow_sys::rustix::fs::{CWD, Mode, OFlags, ResolveFlags, openat, openat2};
use dhow_sys::rustix::io::Errno;

use crate::error::Problem;

const FOLDER: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);

/// The root, and the folder that was last asked for: entries come folder by folder.
#[derive(Debug)]
pub(crate) struct Place {
    root: Rc<OwnedFd>,
    last: Option<(Vec<u8>, Rc<OwnedFd>)>,
}

impl Place {
    pub(crate) fn open(root: &Path) -> io::Result<Self> {
        Ok(Self { root: Rc::new(openat(CWD, root, FOLDER, Mode::empty())?), last: None })
    }

    pub(crate) fn root(&self) -> Rc<OwnedFd> {
        self.root.clone()
    }

    /// The folder at the path of these parts, remembered as the last one.
    pub(crate) fn enter(&mut self, parts: &[&[u8]]) -> Result<Rc<OwnedFd>, Errno> {
        let path = parts.join(&b'/');
        let folder = self.find_path(&path)?;
        if !parts.is_empty() && self.last.as_ref().is_none_or(|(last, _)| *last != path) {
            self.last = Some((path, folder.clone()));
        }
        Ok(folder)
    }

    /// The folder at the path of these parts.
    pub(crate) fn find(&self, parts: &[&[u8]]) -> Result<Rc<OwnedFd>, Errno> {
        self.find_path(&parts.join(&b'/'))
    }

    /// As [`find`](Self::find), by the parts joined with slashes.
    pub(crate) fn find_path(&self, path: &[u8]) -> Result<Rc<OwnedFd>, Errno> {
        if path.is_empty() {
            return Ok(self.root());
        }
        if let Some((last, folder)) = &self.last
            && last == path
        {
            return Ok(folder.clone());
        }
        let plain = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
        let opened = match openat2(&self.root, path, FOLDER, Mode::empty(), plain) {
            Err(Errno::LOOP) => {
                let chrooted = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
                openat2(&self.root, path, FOLDER, Mode::empty(), chrooted)
            }
            opened => opened,
        };
        opened.map(Rc::new)
    }

    /// The folder `way` of which `parent` is the one above: as [`find`](Self::find), but without walking
    /// all the way again.
    pub(crate) fn step(&self, parent: &OwnedFd, way: &[&[u8]]) -> Result<Rc<OwnedFd>, Errno> {
        let Some(part) = way.last() else { return Ok(self.root()) };
        let plain = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
        match openat2(parent, *part, FOLDER, Mode::empty(), plain) {
            Err(Errno::LOOP) => self.find(way),
            opened => opened.map(Rc::new),
        }
    }

    /// Forgets the last folder, which may have been removed.
    pub(crate) fn forget(&mut self) {
        self.last = None;
    }
}

/// The parts of a name: without slashes in front, doubled or at the end, and without `.`.
///
/// [`Problem::Escapes`] for `..` anywhere, [`Problem::Name`] for a zero byte.
pub(crate) fn split_name(name: &[u8]) -> Result<Vec<&[u8]>, Problem> {
    if name.contains(&0) {
        return Err(Problem::Name);
    }
    let parts = name.split(|&byte| byte == b'/').filter(|part| !matches!(*part, b"" | b"."));
    parts.map(|part| if part == b".." { Err(Problem::Escapes) } else { Ok(part) }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_taken_apart() {
        assert_eq!(split_name(b"/a//./b/").unwrap(), [&b"a"[..], b"b"]);
        assert!(split_name(b"./").unwrap().is_empty());
        for bad in [&b"a/../b"[..], b"..", b"../a", b"a/.."] {
            assert!(matches!(split_name(bad), Err(Problem::Escapes)));
        }
        assert!(matches!(split_name(b"a\0b"), Err(Problem::Name)));
    }
}
