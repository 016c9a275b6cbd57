//! Reading and writing control files with as few system calls as can be: open, one transfer, close.
//!
//! Control files are never created here: what the kernel did not make does not exist.

use dhow_sys::rustix::fs::{Mode, OFlags, open};
use dhow_sys::rustix::io::{Errno, read as read_fd, write as write_fd};

/// More than any control file holds (cgroup.procs of 100,000 processes is 700 KiB).
const MAX_BYTES: usize = 16 << 20;

/// Writes `value` in one write(2), as control files want it.
pub(crate) fn write(path: &str, value: &str) -> Result<(), Errno> {
    let file = open(path, OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty())?;
    loop {
        match write_fd(&file, value.as_bytes()) {
            Ok(_) => return Ok(()),
            Err(Errno::INTR) => {}
            Err(errno) => return Err(errno),
        }
    }
}

/// The whole file as text.
pub(crate) fn read(path: &str) -> Result<String, Errno> {
    let file = open(path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?;
    let mut bytes = Vec::new();
    let mut chunk = [0_u8; 4096];
    loop {
        match read_fd(&file, &mut chunk) {
            Ok(0) => break,
            Ok(count) => bytes.extend_from_slice(chunk.get(..count).unwrap_or_default()),
            Err(Errno::INTR) => {}
            Err(errno) => return Err(errno),
        }
        if bytes.len() > MAX_BYTES {
            return Err(Errno::FBIG);
        }
    }
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// A file that holds one number; `max` is [`u64::MAX`].
pub(crate) fn read_number(path: &str) -> Result<u64, Errno> {
    let text = read(path)?;
    let text = text.trim();
    if text == "max" {
        return Ok(u64::MAX);
    }
    text.parse().map_err(|_| Errno::INVAL)
}

/// The number after `key` in a file of `key number` lines.
pub(crate) fn keyed(text: &str, key: &str) -> Option<u64> {
    pairs(text).find(|(name, _)| *name == key).map(|(_, value)| value)
}

/// All `key number` lines of a file.
pub(crate) fn pairs(text: &str) -> impl Iterator<Item = (&str, u64)> {
    text.lines().filter_map(|line| {
        let (key, value) = line.split_once(' ')?;
        Some((key, value.trim().parse().ok()?))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keyed_finds_whole_keys_only() {
        let text = "oom_kill_disable 0\nunder_oom 0\noom_kill 3\n";
        assert_eq!(keyed(text, "oom_kill"), Some(3));
        assert_eq!(keyed(text, "oom"), None);
    }
}
