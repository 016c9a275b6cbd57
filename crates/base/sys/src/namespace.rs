//! Namespaces: leaving and joining them (unshare, setns), and bringing up a new one's loopback.
//!
//! All of it concerns the calling thread only, except that a joined mount or user namespace demands a
//! single-threaded process (setns(2)).

use std::mem::MaybeUninit;
use std::ops::BitOr;
use std::os::fd::{AsRawFd, BorrowedFd};

use rustix::io::Result;
use rustix::net::{AddressFamily, SocketFlags, SocketType, socket_with};

use crate::process::check;

/// A set of kinds of namespaces, with the kernel's CLONE_NEW* bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Namespaces(u32);

impl Namespaces {
    /// No kind at all.
    pub const NONE: Self = Self(0);
    /// Mounts.
    pub const MOUNT: Self = Self(libc::CLONE_NEWNS as u32);
    /// Control group roots.
    pub const CGROUP: Self = Self(libc::CLONE_NEWCGROUP as u32);
    /// Host and domain names.
    pub const UTS: Self = Self(libc::CLONE_NEWUTS as u32);
    /// System V IPC and POSIX message queues.
    pub const IPC: Self = Self(libc::CLONE_NEWIPC as u32);
    /// Process ids.
    pub const PID: Self = Self(libc::CLONE_NEWPID as u32);
    /// Network devices, addresses, ports.
    pub const NETWORK: Self = Self(libc::CLONE_NEWNET as u32);
    /// Users, groups and capabilities.
    pub const USER: Self = Self(libc::CLONE_NEWUSER as u32);
    /// Offsets of the monotonic and boot-time clocks. Not for clone: the offsets could not be set any more
    /// (time_namespaces(7)).
    pub const TIME: Self = Self(libc::CLONE_NEWTIME as u32);

    /// The kernel's bits.
    pub fn bits(self) -> u32 {
        self.0
    }

    /// Whether all kinds of `other` are in this set.
    pub fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// Whether there is no kind in it.
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// This set without the kinds of `other`.
    #[must_use]
    pub fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    /// This set with the kinds of `other` as well.
    pub fn insert(&mut self, other: Self) {
        self.0 |= other.0;
    }
}

impl BitOr for Namespaces {
    type Output = Self;

    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

/// Moves this thread into new namespaces of those kinds (unshare(2)).
pub fn unshare(kinds: Namespaces) -> Result<()> {
    // SAFETY: unshare takes an integer. A `Namespaces` cannot hold CLONE_FILES, so no thread loses sight
    // of descriptors that safe code believes open.
    check(unsafe { libc::syscall(libc::SYS_unshare, kinds.0) })
}

/// Moves this thread into the namespaces of those kinds of a process (by pid descriptor) or into the one
/// namespace that `of` is (by a descriptor of /proc/PID/ns/X) (setns(2)).
///
/// A pid namespace concerns only children made from then on.
pub fn join(of: BorrowedFd<'_>, kinds: Namespaces) -> Result<()> {
    // SAFETY: setns takes a descriptor, borrowed for the call, and an integer.
    check(unsafe { libc::syscall(libc::SYS_setns, of.as_raw_fd(), kinds.0) })
}

/// Brings up `lo` of this thread's network namespace (netdevice(7)).
pub fn loopback_up() -> Result<()> {
    let socket = socket_with(AddressFamily::INET, SocketType::DGRAM, SocketFlags::CLOEXEC, None)?;
    // SAFETY: ifreq is integers and a union of such, for which all zeroes is valid.
    let mut request: libc::ifreq = unsafe { MaybeUninit::zeroed().assume_init() };
    request.ifr_name[0] = b'l' as libc::c_char;
    request.ifr_name[1] = b'o' as libc::c_char;
    request.ifr_ifru.ifru_flags = (libc::IFF_UP | libc::IFF_RUNNING) as libc::c_short;
    // SAFETY: SIOCSIFFLAGS reads an ifreq, which lives across the call.
    check(unsafe {
        libc::syscall(
            libc::SYS_ioctl,
            socket.as_raw_fd(),
            libc::SIOCSIFFLAGS,
            std::ptr::from_ref(&request),
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sets_combine() {
        let mut set = Namespaces::MOUNT | Namespaces::PID;
        assert!(set.contains(Namespaces::PID) && !set.contains(Namespaces::NETWORK));
        set.insert(Namespaces::NETWORK);
        assert!(set.contains(Namespaces::NETWORK) && !set.is_empty());
    }

    #[test]
    fn a_new_network_namespace_gets_its_loopback_up() {
        // A thread of its own: namespaces are the thread's.
        std::thread::spawn(|| {
            unshare(Namespaces::NETWORK).unwrap();
            loopback_up().unwrap();
            std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        })
        .join()
        .unwrap();
    }
}
