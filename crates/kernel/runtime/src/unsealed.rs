//! Starting something in a container from a program that is not sealed.
//!
//! What a container can reach of ours must not be the binary on the host (CVE-2019-5736). A shim is sealed
//! once for many starts. A command that starts one process and goes would pay for that with a second start of
//! the whole binary; it jumps off a springboard instead ([`dhow_sys::process::Springboard`]), if nothing of
//! it can be reached before:
//!
//! - The container has a pid namespace of its own, in which until the jump there is nobody else (a new
//!   container) or nobody of ours (an exec, whose joining process stays outside).
//! - Our processes are not dumpable, so that /proc of the host, should a container have that, shows none
//!   of their files to whom may not trace everything.
//! - Nothing of the container is executed before the jump: no hook that runs in it, no label that is
//!   taken on by the first execve.
//! - The filter that is loaded by then lets the springboard work.
//!
//! Where that is not so, the start fails before it has changed anything, and says that it wants a sealed
//! program ([`LaunchError::wants_seal`]).

use dhow_error::Kind;
use dhow_seccomp::Program;
use dhow_spec::oci_runtime::{Hooks, Linux, LinuxNamespaceType, Process};
use dhow_sys::rustix::process::geteuid;

use crate::error::LaunchError;

/// The step of a start that wants a sealed program.
pub(crate) const STEP: &str = "springboard";

/// What the springboard calls; the arguments that are known.
const ALWAYS: [(&str, [u64; 6]); 5] = [
    ("fcntl", [0, 2, 1, 0, 0, 0]),
    ("execveat", [0, 0, 0, 0, 0x1000, 0]),
    ("execve", [0; 6]),
    ("write", [0; 6]),
    ("exit_group", [0; 6]),
];
const AT_GATE: [(&str, [u64; 6]); 2] = [("prctl", [4, 0, 0, 0, 0, 0]), ("read", [0; 6])];
const JOINING: [(&str, [u64; 6]); 3] =
    [("clone", [0x8000, 0, 0, 0, 0, 0]), ("setsid", [0; 6]), ("ioctl", [0, 0x540e, 0, 0, 0, 0])];

/// A start, as far as this looks at it.
#[derive(Debug)]
pub(crate) struct Start<'a> {
    pub(crate) process: &'a Process,
    pub(crate) linux: Option<&'a Linux>,
    pub(crate) hooks: Option<&'a Hooks>,
    pub(crate) seccomp: Option<&'a Program>,
    /// Whether it joins a container that is there.
    pub(crate) joins: bool,
}

impl Start<'_> {
    /// Whether it can be made by way of a springboard.
    ///
    /// Errors: it wants a sealed program, and why.
    pub(crate) fn check(&self) -> Result<(), LaunchError> {
        let (process, linux) = (self.process, self.linux);
        let namespaces = linux.and_then(|linux| linux.namespaces().as_ref());
        let has = |typ| namespaces.into_iter().flatten().find(|entry| entry.typ() == typ);
        let own_pids = has(LinuxNamespaceType::Pid).is_some_and(|it| it.path().is_none());
        let is_set = |text: &Option<String>| text.as_deref().is_some_and(|text| !text.is_empty());
        let inner_hooks = self.hooks.is_some_and(|hooks| {
            let given = [hooks.create_container(), hooks.start_container()];
            given.into_iter().flatten().any(|list| !list.is_empty())
        });
        let reasons = [
            (!geteuid().is_root(), "we are not root"),
            (!own_pids, "the container has no pid namespace of its own"),
            (!self.joins && has(LinuxNamespaceType::User).is_some(), "a user namespace is made"),
            (is_set(process.apparmor_profile()), "there is an AppArmor profile"),
            (is_set(process.selinux_label()), "there is an SELinux label"),
            (self.joins && process.scheduler().is_some(), "there are scheduler settings"),
            (!self.joins && inner_hooks, "hooks run in the container"),
            (!self.filter_lets_through(), "the seccomp profile forbids it"),
        ];
        match reasons.iter().find(|(holds, _)| *holds) {
            Some((_, why)) => Err(wanted(why)),
            None => Ok(()),
        }
    }

    fn filter_lets_through(&self) -> bool {
        let Some(program) = self.seccomp else { return true };
        let more = if self.joins { JOINING.as_slice() } else { AT_GATE.as_slice() };
        ALWAYS.iter().chain(more).all(|(name, arguments)| program.lets(name, *arguments))
    }
}

/// The start wants a sealed program.
pub(crate) fn wanted(why: &str) -> LaunchError {
    let message = format!("the program must be sealed: {why}");
    LaunchError::new(STEP, Kind::Unsupported, message)
}

#[cfg(test)]
mod tests {
    use dhow_spec::oci_runtime::{LinuxSeccomp, Spec};
    use serde_json::{Value, json};

    use super::*;

    fn why(change: impl FnOnce(&mut Value), joins: bool) -> Option<String> {
        let mut config = serde_json::to_value(Spec::default()).unwrap();
        config["process"]["selinuxLabel"] = json!("");
        config["process"]["apparmorProfile"] = json!("");
        change(&mut config);
        let spec: Spec = serde_json::from_value(config).unwrap();
        let linux = spec.linux().as_ref();
        let seccomp = linux.and_then(|linux| linux.seccomp().as_ref());
        let seccomp = seccomp.map(|profile: &LinuxSeccomp| dhow_seccomp::compile(profile).unwrap());
        let start = Start {
            process: spec.process().as_ref().unwrap(),
            linux,
            hooks: spec.hooks().as_ref(),
            seccomp: seccomp.as_ref(),
            joins,
        };
        start.check().err().map(|error| error.message().to_owned())
    }

    #[test]
    fn plain_containers_need_no_seal() {
        assert_eq!(why(|_| {}, false), None);
        assert_eq!(why(|_| {}, true), None);
    }

    #[test]
    fn what_could_be_reached_is_sealed() {
        let namespaces =
            |list: Value| move |config: &mut Value| config["linux"]["namespaces"] = list;
        assert!(why(namespaces(json!([{"type": "mount"}])), true).is_some());
        let shared = json!([{"type": "pid", "path": "/proc/1/ns/pid"}, {"type": "mount"}]);
        assert!(why(namespaces(shared), true).is_some());
        let label = |config: &mut Value| config["process"]["selinuxLabel"] = json!("a:b:c");
        assert!(why(label, false).is_some());
        let hook = |config: &mut Value| {
            config["hooks"] = json!({"startContainer": [{"path": "/bin/x"}]});
        };
        assert!(why(hook, false).is_some());
        assert!(why(hook, true).is_none());
    }

    #[test]
    fn a_filter_must_let_it_work() {
        let profile = |names: Value| {
            move |config: &mut Value| {
                config["linux"]["seccomp"] = json!({
                    "defaultAction": "SCMP_ACT_ERRNO", "architectures": ["SCMP_ARCH_X86_64"],
                    "syscalls": [{"names": names, "action": "SCMP_ACT_ALLOW"}],
                });
            }
        };
        let all = ["fcntl", "execveat", "execve", "write", "exit_group", "prctl", "read"];
        assert_eq!(why(profile(json!(all)), false), None);
        assert!(why(profile(json!(all)), true).is_some());
        assert!(why(profile(json!(["fcntl", "execve", "write", "exit_group"])), false).is_some());
    }
}
