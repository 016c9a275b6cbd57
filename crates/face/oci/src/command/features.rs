//! `features`: what this runtime knows, as the specification's features document (features.md).
//!
//! It is about the program and not about the machine that it runs on. What a list names is taken in a
//! configuration; what is false here is refused there with a clear error.

use dhow_error::{Error, Kind, Result};
use dhow_sys::caps::{self, CapabilitySet};
use serde::Serialize;
use serde_json::ser::{PrettyFormatter, Serializer};
use serde_json::{Value, json};

use super::{Command, PLAIN};
use crate::globals::Globals;
use crate::words::Words;

pub(super) const COMMAND: Command = Command {
    name: "features",
    usage: "",
    about: "tell what the runtime knows",
    arguments: (0, 0),
    run,
    ..PLAIN
};

const HOOKS: &[&str] =
    &["prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop"];

const NAMESPACES: &[&str] = &["cgroup", "ipc", "mount", "network", "pid", "time", "user", "uts"];

const SECCOMP_ACTIONS: &[&str] = &[
    "SCMP_ACT_ALLOW",
    "SCMP_ACT_ERRNO",
    "SCMP_ACT_KILL",
    "SCMP_ACT_KILL_PROCESS",
    "SCMP_ACT_KILL_THREAD",
    "SCMP_ACT_LOG",
    "SCMP_ACT_NOTIFY",
    "SCMP_ACT_TRACE",
    "SCMP_ACT_TRAP",
];

const SECCOMP_OPERATORS: &[&str] = &[
    "SCMP_CMP_EQ",
    "SCMP_CMP_GE",
    "SCMP_CMP_GT",
    "SCMP_CMP_LE",
    "SCMP_CMP_LT",
    "SCMP_CMP_MASKED_EQ",
    "SCMP_CMP_NE",
];

/// Those of other machines are known by name; no call of theirs can arrive on this one.
const SECCOMP_ARCHITECTURES: &[&str] = &[
    "SCMP_ARCH_AARCH64",
    "SCMP_ARCH_ARM",
    "SCMP_ARCH_LOONGARCH64",
    "SCMP_ARCH_M68K",
    "SCMP_ARCH_MIPS",
    "SCMP_ARCH_MIPS64",
    "SCMP_ARCH_MIPS64N32",
    "SCMP_ARCH_MIPSEL",
    "SCMP_ARCH_MIPSEL64",
    "SCMP_ARCH_MIPSEL64N32",
    "SCMP_ARCH_PARISC",
    "SCMP_ARCH_PARISC64",
    "SCMP_ARCH_PPC",
    "SCMP_ARCH_PPC64",
    "SCMP_ARCH_PPC64LE",
    "SCMP_ARCH_RISCV64",
    "SCMP_ARCH_S390",
    "SCMP_ARCH_S390X",
    "SCMP_ARCH_SH",
    "SCMP_ARCH_SHEB",
    "SCMP_ARCH_X32",
    "SCMP_ARCH_X86",
    "SCMP_ARCH_X86_64",
];

const SECCOMP_FLAGS: &[&str] = &[
    "SECCOMP_FILTER_FLAG_LOG",
    "SECCOMP_FILTER_FLAG_SPEC_ALLOW",
    "SECCOMP_FILTER_FLAG_TSYNC",
    "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV",
];

const MEMORY_POLICY_MODES: &[&str] = &[
    "MPOL_BIND",
    "MPOL_DEFAULT",
    "MPOL_INTERLEAVE",
    "MPOL_LOCAL",
    "MPOL_PREFERRED",
    "MPOL_PREFERRED_MANY",
    "MPOL_WEIGHTED_INTERLEAVE",
];

const MEMORY_POLICY_FLAGS: &[&str] =
    &["MPOL_F_NUMA_BALANCING", "MPOL_F_RELATIVE_NODES", "MPOL_F_STATIC_NODES"];

fn run(_: &Globals, _: &Words) -> Result<u8> {
    let mut text = Vec::new();
    let mut indented = Serializer::with_formatter(&mut text, PrettyFormatter::with_indent(b"    "));
    document().serialize(&mut indented).map_err(|error| {
        Error::caused(Kind::Internal, "cannot write the features document", error)
    })?;
    crate::say(&String::from_utf8_lossy(&text))?;
    Ok(0)
}

fn document() -> Value {
    json!({
        "ociVersionMin": "1.0.0",
        "ociVersionMax": crate::SPECIFICATION,
        "hooks": HOOKS,
        "mountOptions": dhow_rootfs::mount_options(),
        "linux": linux(),
        "annotations": { "org.dhow.version": env!("CARGO_PKG_VERSION") },
        // No annotation changes what is done.
        "potentiallyUnsafeConfigAnnotations": [],
    })
}

fn linux() -> Value {
    json!({
        "namespaces": NAMESPACES,
        "capabilities": caps::names(CapabilitySet::all()),
        "cgroup": { "v1": true, "v2": true, "systemd": false, "systemdUser": false, "rdma": true },
        "seccomp": {
            "enabled": true,
            "actions": SECCOMP_ACTIONS,
            "operators": SECCOMP_OPERATORS,
            "archs": SECCOMP_ARCHITECTURES,
            "knownFlags": SECCOMP_FLAGS,
            "supportedFlags": SECCOMP_FLAGS,
        },
        "apparmor": { "enabled": true },
        "selinux": { "enabled": true },
        "intelRdt": { "enabled": false, "schemata": false, "monitoring": false },
        "memoryPolicy": { "modes": MEMORY_POLICY_MODES, "flags": MEMORY_POLICY_FLAGS },
        "mountExtensions": { "idmap": { "enabled": true } },
        "netDevices": { "enabled": true },
    })
}

#[cfg(test)]
mod tests {
    use dhow_spec::oci_runtime::{
        Capability, Hooks, LinuxMemoryPolicy, LinuxNamespaceType, LinuxSeccomp,
    };

    use super::*;

    /// The texts of a list in the document.
    fn list(pointer: &str) -> Vec<String> {
        serde_json::from_value(document().pointer(pointer).unwrap().clone()).unwrap()
    }

    #[test]
    fn what_is_listed_is_taken_in_a_configuration() {
        for name in list("/linux/namespaces") {
            serde_json::from_value::<LinuxNamespaceType>(json!(name)).unwrap();
        }
        for name in list("/linux/capabilities") {
            serde_json::from_value::<Capability>(json!(name)).unwrap();
            assert!(caps::by_name(&name).is_some(), "{name}");
        }
        for mode in list("/linux/memoryPolicy/modes") {
            let policy = json!({ "mode": mode, "flags": MEMORY_POLICY_FLAGS });
            serde_json::from_value::<LinuxMemoryPolicy>(policy).unwrap();
        }
        for name in list("/hooks") {
            let hooks: Hooks =
                serde_json::from_value(json!({ &name: [{ "path": "/x" }] })).unwrap();
            assert_ne!(hooks, Hooks::default(), "{name}");
        }
    }

    #[test]
    fn what_is_listed_of_seccomp_compiles() {
        let profile = |action: &str, operator: &str, architecture: &str, flag: &str| {
            let argument = json!({ "index": 0, "value": 1, "op": operator });
            let profile = json!({
                "defaultAction": "SCMP_ACT_ALLOW",
                "architectures": [architecture],
                "flags": [flag],
                "listenerPath": "/x",
                "syscalls": [{ "names": ["getpid"], "action": action, "args": [argument] }],
            });
            let profile: LinuxSeccomp = serde_json::from_value(profile).unwrap();
            dhow_seccomp::compile(&profile).unwrap();
        };
        let (action, operator, architecture, flag) =
            (SECCOMP_ACTIONS[0], SECCOMP_OPERATORS[0], SECCOMP_ARCHITECTURES[0], SECCOMP_FLAGS[0]);
        for it in SECCOMP_ACTIONS {
            profile(it, operator, architecture, flag);
        }
        for it in SECCOMP_OPERATORS {
            profile(action, it, architecture, flag);
        }
        for it in SECCOMP_ARCHITECTURES {
            profile(action, operator, it, flag);
        }
        for it in SECCOMP_FLAGS {
            profile(action, operator, architecture, it);
        }
    }
}
