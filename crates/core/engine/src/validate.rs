//! Refusing what cannot be, before anything is made of it. Docker's rules, in its words in lower case.
//!
//! [`check`] takes a merged specification and the [`Machine`] and gives warnings. It does no I/O; the
//! machine's facts are read once by [`Machine::detect`]. What only the kernel can know (a device that is
//! not there, a cgroup limit it refuses) fails at start, where nothing of it stays.

use std::collections::BTreeSet;

use dhow_error::{Error, Result};
use dhow_sys::caps::{self, CapabilitySet};
use dhow_sys::rustix::process::{Resource, getrlimit};

use crate::capabilities;
use crate::signal;
use crate::spec::{
    ContainerSpec, Limits, NamespaceMode, NetworkMode, RestartPolicy, Security, clean_target,
};

/// Docker's least memory limit.
const MEMORY_MIN_BYTES: i64 = 6 << 20;

/// What containers can have on this machine.
#[derive(Debug, Clone)]
pub(crate) struct Machine {
    /// How many CPUs there are.
    pub(crate) cpus: u32,
    /// The capabilities that the daemon holds.
    pub(crate) capabilities: CapabilitySet,
    /// The daemon's own hard limit on open files, if it cannot go above it.
    pub(crate) files_hard: Option<u64>,
}

impl Machine {
    /// Asks the kernel.
    pub(crate) fn detect() -> Result<Self> {
        let capabilities = caps::permitted().map_err(|errno| {
            Error::caused(dhow_error::Kind::Internal, "cannot read own capabilities", errno)
        })?;
        let cpus = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        let may_raise = capabilities.contains(CapabilitySet::SYS_RESOURCE);
        let files_hard = if may_raise { None } else { getrlimit(Resource::Nofile).maximum };
        Ok(Self { cpus: u32::try_from(cpus).unwrap_or(u32::MAX), capabilities, files_hard })
    }
}

/// Checks a merged specification. What is returned is for the user to read.
///
/// Errors: invalid or conflict.
pub(crate) fn check(spec: &ContainerSpec, machine: &Machine) -> Result<Vec<String>> {
    let mut warnings = Vec::new();
    if !spec.workdir.is_empty() && !spec.workdir.starts_with('/') {
        return invalid(format!(
            "the working directory '{}' is invalid, it needs to be an absolute path",
            spec.workdir
        ));
    }
    if let Some(entry) = spec.env.iter().find(|entry| entry.is_empty() || entry.starts_with('=')) {
        return invalid(format!("invalid environment variable: {entry}"));
    }
    if let Some(word) = spec.arguments().iter().chain(&spec.env).find(|word| word.contains('\0')) {
        return invalid(format!("invalid argument {word:?}: it contains a zero byte"));
    }
    if !spec.stop_signal.is_empty() {
        signal::parse(&spec.stop_signal)?;
    }
    if spec.auto_remove && spec.restart != RestartPolicy::No {
        return invalid("can't create 'AutoRemove' container with restart policy".into());
    }
    check_mounts(spec)?;
    check_names(spec)?;
    check_network(spec, &mut warnings)?;
    check_limits(&spec.limits, machine)?;
    check_ulimits(spec, machine, &mut warnings)?;
    check_security(spec, machine, &mut warnings)?;
    Ok(warnings)
}

fn check_mounts(spec: &ContainerSpec) -> Result<()> {
    let mut targets = BTreeSet::new();
    for mount in &spec.mounts {
        let target = clean_target(&mount.target)?;
        if !targets.insert(target.clone()) {
            return invalid(format!("duplicate mount point: {target}"));
        }
    }
    Ok(())
}

/// Host and domain names: labels of RFC 1123, with the underscores that people use.
fn check_names(spec: &ContainerSpec) -> Result<()> {
    let valid = |name: &str| {
        let byte = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
        name.len() <= 64 && name.bytes().all(byte) && !name.starts_with(['-', '.'])
    };
    for (what, name) in [("hostname", &spec.hostname), ("domainname", &spec.domainname)] {
        if !valid(name) {
            return invalid(format!("invalid {what} format: {name}"));
        }
    }
    Ok(())
}

fn check_network(spec: &ContainerSpec, warnings: &mut Vec<String>) -> Result<()> {
    let network = &spec.network;
    let conflict = |what: &str| {
        Err(Error::invalid(format!(
            "conflicting options: {what} and the container type network mode"
        )))
    };
    match &network.mode {
        NetworkMode::Container(_) if !spec.hostname.is_empty() => {
            return Err(Error::invalid("conflicting options: hostname and the network mode"));
        }
        NetworkMode::Container(_) if !network.ports.is_empty() || network.publish_all => {
            return conflict("port publishing");
        }
        NetworkMode::Container(_) if !network.extra_hosts.is_empty() => {
            return conflict("custom host-to-IP mapping");
        }
        NetworkMode::Container(_) if !network.dns.is_empty() => return conflict("dns"),
        NetworkMode::Container(_) if network.mac.is_some() => return conflict("mac-address"),
        NetworkMode::Host | NetworkMode::None if !network.ports.is_empty() => {
            warnings.push(format!(
                "Published ports are discarded when using {} network mode",
                network.mode
            ));
        }
        _ => {}
    }
    if let Some(mac) = network.mac.as_deref().filter(|mac| !is_mac(mac)) {
        return invalid(format!("{mac} is not a valid mac address"));
    }
    if let Some(ports) = network
        .ports
        .iter()
        .filter_map(|binding| binding.host_ports.as_ref())
        .find(|ports| ports.is_empty() || *ports.start() == 0)
    {
        return invalid(format!("invalid host port range: {}-{}", ports.start(), ports.end()));
    }
    for entry in &network.extra_hosts {
        let (name, address) = entry.split_once([':', '=']).unwrap_or((entry, ""));
        let known = address == "host-gateway"
            || address.trim_matches(['[', ']']).parse::<std::net::IpAddr>().is_ok();
        if name.is_empty() || !known || name.contains(char::is_whitespace) {
            return invalid(format!("invalid IP address in add-host: {address:?} of {entry:?}"));
        }
    }
    let resolver = network.dns_search.iter().chain(&network.dns_options);
    if let Some(word) = resolver.into_iter().find(|word| word.contains(char::is_whitespace)) {
        return invalid(format!("invalid dns word {word:?}: it contains a blank"));
    }
    Ok(())
}

/// Whether an interface can have this address: six pairs of digits, not zero, and not a group's.
fn is_mac(text: &str) -> bool {
    let is_pair = |part: &str| part.len() == 2 && part.bytes().all(|it| it.is_ascii_hexdigit());
    let first = text.get(..2).and_then(|pair| u8::from_str_radix(pair, 16).ok());
    text.split(':').count() == 6
        && text.split(':').all(is_pair)
        && first.is_some_and(|first| first & 1 == 0)
        && text.bytes().any(|digit| !b"0:".contains(&digit))
}

fn check_limits(limits: &Limits, machine: &Machine) -> Result<()> {
    check_memory(limits)?;
    check_cpu(limits, machine)?;
    if !(-1000..=1000).contains(&limits.oom_score_adj) {
        return invalid(format!(
            "invalid value {}, range for oom score adj is [-1000, 1000]",
            limits.oom_score_adj
        ));
    }
    if limits.shm_bytes.is_some_and(|bytes| bytes < 0) {
        return invalid("SHM size can not be less than 0".into());
    }
    if limits.blkio_weight.is_some_and(|weight| weight != 0 && !(10..=1000).contains(&weight)) {
        return invalid("range of blkio weight is from 10 to 1000".into());
    }
    Ok(())
}

fn check_memory(limits: &Limits) -> Result<()> {
    let given = |value: Option<i64>| value.filter(|value| *value != 0);
    let memory = given(limits.memory_bytes);
    let swap = given(limits.memory_swap_bytes);
    let reservation = given(limits.memory_reservation_bytes);
    if memory.is_some_and(|bytes| bytes < MEMORY_MIN_BYTES) {
        return invalid("minimum memory limit allowed is 6MB".into());
    }
    match (memory, swap) {
        (Some(memory), Some(swap)) if swap != -1 && swap < memory => {
            return invalid(
                "minimum memoryswap limit should be larger than memory limit, see usage".into(),
            );
        }
        (None, Some(swap)) if swap > 0 => {
            return invalid(
                "you should always set the memory limit when using memoryswap limit, see usage"
                    .into(),
            );
        }
        _ => {}
    }
    if limits.memory_swappiness.is_some_and(|value| !(-1..=100).contains(&value)) {
        return invalid(format!(
            "invalid value: {}, valid memory swappiness range is 0-100",
            limits.memory_swappiness.unwrap_or_default()
        ));
    }
    match (memory, reservation) {
        (_, Some(reservation)) if reservation < MEMORY_MIN_BYTES => {
            invalid("minimum memory reservation allowed is 6MB".into())
        }
        (Some(memory), Some(reservation)) if memory < reservation => invalid(
            "minimum memory limit can not be less than memory reservation limit, see usage".into(),
        ),
        _ => Ok(()),
    }
}

fn check_cpu(limits: &Limits, machine: &Machine) -> Result<()> {
    let nano = limits.nano_cpus.unwrap_or_default();
    let period = limits.cpu_period_us.unwrap_or_default();
    let quota = limits.cpu_quota_us.unwrap_or_default();
    if nano != 0 && period != 0 {
        return invalid("conflicting options: Nano CPUs and CPU Period cannot both be set".into());
    }
    if nano != 0 && quota != 0 {
        return invalid("conflicting options: Nano CPUs and CPU Quota cannot both be set".into());
    }
    let cpus = machine.cpus;
    // 1 ms of the 100 ms period is the least quota the kernel takes.
    if nano < 0 || (nano != 0 && nano < 10_000_000) || nano > i64::from(cpus) * 1_000_000_000 {
        return invalid(format!(
            "range of CPUs is from 0.01 to {cpus}.00, as there are only {cpus} CPUs available"
        ));
    }
    if period != 0 && !(1000..=1_000_000).contains(&period) {
        return invalid(
            "CPU cfs period can not be less than 1ms (i.e. 1000) or larger than 1s (i.e. 1000000)"
                .into(),
        );
    }
    if quota > 0 && quota < 1000 {
        return invalid("CPU cfs quota can not be less than 1ms (i.e. 1000)".into());
    }
    for (what, list) in [("cpus", &limits.cpuset_cpus), ("mems", &limits.cpuset_mems)] {
        if !list.is_empty() && parse_list(list).is_none() {
            return invalid(format!("invalid value {list} for cpuset {what}"));
        }
    }
    Ok(())
}

/// The numbers of `0-2,4` as ranges; `None` if it is no such list.
fn parse_list(text: &str) -> Option<Vec<(u32, u32)>> {
    text.trim()
        .split(',')
        .map(|part| {
            let (first, last) = part.split_once('-').unwrap_or((part, part));
            let (first, last) = (first.trim().parse().ok()?, last.trim().parse().ok()?);
            (first <= last && last < 8192).then_some((first, last))
        })
        .collect()
}

fn check_ulimits(
    spec: &ContainerSpec,
    machine: &Machine,
    warnings: &mut Vec<String>,
) -> Result<()> {
    for limit in &spec.limits.ulimits {
        limit.check()?;
        let Some(most) = machine.files_hard.filter(|_| limit.name == "nofile") else { continue };
        if limit.hard < 0 || limit.hard as u64 > most {
            warnings.push(format!(
                "The hard limit of nofile cannot be raised to {} without CAP_SYS_RESOURCE: it is {most}",
                limit.hard
            ));
        }
    }
    Ok(())
}

fn check_security(
    spec: &ContainerSpec,
    machine: &Machine,
    warnings: &mut Vec<String>,
) -> Result<()> {
    let security: &Security = &spec.security;
    capabilities::resolve(security, machine.capabilities)?;
    if security.uts == NamespaceMode::Host && !spec.hostname.is_empty() {
        return invalid("conflicting options: hostname and the UTS mode".into());
    }
    if security.uts == NamespaceMode::Host && !spec.domainname.is_empty() {
        return invalid("conflicting options: domainname and the UTS mode".into());
    }
    let shares_host = spec.network.mode == NetworkMode::Host;
    for (name, value) in &security.sysctls {
        check_sysctl(name, value, shares_host, security.ipc == NamespaceMode::Host)?;
    }
    for device in &security.devices {
        let permissions = &device.permissions;
        if permissions.is_empty() || !permissions.bytes().all(|byte| b"rwm".contains(&byte)) {
            return invalid(format!("invalid device mode: {permissions}"));
        }
    }
    if security.privileged && !security.devices.is_empty() {
        warnings.push("A privileged container has all devices of the host".into());
    }
    Ok(())
}

/// Only parameters of the container's own namespaces can be set.
fn check_sysctl(name: &str, value: &str, host_network: bool, host_ipc: bool) -> Result<()> {
    const IPC: [&str; 9] = [
        "kernel.msgmax",
        "kernel.msgmnb",
        "kernel.msgmni",
        "kernel.sem",
        "kernel.shmall",
        "kernel.shmmax",
        "kernel.shmmni",
        "kernel.shm_rmid_forced",
        "kernel.hostname",
    ];
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._-/".contains(&byte);
    let of_network = name.starts_with("net.");
    let of_ipc = IPC.contains(&name) || name.starts_with("fs.mqueue.");
    if !name.bytes().all(plain) || name.contains("..") || value.contains('\0') {
        return invalid(format!("invalid sysctl {name:?}"));
    }
    if (of_network && host_network) || (of_ipc && host_ipc) {
        return invalid(format!(
            "sysctl {name:?} is the host's, whose namespace the container shares"
        ));
    }
    if of_network || of_ipc || name == "kernel.domainname" {
        Ok(())
    } else {
        invalid(format!("sysctl {name:?} is not separate for containers and cannot be set"))
    }
}

fn invalid<T>(message: String) -> Result<T> {
    Err(Error::invalid(message))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::{Mount, PortBinding, Ulimit};

    fn machine() -> Machine {
        Machine { cpus: 2, capabilities: CapabilitySet::all(), files_hard: Some(20_000) }
    }

    fn refused(change: impl FnOnce(&mut ContainerSpec)) -> String {
        let mut spec = ContainerSpec::default();
        change(&mut spec);
        check(&spec, &machine()).unwrap_err().to_string()
    }

    fn warned(change: impl FnOnce(&mut ContainerSpec)) -> Vec<String> {
        let mut spec = ContainerSpec::default();
        change(&mut spec);
        check(&spec, &machine()).unwrap()
    }

    #[test]
    fn an_ordinary_container_passes() {
        assert!(warned(|_| {}).is_empty());
    }

    #[test]
    fn hardware_addresses_are_checked() {
        assert!(warned(|s| s.network.mac = Some("02:42:AC:11:00:0a".to_owned())).is_empty());
        for wrong in [
            "nonsense",
            "",
            "02:42:ac:11:00",
            "02:42:ac:11:00:0a:0b",
            "02:42:ac:11:00:+a",
            "03:42:ac:11:00:0a",
            "00:00:00:00:00:00",
            "02:42:ac:11:00:é",
        ] {
            let said = refused(|s| s.network.mac = Some(wrong.to_owned()));
            assert_eq!(said, format!("{wrong} is not a valid mac address"));
        }
    }

    #[test]
    fn memory_is_checked() {
        assert!(refused(|s| s.limits.memory_bytes = Some(4 << 20)).contains("6MB"));
        assert!(refused(|s| s.limits.memory_swap_bytes = Some(1 << 30)).contains("always set"));
        let error = refused(|s| {
            s.limits.memory_bytes = Some(64 << 20);
            s.limits.memory_swap_bytes = Some(32 << 20);
        });
        assert!(error.contains("memoryswap"));
        assert!(
            warned(|s| {
                s.limits.memory_bytes = Some(64 << 20);
                s.limits.memory_swap_bytes = Some(-1);
            })
            .is_empty()
        );
    }

    #[test]
    fn cpu_is_checked() {
        assert!(refused(|s| s.limits.nano_cpus = Some(3_000_000_000)).contains("0.01 to 2.00"));
        assert!(refused(|s| s.limits.cpu_period_us = Some(10)).contains("period"));
        assert!(refused(|s| s.limits.cpuset_cpus = "1-x".into()).contains("1-x"));
        assert!(warned(|s| s.limits.cpuset_cpus = "0,1-3".into()).is_empty());
    }

    #[test]
    fn networks_are_checked() {
        let publish = |s: &mut ContainerSpec| {
            let port = "80/tcp".parse().unwrap();
            s.network.ports.push(PortBinding { port, host_ip: None, host_ports: None });
        };
        let warnings = warned(|s| {
            s.network.mode = NetworkMode::Host;
            publish(s);
        });
        assert!(warnings[0].contains("discarded"));
        let error = refused(|s| {
            s.network.mode = NetworkMode::Container("x".into());
            publish(s);
        });
        assert!(error.contains("port publishing"));
        assert!(refused(|s| s.network.extra_hosts.push("a:b".into())).contains("add-host"));
        assert!(warned(|s| s.network.extra_hosts.push("a:host-gateway".into())).is_empty());
    }

    #[test]
    fn the_rest_is_checked() {
        assert!(refused(|s| s.workdir = "srv".into()).contains("absolute"));
        assert!(refused(|s| s.env.push("=x".into())).contains("environment"));
        assert!(refused(|s| s.hostname = "-x".into()).contains("hostname"));
        assert!(refused(|s| s.stop_signal = "CHEESE".into()).contains("CHEESE"));
        let mount = Mount::from_bind("/a:/b").unwrap();
        assert!(refused(|s| s.mounts = vec![mount.clone(), mount]).contains("duplicate"));
        let sysctl = |name: &str| {
            refused(|s| {
                s.security.sysctls.insert(name.into(), "1".into());
            })
        };
        assert!(sysctl("vm.swappiness").contains("cannot be set"));
        assert!(sysctl("net/../../x").contains("invalid sysctl"));
    }

    #[test]
    fn open_files_beyond_the_machine_are_a_warning() {
        let limit = |hard| Ulimit { name: "nofile".into(), soft: 10, hard };
        assert_eq!(warned(|s| s.limits.ulimits.push(limit(30_000))).len(), 1);
        assert!(warned(|s| s.limits.ulimits.push(limit(20_000))).is_empty());
    }
}
