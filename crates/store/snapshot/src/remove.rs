//! Removal of trees that hostile code may have written.
//!
//! Never follows a symbolic link, never crosses a mount, and needs a bounded number of descriptors and
//! bounded stack for a tree of any depth: what lies deeper than [`DEPTH_MAX`] is first moved up to the top.
//! File attributes that forbid removal (`chattr +i`, `+a`) are taken off.

use std::ffi::CStr;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use dhow_sys::rustix::fs::{
    AtFlags, CWD, Dir, FileType, IFlags, Mode, OFlags, RenameFlags, ResolveFlags, ioctl_getflags,
    ioctl_setflags, openat, openat2, renameat_with, statat, unlinkat,
};
use dhow_sys::rustix::io::Errno;
use dhow_sys::rustix::path::Arg;

/// How deep a tree is walked before what lies deeper is moved to the top.
const DEPTH_MAX: u32 = 64;

/// Removes `path` and everything below it; that it is not there is fine.
pub(crate) fn remove_tree(path: &Path) -> io::Result<()> {
    remove_at(CWD, path)
}

/// Removes `name` in `folder` and everything below it; that it is not there is fine.
pub(crate) fn remove_at<P: Arg + Copy>(folder: BorrowedFd<'_>, name: P) -> io::Result<()> {
    let top = match openat(folder, name, FOLDER, Mode::empty()) {
        Ok(top) => top,
        Err(Errno::NOENT) => return Ok(()),
        Err(Errno::NOTDIR | Errno::LOOP) => return Ok(unlink(folder, name, AtFlags::empty())?),
        Err(error) => return Err(error.into()),
    };
    let mut removal = Removal { top: &top, moved: 0 };
    loop {
        removal.empty(top.as_fd(), 0)?;
        match unlink(folder, name, AtFlags::REMOVEDIR) {
            Ok(()) | Err(Errno::NOENT) => return Ok(()),
            // What was moved to the top is still to be done.
            Err(Errno::NOTEMPTY | Errno::EXIST) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

const FOLDER: OFlags = OFlags::RDONLY
    .union(OFlags::DIRECTORY)
    .union(OFlags::NOFOLLOW)
    .union(OFlags::NONBLOCK)
    .union(OFlags::CLOEXEC);

struct Removal<'a> {
    top: &'a OwnedFd,
    moved: u64,
}

impl Removal<'_> {
    /// Removes what is in `folder`, or moves it to the top.
    fn empty(&mut self, folder: BorrowedFd<'_>, depth: u32) -> io::Result<()> {
        for entry in Dir::read_from(folder)? {
            let entry = entry?;
            let name = entry.file_name();
            if name == c"." || name == c".." {
                continue;
            }
            if is_folder(folder, name, entry.file_type())? {
                self.remove_folder(folder, name, depth)?;
            } else {
                unlink(folder, name, AtFlags::empty()).or_else(absent_is_fine)?;
            }
        }
        Ok(())
    }

    fn remove_folder(&mut self, folder: BorrowedFd<'_>, name: &CStr, depth: u32) -> io::Result<()> {
        if depth >= DEPTH_MAX {
            return self.move_to_top(folder, name);
        }
        let within = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_XDEV;
        let child = match openat2(folder, name, FOLDER, Mode::empty(), within) {
            Ok(child) => child,
            Err(Errno::NOENT) => return Ok(()),
            Err(error) => return Err(error.into()),
        };
        self.empty(child.as_fd(), depth + 1)?;
        match unlink(folder, name, AtFlags::REMOVEDIR) {
            Err(Errno::NOENT) => Ok(()),
            result => Ok(result?),
        }
    }

    fn move_to_top(&mut self, folder: BorrowedFd<'_>, name: &CStr) -> io::Result<()> {
        loop {
            let target = format!("moved-{}", self.moved);
            self.moved += 1;
            let rename =
                || renameat_with(folder, name, self.top, target.as_str(), RenameFlags::NOREPLACE);
            match rename().or_else(|error| retry_unprotected(folder, name, error, rename)) {
                Ok(()) => return Ok(()),
                Err(Errno::EXIST) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }
}

fn is_folder(folder: BorrowedFd<'_>, name: &CStr, told: FileType) -> io::Result<bool> {
    if told != FileType::Unknown {
        return Ok(told == FileType::Directory);
    }
    let stat = statat(folder, name, AtFlags::SYMLINK_NOFOLLOW)?;
    Ok(FileType::from_raw_mode(stat.st_mode) == FileType::Directory)
}

fn absent_is_fine(error: Errno) -> Result<(), Errno> {
    if error == Errno::NOENT { Ok(()) } else { Err(error) }
}

fn unlink<P: Arg + Copy>(folder: BorrowedFd<'_>, name: P, flags: AtFlags) -> Result<(), Errno> {
    let unlink = || unlinkat(folder, name, flags);
    unlink().or_else(|error| retry_unprotected(folder, name, error, unlink))
}

/// Tries again without the attributes that forbid it, if that may be the reason of `error`.
fn retry_unprotected<P: Arg + Copy>(
    folder: BorrowedFd<'_>,
    name: P,
    error: Errno,
    attempt: impl FnOnce() -> Result<(), Errno>,
) -> Result<(), Errno> {
    if error != Errno::PERM {
        return Err(error);
    }
    // Neither failing is worth a word: the second attempt's error will tell.
    let _ = openat(folder, c".", FOLDER, Mode::empty()).and_then(|folder| unprotect(&folder));
    let stat = statat(folder, name, AtFlags::SYMLINK_NOFOLLOW)?;
    // Only these have attributes, and nothing else may be opened without consequences.
    if matches!(FileType::from_raw_mode(stat.st_mode), FileType::Directory | FileType::RegularFile)
    {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let _ = openat(folder, name, flags, Mode::empty()).and_then(|file| unprotect(&file));
    }
    attempt()
}

fn unprotect(file: &OwnedFd) -> Result<(), Errno> {
    let flags = ioctl_getflags(file)?;
    let protection = IFlags::IMMUTABLE | IFlags::APPEND;
    if flags.intersects(protection) { ioctl_setflags(file, flags - protection) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use dhow_sys::rustix::fs::{mkdirat, symlinkat};
    use std::fs::{self, File};

    #[test]
    fn removes_a_tree_deeper_than_paths_can_say() {
        let scratch = tempfile::tempdir().unwrap();
        let root = scratch.path().join("deep");
        fs::create_dir(&root).unwrap();
        let mut folder = OwnedFd::from(File::open(&root).unwrap());
        for _ in 0..2100 {
            mkdirat(&folder, "d", Mode::RWXU).unwrap();
            folder = openat(&folder, "d", FOLDER, Mode::empty()).unwrap();
        }
        drop(folder);
        remove_tree(&root).unwrap();
        assert!(!root.exists());
    }

    #[test]
    fn leaves_what_links_point_to() {
        let scratch = tempfile::tempdir().unwrap();
        let (root, outside) = (scratch.path().join("root"), scratch.path().join("outside"));
        fs::create_dir_all(root.join("a")).unwrap();
        fs::create_dir(&outside).unwrap();
        fs::write(outside.join("file"), "kept").unwrap();
        symlinkat(outside.as_path(), CWD, root.join("a/link").as_path()).unwrap();
        remove_tree(&root).unwrap();
        assert!(!root.exists());
        assert_eq!(fs::read_to_string(outside.join("file")).unwrap(), "kept");
        symlinkat(outside.as_path(), CWD, root.as_path()).unwrap();
        remove_tree(&root).unwrap();
        assert!(outside.join("file").exists() && fs::symlink_metadata(&root).is_err());
    }

    #[test]
    fn takes_off_the_immutable_attribute() {
        let scratch = tempfile::tempdir().unwrap();
        let root = scratch.path().join("root");
        fs::create_dir(&root).unwrap();
        fs::write(root.join("file"), "x").unwrap();
        for path in [root.join("file"), root.clone()] {
            let file = File::open(path).unwrap();
            let Ok(flags) = ioctl_getflags(&file) else { return };
            ioctl_setflags(&file, flags | IFlags::IMMUTABLE).unwrap();
        }
        remove_tree(&root).unwrap();
        assert!(!root.exists());
    }

    #[test]
    fn absent_is_not_an_error() {
        let scratch = tempfile::tempdir().unwrap();
        remove_tree(&scratch.path().join("nothing")).unwrap();
    }
}
