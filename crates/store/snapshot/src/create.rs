//! Making the files, folders, links, devices and whiteouts of a layer.
//!
//! Everything is made by name in an open folder, and nothing that is made is ever opened by following
//! a link. Attributes come in the order owner, mode, extended attributes, times: a change of owner takes
//! setuid bits and file capabilities away.

use std::fs::File;
use std::io::{self, Seek, SeekFrom, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::rc::Rc;

use dhow_sys::rustix::fs::{
    AtFlags, FileType, Gid, Mode, OFlags, Stat, Timespec, Timestamps, Uid, chmodat, chownat,
    fchmod, fchown, futimens, linkat, makedev, mkdirat, mknodat, openat, readlinkat, statat,
    symlinkat, unlinkat, utimensat,
};
use dhow_sys::rustix::io::Errno;

use crate::archive::{Archive, Entry, Type};
use crate::error::{Problem, shown};
use crate::lower::{Found, is_whiteout};
use crate::place::split_name;
use crate::remove::remove_at;
use crate::stream::Stream;
use crate::unpack::Unpacker;
use crate::xattr::{self, Attributes};

/// The operation of a [`Problem::Io`] that is the archive's fault, not the disk's.
pub(crate) const READ: &str = "read";

const NEW_FILE: OFlags = OFlags::WRONLY
    .union(OFlags::CREATE)
    .union(OFlags::EXCL)
    .union(OFlags::NOFOLLOW)
    .union(OFlags::CLOEXEC);

/// Who owns a file.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Owner {
    uid: Uid,
    gid: Gid,
}

impl Owner {
    /// The owner that an entry names.
    pub(crate) fn of(entry: &Entry) -> Result<Self, Problem> {
        // The largest number means "as it is" to chown(2).
        let id = |id: u64| u32::try_from(id).ok().filter(|&id| id != u32::MAX);
        let limit = || Problem::Limit { what: "its owner's id", limit: u64::from(u32::MAX) - 1 };
        Ok(Self {
            uid: Uid::from_raw(id(entry.uid).ok_or_else(limit)?),
            gid: Gid::from_raw(id(entry.gid).ok_or_else(limit)?),
        })
    }

    fn of_stat(stat: &Stat) -> Self {
        Self { uid: Uid::from_raw(stat.st_uid), gid: Gid::from_raw(stat.st_gid) }
    }
}

/// Times for `utimensat(2)`: of access and of modification both the one that an archive knows.
pub(crate) fn timestamps((seconds, nanoseconds): (i64, u32)) -> Timestamps {
    let time = Timespec { tv_sec: seconds, tv_nsec: i64::from(nanoseconds) };
    Timestamps { last_access: time, last_modification: time }
}

fn times_of_stat(stat: &Stat) -> Timestamps {
    timestamps((stat.st_mtime, stat.st_mtime_nsec as u32))
}

fn kind_of(stat: &Stat) -> FileType {
    FileType::from_raw_mode(stat.st_mode)
}

impl Unpacker<'_> {
    /// Makes a file with the entry's data.
    pub(crate) fn make_file(
        &mut self,
        parent: &Rc<OwnedFd>,
        name: &[u8],
        entry: &Entry,
        archive: &mut Archive<&mut Stream<'_>>,
    ) -> Result<(), Problem> {
        let owner = Owner::of(entry)?;
        let mut file = self.new_file(parent, name)?;
        match &entry.sparse {
            None => copy_data(archive, &mut file, entry.size)?,
            Some(map) => {
                for &(offset, length) in map {
                    file.seek(SeekFrom::Start(offset)).map_err(Problem::io("write"))?;
                    copy_data(archive, &mut file, length)?;
                }
                file.set_len(entry.size).map_err(Problem::io("write"))?;
            }
        }
        self.finish_file(parent, name, &file, (owner, entry.mode, &entry.xattrs))?;
        futimens(&file, &timestamps(entry.mtime)).map_err(Problem::io("set the times of"))?;
        self.keep(file.into());
        Ok(())
    }

    /// Makes a folder, or gives one that is there the attributes of this entry.
    pub(crate) fn make_folder(
        &mut self,
        parent: &Rc<OwnedFd>,
        parts: &[&[u8]],
        entry: &Entry,
    ) -> Result<(), Problem> {
        let name = parts.last().copied().unwrap_or_default();
        let owner = Owner::of(entry)?;
        let made = match mkdirat(parent, name, Mode::RWXU) {
            Err(Errno::EXIST) => replace_by_folder(parent, name),
            made => made.map_err(Problem::io("create")).map(|()| true),
        }?;
        self.inodes += u64::from(made);
        dress(parent, name, owner, Some(entry.mode), &entry.xattrs)?;
        self.times.insert(parts.join(&b'/'), timestamps(entry.mtime));
        Ok(())
    }

    /// Makes a folder that the layer has no entry for, as the layers below have it.
    pub(crate) fn make_implied(
        &mut self,
        parent: &Rc<OwnedFd>,
        parts: &[&[u8]],
    ) -> Result<(), Problem> {
        let name = parts.last().copied().unwrap_or_default();
        let default = Mode::from_raw_mode(0o755);
        match mkdirat(parent, name, default) {
            Ok(()) => {}
            Err(Errno::EXIST) => {
                let stat = look_at(parent, name)?;
                if !is_whiteout(&stat) {
                    return Err(Problem::NotFolder(shown(&parts.join(&b'/'))));
                }
                // Nothing of what is below shows through what was removed.
                replace_by_folder(parent, name)?;
                return chmodat(parent.as_fd(), name, default, AtFlags::empty())
                    .map_err(Problem::io("set the mode of"));
            }
            Err(error) => return Err(Problem::io("create the folder of")(error)),
        }
        self.inodes += 1;
        let below = self.lower.find(parts).map_err(Problem::io("look below"))?;
        let Some(Found { folder, stat }) = below.filter(|found| is_folder(&found.stat)) else {
            // Whatever the process's umask is.
            return chmodat(parent.as_fd(), name, default, AtFlags::empty())
                .map_err(Problem::io("set the mode of"));
        };
        let xattrs = xattr::get_all(folder.as_fd(), name).map_err(Problem::io("look below"))?;
        dress(parent, name, Owner::of_stat(&stat), Some(stat.st_mode), &xattrs)?;
        self.times.insert(parts.join(&b'/'), times_of_stat(&stat));
        Ok(())
    }

    /// Gives the root the attributes that it has below, if it is there.
    pub(crate) fn dress_root_from_below(&mut self) -> io::Result<()> {
        let root = self.place.root();
        let Some(Found { folder, stat }) = self.lower.find(&[])? else { return Ok(()) };
        let xattrs = xattr::get_all(folder.as_fd(), b".")?;
        dress(&root, b".", Owner::of_stat(&stat), Some(stat.st_mode), &xattrs)
            .map_err(io::Error::other)?;
        self.times.insert(Vec::new(), times_of_stat(&stat));
        Ok(())
    }

    pub(crate) fn make_symlink(
        &mut self,
        parent: &Rc<OwnedFd>,
        name: &[u8],
        entry: &Entry,
    ) -> Result<(), Problem> {
        // Where it leads is the container's affair; it is never followed from outside.
        check_target(&entry.link)?;
        self.replacing(parent, name, || symlinkat(entry.link.as_slice(), parent, name))?;
        self.inodes += 1;
        dress(parent, name, Owner::of(entry)?, None, &entry.xattrs)?;
        set_times(parent, name, &timestamps(entry.mtime))
    }

    /// Makes a device or a fifo.
    pub(crate) fn make_node(
        &mut self,
        parent: &Rc<OwnedFd>,
        name: &[u8],
        entry: &Entry,
    ) -> Result<(), Problem> {
        let (kind, device) = match entry.kind {
            Type::CharDevice => {
                (FileType::CharacterDevice, makedev(entry.device.0, entry.device.1))
            }
            Type::BlockDevice => (FileType::BlockDevice, makedev(entry.device.0, entry.device.1)),
            _ => (FileType::Fifo, 0),
        };
        let owner = Owner::of(entry)?;
        let mode = Mode::RUSR | Mode::WUSR;
        self.replacing(parent, name, || mknodat(parent, name, kind, mode, device))?;
        self.inodes += 1;
        dress(parent, name, owner, Some(entry.mode), &entry.xattrs)?;
        set_times(parent, name, &timestamps(entry.mtime))
    }

    /// Makes a hard link to a file of this layer, or a copy of a file of the layers below.
    pub(crate) fn make_hard_link(
        &mut self,
        parent: &Rc<OwnedFd>,
        parts: &[&[u8]],
        target: &[u8],
    ) -> Result<(), Problem> {
        self.check_name(target)?;
        let target_parts = split_name(target)?;
        let no_target = || Problem::NoTarget(shown(target));
        let (Some((&name, _)), Some((&target_name, above))) =
            (parts.split_last(), target_parts.split_last())
        else {
            return Err(no_target());
        };
        if target_parts == parts {
            return Err(no_target());
        }
        let here = match self.place.find(above) {
            Ok(folder) => match statat(&folder, target_name, AtFlags::SYMLINK_NOFOLLOW) {
                Ok(stat) => Some((folder, stat)),
                Err(Errno::NOENT) => None,
                Err(error) => return Err(Problem::io("find the target of")(error)),
            },
            Err(Errno::NOENT | Errno::NOTDIR) => None,
            Err(error) => return Err(Problem::io("find the target of")(error)),
        };
        let Some((folder, stat)) = here else {
            let below = self.lower.find(&target_parts).map_err(Problem::io("look below"))?;
            let Found { folder, stat } = below.ok_or_else(no_target)?;
            return self.copy(&folder, target_name, &stat, parent, name)?.ok_or_else(no_target);
        };
        if is_folder(&stat) || is_whiteout(&stat) {
            return Err(no_target());
        }
        let link = || linkat(&*folder, target_name, parent, name, AtFlags::empty());
        match self.try_replacing(parent, name, link)? {
            // The filesystem takes no more links to one file.
            Err(Errno::MLINK) => {
                self.copy(&folder, target_name, &stat, parent, name)?.ok_or_else(no_target)
            }
            result => result.map_err(Problem::io("create")),
        }
    }

    /// Makes `name` hide what is below it.
    pub(crate) fn make_whiteout(
        &mut self,
        parent: &Rc<OwnedFd>,
        name: &[u8],
    ) -> Result<(), Problem> {
        match mknodat(parent, name, FileType::CharacterDevice, Mode::empty(), 0) {
            Ok(()) => {
                self.inodes += 1;
                Ok(())
            }
            // A whiteout speaks of the layers below only. A file of this layer hides them anyway.
            Err(Errno::EXIST) if is_folder(&look_at(parent, name)?) => set_opaque(parent, name),
            Err(Errno::EXIST) => Ok(()),
            Err(error) => Err(Problem::io("create")(error)),
        }
    }

    /// Makes the folder of these parts hide the one below it.
    pub(crate) fn make_opaque(&mut self, parts: &[&[u8]]) -> Result<(), Problem> {
        let folder = self.make_way(parts)?;
        xattr::set_opaque(folder.as_fd()).map_err(Problem::io("create"))
    }

    fn finish_file(
        &mut self,
        parent: &OwnedFd,
        name: &[u8],
        file: &File,
        (owner, mode, xattrs): (Owner, u32, &Attributes),
    ) -> Result<(), Problem> {
        fchown(file, Some(owner.uid), Some(owner.gid)).map_err(Problem::io("set the owner of"))?;
        fchmod(file, Mode::from_raw_mode(mode & 0o7777)).map_err(Problem::io("set the mode of"))?;
        self.inodes += 1;
        set_xattrs(parent, name, xattrs)
    }

    fn new_file(&mut self, parent: &Rc<OwnedFd>, name: &[u8]) -> Result<File, Problem> {
        let mode = Mode::RUSR | Mode::WUSR;
        self.replacing(parent, name, || openat(parent, name, NEW_FILE, mode)).map(File::from)
    }

    /// Copies a file or link; `None` if it is something else.
    fn copy(
        &mut self,
        from: &OwnedFd,
        from_name: &[u8],
        stat: &Stat,
        parent: &Rc<OwnedFd>,
        name: &[u8],
    ) -> Result<Option<()>, Problem> {
        let copying = || Problem::io::<io::Error>("copy the target of");
        let owner = Owner::of_stat(stat);
        let xattrs = xattr::get_all(from.as_fd(), from_name).map_err(copying())?;
        match kind_of(stat) {
            FileType::RegularFile => {
                self.count_copied(stat.st_size as u64)?;
                let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                let source = openat(from, from_name, flags, Mode::empty())
                    .map_err(Problem::io("copy the target of"))?;
                let mut file = self.new_file(parent, name)?;
                io::copy(&mut File::from(source), &mut file).map_err(copying())?;
                self.finish_file(parent, name, &file, (owner, stat.st_mode, &xattrs))?;
                futimens(&file, &times_of_stat(stat)).map_err(Problem::io("set the times of"))?;
                self.keep(file.into());
            }
            FileType::Symlink => {
                let target = readlinkat(from, from_name, Vec::new())
                    .map_err(Problem::io("copy the target of"))?;
                self.replacing(parent, name, || symlinkat(target.as_c_str(), parent, name))?;
                self.inodes += 1;
                dress(parent, name, owner, None, &xattrs)?;
                set_times(parent, name, &times_of_stat(stat))?;
            }
            _ => return Ok(None),
        }
        Ok(Some(()))
    }

    /// Makes something, once what is in its place is removed.
    fn replacing<T>(
        &mut self,
        parent: &Rc<OwnedFd>,
        name: &[u8],
        make: impl Fn() -> Result<T, Errno>,
    ) -> Result<T, Problem> {
        self.try_replacing(parent, name, make)?.map_err(Problem::io("create"))
    }

    /// As [`replacing`](Self::replacing), with the kernel's own refusal of `make` inside.
    fn try_replacing<T>(
        &mut self,
        parent: &Rc<OwnedFd>,
        name: &[u8],
        make: impl Fn() -> Result<T, Errno>,
    ) -> Result<Result<T, Errno>, Problem> {
        match make() {
            Err(Errno::EXIST) => {
                remove_at(parent.as_fd(), name).map_err(Problem::io("replace"))?;
                self.place.forget();
                Ok(make())
            }
            made => Ok(made),
        }
    }
}

fn is_folder(stat: &Stat) -> bool {
    kind_of(stat) == FileType::Directory
}

fn set_xattrs(parent: &OwnedFd, name: &[u8], xattrs: &Attributes) -> Result<(), Problem> {
    for (attribute, value) in xattrs {
        if xattr::is_overlays(attribute) || attribute.contains(&0) {
            return Err(Problem::Attribute(shown(attribute)));
        }
        xattr::set(parent.as_fd(), name, attribute, value)
            .map_err(Problem::io("set the attributes of"))?;
    }
    Ok(())
}

/// Copies the next `length` bytes of an entry into `file`.
fn copy_data(
    archive: &mut Archive<&mut Stream<'_>>,
    file: &mut File,
    mut length: u64,
) -> Result<(), Problem> {
    while length > 0 {
        let piece = archive.data().map_err(Problem::io(READ))?;
        let piece = piece.get(..piece.len().min(length as usize)).unwrap_or(piece);
        if piece.is_empty() {
            return Err(Problem::io(READ)(io::Error::from(io::ErrorKind::UnexpectedEof)));
        }
        file.write_all(piece).map_err(Problem::io("write"))?;
        let used = piece.len();
        archive.consume(used);
        length -= used as u64;
    }
    Ok(())
}

/// Sets owner, mode and extended attributes of `name`, which is no link to anything if it has a mode.
pub(crate) fn dress(
    parent: &OwnedFd,
    name: &[u8],
    owner: Owner,
    mode: Option<u32>,
    xattrs: &Attributes,
) -> Result<(), Problem> {
    chownat(parent, name, Some(owner.uid), Some(owner.gid), AtFlags::SYMLINK_NOFOLLOW)
        .map_err(Problem::io("set the owner of"))?;
    if let Some(mode) = mode {
        chmodat(parent, name, Mode::from_raw_mode(mode & 0o7777), AtFlags::empty())
            .map_err(Problem::io("set the mode of"))?;
    }
    set_xattrs(parent, name, xattrs)
}

fn set_times(parent: &OwnedFd, name: &[u8], times: &Timestamps) -> Result<(), Problem> {
    utimensat(parent, name, times, AtFlags::SYMLINK_NOFOLLOW)
        .map_err(Problem::io("set the times of"))
}

fn set_opaque(parent: &Rc<OwnedFd>, name: &[u8]) -> Result<(), Problem> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let folder = openat(parent, name, flags, Mode::empty()).map_err(Problem::io("open"))?;
    xattr::set_opaque(folder.as_fd()).map_err(Problem::io("create"))
}

fn look_at(parent: &OwnedFd, name: &[u8]) -> Result<Stat, Problem> {
    statat(parent, name, AtFlags::SYMLINK_NOFOLLOW).map_err(Problem::io("look at"))
}

fn check_target(target: &[u8]) -> Result<(), Problem> {
    const TARGET_MAX: usize = 4095;
    if target.is_empty() || target.contains(&0) {
        return Err(Problem::Name);
    }
    if target.len() > TARGET_MAX {
        return Err(Problem::Limit { what: "its target", limit: TARGET_MAX as u64 });
    }
    Ok(())
}

/// Makes sure that there is a folder where something is; says whether it was made now.
fn replace_by_folder(parent: &Rc<OwnedFd>, name: &[u8]) -> Result<bool, Problem> {
    let stat = look_at(parent, name)?;
    if is_folder(&stat) {
        return Ok(false);
    }
    unlinkat(parent, name, AtFlags::empty()).map_err(Problem::io("replace"))?;
    mkdirat(parent, name, Mode::RWXU).map_err(Problem::io("create"))?;
    if is_whiteout(&stat) {
        set_opaque(parent, name)?;
    }
    Ok(true)
}
