//! Options of a tmpfs: which there are, and what their values look like (tmpfs(5)).
//!
//! Read when a container is created, so that a slip is told then and not by the kernel at the start.

use super::ParseError;
use super::parse::quoted;

/// Options that say how it is mounted.
const FLAGS: [&str; 27] = [
    "defaults",
    "ro",
    "rw",
    "suid",
    "nosuid",
    "dev",
    "nodev",
    "exec",
    "noexec",
    "async",
    "nomand",
    "atime",
    "noatime",
    "diratime",
    "nodiratime",
    "relatime",
    "norelatime",
    "strictatime",
    "nostrictatime",
    "private",
    "rprivate",
    "shared",
    "rshared",
    "slave",
    "rslave",
    "unbindable",
    "runbindable",
];

/// Checks one option, such as `noexec` or `size=64m`.
pub(super) fn check(option: &str) -> Result<(), ParseError> {
    let is_right = match option.split_once('=') {
        None => FLAGS.contains(&option),
        Some((key, value)) => match key {
            "size" => is_size(value.strip_suffix('%').unwrap_or(value)),
            "nr_blocks" | "nr_inodes" => is_size(value),
            "mode" => u32::from_str_radix(value, 8).is_ok_and(|mode| mode <= 0o7777),
            "uid" | "gid" => value.parse::<u32>().is_ok(),
            "mpol" | "huge" => !value.is_empty(),
            _ => false,
        },
    };
    if is_right { Ok(()) } else { Err(ParseError::TmpfsOption(quoted(option))) }
}

/// A number with a unit or without: `65536`, `64k`, `1g`.
fn is_size(text: &str) -> bool {
    let digits = text.strip_suffix(|unit: char| "kKmMgGtTpPeE".contains(unit)).unwrap_or(text);
    !digits.is_empty() && digits.bytes().all(|digit| digit.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_told_from_slips() {
        for right in [
            "ro",
            "noexec",
            "size=64m",
            "size=50%",
            "size=65536",
            "mode=1777",
            "uid=0",
            "gid=1000",
            "nr_inodes=4k",
            "mpol=default",
            "huge=always",
        ] {
            assert!(check(right).is_ok(), "{right}");
        }
        for wrong in [
            "cheese",
            "size",
            "size=",
            "size=lots",
            "size=-1",
            "size=1q",
            "mode=9",
            "mode=77777",
            "mode=rw",
            "uid=root",
            "uid=-1",
            "gid=",
            "nr_inodes=5%",
            "colour=red",
            "remount",
            "tmpcopyup",
        ] {
            let said = check(wrong).unwrap_err().to_string();
            assert_eq!(said, format!("invalid tmpfs option {wrong:?}"));
        }
    }
}
