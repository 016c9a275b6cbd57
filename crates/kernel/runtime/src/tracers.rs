//! Who could take over a first process that is born in another container's pid namespace.
//!
//! Such a process (`--pid container:X`) makes its mounts, and among them the procfs of that namespace, which
//! only a process in there can make. Until its filter is loaded, a process of X with CAP_SYS_PTRACE could
//! therefore use it to leave X, dumpable or not (CVE-2016-9962). So there must be none that has or can get
//! that capability, except one that has every capability that we have: it needs no such way.

use std::fs;
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;

use dhow_error::Kind;
use dhow_sys::caps::{self, CapabilitySet};
use dhow_sys::rustix::fs::fstat;

use crate::error::LaunchError;
use crate::parent::failed;

/// Refuses a pid namespace that has a process in it which may trace others. Our own has none that matters.
pub(crate) fn refuse(pid_namespace: &impl AsFd) -> Result<(), LaunchError> {
    let unknown = |errno| failed("cannot examine the pid namespace", errno);
    let wanted = fstat(pid_namespace).map_err(unknown)?.st_ino;
    if namespace_of("self") == Some(wanted) {
        return Ok(());
    }
    let ours = caps::permitted().map_err(unknown)?;
    let processes = fs::read_dir("/proc").map_err(|error| {
        let message = format!("cannot list the processes of the pid namespace: {error}");
        LaunchError::new("namespaces", Kind::Internal, message)
    })?;
    for entry in processes.flatten() {
        let name = entry.file_name();
        let Some(pid) = name.to_str().filter(|name| name.starts_with(|c: char| c.is_ascii_digit()))
        else {
            continue;
        };
        // What has ended meanwhile traces nobody.
        let attainable =
            fs::read_to_string(format!("/proc/{pid}/status")).map(|it| attainable(&it));
        if namespace_of(pid) == Some(wanted) && attainable.is_ok_and(|caps| endangers(caps, ours)) {
            let message = "cannot join the pid namespace of a container that may trace processes";
            return Err(LaunchError::new("namespaces", Kind::Unsupported, message)
                .with_hint("start that container without CAP_SYS_PTRACE, or use exec"));
        }
    }
    Ok(())
}

fn endangers(attainable: CapabilitySet, ours: CapabilitySet) -> bool {
    attainable.contains(CapabilitySet::SYS_PTRACE) && !attainable.contains(ours)
}

fn namespace_of(pid: &str) -> Option<u64> {
    fs::metadata(format!("/proc/{pid}/ns/pid")).ok().map(|status| status.ino())
}

/// What the process of this /proc/PID/status has or can get by executing a file (capabilities(7)).
fn attainable(status: &str) -> CapabilitySet {
    let set = |line: &str| {
        let value = line.strip_prefix("CapPrm:").or_else(|| line.strip_prefix("CapBnd:"))?;
        u64::from_str_radix(value.trim(), 16).ok()
    };
    CapabilitySet::from_bits_retain(status.lines().filter_map(set).fold(0, |all, it| all | it))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tracer_endangers_unless_it_can_do_everything() {
        let status =
            "Name:\tx\nCapInh:\tffffffffffffffff\nCapPrm:\t1\nCapEff:\tff\nCapBnd:\t80000\n";
        let (mut tracer, ours) = (attainable(status), CapabilitySet::from_bits_retain(0x0038_0001));
        assert_eq!(tracer.bits(), 0x80001);
        assert!(endangers(tracer, ours));
        assert!(!endangers(tracer, CapabilitySet::SYS_PTRACE));
        tracer.remove(CapabilitySet::SYS_PTRACE);
        assert!(!endangers(tracer, ours));
    }

    #[test]
    fn our_own_namespace_is_taken() {
        refuse(&fs::File::open("/proc/self/ns/pid").unwrap()).unwrap();
    }
}
