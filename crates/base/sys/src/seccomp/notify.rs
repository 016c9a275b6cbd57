//! Calls that a filter hands over to a listener (seccomp_unotify(2)).
//!
//! ```text
//!   process   a call with SECCOMP_RET_USER_NOTIF ─► waits ───────────────────────► goes on
//!   listener            poll ─► next_call (NOTIF_RECV) ─► answer (NOTIF_SEND) ─────┘
//! ```
//!
//! What a call's pointers lead to can change while it waits, and so can what its pid means: see the man
//! page before anything is decided by them.

use std::os::fd::{AsFd, AsRawFd};

use rustix::io::{Errno, Result};

use crate::process::check;

/// `SECCOMP_IOCTL_NOTIF_RECV`: `_IOWR('!', 0, struct seccomp_notif)`.
const RECEIVE: libc::c_ulong = 0xc050_2100;
/// `SECCOMP_IOCTL_NOTIF_SEND`: `_IOWR('!', 1, struct seccomp_notif_resp)`.
const SEND: libc::c_ulong = 0xc018_2101;

/// A call that waits for its answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Call {
    /// What the answer names.
    pub id: u64,
    /// Who calls, in our pid namespace; 0 if it is not seen from there.
    pub pid: u32,
    /// The number of the system call.
    pub number: i32,
    /// Its arguments.
    pub arguments: [u64; 6],
}

/// What a call that waits is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    /// It is carried out (SECCOMP_USER_NOTIF_FLAG_CONTINUE, Linux 5.5).
    Continue,
    /// It has returned this without being carried out.
    Return(i64),
    /// It has failed with this without being carried out.
    Fail(Errno),
}

/// Takes the next call that waits at `listener`; waits for one itself.
///
/// Errors: ENOENT if the caller was killed meanwhile: there may be another call to take.
pub fn next_call(listener: impl AsFd) -> Result<Call> {
    // SAFETY: seccomp_notif is plain integers, for which all zeroes is a valid value; the kernel wants it
    // to be zeroes.
    let mut taken: libc::seccomp_notif = unsafe { std::mem::zeroed() };
    // SAFETY: the kernel writes a seccomp_notif, whose size is part of the request's number, to `taken`.
    check(unsafe { libc::ioctl(listener.as_fd().as_raw_fd(), RECEIVE, &raw mut taken) }.into())?;
    Ok(Call { id: taken.id, pid: taken.pid, number: taken.data.nr, arguments: taken.data.args })
}

/// Answers a call taken from `listener`.
///
/// Errors: ENOENT if the caller is gone.
pub fn answer(listener: impl AsFd, call: &Call, answer: Answer) -> Result<()> {
    let (val, error, flags) = match answer {
        Answer::Continue => (0, 0, libc::SECCOMP_USER_NOTIF_FLAG_CONTINUE as u32),
        Answer::Return(value) => (value, 0, 0),
        Answer::Fail(errno) => (0, -errno.raw_os_error(), 0),
    };
    let mut given = libc::seccomp_notif_resp { id: call.id, val, error, flags };
    // SAFETY: the kernel reads a seccomp_notif_resp, whose size is part of the request's number.
    check(unsafe { libc::ioctl(listener.as_fd().as_raw_fd(), SEND, &raw mut given) }.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fdpass;
    use crate::namespace::Namespaces;
    use crate::process::clone3;
    use crate::seccomp::{LoadFlags, load_listened};

    #[test]
    fn calls_are_handed_over_and_answered() {
        let instruction =
            |code: u64, jt: u64, jf: u64, k: u64| code | jt << 16 | jf << 24 | k << 32;
        let program = [
            instruction(0x20, 0, 0, 0),
            instruction(0x15, 0, 1, libc::SYS_getppid as u64),
            instruction(0x06, 0, 0, 0x7fc0_0000),
            instruction(0x06, 0, 0, 0x7fff_0000),
        ];
        let (ours, theirs) = fdpass::packet_pair().unwrap();
        let child = clone3(Namespaces::NONE, None, || {
            if rustix::thread::set_no_new_privs(true).is_err() {
                return 1;
            }
            let Ok(listener) = load_listened(&program, LoadFlags::WAIT_KILLABLE) else { return 2 };
            if fdpass::send(&theirs, b"l", &[listener.as_fd()]).is_err() {
                return 3;
            }
            // SAFETY: getppid takes nothing and touches no memory.
            let ask = || unsafe { libc::syscall(libc::SYS_getppid) };
            let (first, second, third) = (ask(), ask(), ask());
            u8::from(first != 77 || second != -1 || third < 1) * 4
        })
        .unwrap();
        let listener = fdpass::receive(&ours, &mut [0]).unwrap().descriptors.pop().unwrap();
        for given in [Answer::Return(77), Answer::Fail(Errno::NOTTY), Answer::Continue] {
            let call = next_call(&listener).unwrap();
            assert_eq!((call.number, call.pid), (libc::SYS_getppid as i32, child.pid as u32));
            answer(&listener, &call, given).unwrap();
        }
        let status = rustix::process::waitid(
            rustix::process::WaitId::PidFd(child.pidfd.as_fd()),
            rustix::process::WaitIdOptions::EXITED,
        )
        .unwrap();
        assert_eq!(status.and_then(|status| status.exit_status()), Some(0));
    }
}
