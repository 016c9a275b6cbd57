//! An image's layers as one tree: what an overlay mount would show, without mounting.
//!
//! Looks into the layers' folders topmost first, beneath each folder's root and through no symbolic link
//! (openat2), and follows overlayfs's rules (the kernel's filesystems/overlayfs.rst): a character device
//! 0:0 removes a name, a folder with `trusted.overlay.opaque=y` hides the one below it.

use std::collections::BTreeMap;
use std::ffi::CStr;
use std::fs::File;
use std::io::Read;
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;

use dhow_error::{Error, Kind as ErrorKind, Result};
use dhow_sys::rustix::fs::{
    AtFlags, Dir, FileType, Mode, OFlags, ResolveFlags, Stat, fgetxattr, fstat, open, openat2,
    readlinkat, statat,
};
use dhow_sys::rustix::io::Errno;

use crate::path;
use crate::tree::{Kind, Node, Tree};

const FOLDER: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);

/// The layers of an image, topmost first.
#[derive(Debug)]
pub(crate) struct Layered {
    layers: Vec<OwnedFd>,
}

/// A folder as several layers have it, topmost first.
struct Merged(Vec<OwnedFd>);

/// A name within a merged folder.
enum Found {
    Nothing,
    /// Not a folder; in the folder of this layer.
    Leaf(Stat, OwnedFd),
    Folder(Stat, Merged),
}

impl Layered {
    /// Opens the layers' folders, topmost first.
    pub(crate) fn open(folders: &[PathBuf]) -> Result<Self> {
        let open = |folder: &PathBuf| {
            open(folder, FOLDER, Mode::empty())
                .map_err(|errno| failed(format!("cannot open {}", folder.display()), errno))
        };
        Ok(Self { layers: folders.iter().map(open).collect::<Result<_>>()? })
    }

    fn root(&self) -> Result<Merged> {
        let again = |layer: &OwnedFd| {
            beneath(layer, b".", FOLDER)
                .map_err(|errno| failed("cannot open a layer".to_owned(), errno))
        };
        Ok(Merged(self.layers.iter().map(again).collect::<Result<_>>()?))
    }

    fn find(&self, path: &[u8]) -> Result<Found> {
        let mut folder = self.root()?;
        if path.is_empty() {
            let Some(top) = folder.0.first() else { return Ok(Found::Nothing) };
            let stat = fstat(top).map_err(|errno| looking(path, errno))?;
            return Ok(Found::Folder(stat, folder));
        }
        let mut parts = path.split(|byte| *byte == b'/').peekable();
        while let Some(part) = parts.next() {
            let found = folder.find(part).map_err(|errno| looking(path, errno))?;
            match found {
                found if parts.peek().is_none() => return Ok(found),
                Found::Folder(_, next) => folder = next,
                _ => return Ok(Found::Nothing),
            }
        }
        Ok(Found::Nothing)
    }
}

impl Merged {
    fn find(&self, name: &[u8]) -> Result<Found, Errno> {
        let mut merged: Option<(Stat, Vec<OwnedFd>)> = None;
        for folder in &self.0 {
            let stat = match statat(folder, name, AtFlags::SYMLINK_NOFOLLOW) {
                Ok(stat) => stat,
                Err(Errno::NOENT) => continue,
                Err(errno) => return Err(errno),
            };
            if FileType::from_raw_mode(stat.st_mode) != FileType::Directory {
                // It hides what is below; if a folder is above it, it is hidden itself.
                if merged.is_none() && !is_whiteout(&stat) {
                    let folder = beneath(folder, b".", FOLDER)?;
                    return Ok(Found::Leaf(stat, folder));
                }
                break;
            }
            let own = beneath(folder, name, FOLDER)?;
            let is_opaque = is_opaque(&own)?;
            merged.get_or_insert_with(|| (stat, Vec::new())).1.push(own);
            if is_opaque {
                break;
            }
        }
        Ok(merged.map_or(Found::Nothing, |(stat, own)| Found::Folder(stat, Self(own))))
    }
}

impl Tree for Layered {
    fn look(&self, path: &[u8]) -> Result<Option<Node>> {
        match self.find(path)? {
            Found::Nothing if path.is_empty() => Ok(Some(Node::folder())),
            Found::Nothing => Ok(None),
            Found::Folder(stat, _) => Ok(Some(node(&stat, Kind::Folder))),
            Found::Leaf(stat, folder) => {
                let kind = match FileType::from_raw_mode(stat.st_mode) {
                    FileType::RegularFile => Kind::File,
                    FileType::Symlink => {
                        let target = readlinkat(&folder, path::name(path), Vec::new());
                        Kind::Symlink(target.map_err(|errno| looking(path, errno))?.into_bytes())
                    }
                    _ => Kind::Other,
                };
                Ok(Some(node(&stat, kind)))
            }
        }
    }

    fn names(&self, folder: &[u8]) -> Result<Vec<Vec<u8>>> {
        let Found::Folder(_, merged) = self.find(folder)? else { return Ok(Vec::new()) };
        // Whether the topmost one of each name is there or removed.
        let mut names: BTreeMap<Vec<u8>, bool> = BTreeMap::new();
        for layer in &merged.0 {
            for entry in Dir::read_from(layer).map_err(|errno| looking(folder, errno))? {
                let entry = entry.map_err(|errno| looking(folder, errno))?;
                let name: &CStr = entry.file_name();
                if name == c"." || name == c".." || names.contains_key(name.to_bytes()) {
                    continue;
                }
                let stat = statat(layer, name, AtFlags::SYMLINK_NOFOLLOW)
                    .map_err(|errno| looking(folder, errno))?;
                names.insert(name.to_bytes().to_vec(), !is_whiteout(&stat));
            }
        }
        Ok(names.into_iter().filter(|(_, is_there)| *is_there).map(|(name, _)| name).collect())
    }

    fn open(&self, path: &[u8]) -> Result<Box<dyn Read + Send + '_>> {
        let Found::Leaf(stat, folder) = self.find(path)? else {
            return Err(Error::not_found(format!("{:?} is no file", path::shown(path))));
        };
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
            return Err(Error::invalid(format!("{:?} is no regular file", path::shown(path))));
        }
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let file =
            beneath(&folder, path::name(path), flags).map_err(|errno| looking(path, errno))?;
        Ok(Box::new(File::from(file)))
    }
}

fn node(stat: &Stat, kind: Kind) -> Node {
    Node {
        kind,
        mode: stat.st_mode & 0o7777,
        uid: stat.st_uid.into(),
        gid: stat.st_gid.into(),
        mtime: stat.st_mtime,
        size: stat.st_size as u64,
    }
}

fn beneath(folder: &OwnedFd, name: &[u8], flags: OFlags) -> Result<OwnedFd, Errno> {
    let within = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_XDEV;
    openat2(folder, name, flags, Mode::empty(), within)
}

fn is_whiteout(stat: &Stat) -> bool {
    FileType::from_raw_mode(stat.st_mode) == FileType::CharacterDevice && stat.st_rdev == 0
}

fn is_opaque(folder: &OwnedFd) -> Result<bool, Errno> {
    let mut value = [0_u8; 1];
    match fgetxattr(folder.as_fd(), c"trusted.overlay.opaque", &mut value[..]) {
        Ok(1) => Ok(value == *b"y"),
        Ok(_) | Err(Errno::NODATA | Errno::OPNOTSUPP | Errno::RANGE) => Ok(false),
        Err(errno) => Err(errno),
    }
}

fn looking(path: &[u8], errno: Errno) -> Error {
    failed(format!("cannot look at {:?} in the image", path::shown(path)), errno)
}

fn failed(message: String, errno: Errno) -> Error {
    Error::caused(ErrorKind::Internal, message, std::io::Error::from(errno))
}
