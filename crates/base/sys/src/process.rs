//! clone3, signals, sessions and other things that make and shape a process.
//!
//! What rustix has (pidfds, waitid, rlimits, umask, prctl) is used from there. Everything here uses raw
//! system calls: a child made by [`clone3`] has not passed through glibc's fork handlers, so glibc's own
//! idea of the thread (tid, robust list, setuid broadcast) is stale in it.
//!
//! A child made here is a private copy of its parent's memory with only the calling thread in it. Another
//! thread's lock stays locked in the copy for ever: call [`clone3`] from single-threaded processes, or let
//! the child touch nothing that takes a lock.

mod exec;
mod springboard;

use std::fmt;
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::ptr;

use rustix::io::{Errno, Result};

use crate::namespace::Namespaces;

pub use exec::{Strings, execve, execveat};
pub use springboard::{Jump, Springboard};

/// The highest signal number of the kernel (`_NSIG` on x86-64 and arm64).
const SIGNALS: i32 = 64;
/// libc's own constant of it overflows its type.
const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;

/// A child made by [`clone3`].
#[derive(Debug)]
pub struct Child {
    /// Its pid in our pid namespace.
    pub pid: i32,
    /// Its pid descriptor, close-on-exec.
    pub pidfd: OwnedFd,
}

/// Forks into new `namespaces`, and with `cgroup` into that cgroup2 directory; the child runs `body` and
/// ends with the code that it returns. It never returns into the parent's code: a panic ends it with 125.
///
/// Signals are blocked in the child from its first instant (and in the parent only for the call), so that
/// no handler of the parent runs in it; [`reset_signals`] opens them again.
///
/// Errors: those of clone3(2). See also pid_namespaces(7), cgroups(7).
pub fn clone3(
    namespaces: Namespaces,
    cgroup: Option<BorrowedFd<'_>>,
    body: impl FnOnce() -> u8,
) -> Result<Child> {
    let mut pidfd: libc::c_int = -1;
    // SAFETY: clone_args is plain integers, for which all zeroes is a valid value.
    let mut arguments: libc::clone_args = unsafe { std::mem::zeroed() };
    arguments.flags = u64::from(namespaces.bits()) | libc::CLONE_PIDFD as u64;
    arguments.pidfd = ptr::from_mut(&mut pidfd) as u64;
    arguments.exit_signal = libc::SIGCHLD as u64;
    if let Some(directory) = cgroup {
        arguments.flags |= CLONE_INTO_CGROUP;
        arguments.cgroup = directory.as_raw_fd() as u64;
    }
    let mask = SignalMask::block_all();
    // SAFETY: without CLONE_VM and with no stack given, clone3 behaves as fork: the child goes on with a
    // copy of this stack, and both sides return here. The kernel reads `arguments` and writes `pidfd`,
    // both alive across the call, sizes as declared.
    let mut pid = unsafe {
        libc::syscall(
            libc::SYS_clone3,
            ptr::from_mut(&mut arguments),
            std::mem::size_of::<libc::clone_args>(),
        )
    };
    if pid == -1 && cgroup.is_none() && last_errno() == Errno::NOSYS {
        pid = clone_as_fork(namespaces, &mut pidfd);
    }
    part(pid, pidfd, mask, body)
}

/// As [`clone3`] without new namespaces, but by clone(2): for processes under a seccomp filter, which mostly
/// allows no other.
///
/// Errors: those of clone(2).
pub fn fork(body: impl FnOnce() -> u8) -> Result<Child> {
    let mut pidfd: libc::c_int = -1;
    let mask = SignalMask::block_all();
    let pid = clone_as_fork(Namespaces::NONE, &mut pidfd);
    part(pid, pidfd, mask, body)
}

/// Where the two processes of a clone go their ways.
fn part(
    pid: libc::c_long,
    pidfd: libc::c_int,
    mask: SignalMask,
    body: impl FnOnce() -> u8,
) -> Result<Child> {
    if pid == 0 {
        let _guard = ExitGuard;
        let code = body();
        exit(code);
    }
    let made = check(pid);
    mask.restore();
    made?;
    // SAFETY: the clone succeeded with CLONE_PIDFD, so the kernel has put a new descriptor here that nobody
    // else knows of.
    let pidfd = unsafe { OwnedFd::from_raw_fd(pidfd) };
    Ok(Child { pid: pid as i32, pidfd })
}

/// The same by clone(2): seccomp profiles such as Docker's answer ENOSYS to clone3, whose flags they cannot
/// look at, and allow this.
fn clone_as_fork(namespaces: Namespaces, pidfd: &mut libc::c_int) -> libc::c_long {
    let flags = i64::from(namespaces.bits()) | i64::from(libc::CLONE_PIDFD | libc::SIGCHLD);
    // SAFETY: without CLONE_VM and with no stack given, clone behaves as fork. With CLONE_PIDFD the kernel
    // writes a descriptor to its third argument, which is alive across the call; the others are unused.
    unsafe {
        libc::syscall(libc::SYS_clone, flags, 0_usize, ptr::from_mut(pidfd), 0_usize, 0_usize)
    }
}

/// Numbers of the descriptors that a process keeps when it closes the others.
#[derive(Debug)]
pub struct Kept {
    /// Everything below is kept too.
    first: RawFd,
    numbers: Vec<RawFd>,
}

impl Kept {
    /// The same, and `count` descriptors after the standard ones.
    #[must_use]
    pub fn with_inherited(mut self, count: u32) -> Self {
        self.first = RawFd::try_from(count).map_or(RawFd::MAX, |count| count.saturating_add(3));
        self
    }
}

impl<'a> FromIterator<BorrowedFd<'a>> for Kept {
    fn from_iter<I: IntoIterator<Item = BorrowedFd<'a>>>(descriptors: I) -> Self {
        let mut numbers: Vec<RawFd> = descriptors.into_iter().map(|fd| fd.as_raw_fd()).collect();
        numbers.sort_unstable();
        Self { first: 3, numbers }
    }
}

/// As [`clone3`] without new namespaces; the child closes every descriptor but the standard ones and those
/// `kept` before it does anything else. `body` is told whether that went well (close_range(2), Linux 5.9).
///
/// `body` may own or use those descriptors only: any other is closed beneath its owner.
pub fn clone_bare(
    cgroup: Option<BorrowedFd<'_>>,
    kept: &Kept,
    body: impl FnOnce(Result<()>) -> u8,
) -> Result<Child> {
    clone3(Namespaces::NONE, cgroup, || body(close_all_but(kept)))
}

/// Closes every descriptor but the standard ones and those `kept`, runs `body` and ends this process with
/// the code that it returns. `body` is told whether the closing went well (close_range(2), Linux 5.9).
///
/// `body` may own or use those descriptors only: any other is closed beneath its owner.
pub fn end_with_only(kept: &Kept, body: impl FnOnce(Result<()>) -> u8) -> ! {
    let _guard = ExitGuard;
    exit(body(close_all_but(kept)))
}

/// Closes every descriptor but the standard ones and those `kept`.
fn close_all_but(kept: &Kept) -> Result<()> {
    let mut next = kept.first;
    for number in kept.numbers.iter().copied().filter(|number| *number >= kept.first) {
        close_between(next, number - 1)?;
        next = number + 1;
    }
    close_between(next, RawFd::MAX)
}

fn close_between(first: RawFd, last: RawFd) -> Result<()> {
    if first > last {
        return Ok(());
    }
    // SAFETY: nothing but the body of `clone_bare` or `end_with_only` runs in this process from here on,
    // and by the condition there it has and uses none of these descriptors. The parent's own stay open.
    check(unsafe { libc::syscall(libc::SYS_close_range, first, last, 0) })
}

/// Forks a sibling into new `namespaces` (of which clone(2) has all but time namespaces): its parent is
/// ours, which alone can wait for it, and without a new one its pid namespace is the one that we have joined
/// for our children. It runs `body` and ends with the code that it returns, as a child of
/// [`clone3`], but with our signal mask. Gives its pid in our own pid namespace.
///
/// It is clone(2) and not clone3: seccomp profiles such as Docker's answer ENOSYS to that one.
///
/// Errors: those of clone(2); ENOMEM also if nobody is left in the pid namespace, EINVAL for an init.
pub fn clone_sibling(namespaces: Namespaces, body: impl FnOnce() -> u8) -> Result<i32> {
    // The signal that our end sends, which is SIGCHLD after `clone3`, is that of the sibling too.
    let flags = i64::from(libc::CLONE_PARENT) | i64::from(namespaces.bits());
    // SAFETY: without CLONE_VM and with no stack given, clone behaves as fork: the sibling goes on with a
    // copy of this stack, and both sides return here. Without flags that ask for them the kernel looks at
    // none of the other arguments.
    let pid = unsafe { libc::syscall(libc::SYS_clone, flags, 0_usize, 0_usize, 0_usize, 0_usize) };
    if pid == 0 {
        let _guard = ExitGuard;
        let code = body();
        exit(code);
    }
    check(pid)?;
    Ok(pid as i32)
}

/// Ends the child if its body unwinds, so that a panic never runs the parent's code twice.
struct ExitGuard;

impl Drop for ExitGuard {
    fn drop(&mut self) {
        exit(125);
    }
}

/// Ends this process at once: no atexit handlers, no flushing.
pub fn exit(code: u8) -> ! {
    // SAFETY: exit_group takes an integer, ends all threads and never returns.
    unsafe { libc::_exit(i32::from(code)) }
}

/// Gives every signal its default action and unblocks all: what a program expects at its start.
/// (execve keeps ignored signals ignored, and Rust ignores SIGPIPE.)
pub fn reset_signals() {
    /// The kernel's `struct sigaction`, which is not libc's.
    #[repr(C)]
    struct KernelAction {
        handler: usize,
        flags: libc::c_ulong,
        restorer: usize,
        mask: u64,
    }
    let default = KernelAction { handler: libc::SIG_DFL, flags: 0, restorer: 0, mask: 0 };
    for signal in 1..=SIGNALS {
        // SAFETY: `default` has the kernel's layout for this call, lives across it, and a default action
        // runs no code of ours. SIGKILL and SIGSTOP are refused with EINVAL, which is as it should be.
        unsafe {
            libc::syscall(
                libc::SYS_rt_sigaction,
                signal,
                ptr::from_ref(&default),
                ptr::null_mut::<KernelAction>(),
                std::mem::size_of::<u64>(),
            );
        }
    }
    SignalMask(0).restore();
}

/// A signal mask that was in force.
#[derive(Debug, Clone, Copy)]
pub struct SignalMask(u64);

impl SignalMask {
    /// Blocks every signal of this thread; gives the mask that was in force before.
    pub fn block_all() -> Self {
        Self::set(u64::MAX)
    }

    /// Puts this mask in force again.
    pub fn restore(self) {
        Self::set(self.0);
    }

    fn set(mask: u64) -> Self {
        let mut previous = 0_u64;
        // SAFETY: both masks are the kernel's 64 bit sets (the size given), alive across the call. The raw
        // call is used because glibc's leaves its two internal signals unblocked.
        unsafe {
            libc::syscall(
                libc::SYS_rt_sigprocmask,
                libc::SIG_SETMASK,
                ptr::from_ref(&mask),
                ptr::from_mut(&mut previous),
                std::mem::size_of::<u64>(),
            );
        }
        Self(previous)
    }
}

/// Waits for any blocked signal to come and takes it: its number. Call after [`SignalMask::block_all`].
pub fn wait_signal() -> Result<i32> {
    let every = u64::MAX;
    // SAFETY: `every` is the kernel's 64 bit set (the size given), alive across the call; no information
    // and no timeout are asked for.
    let signal = unsafe {
        libc::syscall(
            libc::SYS_rt_sigtimedwait,
            ptr::from_ref(&every),
            ptr::null_mut::<libc::siginfo_t>(),
            ptr::null::<libc::timespec>(),
            std::mem::size_of::<u64>(),
        )
    };
    if signal < 0 { Err(last_errno()) } else { Ok(signal as i32) }
}

/// Sends the signal of that number to a process; numbers above the named ones (real-time signals) are
/// allowed. Errors: those of kill(2).
pub fn kill(pid: i32, signal: i32) -> Result<()> {
    // SAFETY: kill takes two integers.
    check(unsafe { libc::syscall(libc::SYS_kill, pid, signal) })
}

/// Gives this process a new, empty session keyring, so that it shares none with its parent
/// (session-keyring(7)). A kernel without keyrings is fine.
pub fn new_session_keyring() -> Result<()> {
    const KEYCTL_JOIN_SESSION_KEYRING: libc::c_int = 1;
    // SAFETY: a null name asks for an anonymous keyring; nothing is read or written.
    let result = check(unsafe {
        libc::syscall(libc::SYS_keyctl, KEYCTL_JOIN_SESSION_KEYRING, ptr::null::<u8>())
    });
    match result {
        Err(Errno::NOSYS) => Ok(()),
        other => other,
    }
}

/// Sets close-on-exec on every descriptor from `first` upwards (close_range(2), Linux 5.11).
pub fn close_on_exec_from(first: u32) -> Result<()> {
    // SAFETY: with CLOSE_RANGE_CLOEXEC nothing is closed, so no owner loses its descriptor.
    check(unsafe {
        libc::syscall(libc::SYS_close_range, first, u32::MAX, libc::CLOSE_RANGE_CLOEXEC)
    })
}

/// Whether the working directory lies beneath this process's root. The kernel marks one that does not
/// with `(unreachable)` (getcwd(2); CVE-2024-21626).
pub fn cwd_is_reachable() -> Result<bool> {
    let mut path = MaybeUninit::<[u8; libc::PATH_MAX as usize]>::uninit();
    // SAFETY: the kernel writes at most the size given into `path`.
    let length =
        unsafe { libc::syscall(libc::SYS_getcwd, path.as_mut_ptr(), libc::PATH_MAX as usize) };
    if length < 1 {
        return Err(last_errno());
    }
    // SAFETY: the call succeeded, so at least its first byte (at worst the final NUL) was written.
    Ok(unsafe { path.as_ptr().cast::<u8>().read() } == b'/')
}

/// Duplicates `descriptor` to exactly `number` (0, 1 or 2), without close-on-exec.
pub fn install_standard(descriptor: BorrowedFd<'_>, number: StandardStream) -> Result<()> {
    match number {
        StandardStream::Input => rustix::stdio::dup2_stdin(descriptor),
        StandardStream::Output => rustix::stdio::dup2_stdout(descriptor),
        StandardStream::Error => rustix::stdio::dup2_stderr(descriptor),
    }
}

/// One of the three standard streams.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StandardStream {
    /// Descriptor 0.
    Input,
    /// Descriptor 1.
    Output,
    /// Descriptor 2.
    Error,
}

/// The time of CLOCK_MONOTONIC in nanoseconds.
pub fn monotonic_ns() -> u64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64
}

/// An errno in words, lower case as our messages are: `permission denied`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reason(pub Errno);

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = std::io::Error::from(self.0).to_string();
        let words = text.split(" (os error").next().unwrap_or(&text);
        let mut letters = words.chars();
        match (letters.next(), letters.clone().next()) {
            (Some(first), Some(second)) if !second.is_uppercase() => {
                write!(f, "{}{}", first.to_lowercase(), letters.as_str())
            }
            _ => f.write_str(words),
        }
    }
}

impl std::error::Error for Reason {}

/// The result of a system call that gives only success or errno.
pub(crate) fn check(result: libc::c_long) -> Result<()> {
    if result < 0 { Err(last_errno()) } else { Ok(()) }
}

/// What the last failed system call of this thread said.
pub(crate) fn last_errno() -> Errno {
    // SAFETY: errno is this thread's own integer, always there.
    Errno::from_raw_os_error(unsafe { *libc::__errno_location() })
}

#[cfg(test)]
mod tests {
    use rustix::pipe::pipe;
    use rustix::process::{WaitId, WaitIdOptions, waitid};

    use super::*;

    fn code_of(child: &Child) -> Option<i32> {
        use std::os::fd::AsFd;
        let status = waitid(WaitId::PidFd(child.pidfd.as_fd()), WaitIdOptions::EXITED).unwrap();
        status.and_then(|status| status.exit_status())
    }

    #[test]
    fn a_child_ends_with_the_code_of_its_body() {
        let child = clone3(Namespaces::NONE, None, || 42).unwrap();
        assert_eq!(code_of(&child), Some(42));
    }

    #[test]
    fn a_bare_child_has_what_is_kept() {
        use std::os::fd::AsFd;
        let (kept, lost) = (pipe().unwrap(), pipe().unwrap());
        let number = lost.0.as_raw_fd();
        let list: Kept = [kept.1.as_fd(), kept.0.as_fd()].into_iter().collect();
        let child = clone_bare(None, &list, |closed| {
            let open = |number: RawFd| {
                // SAFETY: only asked whether it is there.
                let status = unsafe { libc::fcntl(number, libc::F_GETFD) };
                status >= 0
            };
            let as_asked = open(kept.0.as_raw_fd()) && open(kept.1.as_raw_fd()) && !open(number);
            u8::from(closed.is_err() || !as_asked)
        });
        assert_eq!(code_of(&child.unwrap()), Some(0));
    }

    #[test]
    fn a_sibling_is_our_parents_child() {
        let (read_end, write_end) = pipe().unwrap();
        let first = clone3(Namespaces::NONE, None, || {
            let parent = rustix::process::getppid();
            let sibling = clone_sibling(Namespaces::NONE, || {
                if rustix::process::getppid() == parent { 7 } else { 8 }
            });
            let pid = sibling.unwrap_or(0);
            u8::from(rustix::io::write(&write_end, &pid.to_le_bytes()).is_err())
        })
        .unwrap();
        assert_eq!(code_of(&first), Some(0));
        let mut bytes = [0; 4];
        rustix::io::read(&read_end, &mut bytes).unwrap();
        let pid = rustix::process::Pid::from_raw(i32::from_le_bytes(bytes)).unwrap();
        let status = waitid(WaitId::Pid(pid), WaitIdOptions::EXITED).unwrap();
        assert_eq!(status.and_then(|status| status.exit_status()), Some(7));
    }

    #[test]
    fn a_panic_ends_only_the_child() {
        let child = clone3(Namespaces::NONE, None, || {
            std::panic::resume_unwind(Box::new("on purpose"));
        })
        .unwrap();
        assert_eq!(code_of(&child), Some(125));
    }

    #[test]
    fn a_new_pid_namespace_starts_with_pid_1() {
        let child = clone3(Namespaces::PID, None, || {
            u8::from(rustix::process::getpid().as_raw_nonzero().get() != 1)
        })
        .unwrap();
        assert_eq!(code_of(&child), Some(0));
    }

    #[test]
    fn signals_are_blocked_in_the_child_until_it_resets_them() {
        let child = clone3(Namespaces::NONE, None, || {
            let before = SignalMask::block_all();
            reset_signals();
            let after = SignalMask::block_all();
            u8::from(before.0.count_ones() < 60 || after.0 != 0)
        })
        .unwrap();
        assert_eq!(code_of(&child), Some(0));
    }

    #[test]
    fn reasons_are_lower_case_without_numbers() {
        assert_eq!(Reason(Errno::PERM).to_string(), "operation not permitted");
        assert_eq!(Reason(Errno::NOENT).to_string(), "no such file or directory");
        assert_eq!(Reason(Errno::ROFS).to_string(), "read-only file system");
    }

    #[test]
    fn our_own_cwd_is_reachable() {
        assert!(cwd_is_reachable().unwrap());
    }
}
