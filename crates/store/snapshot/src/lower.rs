//! What the layers below show at a path, as overlayfs would merge them.
//!
//! A layer hides what is below it by a whiteout, by a folder that is opaque, or by anything that is no
//! folder where the path goes on.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;

use dhow_sys::rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, Stat, openat, statat};
use dhow_sys::rustix::io::Errno;

use crate::xattr;

const FOLDER: OFlags =
    OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// The layers below, open.
#[derive(Debug)]
pub(crate) struct Lower {
    /// Topmost first.
    roots: Vec<OwnedFd>,
}

/// Something that the layers below show.
#[derive(Debug)]
pub(crate) struct Found {
    /// The folder that it is in, of the layer that shows it.
    pub(crate) folder: OwnedFd,
    /// What it is.
    pub(crate) stat: Stat,
}

enum Look {
    Found(Found),
    /// This layer says nothing about the path.
    Absent,
    /// There is nothing at the path, whatever lies below.
    Hidden,
}

impl Lower {
    /// Opens the folders of layers, topmost first.
    pub(crate) fn open(folders: &[PathBuf]) -> io::Result<Self> {
        let open = |folder: &PathBuf| Ok(openat(CWD, folder, FOLDER, Mode::empty())?);
        Ok(Self { roots: folders.iter().map(open).collect::<io::Result<_>>()? })
    }

    /// What is at the path of these parts; of `.` for none.
    pub(crate) fn find(&self, parts: &[&[u8]]) -> io::Result<Option<Found>> {
        for root in &self.roots {
            match look(root, parts)? {
                Look::Found(found) => return Ok(Some(found)),
                Look::Absent => {}
                Look::Hidden => return Ok(None),
            }
        }
        Ok(None)
    }
}

fn look(root: &OwnedFd, parts: &[&[u8]]) -> io::Result<Look> {
    let mut folder = root.try_clone()?;
    let mut opaque = false;
    let (last, above) = match parts.split_last() {
        Some((last, above)) => (*last, above),
        None => (&b"."[..], parts),
    };
    let absent = |opaque| Ok(if opaque { Look::Hidden } else { Look::Absent });
    for part in above {
        folder = match openat(&folder, *part, FOLDER, Mode::empty()) {
            Ok(child) => child,
            Err(Errno::NOENT) => return absent(opaque),
            Err(Errno::NOTDIR | Errno::LOOP) => return Ok(Look::Hidden),
            Err(error) => return Err(error.into()),
        };
        opaque |= xattr::is_opaque(folder.as_fd())?;
    }
    match statat(&folder, last, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(stat) if is_whiteout(&stat) => Ok(Look::Hidden),
        Ok(stat) => Ok(Look::Found(Found { folder, stat })),
        Err(Errno::NOENT) => absent(opaque),
        Err(error) => Err(error.into()),
    }
}

/// Whether this is a whiteout of overlayfs: a character device 0:0.
pub(crate) fn is_whiteout(stat: &Stat) -> bool {
    FileType::from_raw_mode(stat.st_mode) == FileType::CharacterDevice && stat.st_rdev == 0
}
