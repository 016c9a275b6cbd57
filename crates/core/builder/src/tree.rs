//! Trees of files to copy from and to look into: a build's context, and the layers of an image.
//!
//! A tree is asked only for paths whose folders are folders; [`resolve`] follows symbolic links, within
//! the tree, and never asks the machine's own file system.

use std::io::Read;

use dhow_error::{Error, Result};

use crate::path;

/// The kernel's limit of links followed (path_resolution(7)).
const LINKS_MAX: usize = 40;

/// What a name stands for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Node {
    pub(crate) kind: Kind,
    pub(crate) mode: u32,
    pub(crate) uid: u64,
    pub(crate) gid: u64,
    /// Seconds since 1970.
    pub(crate) mtime: i64,
    pub(crate) size: u64,
}

/// Kinds of files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Kind {
    File,
    Folder,
    Symlink(Vec<u8>),
    /// A device, pipe or socket.
    Other,
}

/// A tree of files that does not change.
pub(crate) trait Tree: Send + Sync {
    /// What `path` is, not following links; none if it is not there.
    fn look(&self, path: &[u8]) -> Result<Option<Node>>;

    /// The names in a folder, sorted.
    fn names(&self, folder: &[u8]) -> Result<Vec<Vec<u8>>>;

    /// A file's content.
    fn open(&self, path: &[u8]) -> Result<Box<dyn Read + Send + '_>>;
}

impl Node {
    /// A folder as `mkdir` makes it.
    pub(crate) fn folder() -> Self {
        Self { kind: Kind::Folder, mode: 0o755, uid: 0, gid: 0, mtime: 0, size: 0 }
    }

    pub(crate) fn is_folder(&self) -> bool {
        self.kind == Kind::Folder
    }
}

/// The path that `path` leads to when links are followed (the last one too, if `last`). What is not there
/// is taken as it stands.
pub(crate) fn resolve(tree: &dyn Tree, path: &[u8], last: bool) -> Result<Vec<u8>> {
    let mut due: Vec<Vec<u8>> = split(path);
    due.reverse();
    let mut done: Vec<u8> = Vec::new();
    let mut links = 0;
    while let Some(part) = due.pop() {
        match part.as_slice() {
            b"" | b"." => continue,
            b".." => {
                done = path::parent(&done).unwrap_or_default().to_vec();
                continue;
            }
            _ => {}
        }
        let here = path::join(&done, &part);
        let is_last = due.is_empty();
        match tree.look(&here)? {
            Some(Node { kind: Kind::Symlink(target), .. }) if !is_last || last => {
                links += 1;
                if links > LINKS_MAX {
                    let shown = path::shown(path);
                    return Err(Error::invalid(format!("too many symbolic links in {shown:?}")));
                }
                if target.starts_with(b"/") {
                    done.clear();
                }
                due.extend(split(&target).into_iter().rev());
            }
            _ => done = here,
        }
    }
    Ok(done)
}

fn split(path: &[u8]) -> Vec<Vec<u8>> {
    path.split(|byte| *byte == b'/').map(<[u8]>::to_vec).collect()
}
