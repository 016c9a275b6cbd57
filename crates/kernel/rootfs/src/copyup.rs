//! `tmpcopyup`: a new file system begins with a copy of what it covers.
//!
//! Directories, files, symlinks and FIFOs with their modes, owners and times of change; hard links become
//! files of their own. What is neither (a socket, a device) is left out. Everything is opened relative to
//! descriptors and no symlink is followed.

use std::ffi::CStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use dhow_sys::rustix::buffer::spare_capacity;
use dhow_sys::rustix::fs::{
    AtFlags, Dir, FileType, Gid, Mode, OFlags, Stat, Timespec, Timestamps, Uid, chmodat, chownat,
    fstat, mkdirat, mknodat, openat, readlinkat, statat, symlinkat, utimensat,
};
use dhow_sys::rustix::io::{Errno, read, write};

/// Deeper is no directory that anybody covers with a tmpfs; a bound for the stack and for descriptors.
const DEEPEST: u32 = 64;

/// Copies what is in the directory `from` (a place is enough) into `to`, with `from`'s own mode and owner.
pub(crate) fn copy_up(from: BorrowedFd<'_>, to: BorrowedFd<'_>) -> Result<(), Errno> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let from = openat(from, c".", flags, Mode::empty())?;
    copy_entries(&from, to, DEEPEST)?;
    let status = fstat(&from)?;
    chownat(to, c".", Some(uid(&status)), Some(gid(&status)), AtFlags::empty())?;
    chmodat(to, c".", mode(&status), AtFlags::empty())
}

fn copy_entries(from: &OwnedFd, to: BorrowedFd<'_>, depth: u32) -> Result<(), Errno> {
    let deeper = depth.checked_sub(1).ok_or(Errno::LOOP)?;
    for entry in Dir::read_from(from)? {
        let entry = entry?;
        let name = entry.file_name();
        if name == c"." || name == c".." {
            continue;
        }
        let status = statat(from, name, AtFlags::SYMLINK_NOFOLLOW)?;
        copy_one(from, to, name, &status, deeper)?;
    }
    Ok(())
}

fn copy_one(
    from: &OwnedFd,
    to: BorrowedFd<'_>,
    name: &CStr,
    status: &Stat,
    deeper: u32,
) -> Result<(), Errno> {
    let flags = OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
    match FileType::from_raw_mode(status.st_mode) {
        FileType::Directory => {
            mkdirat(to, name, Mode::RWXU)?;
            let flags = flags | OFlags::DIRECTORY;
            let inner = openat(from, name, flags, Mode::empty())?;
            let made = openat(to, name, flags, Mode::empty())?;
            copy_entries(&inner, made.as_fd(), deeper)?;
        }
        FileType::RegularFile => {
            let inner = openat(from, name, flags, Mode::empty())?;
            let new = flags | OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL;
            copy_content(&inner, &openat(to, name, new, Mode::RUSR | Mode::WUSR)?)?;
        }
        FileType::Symlink => {
            let target = readlinkat(from, name, Vec::new())?;
            symlinkat(target.as_c_str(), to, name)?;
            return chownat(
                to,
                name,
                Some(uid(status)),
                Some(gid(status)),
                AtFlags::SYMLINK_NOFOLLOW,
            );
        }
        FileType::Fifo => mknodat(to, name, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0)?,
        _ => return Ok(()),
    }
    // Owner before mode: a change of owner takes the set-user-ID bit.
    chownat(to, name, Some(uid(status)), Some(gid(status)), AtFlags::SYMLINK_NOFOLLOW)?;
    chmodat(to, name, mode(status), AtFlags::empty())?;
    let changed = Timespec { tv_sec: status.st_mtime, tv_nsec: status.st_mtime_nsec as _ };
    let times = Timestamps { last_access: changed, last_modification: changed };
    utimensat(to, name, &times, AtFlags::SYMLINK_NOFOLLOW)
}

fn copy_content(from: &OwnedFd, to: &OwnedFd) -> Result<(), Errno> {
    let mut buffer = Vec::with_capacity(64 * 1024);
    loop {
        buffer.clear();
        match read(from, spare_capacity(&mut buffer)) {
            Ok(0) => return Ok(()),
            Ok(_) => {}
            Err(Errno::INTR) => continue,
            Err(errno) => return Err(errno),
        }
        let mut rest = buffer.as_slice();
        while !rest.is_empty() {
            let written = write(to, rest)?;
            rest = rest.get(written..).unwrap_or_default();
        }
    }
}

fn mode(status: &Stat) -> Mode {
    Mode::from_raw_mode(status.st_mode & 0o7777)
}

fn uid(status: &Stat) -> Uid {
    Uid::from_raw(status.st_uid)
}

fn gid(status: &Stat) -> Gid {
    Gid::from_raw(status.st_gid)
}

#[cfg(test)]
mod tests {
    use std::fs::{self, File, Permissions};
    use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, symlink};

    use super::*;

    #[test]
    fn what_was_there_is_there_again() {
        let dir = tempfile::tempdir().unwrap();
        let (from, to) = (dir.path().join("from"), dir.path().join("to"));
        fs::create_dir_all(from.join("deep/er")).unwrap();
        fs::create_dir(&to).unwrap();
        fs::write(from.join("deep/er/file"), vec![7; 200_000]).unwrap();
        chown(from.join("deep/er/file"), Some(33), Some(44)).unwrap();
        fs::set_permissions(from.join("deep/er/file"), Permissions::from_mode(0o4750)).unwrap();
        fs::set_permissions(&from, Permissions::from_mode(0o1711)).unwrap();
        symlink("/etc/shadow", from.join("link")).unwrap();
        mknodat(File::open(&from).unwrap(), c"fifo", FileType::Fifo, Mode::from_raw_mode(0o640), 0)
            .unwrap();
        let (source, target) = (File::open(&from).unwrap(), File::open(&to).unwrap());
        copy_up(source.as_fd(), target.as_fd()).unwrap();
        let file = fs::metadata(to.join("deep/er/file")).unwrap();
        assert_eq!((file.len(), file.uid(), file.gid()), (200_000, 33, 44));
        assert_eq!(file.mode() & 0o7777, 0o4750);
        assert_eq!(fs::read_link(to.join("link")).unwrap().to_str(), Some("/etc/shadow"));
        assert_eq!(fs::metadata(&to).unwrap().mode() & 0o7777, 0o1711);
        assert_eq!(fs::symlink_metadata(to.join("fifo")).unwrap().mode() & 0o777, 0o640);
    }
}
