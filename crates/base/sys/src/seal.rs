//! A view of our own binary that nobody can write to (CVE-2019-5736).
//!
//! A process that enters a container can be reached there as /proc/PID/exe. Was it executed from the
//! binary on the host, root in the container may write to that. So whatever becomes a shim or a
//! container's init is executed from one of these:
//!
//! ```text
//!   overlay   fsopen("overlay"), lowerdir+ = the binary's folder, lowerdir+ = any other folder;
//!             no upper folder, so it is read-only to everybody; detached: in no mount namespace.
//!             0.04 to 0.35 ms, and the pages are shared with every other run of the binary.
//!   memfd     a copy (7 ms and 12 MB), sealed against writing: where overlay is not allowed (no
//!             privilege, stacked too deep) or the binary on disk is no longer the one that runs.
//! ```
//!
//! Invariants: nothing is left in the file system; the descriptor is close-on-exec.

use std::ffi::CString;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::ptr;

use rustix::fs::{MemfdFlags, Mode, OFlags, SealFlags};
use rustix::io::{Errno, Result};
use rustix::mount::{FsMountFlags, FsOpenFlags, MountAttrFlags};

use crate::process::{Strings, execveat};

/// Our binary in this process, whatever has become of its path.
const OURSELVES: &str = "/proc/self/exe";

/// How a [`Binary`] is kept from being written to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Method {
    /// A detached read-only overlay.
    Overlay,
    /// A sealed copy in memory.
    Memfd,
}

/// Our own binary, sealed.
#[derive(Debug)]
pub struct Binary {
    file: OwnedFd,
    method: Method,
}

impl Binary {
    /// Seals the binary that this process runs. `other` is any folder that is not above or below the
    /// binary's.
    ///
    /// Errors: those of memfd_create(2) and of copying, when neither way works.
    pub fn seal(other: &Path) -> Result<Self> {
        if let Ok(file) = overlay(other) {
            return Ok(Self { file, method: Method::Overlay });
        }
        Ok(Self { file: copy()?, method: Method::Memfd })
    }

    /// Seals by a copy in memory, for where there is no folder to write to.
    pub fn copy() -> Result<Self> {
        Ok(Self { file: copy()?, method: Method::Memfd })
    }

    /// How it is sealed.
    pub fn method(&self) -> Method {
        self.method
    }

    /// Replaces this process by the sealed binary. Returns only the failure, as execveat(2) says it.
    pub fn exec(&self, arguments: &Strings, environment: &Strings) -> Errno {
        execveat(self.file.as_fd(), arguments, environment)
    }

    /// Runs the sealed binary as a child: `arguments` from `argv[0]` on, an empty environment, `input` as
    /// descriptor 0, /dev/null as 1 and 2, default signals, a session of its own. Gives its pid; wait for
    /// it. May be called from a process with threads.
    ///
    /// Errors: those of posix_spawn(3).
    pub fn spawn(&self, arguments: &[CString], input: BorrowedFd<'_>) -> Result<i32> {
        let path = CString::new(format!("/proc/self/fd/{}", self.file.as_raw_fd()))
            .map_err(|_| Errno::INVAL)?;
        let mut argv: Vec<*mut libc::c_char> =
            arguments.iter().map(|text| text.as_ptr().cast_mut()).collect();
        argv.push(ptr::null_mut());
        let environment: [*mut libc::c_char; 1] = [ptr::null_mut()];
        let actions = Actions::new(input)?;
        let attributes = Attributes::new()?;
        let mut pid: libc::pid_t = 0;
        // SAFETY: path, argv and environment are NUL-terminated strings in null-terminated arrays that
        // live across the call and are only read; actions and attributes are initialised.
        check(unsafe {
            libc::posix_spawn(
                &mut pid,
                path.as_ptr(),
                &actions.0,
                &attributes.0,
                argv.as_ptr(),
                environment.as_ptr(),
            )
        })?;
        Ok(pid)
    }
}

/// Closes every descriptor but the standard ones: for the first lines of a program that never executes
/// another and so has no use for close-on-exec. What its parent forgot to close ends here.
///
/// Call it before this process has opened anything: a descriptor that has an owner would be closed
/// beneath it.
pub fn close_inherited() -> Result<()> {
    // SAFETY: by the condition above no descriptor from 3 on has an owner in this process; closing one
    // that nobody here knows of breaks nobody's idea of it.
    let result = unsafe { libc::syscall(libc::SYS_close_range, 3_u32, u32::MAX, 0) };
    crate::process::check(result)
}

impl AsFd for Binary {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

/// The binary through a detached overlay of its folder.
fn overlay(other: &Path) -> Result<OwnedFd> {
    let path = std::fs::read_link(OURSELVES).map_err(|_| Errno::NOENT)?;
    let (Some(folder), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(Errno::NOENT);
    };
    // An upgrade may have put another binary there while we run.
    let (on_disk, running) = (rustix::fs::stat(&path)?, rustix::fs::stat(OURSELVES)?);
    if (on_disk.st_dev, on_disk.st_ino) != (running.st_dev, running.st_ino) {
        return Err(Errno::STALE);
    }
    let mount = read_only_overlay(folder, other)?;
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let file = rustix::fs::openat(&mount, name, flags, Mode::empty())?;
    let sealed = rustix::fs::fstat(&file)?;
    if (sealed.st_size, sealed.st_ino) != (running.st_size, running.st_ino) {
        return Err(Errno::STALE);
    }
    Ok(file)
}

/// A detached overlay of `folder` that cannot be written to. Overlay wants two layers when there is no
/// upper one, hence `other`, in which nothing is looked for that `folder` has.
fn read_only_overlay(folder: &Path, other: &Path) -> Result<OwnedFd> {
    let context = rustix::mount::fsopen("overlay", FsOpenFlags::FSOPEN_CLOEXEC)?;
    if crate::mount::overlay_takes_layers_singly() {
        rustix::mount::fsconfig_set_string(&context, "lowerdir+", folder)?;
        rustix::mount::fsconfig_set_string(&context, "lowerdir+", other)?;
    } else {
        let mut list = escaped(folder);
        list.push(b':');
        list.extend(escaped(other));
        rustix::mount::fsconfig_set_string(&context, "lowerdir", list)?;
    }
    rustix::mount::fsconfig_create(&context)?;
    let attributes = MountAttrFlags::MOUNT_ATTR_RDONLY
        | MountAttrFlags::MOUNT_ATTR_NODEV
        | MountAttrFlags::MOUNT_ATTR_NOSUID;
    rustix::mount::fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, attributes)
}

/// A path as a member of overlay's `lowerdir` list.
fn escaped(path: &Path) -> Vec<u8> {
    let mut text = Vec::new();
    for byte in path.as_os_str().as_bytes() {
        if matches!(byte, b':' | b'\\' | b',') {
            text.push(b'\\');
        }
        text.push(*byte);
    }
    text
}

/// A sealed copy of the running binary in memory, opened anew for reading only.
fn copy() -> Result<OwnedFd> {
    let source = rustix::fs::open(OURSELVES, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?;
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    // MFD_EXEC says since Linux 6.3 what older kernels always do, and they refuse the flag.
    let memory = match rustix::fs::memfd_create("dhow", flags | MemfdFlags::EXEC) {
        Err(Errno::INVAL) => rustix::fs::memfd_create("dhow", flags),
        other => other,
    }?;
    let mut left = rustix::fs::fstat(&source)?.st_size as usize;
    while left > 0 {
        match rustix::fs::sendfile(&memory, &source, None, left) {
            Ok(0) => return Err(Errno::IO),
            Ok(count) => left = left.saturating_sub(count),
            Err(Errno::INTR) => {}
            Err(error) => return Err(error),
        }
    }
    rustix::fs::fchmod(&memory, Mode::from_raw_mode(0o555))?;
    let seals = SealFlags::WRITE | SealFlags::SHRINK | SealFlags::GROW | SealFlags::SEAL;
    rustix::fs::fcntl_add_seals(&memory, seals)?;
    // A file open for writing cannot be executed (ETXTBSY).
    let path = format!("/proc/self/fd/{}", memory.as_raw_fd());
    rustix::fs::open(path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())
}

/// What posix_spawn does with the child's descriptors.
struct Actions(libc::posix_spawn_file_actions_t);

impl Actions {
    fn new(input: BorrowedFd<'_>) -> Result<Self> {
        let mut space = MaybeUninit::uninit();
        // SAFETY: init fills the structure in, or fails and it is not used.
        check(unsafe { libc::posix_spawn_file_actions_init(space.as_mut_ptr()) })?;
        // SAFETY: init succeeded.
        let mut actions = Self(unsafe { space.assume_init() });
        // SAFETY: the actions are initialised and this is their only borrow; glibc copies the path.
        unsafe {
            let to = &mut actions.0;
            check(libc::posix_spawn_file_actions_adddup2(to, input.as_raw_fd(), 0))?;
            for number in [1, 2] {
                let null = c"/dev/null".as_ptr();
                check(libc::posix_spawn_file_actions_addopen(to, number, null, libc::O_RDWR, 0))?;
            }
        }
        Ok(actions)
    }
}

impl Drop for Actions {
    fn drop(&mut self) {
        // SAFETY: initialised in `new`, destroyed only here.
        unsafe { libc::posix_spawn_file_actions_destroy(&mut self.0) };
    }
}

/// In what state posix_spawn starts the child.
struct Attributes(libc::posix_spawnattr_t);

impl Attributes {
    fn new() -> Result<Self> {
        let mut space = MaybeUninit::uninit();
        // SAFETY: init fills the structure in, or fails and it is not used.
        check(unsafe { libc::posix_spawnattr_init(space.as_mut_ptr()) })?;
        // SAFETY: init succeeded.
        let mut attributes = Self(unsafe { space.assume_init() });
        let mut signals = MaybeUninit::<libc::sigset_t>::uninit();
        let flags = (libc::POSIX_SPAWN_SETSIGDEF | libc::POSIX_SPAWN_SETSIGMASK) as libc::c_short
            | libc::POSIX_SPAWN_SETSID;
        // SAFETY: sigfillset and sigemptyset initialise the whole set before it is read; the attributes
        // are initialised and this is their only borrow.
        unsafe {
            let to = &mut attributes.0;
            libc::sigfillset(signals.as_mut_ptr());
            check(libc::posix_spawnattr_setsigdefault(to, signals.as_ptr()))?;
            libc::sigemptyset(signals.as_mut_ptr());
            check(libc::posix_spawnattr_setsigmask(to, signals.as_ptr()))?;
            check(libc::posix_spawnattr_setflags(to, flags))?;
        }
        Ok(attributes)
    }
}

impl Drop for Attributes {
    fn drop(&mut self) {
        // SAFETY: initialised in `new`, destroyed only here.
        unsafe { libc::posix_spawnattr_destroy(&mut self.0) };
    }
}

/// posix_spawn's functions give the errno instead of setting it.
fn check(result: libc::c_int) -> Result<()> {
    if result == 0 { Ok(()) } else { Err(Errno::from_raw_os_error(result)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn can_be_written(binary: &Binary) -> bool {
        let path = format!("/proc/self/fd/{}", binary.as_fd().as_raw_fd());
        rustix::fs::open(path, OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty())
            .is_ok_and(|file| rustix::io::write(file, b"x").is_ok())
    }

    #[test]
    fn an_overlay_view_cannot_be_written_and_leaves_nothing() {
        let scratch = tempfile::tempdir().unwrap();
        let binary = Binary::seal(scratch.path()).unwrap();
        assert_eq!(binary.method(), Method::Overlay);
        assert!(!can_be_written(&binary));
        assert_eq!(std::fs::read_dir(scratch.path()).unwrap().count(), 0);
    }

    #[test]
    fn a_copy_cannot_be_written() {
        let binary = Binary::copy().unwrap();
        assert!(!can_be_written(&binary));
    }

    #[test]
    fn a_sealed_binary_runs() {
        use std::os::fd::AsFd;
        let (input, _other) = crate::fdpass::stream_pair().unwrap();
        for binary in [Binary::seal(&std::env::temp_dir()).unwrap(), Binary::copy().unwrap()] {
            let pid = binary.spawn(&[c"test".into(), c"--list".into()], input.as_fd()).unwrap();
            let pid = rustix::process::Pid::from_raw(pid).unwrap();
            let (_, status) =
                rustix::process::waitpid(Some(pid), rustix::process::WaitOptions::empty())
                    .unwrap()
                    .unwrap();
            assert_eq!(status.exit_status(), Some(0));
        }
    }

    #[test]
    fn paths_are_escaped_for_the_lowerdir_list() {
        assert_eq!(escaped(Path::new("/a:b\\c,d")), b"/a\\:b\\\\c\\,d");
    }
}
