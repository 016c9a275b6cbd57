//! Kernel parameters of the container's own namespaces (OCI runtime specification, config-linux.md,
//! "Sysctl").
//!
//! Only those that a namespace separates are set, and only if the container has that namespace to itself;
//! the rest would change the host. They are written through a private procfs (CVE-2025-52881).

use std::collections::HashMap;
use std::os::fd::BorrowedFd;

use dhow_sys::beneath;
use dhow_sys::namespace::Namespaces;
use dhow_sys::rustix::fs::OFlags;
use dhow_sys::rustix::io::{Errno, write};

use crate::failure::{Doing, Failure, PlanError};

/// A parameter to set.
#[derive(Debug)]
pub(crate) struct Sysctl {
    key: String,
    /// Below a procfs: `sys/net/ipv4/ip_forward`.
    path: String,
    value: String,
}

/// The parameters of the IPC namespace (ipc_namespaces(7)).
const IPC: [&str; 8] = [
    "kernel/msgmax",
    "kernel/msgmnb",
    "kernel/msgmni",
    "kernel/sem",
    "kernel/shmall",
    "kernel/shmmax",
    "kernel/shmmni",
    "kernel/shm_rmid_forced",
];

/// Checks the parameters against the namespaces that the container has to itself.
pub(crate) fn prepare(
    parameters: Option<&HashMap<String, String>>,
    own: Namespaces,
) -> Result<Vec<Sysctl>, PlanError> {
    let mut prepared: Vec<Sysctl> = Vec::new();
    for (key, value) in parameters.into_iter().flatten() {
        let path = path_of(key);
        check(key, &path, own)?;
        let path = ["sys/", &path].concat();
        prepared.push(Sysctl { key: key.clone(), path, value: value.clone() });
    }
    prepared.sort_by(|one, other| one.key.cmp(&other.key));
    Ok(prepared)
}

/// Writes all parameters below `procfs`.
pub(crate) fn write_all(parameters: &[Sysctl], procfs: BorrowedFd<'_>) -> Result<(), Failure> {
    parameters.iter().try_for_each(|parameter| {
        parameter
            .write(procfs)
            .doing(|| format!("cannot set sysctl {} to {}", parameter.key, parameter.value))
    })
}

impl Sysctl {
    fn write(&self, procfs: BorrowedFd<'_>) -> Result<(), Errno> {
        let file = beneath::open_strict(procfs, self.path.as_bytes(), OFlags::WRONLY)?;
        write(&file, self.value.as_bytes()).map(drop)
    }
}

/// A parameter's path below /proc/sys, whichever of dots and slashes separates its name: the first of them
/// does, and the other then stands for what is in a name (`net/ipv4/conf/eth0.1/forwarding`, sysctl(8)).
fn path_of(key: &str) -> String {
    match key.find(['.', '/']).and_then(|first| key.get(first..=first)) {
        Some(".") => {
            let swap = |c| match c {
                '.' => '/',
                '/' => '.',
                other => other,
            };
            key.chars().map(swap).collect()
        }
        _ => key.to_owned(),
    }
}

fn check(key: &str, path: &str, own: Namespaces) -> Result<(), PlanError> {
    let refuse = |why| Err(PlanError::Sysctl { key: key.to_owned(), why });
    let odd = |part: &str| part.is_empty() || part == "." || part == "..";
    if path.split('/').any(odd) || path.contains('\0') {
        return refuse("its name is malformed");
    }
    let (namespace, why) = if path.starts_with("net/") {
        (Namespaces::NETWORK, "it uses the host's network")
    } else if path.starts_with("fs/mqueue/") || IPC.contains(&path) {
        (Namespaces::IPC, "it uses the host's IPC namespace")
    } else if path == "kernel/hostname" || path == "kernel/domainname" {
        (Namespaces::UTS, "it uses the host's UTS namespace")
    } else {
        return refuse("no namespace separates it");
    };
    if own.contains(namespace) { Ok(()) } else { refuse(why) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn prepared(key: &str, own: Namespaces) -> Result<Vec<Sysctl>, PlanError> {
        prepare(Some(&HashMap::from([(key.to_owned(), "1".to_owned())])), own)
    }

    #[test]
    fn only_what_a_namespace_separates() {
        let all = Namespaces::NETWORK | Namespaces::IPC | Namespaces::UTS;
        let forward = prepared("net.ipv4.ip_forward", all).unwrap();
        assert_eq!(forward[0].path, "sys/net/ipv4/ip_forward");
        assert!(prepared("kernel.shmmax", all).is_ok());
        assert!(prepared("kernel.shmmax", Namespaces::NETWORK).is_err());
        for (key, path) in [
            ("net/ipv4/conf/eth0.1/forwarding", "sys/net/ipv4/conf/eth0.1/forwarding"),
            ("net.ipv4.conf.eth0/1.forwarding", "sys/net/ipv4/conf/eth0.1/forwarding"),
        ] {
            assert_eq!(prepared(key, all).unwrap()[0].path, path);
        }
        for bad in [
            "vm.swappiness",
            "net../x",
            "kernel.core_pattern",
            "net/../kernel/core_pattern",
            "net.//.kernel",
            "net..x",
            "/net/ipv4/ip_forward",
            "net",
            "",
        ] {
            assert!(prepared(bad, all).is_err(), "{bad}");
        }
        let error = prepared("net.core.somaxconn", Namespaces::NONE).unwrap_err();
        assert_eq!(
            error.to_string(),
            "sysctl net.core.somaxconn is not separate for this container: \
             it uses the host's network"
        );
    }
}
