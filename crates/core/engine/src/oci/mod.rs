//! The OCI specification of a container: Docker's defaults with what was asked for on top.
//!
//! [`build`] takes values and gives a value (devices of the host are looked at, nothing is changed), so
//! that most of it can be made when the container is created and only paths and addresses come at start.
//! Reference: the OCI runtime specification, config.md and config-linux.md.

mod devices;
mod mounts;
mod process;
mod resources;

use std::collections::{BTreeSet, HashMap};
use std::fmt::Write as _;
use std::path::PathBuf;

use dhow_error::{Error, Kind, Result};
use dhow_spec::oci_runtime::{
    LinuxBuilder, LinuxNamespace, LinuxNamespaceBuilder, LinuxNamespaceType, RootBuilder, Spec,
    SpecBuilder,
};

use crate::networks::Endpoint;
use crate::spec::{ContainerSpec, NamespaceMode, NetworkMode, Ulimit};
use crate::validate::Machine;
use crate::view::MountView;

pub(crate) use process::exec_process;

/// Paths in `/proc` and `/sys` that tell a container about the machine.
const MASKED: [&str; 11] = [
    "/proc/asound",
    "/proc/acpi",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/sys/firmware",
    "/sys/devices/virtual/powercap",
];

/// Paths in `/proc` by which a container could change the machine.
const READ_ONLY: [&str; 5] =
    ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];

/// What a specification is built from.
#[derive(Debug)]
pub(crate) struct Plan<'a> {
    /// What was asked for, merged with the image's configuration.
    pub(crate) spec: &'a ContainerSpec,
    /// The machine it will run on.
    pub(crate) machine: &'a Machine,
    /// The host name as it will be.
    pub(crate) hostname: &'a str,
    /// The container's capabilities, as `CAP_…`.
    pub(crate) capabilities: &'a BTreeSet<String>,
    /// The daemon's resource limits, below the container's.
    pub(crate) ulimits: &'a [Ulimit],
    /// Mounts with the host's paths filled in.
    pub(crate) mounts: &'a [MountView],
    /// Files for `/etc/resolv.conf`, `/etc/hostname` and `/etc/hosts`.
    pub(crate) etc: &'a EtcFiles,
    /// Further groups, resolved.
    pub(crate) groups: &'a [u32],
    /// The process whose namespaces are joined, where the specification names another container.
    pub(crate) joined: &'a Joined,
    /// The cgroup's path.
    pub(crate) cgroup: &'a str,
}

/// Files of the host that are mounted below `/etc`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct EtcFiles {
    /// For `/etc/resolv.conf`.
    pub(crate) resolv_conf: PathBuf,
    /// For `/etc/hostname`.
    pub(crate) hostname: PathBuf,
    /// For `/etc/hosts`.
    pub(crate) hosts: PathBuf,
}

/// First processes of other containers whose namespaces are shared.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Joined {
    /// For `--pid container:`.
    pub(crate) pid: Option<i32>,
    /// For `--ipc container:`.
    pub(crate) ipc: Option<i32>,
}

/// Builds the specification.
///
/// Errors: not found for a device that is not there; unsupported for what cannot be had.
pub(crate) fn build(plan: &Plan<'_>) -> Result<Spec> {
    let security = &plan.spec.security;
    let devices = devices::resolve(security)?;
    let masks = !security.privileged && !security.unmask_paths;
    let paths = |list: &[&str]| -> Vec<String> {
        if masks { list.iter().map(ToString::to_string).collect() } else { Vec::new() }
    };
    let sysctl: HashMap<String, String> =
        security.sysctls.iter().map(|(name, value)| (name.clone(), value.clone())).collect();
    let linux = LinuxBuilder::default()
        .namespaces(namespaces(plan)?)
        .resources(resources::build(&plan.spec.limits, devices.rules)?)
        .cgroups_path(plan.cgroup)
        .devices(devices.nodes)
        .sysctl(sysctl)
        .masked_paths(paths(&MASKED))
        .readonly_paths(paths(&READ_ONLY))
        .build()
        .map_err(broken)?;
    let root = RootBuilder::default()
        .path("rootfs")
        .readonly(security.read_only_rootfs)
        .build()
        .map_err(broken)?;
    let mut spec = SpecBuilder::default()
        .version("1.2.0")
        .root(root)
        .process(process::build(plan)?)
        .mounts(mounts::build(plan)?)
        .linux(linux)
        .build()
        .map_err(broken)?;
    // The builder starts from an example, in which these are set.
    let own_name = security.uts == NamespaceMode::Private;
    spec.set_hostname(own_name.then(|| plan.hostname.to_owned()));
    let domain = Some(plan.spec.domainname.clone()).filter(|name| own_name && !name.is_empty());
    spec.set_domainname(domain);
    spec.set_annotations(None);
    Ok(spec)
}

/// What `/etc/hosts` names: the endpoint's address with the host's name, and what was asked for.
pub(crate) fn hosts_file(
    spec: &ContainerSpec,
    hostname: &str,
    endpoint: Option<&Endpoint>,
    gateway: Option<std::net::IpAddr>,
) -> Result<String> {
    let mut text = String::from(
        "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\nfe00::\tip6-localnet\n\
         ff00::\tip6-mcastprefix\nff02::1\tip6-allnodes\nff02::2\tip6-allrouters\n",
    );
    for entry in &spec.network.extra_hosts {
        let (name, address) = entry.split_once([':', '=']).unwrap_or((entry, ""));
        let address = if address == "host-gateway" {
            gateway.map(|gateway| gateway.to_string()).ok_or_else(|| {
                Error::invalid("unable to derive the IP value for host-gateway")
                    .with_hint("connect the container to a bridge, or give an address")
            })?
        } else {
            address.trim_matches(['[', ']']).to_owned()
        };
        let _ = writeln!(text, "{address}\t{name}");
    }
    let full = match spec.domainname.as_str() {
        "" => hostname.to_owned(),
        domain => format!("{hostname}.{domain} {hostname}"),
    };
    match endpoint {
        Some(endpoint) => {
            let _ = writeln!(text, "{}\t{full}", endpoint.ip);
        }
        None if spec.network.mode == NetworkMode::Host => {
            let _ = writeln!(text, "127.0.1.1\t{full}");
        }
        None => {}
    }
    Ok(text)
}

/// The container's namespaces. The network's has no path: its descriptor goes with the launch.
fn namespaces(plan: &Plan<'_>) -> Result<Vec<LinuxNamespace>> {
    use LinuxNamespaceType::{Cgroup, Ipc, Mount, Network, Pid, Uts};
    let security = &plan.spec.security;
    let entry = |typ, path: Option<String>| {
        let builder = LinuxNamespaceBuilder::default().typ(typ);
        match path {
            Some(path) => builder.path(path),
            None => builder,
        }
        .build()
        .map_err(broken)
    };
    let mut list = vec![entry(Mount, None)?];
    if plan.spec.network.mode != NetworkMode::Host {
        list.push(entry(Network, None)?);
    }
    for (typ, mode, file, joined) in [
        (Uts, &security.uts, "uts", None),
        (Pid, &security.pid, "pid", plan.joined.pid),
        (Ipc, &security.ipc, "ipc", plan.joined.ipc),
        (Cgroup, &security.cgroupns, "cgroup", None),
    ] {
        match (mode, joined) {
            (NamespaceMode::Host, _) => {}
            (NamespaceMode::Private, _) => list.push(entry(typ, None)?),
            (NamespaceMode::Container(_), Some(pid)) => {
                list.push(entry(typ, Some(format!("/proc/{pid}/ns/{file}")))?);
            }
            (NamespaceMode::Container(_), None) => {
                let message = format!("another container's {file} namespace cannot be joined");
                return Err(Error::new(Kind::Unsupported, message));
            }
        }
    }
    Ok(list)
}

/// A builder that misses a field: a fault of this module.
pub(super) fn broken(error: impl std::error::Error + Send + Sync + 'static) -> Error {
    Error::caused(Kind::Internal, "cannot build the OCI specification", error)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::capabilities;
    use crate::spec::{Mount, NetworkSpec};
    use dhow_sys::caps::CapabilitySet;

    fn built(change: impl FnOnce(&mut ContainerSpec)) -> Spec {
        let mut spec = ContainerSpec {
            cmd: Some(vec!["true".into()]),
            env: vec!["A=b".into()],
            ..ContainerSpec::default()
        };
        change(&mut spec);
        let machine =
            Machine { cpus: 2, capabilities: CapabilitySet::all(), files_hard: Some(20_000) };
        let capabilities = capabilities::resolve(&spec.security, CapabilitySet::all()).unwrap();
        let mounts: Vec<MountView> = spec
            .mounts
            .iter()
            .map(|mount| MountView { mount: mount.clone(), source: PathBuf::from("/host") })
            .collect();
        let plan = Plan {
            spec: &spec,
            machine: &machine,
            hostname: "abc",
            capabilities: &capabilities,
            ulimits: &[],
            mounts: &mounts,
            etc: &EtcFiles::default(),
            groups: &[],
            joined: &Joined::default(),
            cgroup: "/dhow/abc",
        };
        build(&plan).unwrap()
    }

    fn kinds(spec: &Spec) -> Vec<LinuxNamespaceType> {
        let list = spec.linux().as_ref().unwrap().namespaces().clone().unwrap();
        list.iter().map(LinuxNamespace::typ).collect()
    }

    #[test]
    fn the_default_is_dockers() {
        let spec = built(|_| {});
        let process = spec.process().as_ref().unwrap();
        assert_eq!(process.args().as_deref(), Some(&["true".to_owned()][..]));
        let env = process.env().clone().unwrap();
        assert!(env[0].starts_with("PATH=/usr/local/sbin:"));
        assert_eq!(env[1..], ["HOSTNAME=abc", "A=b"]);
        let caps = process.capabilities().as_ref().unwrap();
        assert_eq!(caps.bounding().as_ref().map(std::collections::HashSet::len), Some(14));
        assert!(caps.inheritable().as_ref().is_none_or(std::collections::HashSet::is_empty));
        let linux = spec.linux().as_ref().unwrap();
        assert_eq!(linux.masked_paths().as_ref().map(Vec::len), Some(11));
        assert_eq!(linux.readonly_paths().as_ref().map(Vec::len), Some(5));
        assert_eq!(kinds(&spec).len(), 6);
        let mounts = spec.mounts().clone().unwrap();
        let sys = mounts.iter().find(|m| m.destination().ends_with("sys")).unwrap();
        assert!(sys.options().as_ref().unwrap().iter().any(|option| option == "ro"));
        assert_eq!(spec.hostname().as_deref(), Some("abc"));
        assert!(linux.seccomp().is_none() && spec.hooks().is_none());
    }

    #[test]
    fn privileged_containers_see_the_machine() {
        let spec = built(|s| s.security.privileged = true);
        let linux = spec.linux().as_ref().unwrap();
        assert!(linux.masked_paths().as_ref().is_none_or(Vec::is_empty));
        let mounts = spec.mounts().clone().unwrap();
        let sys = mounts.iter().find(|m| m.destination().ends_with("sys")).unwrap();
        assert!(!sys.options().as_ref().unwrap().iter().any(|option| option == "ro"));
        assert!(linux.devices().as_ref().unwrap().len() > 5);
    }

    #[test]
    fn shared_namespaces_are_left_out() {
        let spec = built(|s| {
            s.network = NetworkSpec { mode: NetworkMode::Host, ..NetworkSpec::default() };
            s.security.pid = NamespaceMode::Host;
            s.security.uts = NamespaceMode::Host;
        });
        let kinds = kinds(&spec);
        assert_eq!(kinds.len(), 3);
        assert!(!kinds.contains(&LinuxNamespaceType::Network));
        assert_eq!(spec.hostname(), &None);
    }

    #[test]
    fn a_users_mount_replaces_a_default_one() {
        let spec = built(|s| {
            s.mounts.push(Mount::from_bind("/x:/dev/shm:ro").unwrap());
            s.mounts.push(Mount::from_bind("/x:/etc/hosts").unwrap());
            s.mounts.push(Mount::from_bind("/x:/a/b").unwrap());
            s.mounts.push(Mount::from_bind("/x:/a").unwrap());
        });
        let mounts = spec.mounts().clone().unwrap();
        let at = |path: &str| -> Vec<usize> {
            let found = mounts.iter().enumerate();
            found.filter(|(_, m)| m.destination().as_os_str() == path).map(|(at, _)| at).collect()
        };
        assert_eq!((at("/dev/shm").len(), at("/etc/hosts").len()), (1, 1));
        assert!(at("/a")[0] < at("/a/b")[0], "outer mounts come first");
        let shm = &mounts[at("/dev/shm")[0]];
        assert_eq!(shm.source().as_deref(), Some(std::path::Path::new("/host")));
    }

    #[test]
    fn hosts_name_the_container() {
        let mut spec =
            ContainerSpec { domainname: "example.org".into(), ..ContainerSpec::default() };
        spec.network.extra_hosts.push("host:host-gateway".into());
        let endpoint = Endpoint {
            network: "bridge".into(),
            ip: [172, 17, 0, 2].into(),
            prefix_len: 16,
            gateway: None,
            mac: String::new(),
        };
        let gateway = Some([172, 17, 0, 1].into());
        let text = hosts_file(&spec, "web", Some(&endpoint), gateway).unwrap();
        assert!(text.contains("172.17.0.1\thost\n"));
        assert!(text.ends_with("172.17.0.2\tweb.example.org web\n"));
        assert!(hosts_file(&spec, "web", None, None).is_err());
    }
}
