//! A tree to a layer's archive: the same bytes for the same tree, on every machine.
//!
//! Names are sorted by their bytes, a folder comes before what is in it, and every header has one form:
//! ustar, with an extended header for what does not fit (long names, large numbers, fractions of seconds,
//! extended attributes). Whiteouts and opaque folders of overlayfs become `.wh.` files again, the second
//! and later names of a file become hard links to the first, sockets are left out. Links are not
//! followed and mounts not entered.

use std::collections::HashMap;
use std::ffi::CStr;
use std::fs::File;
use std::io::{self, BufWriter, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use dhow_spec::{Digest, Hasher};
use dhow_sys::rustix::fs::{
    AtFlags, CWD, Dir, FileType, Mode, OFlags, ResolveFlags, Stat, fstat, major, minor, openat,
    openat2, readlinkat, statat,
};
use dhow_sys::rustix::io::Errno;
use tar::{EntryType, Header};

use crate::error::{Result, SnapshotError, shown};
use crate::lower::is_whiteout;
use crate::pax::{record, time_value};
use crate::xattr::{self, Attributes};

const BLOCK: u64 = 512;
const BUFFER: usize = 128 << 10;
/// So many folders on the way down are kept open; the others are opened again on the way up.
const OPEN_MAX: usize = 64;
const FOLDER: OFlags =
    OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// How a tree is packed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PackOptions {
    /// Whether the folder itself has an entry (`./`), which carries its attributes.
    pub root: bool,
    /// The time that everything gets, in seconds since 1970, instead of its own.
    pub mtime: Option<i64>,
    /// The owner (user and group id) that everything gets, instead of its own.
    pub owner: Option<(u32, u32)>,
}

impl Default for PackOptions {
    fn default() -> Self {
        Self { root: true, mtime: None, owner: None }
    }
}

/// What was packed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Packed {
    /// The digest of the archive, which is uncompressed.
    pub diff_id: Digest,
    /// The size of the archive in bytes.
    pub size_bytes: u64,
    /// How many entries it has.
    pub entries: u64,
}

/// Packs the tree in `folder` into an uncompressed archive.
///
/// A file that shrinks meanwhile is filled up with zeros, one that grows is cut off, one that goes is left
/// out. [`SnapshotError::Pack`] names the file that failed; so does a name that cannot be in a layer
/// (`.wh.x`, or longer than a path may be).
pub fn pack(folder: &Path, out: impl Write, options: &PackOptions) -> Result<Packed> {
    let mut packer = Packer {
        out: BufWriter::with_capacity(BUFFER, Hashing { out, hasher: Hasher::default(), size: 0 }),
        options,
        first_names: HashMap::new(),
        entries: 0,
    };
    let failed =
        |path: &[u8], source: io::Error| SnapshotError::Pack { entry: shown(path), source };
    let root = openat(CWD, folder, FOLDER, Mode::empty())
        .map_err(|error| failed(folder.as_os_str().as_encoded_bytes(), error.into()))?;
    packer.walk(&root).map_err(|(path, source)| failed(&path, source))?;
    packer.finish().map_err(|source| failed(b".", source))
}

struct Packer<'a, W: Write> {
    out: BufWriter<Hashing<W>>,
    options: &'a PackOptions,
    /// Under which name a file with several came first, by device and inode.
    first_names: HashMap<(u64, u64), Vec<u8>>,
    entries: u64,
}

/// A folder on the way down to where the walk is.
struct Step {
    /// Relative to the root; empty for the root.
    path: Vec<u8>,
    folder: Option<OwnedFd>,
    /// Sorted backwards, so that the next one is the last.
    names: Vec<Vec<u8>>,
}

type Failed = (Vec<u8>, io::Error);

impl<W: Write> Packer<'_, W> {
    fn walk(&mut self, root: &OwnedFd) -> Result<(), Failed> {
        let at_root = |error: io::Error| (b".".to_vec(), error);
        if self.options.root {
            let stat = fstat(root).map_err(|error| at_root(error.into()))?;
            self.entry(root, b".", b"./", &stat).map_err(at_root)?;
        }
        let mut steps = vec![self.step(root, Vec::new()).map_err(at_root)?];
        while let Some(step) = steps.last_mut() {
            let Some(name) = step.names.pop() else {
                steps.pop();
                continue;
            };
            let path = join(&step.path, &name);
            let depth = steps.len();
            let next = self.visit(root, &mut steps, &name, &path);
            if let Some(child) = next.map_err(|error| (path, error))? {
                if depth > OPEN_MAX
                    && let Some(step) = steps.last_mut()
                {
                    step.folder = None;
                }
                steps.push(child);
            }
        }
        Ok(())
    }

    /// Packs one name of the last of `steps`; returns the step into it if it is a folder.
    fn visit(
        &mut self,
        root: &OwnedFd,
        steps: &mut [Step],
        name: &[u8],
        path: &[u8],
    ) -> io::Result<Option<Step>> {
        let Some(step) = steps.last_mut() else { return Ok(None) };
        let folder = match step.folder.take() {
            Some(folder) => folder,
            None => open_beneath(root, &step.path)?,
        };
        let folder = &*step.folder.insert(folder);
        if name.starts_with(b".wh.") {
            let message = "a name that begins with .wh. means a removed file in a layer";
            return Err(io::Error::new(io::ErrorKind::InvalidInput, message));
        }
        let stat = match statat(folder, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => stat,
            Err(Errno::NOENT) => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        if FileType::from_raw_mode(stat.st_mode) != FileType::Directory {
            self.entry(folder, name, path, &stat)?;
            return Ok(None);
        }
        self.entry(folder, name, &join(path, b""), &stat)?;
        match self.step(root, path.to_vec()) {
            Ok(step) => Ok(Some(step)),
            // A mount, or gone meanwhile.
            Err(error) if is_errno(&error, Errno::XDEV) || is_errno(&error, Errno::NOENT) => {
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    /// The names in a folder, and the sign that it is opaque, if it is.
    fn step(&mut self, root: &OwnedFd, path: Vec<u8>) -> io::Result<Step> {
        let folder = open_beneath(root, &path)?;
        if xattr::is_opaque(folder.as_fd())? {
            self.whiteout(&join(&path, b".wh..wh..opq"))?;
        }
        let mut names = Vec::new();
        for entry in Dir::read_from(&folder)? {
            let entry = entry?;
            let name: &CStr = entry.file_name();
            if name != c"." && name != c".." {
                names.push(name.to_bytes().to_vec());
            }
        }
        names.sort_unstable_by(|a, b| b.cmp(a));
        Ok(Step { path, folder: Some(folder), names })
    }

    /// Packs what `name` in `folder` is, as `path`.
    fn entry(&mut self, folder: &OwnedFd, name: &[u8], path: &[u8], stat: &Stat) -> io::Result<()> {
        if is_whiteout(stat) {
            let at = path.len() - name.len();
            let above = path.get(..at).unwrap_or_default();
            return self.whiteout(&[above, b".wh.", name].concat());
        }
        let kind = FileType::from_raw_mode(stat.st_mode);
        let is_folder = kind == FileType::Directory;
        if !is_folder && stat.st_nlink > 1 {
            let inode = (stat.st_dev, stat.st_ino);
            if let Some(first) = self.first_names.get(&inode) {
                let link = first.clone();
                let head = Head { link: &link, ..Head::of(EntryType::Link, path, stat) };
                return self.header(&head, &Attributes::new());
            }
            self.first_names.insert(inode, path.to_vec());
        }
        let simple = match kind {
            FileType::RegularFile => return self.file(folder, name, path, stat),
            FileType::Symlink => {
                let target = readlinkat(folder, name, Vec::new())?;
                let xattrs = xattr::get_all(folder.as_fd(), name)?;
                let head =
                    Head { link: target.as_bytes(), ..Head::of(EntryType::Symlink, path, stat) };
                return self.header(&head, &xattrs);
            }
            FileType::Directory => EntryType::Directory,
            FileType::CharacterDevice => EntryType::Char,
            FileType::BlockDevice => EntryType::Block,
            FileType::Fifo => EntryType::Fifo,
            // A socket means nothing without the process behind it.
            _ => return Ok(()),
        };
        let xattrs = xattr::get_all(folder.as_fd(), name)?;
        self.header(&Head::of(simple, path, stat), &xattrs)
    }

    fn file(&mut self, folder: &OwnedFd, name: &[u8], path: &[u8], stat: &Stat) -> io::Result<()> {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let file = File::from(openat(folder, name, flags, Mode::empty())?);
        let xattrs = xattr::get_all(folder.as_fd(), name)?;
        let size = stat.st_size as u64;
        self.header(&Head { size, ..Head::of(EntryType::Regular, path, stat) }, &xattrs)?;
        let copied = io::copy(&mut file.take(size), &mut self.out)?;
        let padded = size.next_multiple_of(BLOCK);
        io::copy(&mut io::repeat(0).take(padded - copied), &mut self.out)?;
        Ok(())
    }

    fn whiteout(&mut self, path: &[u8]) -> io::Result<()> {
        let head = Head {
            kind: EntryType::Regular,
            path,
            link: b"",
            size: 0,
            mode: 0,
            owner: (0, 0),
            mtime: (0, 0),
            device: None,
        };
        self.header(&head, &Attributes::new())
    }

    /// Writes the header of an entry, and before it what does not fit into one.
    fn header(&mut self, head: &Head<'_>, xattrs: &Attributes) -> io::Result<()> {
        let mut head = *head;
        head.owner = self.options.owner.unwrap_or(head.owner);
        head.mtime = self.options.mtime.map_or(head.mtime, |seconds| (seconds, 0));
        let mut extended = Vec::new();
        let header = head.to_ustar(&mut extended);
        for (name, value) in xattrs {
            extended.extend(record(&[b"SCHILY.xattr.", name.as_slice()].concat(), value));
        }
        if !extended.is_empty() {
            let announce = Head {
                kind: EntryType::XHeader,
                path: b"PaxHeaders/entry",
                link: b"",
                size: extended.len() as u64,
                mode: 0o644,
                owner: (0, 0),
                mtime: (0, 0),
                device: None,
            };
            self.out.write_all(announce.to_ustar(&mut Vec::new()).as_bytes())?;
            let padded = extended.len().next_multiple_of(BLOCK as usize);
            extended.resize(padded, 0);
            self.out.write_all(&extended)?;
        }
        self.entries += 1;
        self.out.write_all(header.as_bytes())
    }

    fn finish(mut self) -> io::Result<Packed> {
        self.out.write_all(&[0; 2 * BLOCK as usize])?;
        self.out.flush()?;
        let hashing = self.out.into_inner().map_err(io::IntoInnerError::into_error)?;
        let (diff_id, size_bytes) = (hashing.hasher.finish(), hashing.size);
        Ok(Packed { diff_id, size_bytes, entries: self.entries })
    }
}

/// What a header says.
#[derive(Clone, Copy)]
struct Head<'a> {
    kind: EntryType,
    path: &'a [u8],
    link: &'a [u8],
    size: u64,
    mode: u32,
    owner: (u32, u32),
    mtime: (i64, u32),
    device: Option<(u32, u32)>,
}

impl<'a> Head<'a> {
    fn of(kind: EntryType, path: &'a [u8], stat: &Stat) -> Self {
        let has_device = matches!(kind, EntryType::Char | EntryType::Block);
        Self {
            kind,
            path,
            link: b"",
            size: 0,
            mode: stat.st_mode & 0o7777,
            owner: (stat.st_uid, stat.st_gid),
            mtime: (stat.st_mtime, stat.st_mtime_nsec as u32),
            device: has_device.then(|| (major(stat.st_rdev), minor(stat.st_rdev))),
        }
    }

    /// The header, with what does not fit into it added to `extended`.
    fn to_ustar(self, extended: &mut Vec<u8>) -> Header {
        let mut header = Header::new_ustar();
        header.set_entry_type(self.kind);
        header.set_mode(self.mode);
        if let Some(ustar) = header.as_ustar_mut() {
            fit(&mut ustar.name, self.path, b"path", extended);
            fit(&mut ustar.linkname, self.link, b"linkpath", extended);
        }
        header.set_size(fit_number(self.size, OCTAL_11, b"size", extended));
        header.set_uid(fit_number(self.owner.0.into(), OCTAL_7, b"uid", extended));
        header.set_gid(fit_number(self.owner.1.into(), OCTAL_7, b"gid", extended));
        let (seconds, nanoseconds) = self.mtime;
        match u64::try_from(seconds) {
            Ok(seconds) if nanoseconds == 0 && seconds <= OCTAL_11 => header.set_mtime(seconds),
            fitting => {
                header.set_mtime(fitting.map_or(0, |seconds| seconds.min(OCTAL_11)));
                extended.extend(record(b"mtime", time_value(seconds, nanoseconds).as_bytes()));
            }
        }
        if let (Some((major, minor)), Some(ustar)) = (self.device, header.as_ustar_mut()) {
            ustar.set_device_major(major);
            ustar.set_device_minor(minor);
        }
        header.set_cksum();
        header
    }
}

/// The largest numbers of seven and eleven octal digits.
const OCTAL_7: u64 = 0o777_7777;
const OCTAL_11: u64 = 0o777_7777_7777;

fn fit(field: &mut [u8], value: &[u8], key: &[u8], extended: &mut Vec<u8>) {
    if value.len() > field.len() {
        extended.extend(record(key, value));
    }
    for (target, byte) in field.iter_mut().zip(value) {
        *target = *byte;
    }
}

fn fit_number(value: u64, max: u64, key: &[u8], extended: &mut Vec<u8>) -> u64 {
    if value <= max {
        return value;
    }
    extended.extend(record(key, value.to_string().as_bytes()));
    0
}

/// Writes on, and knows the digest of all that was written.
struct Hashing<W> {
    out: W,
    hasher: Hasher,
    size: u64,
}

impl<W: Write> Write for Hashing<W> {
    fn write(&mut self, content: &[u8]) -> io::Result<usize> {
        let length = self.out.write(content)?;
        self.hasher.update(content.get(..length).unwrap_or(content));
        self.size += length as u64;
        Ok(length)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

fn open_beneath(root: &OwnedFd, path: &[u8]) -> io::Result<OwnedFd> {
    let within = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_XDEV;
    let path = if path.is_empty() { &b"."[..] } else { path };
    Ok(openat2(root, path, FOLDER, Mode::empty(), within)?)
}

fn join(path: &[u8], name: &[u8]) -> Vec<u8> {
    if path.is_empty() { name.to_vec() } else { [path, b"/", name].concat() }
}

fn is_errno(error: &io::Error, errno: Errno) -> bool {
    Errno::from_io_error(error) == Some(errno)
}
