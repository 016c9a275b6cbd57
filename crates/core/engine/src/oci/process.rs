//! The process of a container or exec: what runs, as whom, with which limits.

use std::collections::BTreeSet;

use dhow_error::Result;
use dhow_spec::oci_runtime::{
    Capabilities, LinuxCapabilitiesBuilder, PosixRlimit, PosixRlimitBuilder, PosixRlimitType,
    Process, ProcessBuilder, UserBuilder,
};

use super::{Plan, broken};
use crate::capabilities;
use crate::options::ExecSpec;
use crate::resolve::environment;
use crate::spec::{ContainerSpec, Ulimit};
use crate::validate::Machine;

/// Where programs are looked for when neither image nor user say.
const PATH: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// The container's first process.
pub(super) fn build(plan: &Plan<'_>) -> Result<Process> {
    let spec = plan.spec;
    let mut process = ProcessBuilder::default()
        .terminal(spec.tty)
        .user(user(&spec.user, plan.groups)?)
        .args(spec.arguments())
        .env(container_environment(spec, plan.hostname))
        .cwd(if spec.workdir.is_empty() { "/" } else { &spec.workdir })
        .capabilities(sets(plan.capabilities, &spec.user)?)
        .rlimits(rlimits(plan.ulimits, &spec.limits.ulimits, plan.machine)?)
        .no_new_privileges(spec.security.no_new_privileges)
        .build()
        .map_err(broken)?;
    if spec.limits.oom_score_adj != 0 {
        process.set_oom_score_adj(Some(spec.limits.oom_score_adj));
    }
    Ok(process)
}

/// A further process in a running container. `groups` are the container's further groups.
pub(crate) fn exec_process(
    container: &Plan<'_>,
    exec: &ExecSpec,
    capabilities: &BTreeSet<String>,
) -> Result<Process> {
    let spec = container.spec;
    let name = if exec.user.is_empty() { &spec.user } else { &exec.user };
    let mut defaults = container_environment(spec, container.hostname);
    if exec.tty && !defaults.iter().any(|entry| entry.starts_with("TERM=")) {
        defaults.push("TERM=xterm".into());
    }
    let workdir = [exec.workdir.as_str(), spec.workdir.as_str(), "/"];
    ProcessBuilder::default()
        .terminal(exec.tty)
        .user(user(name, container.groups)?)
        .args(exec.cmd.clone())
        .env(environment(defaults, &exec.env))
        .cwd(workdir.into_iter().find(|path| !path.is_empty()).unwrap_or("/"))
        .capabilities(sets(capabilities, name)?)
        .rlimits(rlimits(container.ulimits, &spec.limits.ulimits, container.machine)?)
        .no_new_privileges(spec.security.no_new_privileges)
        .build()
        .map_err(broken)
}

/// Docker's defaults with the container's own entries over them.
fn container_environment(spec: &ContainerSpec, hostname: &str) -> Vec<String> {
    let mut defaults = vec![PATH.to_owned(), format!("HOSTNAME={hostname}")];
    if spec.tty {
        defaults.push("TERM=xterm".into());
    }
    environment(defaults, &spec.env)
}

/// The name is resolved inside the container's root, by the runtime; a number needs no file there.
fn user(name: &str, groups: &[u32]) -> Result<dhow_spec::oci_runtime::User> {
    // Nobody named is root, with the groups that the image lists for root (CVE-2022-36109).
    let name = if name.is_empty() { "0" } else { name };
    let builder = UserBuilder::default().uid(0_u32).gid(0_u32).additional_gids(groups);
    builder.username(name).build().map_err(broken)
}

/// As `execve(2)` would leave them: only root has them effective, the bounding set limits everyone, and
/// nothing is inheritable (CVE-2022-24769).
fn sets(names: &BTreeSet<String>, user: &str) -> Result<dhow_spec::oci_runtime::LinuxCapabilities> {
    let all = capabilities::as_oci(names);
    let is_root = matches!(user.split(':').next(), None | Some("" | "0" | "root"));
    let effective = if is_root { all.clone() } else { Capabilities::new() };
    LinuxCapabilitiesBuilder::default()
        .bounding(all)
        .effective(effective.clone())
        .permitted(effective)
        .inheritable(Capabilities::new())
        .ambient(Capabilities::new())
        .build()
        .map_err(broken)
}

/// The daemon's limits with the container's over them, none above what the machine allows.
fn rlimits(defaults: &[Ulimit], own: &[Ulimit], machine: &Machine) -> Result<Vec<PosixRlimit>> {
    let asked = |name: &str| own.iter().any(|limit| limit.name == name);
    let below = defaults.iter().filter(|limit| !asked(&limit.name));
    let mut list = Vec::with_capacity(own.len());
    for limit in below.chain(own) {
        let Some(typ) = kind(&limit.name) else { continue };
        // -1 is RLIM_INFINITY, all bits set.
        let (mut soft, mut hard) = (limit.soft as u64, limit.hard as u64);
        if let Some(most) = machine.files_hard.filter(|_| limit.name == "nofile") {
            (soft, hard) = (soft.min(most), hard.min(most));
        }
        let entry = PosixRlimitBuilder::default().typ(typ).soft(soft).hard(hard);
        list.push(entry.build().map_err(broken)?);
    }
    Ok(list)
}

/// The OCI's type of a limit by its name.
fn kind(name: &str) -> Option<PosixRlimitType> {
    use PosixRlimitType as T;
    Some(match name {
        "as" => T::RlimitAs,
        "core" => T::RlimitCore,
        "cpu" => T::RlimitCpu,
        "data" => T::RlimitData,
        "fsize" => T::RlimitFsize,
        "locks" => T::RlimitLocks,
        "memlock" => T::RlimitMemlock,
        "msgqueue" => T::RlimitMsgqueue,
        "nice" => T::RlimitNice,
        "nofile" => T::RlimitNofile,
        "nproc" => T::RlimitNproc,
        "rss" => T::RlimitRss,
        "rtprio" => T::RlimitRtprio,
        "rttime" => T::RlimitRttime,
        "sigpending" => T::RlimitSigpending,
        "stack" => T::RlimitStack,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::ULIMITS;
    use dhow_sys::caps::CapabilitySet;

    #[test]
    fn every_limit_has_a_kind() {
        assert!(ULIMITS.iter().all(|name| kind(name).is_some()));
    }

    #[test]
    fn limits_are_clamped_and_overridden() {
        let machine =
            Machine { cpus: 1, capabilities: CapabilitySet::all(), files_hard: Some(20_000) };
        let limit = |name: &str, soft, hard| Ulimit { name: name.into(), soft, hard };
        let list = rlimits(
            &[limit("nofile", 1, 2), limit("core", 0, 0)],
            &[limit("nofile", 1024, -1), limit("memlock", -1, -1)],
            &machine,
        )
        .unwrap();
        assert_eq!(list.len(), 3);
        assert_eq!((list[1].soft(), list[1].hard()), (1024, 20_000));
        assert_eq!(list[2].hard(), u64::MAX);
    }

    #[test]
    fn only_root_has_effective_capabilities() {
        let names = BTreeSet::from(["CAP_KILL".to_owned()]);
        for (user, count) in [("", 1), ("0", 1), ("root:www", 1), ("1000", 0), ("www", 0)] {
            let sets = sets(&names, user).unwrap();
            assert_eq!(sets.effective().as_ref().unwrap().len(), count, "{user}");
            assert_eq!(sets.bounding().as_ref().unwrap().len(), 1);
        }
    }
}
