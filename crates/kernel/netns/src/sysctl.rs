//! Kernel settings below /proc/sys/net, of the calling thread's network namespace.
//!
//! A setting that already is as wanted is not written, so that a read-only /proc/sys does no harm. One
//! that this kernel does not have (IPv6 built or booted out) needs no setting.

use std::fs;
use std::io;
use std::path::Path;

use crate::error::{Error, Result};

const ROOT: &str = "/proc/sys/net";

/// Sets `name` (a path below /proc/sys/net). Gives whether it was different before.
pub(crate) fn set(name: &str, value: &'static str) -> Result<bool> {
    let path = Path::new(ROOT).join(name);
    match fs::read_to_string(&path) {
        Ok(current) if is_same(&current, value) => return Ok(false),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        _ => {}
    }
    match fs::write(&path, value) {
        Ok(()) => Ok(true),
        Err(source) => Err(Error::Setting { path, value, source }),
    }
}

/// Whether this kernel does IPv6.
pub(crate) fn has_ipv6() -> bool {
    Path::new(ROOT).join("ipv6").exists()
}

/// Values are numbers separated by any white space.
fn is_same(current: &str, value: &str) -> bool {
    current.split_whitespace().eq(value.split_whitespace())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn white_space_does_not_differ() {
        assert!(is_same("0\t2147483647\n", "0 2147483647"));
        assert!(!is_same("1\n", "0"));
    }

    #[test]
    fn a_setting_that_does_not_exist_needs_none() {
        assert!(!set("nosuch/setting", "1").unwrap());
    }
}
