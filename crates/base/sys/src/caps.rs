//! Capability sets (capabilities(7)): what they are called, what we have, and how a process gives up all
//! but some.

use rustix::io::{Errno, Result};
pub use rustix::thread::CapabilitySet;
use rustix::thread::{CapabilitySets, capabilities, set_capabilities};

/// The five sets of a thread.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sets {
    /// What can ever be had, by executing files too.
    pub bounding: CapabilitySet,
    /// What is checked now.
    pub effective: CapabilitySet,
    /// What can be made effective.
    pub permitted: CapabilitySet,
    /// What files can pass on.
    pub inheritable: CapabilitySet,
    /// What survives execve without set-user-ID.
    pub ambient: CapabilitySet,
}

/// The names of all capabilities by number (linux/capability.h, Linux 5.9).
const NAMES: [&str; 41] = [
    "CHOWN",
    "DAC_OVERRIDE",
    "DAC_READ_SEARCH",
    "FOWNER",
    "FSETID",
    "KILL",
    "SETGID",
    "SETUID",
    "SETPCAP",
    "LINUX_IMMUTABLE",
    "NET_BIND_SERVICE",
    "NET_BROADCAST",
    "NET_ADMIN",
    "NET_RAW",
    "IPC_LOCK",
    "IPC_OWNER",
    "SYS_MODULE",
    "SYS_RAWIO",
    "SYS_CHROOT",
    "SYS_PTRACE",
    "SYS_PACCT",
    "SYS_ADMIN",
    "SYS_BOOT",
    "SYS_NICE",
    "SYS_RESOURCE",
    "SYS_TIME",
    "SYS_TTY_CONFIG",
    "MKNOD",
    "LEASE",
    "AUDIT_WRITE",
    "AUDIT_CONTROL",
    "SETFCAP",
    "MAC_OVERRIDE",
    "MAC_ADMIN",
    "SYSLOG",
    "WAKE_ALARM",
    "BLOCK_SUSPEND",
    "AUDIT_READ",
    "PERFMON",
    "BPF",
    "CHECKPOINT_RESTORE",
];

/// The capability of that name, with or without `CAP_`, in any case.
pub fn by_name(name: &str) -> Option<CapabilitySet> {
    let bare = match name.get(..4) {
        Some(prefix) if prefix.eq_ignore_ascii_case("CAP_") => name.get(4..)?,
        _ => name,
    };
    let number = NAMES.iter().position(|known| known.eq_ignore_ascii_case(bare))?;
    Some(CapabilitySet::from_bits_retain(1 << number))
}

/// The names (`CAP_…`) of the capabilities in a set.
pub fn names(set: CapabilitySet) -> Vec<String> {
    let numbered = NAMES.iter().enumerate();
    let is_in = |number: usize| set.bits() & (1 << number) != 0;
    numbered.filter(|(number, _)| is_in(*number)).map(|(_, name)| format!("CAP_{name}")).collect()
}

/// What this thread is permitted.
pub fn permitted() -> Result<CapabilitySet> {
    Ok(capabilities(None)?.permitted)
}

/// Takes everything that is not in `keep` out of the bounding set. Needs CAP_SETPCAP.
pub fn limit_bounding(keep: CapabilitySet) -> Result<()> {
    for number in 0..u64::BITS {
        let one = CapabilitySet::from_bits_retain(1 << number);
        if keep.contains(one) {
            continue;
        }
        match rustix::thread::remove_capability_from_bounding_set(one) {
            Ok(()) => {}
            // The kernel knows no capability of this number, nor of any above.
            Err(Errno::INVAL) => return Ok(()),
            // Without CAP_SETPCAP it refuses even what is not there.
            Err(Errno::PERM) => match rustix::thread::capability_is_in_bounding_set(one) {
                Ok(false) => {}
                Err(Errno::INVAL) => return Ok(()),
                _ => return Err(Errno::PERM),
            },
            Err(errno) => return Err(errno),
        }
    }
    Ok(())
}

/// Makes everything permitted effective again, as it is not after giving up user id 0 with
/// PR_SET_KEEPCAPS.
pub fn raise_permitted() -> Result<()> {
    let mut sets = capabilities(None)?;
    sets.effective = sets.permitted;
    set_capabilities(None, sets)
}

/// Takes on the effective, permitted, inheritable and ambient sets of `sets`; the bounding set is
/// [`limit_bounding`]'s.
pub fn apply(sets: &Sets) -> Result<()> {
    let thread = CapabilitySets {
        effective: sets.effective,
        permitted: sets.permitted,
        inheritable: sets.inheritable,
    };
    set_capabilities(None, thread)?;
    rustix::thread::clear_ambient_capability_set()?;
    for number in 0..u64::BITS {
        let one = CapabilitySet::from_bits_retain(1 << number);
        if sets.ambient.contains(one) {
            rustix::thread::configure_capability_in_ambient_set(one, true)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_go_both_ways() {
        assert_eq!(by_name("CAP_NET_RAW"), Some(CapabilitySet::NET_RAW));
        assert_eq!(by_name("sys_admin"), Some(CapabilitySet::SYS_ADMIN));
        assert_eq!(by_name("cap_checkpoint_restore"), Some(CapabilitySet::CHECKPOINT_RESTORE));
        assert_eq!(by_name("CAP_"), None);
        assert_eq!(by_name("é€"), None);
        assert_eq!(names(CapabilitySet::CHOWN | CapabilitySet::BPF), ["CAP_CHOWN", "CAP_BPF"]);
    }
}
