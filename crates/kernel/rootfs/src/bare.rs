//! A mount namespace with nothing in it, which containers start from.
//!
//! ```text
//!   once         child: clone3(NEWNS) ─► empty tmpfs onto "/" ─► pivot_root ─► host's tree gone ─► ends
//!                  └──── descriptor of its namespace ───► kept by the maker
//!   a container  setns ─► unshare(NEWNS): a copy of two mounts ─► root onto "/" ─► chroot into it
//! ```
//!
//! Why: a namespace copied from the host's has the host's tree, and letting go of that (umount of the old
//! root) waits for an RCU grace period, which is 0.1 to 4 ms with the machine's load. From here nothing has
//! to be let go of: the host's tree is not in the namespace in the first place. What lies under the
//! container's root is an empty read-only directory, where a pivot leaves the kernel's own rootfs.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use dhow_sys::mount::MountAttrFlags;
use dhow_sys::namespace::{self, Namespaces};
use dhow_sys::process::clone3;
use dhow_sys::rustix::fs::{Mode, OFlags, open};
use dhow_sys::rustix::io::Errno;
use dhow_sys::rustix::stdio;
use dhow_sys::{event, fdpass, seal};

use crate::failure::{Doing, Failure};
use crate::{filesystem, root};

/// An empty mount namespace, kept by its descriptor.
#[derive(Debug)]
pub struct Bare(OwnedFd);

impl Bare {
    /// Makes one. Call it from a single-threaded process. Errors: those of clone3(2) and of mounting.
    pub fn make() -> Result<Self, Failure> {
        let doing = || "cannot make an empty mount namespace";
        let (ours, theirs) = fdpass::packet_pair().doing(doing)?;
        let child = clone3(Namespaces::MOUNT, None, || u8::from(!hand_over(theirs.as_fd())))
            .doing(doing)?;
        drop(theirs);
        let message = fdpass::receive(&ours, &mut [0]).doing(doing)?;
        // A caller that ignores its children has nothing to wait for.
        let _ = event::reap_blocking(child.pidfd.as_fd());
        message.descriptors.into_iter().next().map(Self).ok_or(Errno::IO).doing(doing)
    }

    /// Moves this process into an empty mount namespace of its own. Paths lead nowhere from here on;
    /// descriptors go on to mean what they meant.
    pub(crate) fn enter(&self) -> Result<(), Failure> {
        namespace::join(self.0.as_fd(), Namespaces::MOUNT)
            .and_then(|()| namespace::unshare(Namespaces::MOUNT))
            .doing(|| "cannot make a mount namespace")
    }
}

/// The child. It holds nothing of its parent's: should that die now, nobody may take the child for it.
fn hand_over(to: BorrowedFd<'_>) -> bool {
    if stdio::dup2_stdin(to).and_then(|()| seal::close_inherited()).is_err() {
        return false;
    }
    empty().is_ok_and(|namespace| fdpass::send(stdio::stdin(), b"n", &[namespace.as_fd()]).is_ok())
}

/// Empties this process's own mount namespace, and gives its descriptor.
fn empty() -> Result<OwnedFd, Failure> {
    let namespace = open(c"/proc/self/ns/mnt", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
        .doing(|| "cannot open the mount namespace")?;
    root::leave_host_propagation()?;
    let data = [(c"nr_inodes", c"1"), (c"mode", c"555")];
    let what = || "an empty root".to_owned();
    let tmpfs =
        filesystem::make(c"tmpfs", Some(c"none"), data, MountAttrFlags::MOUNT_ATTR_RDONLY, what)?;
    let tmpfs = root::onto_slash(tmpfs)?;
    root::pivot(tmpfs.as_fd())?;
    Ok(namespace)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_is_nothing_in_it() {
        let bare = Bare::make().unwrap();
        let child = clone3(Namespaces::NONE, None, || {
            let entered = bare.enter().is_ok();
            let nothing = std::fs::read_dir("/").is_ok_and(|files| files.count() == 0);
            let cannot_write = std::fs::write("/x", "").is_err();
            u8::from(!(entered && nothing && cannot_write))
        })
        .unwrap();
        assert_eq!(event::reap_blocking(child.pidfd.as_fd()), Ok(event::Ended::Code(0)));
    }
}
