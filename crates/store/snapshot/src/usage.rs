//! What a tree takes: bytes and inodes.

use std::collections::{HashSet, VecDeque};
use std::io;
use std::path::Path;

use dhow_sys::rustix::fs::{
    AtFlags, CWD, Dir, FileType, Mode, OFlags, ResolveFlags, openat, openat2, statat,
};
use dhow_sys::rustix::io::Errno;

use crate::error::{Result, at};

/// What a tree takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Usage {
    /// The sum of the sizes of its files in bytes, hard links counted once.
    pub size_bytes: u64,
    /// What it takes on the disk, in bytes.
    pub disk_bytes: u64,
    /// Its files, folders and links, hard links counted once.
    pub inodes: u64,
}

/// What the tree below `folder` takes, `folder` itself not counted. Follows no links and crosses no
/// mounts; what is removed meanwhile is passed over. Folders whose path is longer than the kernel takes
/// are counted, but not what is in them.
pub fn usage(folder: &Path) -> Result<Usage> {
    walk(folder).map_err(at("measure", folder))
}

fn walk(folder: &Path) -> io::Result<Usage> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let within = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_XDEV;
    let root = openat(CWD, folder, flags, Mode::empty())?;
    let mut usage = Usage::default();
    let mut counted = HashSet::new();
    let mut waiting = VecDeque::from([b".".to_vec()]);
    while let Some(path) = waiting.pop_front() {
        let folder = match openat2(&root, path.as_slice(), flags, Mode::empty(), within) {
            Ok(folder) => folder,
            Err(Errno::NOENT | Errno::XDEV | Errno::NOTDIR | Errno::LOOP | Errno::NAMETOOLONG) => {
                continue;
            }
            Err(error) => return Err(error.into()),
        };
        for entry in Dir::read_from(&folder)? {
            let entry = entry?;
            let name = entry.file_name();
            if name == c"." || name == c".." {
                continue;
            }
            let stat = match statat(&folder, name, AtFlags::SYMLINK_NOFOLLOW) {
                Ok(stat) => stat,
                Err(Errno::NOENT) => continue,
                Err(error) => return Err(error.into()),
            };
            let kind = FileType::from_raw_mode(stat.st_mode);
            if kind == FileType::Directory {
                waiting.push_back([path.as_slice(), b"/", name.to_bytes()].concat());
            } else if stat.st_nlink > 1 && !counted.insert((stat.st_dev, stat.st_ino)) {
                continue;
            }
            usage.inodes += 1;
            usage.disk_bytes += stat.st_blocks as u64 * 512;
            if kind == FileType::RegularFile {
                usage.size_bytes += stat.st_size as u64;
            }
        }
    }
    Ok(usage)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn counts_hard_links_once() {
        let scratch = tempfile::tempdir().unwrap();
        fs::create_dir_all(scratch.path().join("a/b")).unwrap();
        fs::write(scratch.path().join("a/b/file"), [0; 1000]).unwrap();
        fs::hard_link(scratch.path().join("a/b/file"), scratch.path().join("link")).unwrap();
        let usage = usage(scratch.path()).unwrap();
        assert_eq!((usage.size_bytes, usage.inodes), (1000, 3));
    }
}
