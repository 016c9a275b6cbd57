//! Copying a folder of an image: for volumes that begin with what the image has.
//!
//! The image's layers are stacked by an overlay mount that is attached nowhere (`fsmount(2)`) and opened
//! beneath its root (`openat2(2)`, `RESOLVE_IN_ROOT`). The copy walks by descriptors and follows no link.
//! Owners, modes, times, extended attributes and hard links are kept; sockets are left out, as nobody
//! listens on them.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use dhow_sys::mount::overlay_takes_layers_singly;
use dhow_sys::rustix::fs::{
    AtFlags, Dir, FileType, Gid, Mode, OFlags, ResolveFlags, Stat, Timespec, Timestamps, Uid,
    XattrFlags, chmodat, chownat, fchmod, fchown, fgetxattr, flistxattr, fsetxattr, fstat,
    futimens, linkat, mkdirat, mknodat, open, openat, openat2, readlinkat, statat, symlinkat,
    utimensat,
};
use dhow_sys::rustix::io::Errno;
use dhow_sys::rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, fsconfig_create, fsconfig_set_string, fsmount,
    fsopen,
};

/// How deep folders may lie in each other.
const DEPTH: u32 = 256;
/// The largest extended attribute (XATTR_SIZE_MAX).
const XATTR_BYTES: usize = 64 << 10;
const READ_FOLDER: OFlags =
    OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC).union(OFlags::NOFOLLOW);

/// Copies the folder `path` of the image whose layers are `lower` (topmost first) into `target`, which is
/// there and empty. Nothing happens if the image has no such folder.
pub(crate) fn from_layers(lower: &[PathBuf], path: &str, target: &Path) -> io::Result<()> {
    let Some(root) = stack(lower)? else { return Ok(()) };
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    let source = match openat2(&root, path, flags, Mode::empty(), resolve) {
        Ok(source) => source,
        Err(Errno::NOENT | Errno::NOTDIR) => return Ok(()),
        Err(errno) => return Err(errno.into()),
    };
    let target = open(target, READ_FOLDER, Mode::empty())?;
    let mut copy = Copy { links: HashMap::new(), root: target.as_fd() };
    copy.folder(source, target.as_fd(), Path::new(""), DEPTH)
}

/// The root of the stacked layers.
fn stack(lower: &[PathBuf]) -> io::Result<Option<OwnedFd>> {
    match lower {
        [] => return Ok(None),
        // Overlay wants two layers to read from; one is its own root.
        [only] => return Ok(Some(open(only, READ_FOLDER, Mode::empty())?)),
        _ => {}
    }
    // By descriptor: fsconfig takes values of at most 255 bytes, and paths may be longer.
    let layers: Vec<OwnedFd> = lower
        .iter()
        .map(|layer| open(layer, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty()))
        .collect::<Result<_, _>>()?;
    let links: Vec<String> =
        layers.iter().map(|layer| format!("/proc/self/fd/{}", layer.as_raw_fd())).collect();
    let context = fsopen("overlay", FsOpenFlags::FSOPEN_CLOEXEC)?;
    if overlay_takes_layers_singly() {
        for link in &links {
            fsconfig_set_string(context.as_fd(), "lowerdir+", link.as_str())?;
        }
    } else {
        // All of them are one value, which has room for a dozen.
        fsconfig_set_string(context.as_fd(), "lowerdir", links.join(":"))?;
    }
    fsconfig_create(context.as_fd())?;
    let attributes = MountAttrFlags::MOUNT_ATTR_RDONLY;
    Ok(Some(fsmount(context.as_fd(), FsMountFlags::FSMOUNT_CLOEXEC, attributes)?))
}

/// A copy under way.
struct Copy<'a> {
    /// Where a file with several names was copied first, beneath `root`.
    links: HashMap<(u64, u64), PathBuf>,
    root: BorrowedFd<'a>,
}

impl Copy<'_> {
    /// The content of `source` into `target`, then the folder's own attributes.
    fn folder(
        &mut self,
        source: OwnedFd,
        target: BorrowedFd<'_>,
        inside: &Path,
        depth: u32,
    ) -> io::Result<()> {
        let deeper = depth.checked_sub(1).ok_or(Errno::LOOP)?;
        for entry in Dir::read_from(&source)? {
            let entry = entry?;
            let name = entry.file_name();
            if matches!(name.to_bytes(), b"." | b"..") {
                continue;
            }
            let path = inside.join(OsStr::from_bytes(name.to_bytes()));
            let stat = statat(&source, name, AtFlags::SYMLINK_NOFOLLOW)?;
            if FileType::from_raw_mode(stat.st_mode) == FileType::Directory {
                let from = openat(&source, name, READ_FOLDER, Mode::empty())?;
                mkdirat(target, name, Mode::RWXU)?;
                let to = openat(target, name, READ_FOLDER, Mode::empty())?;
                self.folder(from, to.as_fd(), &path, deeper)?;
            } else {
                self.file(source.as_fd(), target, name, &stat, path)?;
            }
        }
        let stat = fstat(&source)?;
        copy_attributes(source.as_fd(), target, &stat)
    }

    /// Anything but a folder.
    fn file(
        &mut self,
        source: BorrowedFd<'_>,
        target: BorrowedFd<'_>,
        name: &std::ffi::CStr,
        stat: &Stat,
        path: PathBuf,
    ) -> io::Result<()> {
        if stat.st_nlink > 1 {
            if let Some(first) = self.links.get(&(stat.st_dev, stat.st_ino)) {
                linkat(self.root, first, target, name, AtFlags::empty())?;
                return Ok(());
            }
            self.links.insert((stat.st_dev, stat.st_ino), path);
        }
        let kind = FileType::from_raw_mode(stat.st_mode);
        match kind {
            FileType::RegularFile => {
                let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                let mut from = File::from(openat(source, name, flags, Mode::empty())?);
                let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
                let mut to = File::from(openat(target, name, flags, Mode::RUSR)?);
                io::copy(&mut from, &mut to)?;
                return copy_attributes(from.as_fd(), to.as_fd(), stat);
            }
            FileType::Symlink => {
                let aim = readlinkat(source, name, Vec::new())?;
                symlinkat(&aim, target, name)?;
            }
            FileType::Socket | FileType::Unknown | FileType::Directory => return Ok(()),
            FileType::CharacterDevice | FileType::BlockDevice | FileType::Fifo => {
                mknodat(target, name, kind, Mode::RUSR, stat.st_rdev)?;
            }
        }
        chownat(target, name, owner(stat).0, owner(stat).1, AtFlags::SYMLINK_NOFOLLOW)?;
        if kind != FileType::Symlink {
            chmodat(target, name, Mode::from_raw_mode(stat.st_mode), AtFlags::empty())?;
        }
        utimensat(target, name, &times(stat), AtFlags::SYMLINK_NOFOLLOW)?;
        Ok(())
    }
}

/// Owner, extended attributes, mode, times: in this order, since changing the owner takes set-user-ID and
/// capabilities away.
fn copy_attributes(source: BorrowedFd<'_>, target: BorrowedFd<'_>, stat: &Stat) -> io::Result<()> {
    let (user, group) = owner(stat);
    fchown(target, user, group)?;
    let mut names = vec![0_u8; XATTR_BYTES];
    let length = match flistxattr(source, &mut names[..]) {
        Ok(length) => length,
        Err(Errno::NOTSUP) => 0,
        Err(errno) => return Err(errno.into()),
    };
    let names = names.get(..length).unwrap_or_default();
    for name in names.split(|byte| *byte == 0).filter(|name| !name.is_empty()) {
        // What overlay writes for itself means nothing in a plain folder.
        if name.starts_with(b"trusted.overlay.") {
            continue;
        }
        let mut value = vec![0_u8; XATTR_BYTES];
        let length = fgetxattr(source, name, &mut value[..])?;
        let value = value.get(..length).unwrap_or_default();
        match fsetxattr(target, name, value, XattrFlags::empty()) {
            Ok(()) | Err(Errno::NOTSUP) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
    fchmod(target, Mode::from_raw_mode(stat.st_mode))?;
    futimens(target, &times(stat))?;
    Ok(())
}

fn owner(stat: &Stat) -> (Option<Uid>, Option<Gid>) {
    (Some(Uid::from_raw(stat.st_uid)), Some(Gid::from_raw(stat.st_gid)))
}

fn times(stat: &Stat) -> Timestamps {
    let time = |seconds, nanoseconds: u64| Timespec {
        tv_sec: seconds,
        tv_nsec: i64::try_from(nanoseconds).unwrap_or_default(),
    };
    Timestamps {
        last_access: time(stat.st_atime, stat.st_atime_nsec),
        last_modification: time(stat.st_mtime, stat.st_mtime_nsec),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};

    use super::*;

    #[test]
    fn the_topmost_layer_wins_and_attributes_stay() {
        let (top, bottom, target) = (
            tempfile::tempdir().unwrap(),
            tempfile::tempdir().unwrap(),
            tempfile::tempdir().unwrap(),
        );
        for layer in [&top, &bottom] {
            std::fs::create_dir_all(layer.path().join("data/sub")).unwrap();
        }
        let data = bottom.path().join("data");
        std::fs::write(data.join("a"), "below").unwrap();
        std::fs::hard_link(data.join("a"), data.join("sub/b")).unwrap();
        symlink("/etc/passwd", data.join("link")).unwrap();
        std::os::unix::fs::chown(data.join("sub"), Some(7), Some(8)).unwrap();
        std::fs::set_permissions(data.join("sub"), PermissionsExt::from_mode(0o2750)).unwrap();
        std::fs::write(top.path().join("data/new"), "above").unwrap();
        std::os::unix::fs::chown(top.path().join("data/sub"), Some(7), Some(8)).unwrap();
        std::fs::set_permissions(top.path().join("data/sub"), PermissionsExt::from_mode(0o2750))
            .unwrap();

        let layers = [top.path().to_owned(), bottom.path().to_owned()];
        from_layers(&layers, "/data", target.path()).unwrap();

        let at = |name: &str| target.path().join(name);
        assert_eq!(std::fs::read_to_string(at("new")).unwrap(), "above");
        assert_eq!(std::fs::read_to_string(at("sub/b")).unwrap(), "below");
        let inode = |name| std::fs::metadata(at(name)).unwrap().ino();
        assert_eq!(inode("a"), inode("sub/b"));
        assert_eq!(std::fs::read_link(at("link")).unwrap(), Path::new("/etc/passwd"));
        let sub = std::fs::metadata(at("sub")).unwrap();
        assert_eq!((sub.uid(), sub.gid(), sub.mode() & 0o7777), (7, 8, 0o2750));
    }

    #[test]
    fn a_path_that_leads_out_stays_inside() {
        let (layer, target) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        symlink("/etc", layer.path().join("data")).unwrap();
        from_layers(&[layer.path().to_owned()], "/data", target.path()).unwrap();
        assert_eq!(std::fs::read_dir(target.path()).unwrap().count(), 0);
    }
}
