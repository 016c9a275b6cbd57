//! What the kernel says of a container's first process.

use std::fs;
use std::os::fd::OwnedFd;
use std::path::Path;

use dhow_error::{Error, Kind, Result};
use dhow_sys::process::Reason;
use dhow_sys::rustix::fs::{Mode, OFlags, open as open_file};
use dhow_sys::rustix::io::Errno;
use dhow_sys::rustix::process::{Pid, PidfdFlags, pidfd_open};

use super::Init;

/// The pid descriptor of a process that lives; `None` if it has ended, waited for or not.
pub(crate) fn open(init: &Init) -> Result<Option<OwnedFd>> {
    let Some(pid) = Pid::from_raw(init.pid) else { return Ok(None) };
    let process = match pidfd_open(pid, PidfdFlags::empty()) {
        Err(Errno::SRCH) => return Ok(None),
        other => other.map_err(|errno| {
            let message = format!("cannot open process {}", init.pid);
            Error::caused(Kind::Internal, message, Reason(errno))
        })?,
    };
    // Looked at after it was opened: from here on the pid cannot become another's.
    Ok(start_time(init.pid).filter(|start| *start == init.start_time).map(|_| process))
}

/// When a process was started, in clock ticks since boot; `None` if it has ended.
pub(crate) fn start_time(pid: i32) -> Option<u64> {
    parse_stat(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
}

/// Field 22 of /proc/PID/stat, unless field 3 says that the process is a zombie or dead. The second field is
/// the program's name in brackets, in which anything may be.
fn parse_stat(text: &str) -> Option<u64> {
    let (_, rest) = text.rsplit_once(')')?;
    let mut fields = rest.split_ascii_whitespace();
    if matches!(fields.next()?, "Z" | "X" | "x") {
        return None;
    }
    fields.nth(18)?.parse().ok()
}

/// Whether a process waits at that gate: the kernel lets a FIFO be opened for writing only, without waiting,
/// if somebody has it open for reading (fifo(7)).
pub(crate) fn waits_at(gate: &Path) -> bool {
    let flags = OFlags::WRONLY | OFlags::NONBLOCK | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    open_file(gate, flags, Mode::empty()).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn we_live_and_strangers_are_not_us() {
        let pid = std::process::id().cast_signed();
        let start_time = start_time(pid).unwrap();
        assert!(open(&Init { pid, start_time }).unwrap().is_some());
        assert!(open(&Init { pid, start_time: start_time + 1 }).unwrap().is_none());
        assert!(open(&Init { pid: 0, start_time }).unwrap().is_none());
        assert!(open(&Init { pid: i32::MAX, start_time }).unwrap().is_none());
    }

    #[test]
    fn the_dead_have_no_start() {
        let line = |state| {
            format!("7 (a) b) c) {state} 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 99 20")
        };
        assert_eq!(parse_stat(&line("S")), Some(99));
        assert_eq!(parse_stat(&line("Z")), None);
        assert_eq!(parse_stat(""), None);
    }

    #[test]
    fn a_gate_without_anybody_is_not_waited_at() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("gate");
        assert!(!waits_at(&path));
        let gate = dhow_runtime::make_gate(&path).unwrap();
        assert!(waits_at(&path));
        drop(gate);
        assert!(!waits_at(&path));
    }
}
