//! Loading seccomp filters (seccomp(2)), and answering the calls that one hands over
//! (seccomp_unotify(2)).

mod notify;

use std::ops::BitOr;
use std::os::fd::{FromRawFd, OwnedFd};
use std::ptr;

use rustix::io::{Errno, Result};

use crate::process::last_errno;

pub use notify::{Answer, Call, answer, next_call};

/// How a filter is loaded (SECCOMP_FILTER_FLAG_*).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct LoadFlags(u32);

impl LoadFlags {
    /// Nothing special.
    pub const NONE: Self = Self(0);
    /// Every action but "allow" is logged.
    pub const LOG: Self = Self(libc::SECCOMP_FILTER_FLAG_LOG as u32);
    /// The speculative store bypass mitigation is left off.
    pub const SPEC_ALLOW: Self = Self(libc::SECCOMP_FILTER_FLAG_SPEC_ALLOW as u32);
    /// While a listener answers a call, only a fatal signal interrupts it (Linux 5.19). Only for
    /// [`load_listened`].
    pub const WAIT_KILLABLE: Self = Self(libc::SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV as u32);
}

impl BitOr for LoadFlags {
    type Output = Self;

    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

/// Loads a filter onto this thread. Each instruction is a `struct sock_filter` in native byte order: code
/// (16 bits), jump if true (8), jump if false (8), constant (32).
///
/// Needs CAP_SYS_ADMIN or no_new_privs. Errors: EINVAL for a program that the kernel refuses or that has
/// more than 4,096 instructions.
pub fn load(instructions: &[u64], flags: LoadFlags) -> Result<()> {
    set_filter(instructions, flags.0).map(drop)
}

/// As [`load`]; gives the descriptor at which the calls that the filter hands over are answered, which is
/// close-on-exec (SECCOMP_FILTER_FLAG_NEW_LISTENER, Linux 5.0).
///
/// Errors: also EBUSY if this thread has a filter with a listener already, EINVAL if the kernel knows no
/// listeners.
pub fn load_listened(instructions: &[u64], flags: LoadFlags) -> Result<OwnedFd> {
    let flags = flags.0 | libc::SECCOMP_FILTER_FLAG_NEW_LISTENER as u32;
    let descriptor = set_filter(instructions, flags)?;
    // SAFETY: with this flag, success is a new descriptor that nobody else owns.
    Ok(unsafe { OwnedFd::from_raw_fd(descriptor as i32) })
}

/// What seccomp(2) returned.
fn set_filter(instructions: &[u64], flags: u32) -> Result<libc::c_long> {
    let length = libc::c_ushort::try_from(instructions.len()).map_err(|_| Errno::INVAL)?;
    // sock_filter has a size of 8 and an alignment of 4, so that a u64 holds and aligns one.
    let program = libc::sock_fprog { len: length, filter: instructions.as_ptr().cast_mut().cast() };
    // SAFETY: `program` points to `length` instructions that live across the call; the kernel copies
    // them, checks them and writes nothing.
    let result = unsafe {
        libc::syscall(
            libc::SYS_seccomp,
            libc::SECCOMP_SET_MODE_FILTER,
            flags,
            ptr::from_ref(&program),
        )
    };
    if result < 0 { Err(last_errno()) } else { Ok(result) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::namespace::Namespaces;
    use crate::process::clone3;

    #[test]
    fn a_filter_decides() {
        // ret ERRNO(EPERM) for everything would break exit; so: if nr == getppid: EPERM, else allow.
        let instruction =
            |code: u64, jt: u64, jf: u64, k: u64| code | jt << 16 | jf << 24 | k << 32;
        let program = [
            instruction(0x20, 0, 0, 0),
            instruction(0x15, 0, 1, libc::SYS_getppid as u64),
            instruction(0x06, 0, 0, 0x0005_0001),
            instruction(0x06, 0, 0, 0x7fff_0000),
        ];
        let child = clone3(Namespaces::NONE, None, || {
            if rustix::thread::set_no_new_privs(true).is_err() {
                return 1;
            }
            if load(&program, LoadFlags::NONE).is_err() {
                return 2;
            }
            // SAFETY: getppid takes nothing and touches no memory.
            let denied = unsafe { libc::syscall(libc::SYS_getppid) } == -1;
            u8::from(!denied) * 3
        })
        .unwrap();
        use std::os::fd::AsFd;
        let status = rustix::process::waitid(
            rustix::process::WaitId::PidFd(child.pidfd.as_fd()),
            rustix::process::WaitIdOptions::EXITED,
        )
        .unwrap();
        assert_eq!(status.and_then(|status| status.exit_status()), Some(0));
    }

    #[test]
    fn nonsense_is_refused() {
        assert_eq!(load(&[u64::MAX], LoadFlags::NONE), Err(Errno::INVAL));
        assert_eq!(load(&vec![0; 70_000], LoadFlags::NONE), Err(Errno::INVAL));
    }
}
