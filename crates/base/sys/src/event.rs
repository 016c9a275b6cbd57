//! What a loop waits for: epoll with explicit interest, and the exit of children by pid descriptor.
//!
//! A [`Poller`] is level-triggered. A descriptor in which nobody has an interest right now is taken out of
//! the set: epoll reports hang-ups whether asked for or not, and a loop that cannot act on one would spin.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use rustix::buffer::spare_capacity;
use rustix::event::{Timespec, epoll};
use rustix::io::{Errno, Result};
use rustix::process::{WaitId, WaitIdOptions};

use crate::process::check;

/// What a descriptor is watched for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Interest {
    /// Bytes to read, end of stream, hang-up.
    pub read: bool,
    /// Room to write, or nobody there to read.
    pub write: bool,
    /// Both directions closed, or an error. Comes with the others anyway; by itself for a descriptor that
    /// has nothing to read or write now but whose end must not go unnoticed.
    pub hangup: bool,
}

impl Interest {
    /// Not watched.
    pub const NONE: Self = Self { read: false, write: false, hangup: false };
    /// Watched for reading only.
    pub const READ: Self = Self { read: true, write: false, hangup: true };
    /// Watched for writing only.
    pub const WRITE: Self = Self { read: false, write: true, hangup: true };
}

/// A descriptor that has something to say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ready {
    /// The token it was set with.
    pub token: u64,
    /// A read will not block (it may well tell of the end or an error).
    pub readable: bool,
    /// A write will not block (it may well tell of an error).
    pub writable: bool,
    /// Both directions are closed, or there is an error.
    pub hangup: bool,
}

/// An epoll set.
pub struct Poller {
    epoll: OwnedFd,
    events: Vec<epoll::Event>,
}

impl std::fmt::Debug for Poller {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Poller").field("epoll", &self.epoll).finish_non_exhaustive()
    }
}

impl Poller {
    /// An empty set that takes up to `batch` events at a time. Errors: those of epoll_create1(2).
    pub fn new(batch: usize) -> Result<Self> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        Ok(Self { epoll, events: Vec::with_capacity(batch.max(1)) })
    }

    /// Watches `descriptor` for `wanted` from now on. `current` is what it was watched for until now and
    /// is brought up to date; the caller keeps it with the descriptor. Errors: those of epoll_ctl(2);
    /// `EPERM` for a descriptor that never blocks, such as a regular file.
    pub fn set(
        &self,
        descriptor: impl AsFd,
        token: u64,
        current: &mut Interest,
        wanted: Interest,
    ) -> Result<()> {
        if *current == wanted {
            return Ok(());
        }
        let data = epoll::EventData::new_u64(token);
        let mut flags = epoll::EventFlags::empty();
        if wanted.read {
            flags |= epoll::EventFlags::IN;
        }
        if wanted.write {
            flags |= epoll::EventFlags::OUT;
        }
        if wanted == Interest::NONE {
            epoll::delete(&self.epoll, descriptor)?;
        } else if *current == Interest::NONE {
            epoll::add(&self.epoll, descriptor, data, flags)?;
        } else {
            epoll::modify(&self.epoll, descriptor, data, flags)?;
        }
        *current = wanted;
        Ok(())
    }

    /// Waits until something is ready or `timeout` has passed (never, without one), and puts what is
    /// ready into `ready`, emptied before. Errors: those of epoll_wait(2).
    pub fn wait(&mut self, ready: &mut Vec<Ready>, timeout: Option<Duration>) -> Result<()> {
        ready.clear();
        self.events.clear();
        let limit = timeout.map(|time| Timespec {
            tv_sec: time.as_secs() as i64,
            tv_nsec: i64::from(time.subsec_nanos()),
        });
        match epoll::wait(&self.epoll, spare_capacity(&mut self.events), limit.as_ref()) {
            Ok(_) => {}
            Err(Errno::INTR) => return Ok(()),
            Err(error) => return Err(error),
        }
        let closed = epoll::EventFlags::HUP | epoll::EventFlags::ERR;
        ready.extend(self.events.iter().map(|event| {
            // The structure is packed on x86-64: copy before use.
            let (flags, data) = (event.flags, event.data);
            Ready {
                token: data.u64(),
                readable: flags.intersects(epoll::EventFlags::IN | closed),
                writable: flags.intersects(epoll::EventFlags::OUT | closed),
                hangup: flags.intersects(closed),
            }
        }));
        Ok(())
    }
}

/// How a child ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// It gave this code.
    Code(i32),
    /// This signal ended it.
    Signal(i32),
}

/// Takes the exit status of the child behind `pidfd`; `None` while it runs. Errors: those of waitid(2);
/// `ECHILD` when it is no child of this process or was waited for already.
pub fn reap(pidfd: BorrowedFd<'_>) -> Result<Option<Ended>> {
    wait(pidfd, WaitIdOptions::EXITED | WaitIdOptions::NOHANG)
}

/// Waits for the child behind `pidfd` to end and takes its exit status. Errors: as [`reap`].
pub fn reap_blocking(pidfd: BorrowedFd<'_>) -> Result<Ended> {
    loop {
        match wait(pidfd, WaitIdOptions::EXITED) {
            Ok(Some(ended)) => return Ok(ended),
            Ok(None) | Err(Errno::INTR) => {}
            Err(error) => return Err(error),
        }
    }
}

fn wait(pidfd: BorrowedFd<'_>, options: WaitIdOptions) -> Result<Option<Ended>> {
    let status = rustix::process::waitid(WaitId::PidFd(pidfd), options)?;
    Ok(status.and_then(|status| match (status.exit_status(), status.terminating_signal()) {
        (Some(code), _) => Some(Ended::Code(code)),
        (None, Some(signal)) => Some(Ended::Signal(signal)),
        (None, None) => None,
    }))
}

/// Lets children end without leaving anything to wait for: no zombies, and nobody can reap them
/// (SIGCHLD ignored, wait(2)). A child keeps this until it resets its signals.
pub fn forget_children() {
    // SAFETY: ignoring a signal runs no code of ours; SIGCHLD can be ignored, so the call cannot fail.
    unsafe { libc::signal(libc::SIGCHLD, libc::SIG_IGN) };
}

/// Sends the signal of that number, real-time signals included, to the process behind `pidfd`.
///
/// Errors: those of pidfd_send_signal(2); `ESRCH` when it has ended, `EINVAL` for no such signal.
pub fn send_signal(pidfd: BorrowedFd<'_>, signal: i32) -> Result<()> {
    // SAFETY: the call takes three integers and a null pointer, with which the kernel fills in the
    // signal's information itself; `pidfd` is open for as long as it is borrowed.
    check(unsafe {
        libc::syscall(
            libc::SYS_pidfd_send_signal,
            pidfd.as_raw_fd(),
            signal,
            std::ptr::null::<libc::siginfo_t>(),
            0,
        )
    })
}

/// Reads into the front of `buffer`, which need not be initialised: how many bytes came, 0 at the end.
/// `None` when nothing is there now. Errors: those of read(2).
pub fn read_some(from: impl AsFd, buffer: &mut [u8]) -> Result<Option<usize>> {
    again_is_none(|| rustix::io::read(&from, &mut *buffer))
}

/// Writes the front of `bytes`: how many went. `None` when there is no room now. Errors: those of write(2).
pub fn write_some(to: impl AsFd, bytes: &[u8]) -> Result<Option<usize>> {
    again_is_none(|| rustix::io::write(&to, bytes))
}

fn again_is_none(mut operation: impl FnMut() -> Result<usize>) -> Result<Option<usize>> {
    loop {
        match operation() {
            Ok(count) => return Ok(Some(count)),
            Err(Errno::INTR) => {}
            Err(Errno::AGAIN) => return Ok(None),
            Err(error) => return Err(error),
        }
    }
}

/// A pipe whose both ends are close-on-exec and blocking: (read end, write end).
pub fn pipe() -> Result<(OwnedFd, OwnedFd)> {
    rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)
}

/// Makes reads and writes on `descriptor` return at once; it is a property of the open file, so that every
/// process that shares it is concerned.
pub fn set_nonblocking(descriptor: impl AsFd) -> Result<()> {
    rustix::io::ioctl_fionbio(descriptor, true)
}

/// How many bytes can be read from a pipe, terminal or stream socket right now (FIONREAD).
pub fn readable_bytes(descriptor: impl AsFd) -> Result<u64> {
    rustix::io::ioctl_fionread(descriptor)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::namespace::Namespaces;
    use crate::process::clone3;

    #[test]
    fn interest_comes_and_goes() {
        let mut poller = Poller::new(4).unwrap();
        let (read_end, write_end) = pipe().unwrap();
        let (mut current, mut ready) = (Interest::NONE, Vec::new());
        poller.set(&read_end, 7, &mut current, Interest::READ).unwrap();
        poller.wait(&mut ready, Some(Duration::ZERO)).unwrap();
        assert!(ready.is_empty());
        assert_eq!(write_some(&write_end, b"x").unwrap(), Some(1));
        poller.wait(&mut ready, None).unwrap();
        let expected = Ready { token: 7, readable: true, writable: false, hangup: false };
        assert_eq!(ready, [expected]);
        poller.set(&read_end, 7, &mut current, Interest::NONE).unwrap();
        drop(write_end);
        poller.wait(&mut ready, Some(Duration::ZERO)).unwrap();
        assert!(ready.is_empty(), "a hang-up is not reported without interest");
    }

    #[test]
    fn a_signal_by_pid_descriptor_ends_a_child() {
        let child = clone3(Namespaces::NONE, None, || {
            crate::process::reset_signals();
            loop {
                std::thread::park();
            }
        })
        .unwrap();
        assert_eq!(reap(child.pidfd.as_fd()), Ok(None));
        assert_eq!(send_signal(child.pidfd.as_fd(), 99), Err(Errno::INVAL));
        send_signal(child.pidfd.as_fd(), 9).unwrap();
        assert_eq!(reap_blocking(child.pidfd.as_fd()), Ok(Ended::Signal(9)));
        assert_eq!(send_signal(child.pidfd.as_fd(), 9), Err(Errno::SRCH));
    }
}
