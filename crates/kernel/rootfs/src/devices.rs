//! Device nodes and links in /dev (OCI runtime specification, config-linux.md, "Default Devices").
//!
//! In a user namespace nobody can make a device node, so there the host's own are bound: the one of the same
//! path, or that of /dev/char or /dev/block by its number. They keep the host's owner and mode.

use std::cell::OnceCell;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use dhow_spec::oci_runtime::{LinuxDevice, LinuxDeviceType};
use dhow_sys::beneath;
use dhow_sys::mount::{OpenTreeFlags, Propagation, attach, change_propagation, open_tree};
use dhow_sys::rustix::fs::{
    AtFlags, CWD, FileType, Gid, Mode, OFlags, Uid, chownat, fstat, major, makedev, minor, mknodat,
    openat, statat, symlinkat,
};
use dhow_sys::rustix::io::Errno;

use crate::failure::{Doing, Failure, PlanError};
use crate::text::inner_path;

/// A device node to make.
#[derive(Debug)]
pub(crate) struct Node {
    path: String,
    file_type: FileType,
    device: u64,
    mode: Mode,
    owner: Option<(u32, u32)>,
    /// With a user namespace: the host's node, filled in the child.
    bound: Option<OnceCell<OwnedFd>>,
}

/// The devices that every container has: path, major, minor.
const DEFAULT: [(&str, u32, u32); 6] = [
    ("/dev/null", 1, 3),
    ("/dev/zero", 1, 5),
    ("/dev/full", 1, 7),
    ("/dev/random", 1, 8),
    ("/dev/urandom", 1, 9),
    ("/dev/tty", 5, 0),
];

/// The links that every container has: their names in /dev, and what they say.
const LINKS: [(&str, &str); 6] = [
    ("fd", "/proc/self/fd"),
    ("stdin", "/proc/self/fd/0"),
    ("stdout", "/proc/self/fd/1"),
    ("stderr", "/proc/self/fd/2"),
    ("core", "/proc/kcore"),
    ("ptmx", "pts/ptmx"),
];

const PARENTS: Mode = Mode::from_raw_mode(0o755);

/// The default nodes and those of the specification, which come first where both name a path.
pub(crate) fn prepare(
    devices: &[LinuxDevice],
    user_namespace: bool,
) -> Result<Vec<Node>, PlanError> {
    let mut nodes = devices
        .iter()
        .map(|device| Node::new(device, user_namespace))
        .collect::<Result<Vec<_>, _>>()?;
    for (path, major, minor) in DEFAULT {
        if nodes.iter().any(|node| node.path == path) {
            continue;
        }
        nodes.push(Node {
            path: path.to_owned(),
            file_type: FileType::CharacterDevice,
            device: makedev(major, minor),
            mode: Mode::from_raw_mode(0o666),
            owner: None,
            bound: user_namespace.then(OnceCell::new),
        });
    }
    Ok(nodes)
}

/// Makes all nodes and links beneath `root`; what an image or a mount brings along under a link's name
/// stays. The umask must be 0.
pub(crate) fn make(nodes: &[Node], root: BorrowedFd<'_>) -> Result<(), Failure> {
    let dev = beneath::make_directory(root, b"dev", PARENTS).doing(|| "cannot make /dev")?;
    for node in nodes {
        node.make(root, dev.as_fd()).doing(|| format!("cannot make device {}", node.path))?;
    }
    for (name, target) in LINKS {
        match symlinkat(target, &dev, name) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(errno) => return Err(Failure::new(errno, format!("cannot make link /dev/{name}"))),
        }
    }
    Ok(())
}

impl Node {
    fn new(device: &LinuxDevice, user_namespace: bool) -> Result<Self, PlanError> {
        let path = inner_path("device path", device.path())?;
        let file_type = match device.typ() {
            LinuxDeviceType::B => FileType::BlockDevice,
            LinuxDeviceType::C | LinuxDeviceType::U => FileType::CharacterDevice,
            LinuxDeviceType::P => FileType::Fifo,
            LinuxDeviceType::A => return Err(PlanError::DeviceType(path)),
        };
        let owner = match (device.uid(), device.gid()) {
            (None | Some(0), None | Some(0)) => None,
            (uid, gid) => Some((uid.unwrap_or(0), gid.unwrap_or(0))),
        };
        Ok(Self {
            path,
            file_type,
            device: makedev(device.major() as u32, device.minor() as u32),
            mode: Mode::from_raw_mode(device.file_mode().unwrap_or(0o666) & 0o7777),
            owner,
            // A FIFO can be made anywhere.
            bound: (user_namespace && file_type != FileType::Fifo).then(OnceCell::new),
        })
    }

    /// Clones the mount of the host's node, if that is to be bound.
    pub(crate) fn open_source(&self) -> Result<(), Failure> {
        let Some(bound) = &self.bound else { return Ok(()) };
        let kind = if self.file_type == FileType::BlockDevice { "block" } else { "char" };
        let (major, minor) = (major(self.device), minor(self.device));
        let by_number = format!("/dev/{kind}/{major}:{minor}");
        let tree = match self.open_host(&self.path) {
            Ok(tree) => tree,
            Err(_) => self.open_host(&by_number).map_err(|errno| {
                let path = &self.path;
                let message = format!("cannot find device {path} ({major}:{minor}) on the host");
                Failure::new(errno, message)
                    .with_hint("in a user namespace devices are the host's: it needs one there")
            })?,
        };
        // Never filled before: the cell belongs to this one child.
        let _ = bound.set(tree);
        Ok(())
    }

    /// A detached mount of the host's `path`, checked to be this device.
    fn open_host(&self, path: &str) -> Result<OwnedFd, Errno> {
        let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
        let tree = open_tree(CWD, path, flags)?;
        let status = fstat(&tree)?;
        let same_type = FileType::from_raw_mode(status.st_mode) == self.file_type;
        if !same_type || status.st_rdev != self.device {
            return Err(Errno::NODEV);
        }
        change_propagation(tree.as_fd(), Propagation::Private, false)?;
        Ok(tree)
    }

    fn make(&self, root: BorrowedFd<'_>, dev: BorrowedFd<'_>) -> Result<(), Errno> {
        let in_dev = self.path.strip_prefix("/dev/").filter(|name| !name.contains('/'));
        if let Some(name) = in_dev {
            return self.make_in(dev, name.as_bytes());
        }
        let (parent, name) = beneath::make_parent(root, relative(&self.path), PARENTS)?;
        self.make_in(parent.as_fd(), name)
    }

    fn make_in(&self, parent: BorrowedFd<'_>, name: &[u8]) -> Result<(), Errno> {
        if let Some(bound) = &self.bound {
            return self.bind_in(parent, name, bound.get().ok_or(Errno::BADF)?);
        }
        match mknodat(parent, name, self.file_type, self.mode, self.device) {
            Ok(()) => {}
            Err(Errno::EXIST) if self.is_there(parent, name)? => {}
            Err(errno) => return Err(errno),
        }
        let Some((uid, gid)) = self.owner else { return Ok(()) };
        let (uid, gid) = (Uid::from_raw(uid), Gid::from_raw(gid));
        chownat(parent, name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)
    }

    fn bind_in(&self, parent: BorrowedFd<'_>, name: &[u8], node: &OwnedFd) -> Result<(), Errno> {
        let new = OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        match openat(parent, name, new, Mode::from_raw_mode(0o644)) {
            Ok(_) => {}
            Err(Errno::EXIST) if self.is_there(parent, name)? => return Ok(()),
            Err(errno) => return Err(errno),
        }
        let place = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        attach(node.as_fd(), openat(parent, name, place, Mode::empty())?.as_fd())
    }

    /// Whether the very same device is there already.
    fn is_there(&self, parent: BorrowedFd<'_>, name: &[u8]) -> Result<bool, Errno> {
        let status = statat(parent, name, AtFlags::SYMLINK_NOFOLLOW)?;
        let same_type = FileType::from_raw_mode(status.st_mode) == self.file_type;
        Ok(same_type && (status.st_rdev == self.device || self.file_type == FileType::Fifo))
    }
}

fn relative(path: &str) -> &[u8] {
    path.as_bytes().get(1..).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;

    #[test]
    fn the_specification_comes_before_the_defaults() {
        let mut null = LinuxDevice::default();
        null.set_path(PathBuf::from("/dev/../dev/null")).set_typ(LinuxDeviceType::C);
        null.set_major(1).set_minor(3).set_file_mode(Some(0o600));
        let nodes = prepare(&[null], false).unwrap();
        assert_eq!(nodes.len(), DEFAULT.len());
        assert_eq!(nodes[0].path, "/dev/null");
        assert_eq!(nodes[0].mode, Mode::from_raw_mode(0o600));
    }

    #[test]
    fn a_device_of_every_type_cannot_be_made() {
        let mut all = LinuxDevice::default();
        all.set_path(PathBuf::from("/dev/x")).set_typ(LinuxDeviceType::A);
        assert_eq!(prepare(&[all], false).unwrap_err(), PlanError::DeviceType("/dev/x".to_owned()));
    }
}
