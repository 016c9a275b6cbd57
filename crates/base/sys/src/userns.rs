//! User namespaces: made with mappings, or looked into (user_namespaces(7)).
//!
//! A user namespace here is a descriptor. It is made around a child that does nothing but wait, and the
//! descriptor keeps it when that child is gone:
//!
//! ```text
//!   parent                                   child, in the new namespace (or having joined one)
//!     clone3(NEWUSER) ─────────────────────►   says that it is there, waits
//!     /proc/PID/uid_map, gid_map: written (or read)
//!     /proc/PID/ns/user: opened
//!     closes its end ──────────────────────►   ends
//! ```
//!
//! Why so and not by the process that is to live in it: everything that needs the host's privileges and the
//! namespace at once (id-mapped mounts, ownership) has it before that process exists, and one that is made
//! looks like one that is joined by its path.

use std::fmt;
use std::io::Write;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{CWD, Mode, OFlags, openat, stat};
use rustix::io::{Errno, Result, read, write};
use rustix::pipe::{PipeFlags, pipe_with};

use crate::event::reap_blocking;
use crate::namespace::{Namespaces, join};
use crate::process::{Child, clone3};

/// The kernel takes no more ranges in one map (user_namespaces(7)).
pub const MOST_RANGES: usize = 340;

/// A range of ids and what they are outside.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Range {
    /// The first id inside.
    pub inside: u32,
    /// The first id outside.
    pub outside: u32,
    /// How many ids.
    pub size: u32,
}

/// The ids of users and groups of a user namespace.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Maps {
    /// Users.
    pub users: Vec<Range>,
    /// Groups.
    pub groups: Vec<Range>,
}

/// Which step of making or examining a namespace failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Making it, or joining it.
    Enter,
    /// Opening it.
    Open,
    /// Writing or reading the map of users.
    Users,
    /// Writing or reading the map of groups.
    Groups,
}

/// Why a namespace could not be made or examined.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{step}: {}", crate::process::Reason(*errno))]
pub struct Error {
    /// Where.
    pub step: Step,
    /// Why.
    pub errno: Errno,
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Enter => "cannot enter it",
            Self::Open => "cannot open it",
            Self::Users => "cannot map its users",
            Self::Groups => "cannot map its groups",
        })
    }
}

/// Makes a user namespace with those maps. Call it from a single-threaded process.
///
/// Without CAP_SETGID, only one group of one's own can be mapped and only if nobody in the namespace can
/// change supplementary groups, so `setgroups` is denied then (user_namespaces(7)).
pub fn make(maps: &Maps) -> std::result::Result<OwnedFd, Error> {
    around(
        Namespaces::USER,
        || Ok(()),
        |pid| {
            write_map(pid, "uid_map", &maps.users)
                .map_err(|errno| Error { step: Step::Users, errno })?;
            write_groups(pid, &maps.groups).map_err(|errno| Error { step: Step::Groups, errno })?;
            open(pid).map_err(|errno| Error { step: Step::Open, errno })
        },
    )
}

/// The maps of an existing user namespace, as they are from our own. Call it from a single-threaded process.
pub fn maps_of(namespace: BorrowedFd<'_>) -> std::result::Result<Maps, Error> {
    let enter = || join(namespace, Namespaces::USER);
    around(Namespaces::NONE, enter, |pid| {
        let users = read_map(pid, "uid_map").map_err(|errno| Error { step: Step::Users, errno })?;
        let groups =
            read_map(pid, "gid_map").map_err(|errno| Error { step: Step::Groups, errno })?;
        Ok(Maps { users, groups })
    })
}

/// The maps of the user namespace of a process, or none if it is our own. Errors: ENOENT if the process has
/// ended.
pub fn maps_of_process(pid: i32) -> Result<Option<Maps>> {
    let theirs = stat(format!("/proc/{pid}/ns/user"))?;
    let ours = stat("/proc/self/ns/user")?;
    if (theirs.st_dev, theirs.st_ino) == (ours.st_dev, ours.st_ino) {
        return Ok(None);
    }
    Ok(Some(Maps { users: read_map(pid, "uid_map")?, groups: read_map(pid, "gid_map")? }))
}

/// Runs `body` with the pid of a child that waits in `namespaces`, having done `enter`.
fn around<T>(
    namespaces: Namespaces,
    enter: impl FnOnce() -> Result<()>,
    body: impl FnOnce(i32) -> std::result::Result<T, Error>,
) -> std::result::Result<T, Error> {
    let failed = |errno| Error { step: Step::Enter, errno };
    let (hold, held) = pipe_with(PipeFlags::CLOEXEC).map_err(failed)?;
    let (there, here) = pipe_with(PipeFlags::CLOEXEC).map_err(failed)?;
    let mut ends = Some((held, there));
    let child = clone3(namespaces, None, || {
        // The parent's ends would keep the pipes open for ever.
        drop(ends.take());
        wait_in(&here, &hold, enter)
    })
    .map_err(failed)?;
    drop((here, hold));
    let Some((held, there)) = ends.take() else { return Err(failed(Errno::BADF)) };
    let result = greeting(&there).map_err(failed).and_then(|()| body(child.pid));
    drop(held);
    end(&child);
    result
}

/// The child: enters, says how that went, and waits until nobody holds the other end.
fn wait_in(here: &OwnedFd, hold: &OwnedFd, enter: impl FnOnce() -> Result<()>) -> u8 {
    let errno = enter().err().map_or(0, Errno::raw_os_error);
    if write(here, &errno.to_ne_bytes()).is_err() {
        return 1;
    }
    while matches!(read(hold, &mut [0_u8; 1]), Err(Errno::INTR)) {}
    0
}

fn greeting(there: &OwnedFd) -> Result<()> {
    let mut code = [0; 4];
    loop {
        return match read(there, &mut code) {
            Err(Errno::INTR) => continue,
            Ok(4) => match i32::from_ne_bytes(code) {
                0 => Ok(()),
                errno => Err(Errno::from_raw_os_error(errno)),
            },
            Ok(_) => Err(Errno::SRCH),
            Err(errno) => Err(errno),
        };
    }
}

fn end(child: &Child) {
    // A caller that ignores its children has nothing to wait for.
    let _ = reap_blocking(child.pidfd.as_fd());
}

/// Opens the user namespace of a process.
fn open(pid: i32) -> Result<OwnedFd> {
    let path = format!("/proc/{pid}/ns/user");
    openat(CWD, path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
}

fn write_map(pid: i32, name: &str, ranges: &[Range]) -> Result<()> {
    let mut text = Vec::new();
    for Range { inside, outside, size } in ranges {
        // Writing to memory.
        let _ = writeln!(text, "{inside} {outside} {size}");
    }
    write_file(pid, name, &text)
}

fn write_groups(pid: i32, ranges: &[Range]) -> Result<()> {
    match write_map(pid, "gid_map", ranges) {
        Err(Errno::PERM) => {
            write_file(pid, "setgroups", b"deny")?;
            write_map(pid, "gid_map", ranges)
        }
        other => other,
    }
}

/// The kernel wants a map in one write.
fn write_file(pid: i32, name: &str, text: &[u8]) -> Result<()> {
    let file = openat(
        CWD,
        format!("/proc/{pid}/{name}"),
        OFlags::WRONLY | OFlags::CLOEXEC,
        Mode::empty(),
    )?;
    let written = write(&file, text)?;
    if written == text.len() { Ok(()) } else { Err(Errno::MSGSIZE) }
}

fn read_map(pid: i32, name: &str) -> Result<Vec<Range>> {
    // At most 340 lines of three numbers.
    let mut text = vec![0_u8; MOST_RANGES * 34];
    let file = openat(
        CWD,
        format!("/proc/{pid}/{name}"),
        OFlags::RDONLY | OFlags::CLOEXEC,
        Mode::empty(),
    )?;
    let mut length = 0;
    loop {
        match read(&file, text.get_mut(length..).unwrap_or_default())? {
            0 => break,
            more => length += more,
        }
    }
    Ok(parse_map(&String::from_utf8_lossy(text.get(..length).unwrap_or_default())))
}

/// The ranges of a map as the kernel shows it. Pure.
fn parse_map(text: &str) -> Vec<Range> {
    let range = |line: &str| {
        let mut numbers = line.split_ascii_whitespace().map(str::parse);
        let mut next = || numbers.next()?.ok();
        Some(Range { inside: next()?, outside: next()?, size: next()? })
    };
    text.lines().filter_map(range).collect()
}

/// What the id `inside` is outside.
pub fn outside(ranges: &[Range], inside: u32) -> Option<u32> {
    ranges.iter().find_map(|range| {
        let offset = inside.checked_sub(range.inside).filter(|offset| *offset < range.size)?;
        range.outside.checked_add(offset)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn maps() -> Maps {
        let users = vec![
            Range { inside: 0, outside: 100_000, size: 1000 },
            Range { inside: 1000, outside: 5, size: 1 },
        ];
        Maps { users, groups: vec![Range { inside: 0, outside: 200_000, size: 70_000 }] }
    }

    #[test]
    fn what_is_made_has_its_maps() {
        let namespace = make(&maps()).unwrap();
        assert_eq!(maps_of(namespace.as_fd()), Ok(maps()));
    }

    #[test]
    fn our_own_process_is_in_our_own() {
        let pid = rustix::process::getpid().as_raw_nonzero().get();
        assert_eq!(maps_of_process(pid), Ok(None));
    }

    #[test]
    fn ids_are_found_outside() {
        let users = maps().users;
        assert_eq!(outside(&users, 0), Some(100_000));
        assert_eq!(outside(&users, 999), Some(100_999));
        assert_eq!(outside(&users, 1000), Some(5));
        assert_eq!(outside(&users, 1001), None);
    }

    #[test]
    fn a_map_that_the_kernel_refuses() {
        let twice = Range { inside: 0, outside: 1, size: 2 };
        let bad = Maps { users: vec![twice, twice], groups: vec![] };
        assert_eq!(make(&bad).unwrap_err(), Error { step: Step::Users, errno: Errno::INVAL });
    }

    #[test]
    fn what_is_no_user_namespace() {
        let file = std::fs::File::open("/proc/self/ns/net").unwrap();
        let error = maps_of(file.as_fd()).unwrap_err();
        assert_eq!(error, Error { step: Step::Enter, errno: Errno::INVAL });
        assert_eq!(error.to_string(), "cannot enter it: invalid argument");
    }

    proptest::proptest! {
        #[test]
        fn any_text_is_a_map(text in "[0-9 \\n]{0,200}") {
            let _ = parse_map(&text);
        }
    }
}
