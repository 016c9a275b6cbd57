//! Compiled filters in the kernel: a child loads one and tries calls.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on has failed")]

use std::num::NonZeroU64;
use std::os::fd::AsFd;

use dhow_error::{Classify, Kind};
use dhow_seccomp::docker::{KernelVersion, Profile};
use dhow_seccomp::{Program, compile};
use dhow_spec::oci_runtime::{Capability, LinuxSeccomp};
use dhow_sys::namespace::Namespaces;
use dhow_sys::process::clone3;
use dhow_sys::rustix::fs::{Advice, MemfdFlags, fadvise, memfd_create};
use dhow_sys::rustix::io::Errno;
use dhow_sys::rustix::mount::{UnmountFlags, unmount};
use dhow_sys::rustix::net::{AddressFamily, SocketType, socket};
use dhow_sys::rustix::process::{WaitId, WaitIdOptions, WaitIdStatus, getppid, waitid};
use dhow_sys::rustix::thread::set_no_new_privs;
use dhow_sys::seccomp::{self, LoadFlags};
use serde_json::{Value, json};

/// Runs `body` in a child under the filter; how that ended.
fn under(program: &Program, body: impl FnOnce() -> u8) -> WaitIdStatus {
    let child = clone3(Namespaces::NONE, None, || {
        if set_no_new_privs(true).is_err() {
            return 101;
        }
        if seccomp::load(program.instructions(), LoadFlags::SPEC_ALLOW).is_err() {
            return 102;
        }
        body()
    })
    .unwrap();
    waitid(WaitId::PidFd(child.pidfd.as_fd()), WaitIdOptions::EXITED).unwrap().unwrap()
}

fn profile(json: Value) -> LinuxSeccomp {
    serde_json::from_value(json).unwrap()
}

/// What `fadvise(memfd, offset, length)` meets under one rule for fadvise64 with these comparisons.
fn meets(args: &Value, offset: u64, length: u64) -> u8 {
    let program = compile(&profile(json!({
        "defaultAction": "SCMP_ACT_ALLOW",
        "syscalls": [{"names": ["fadvise64"], "action": "SCMP_ACT_ERRNO", "errnoRet": 77, "args": args}],
    })))
    .unwrap();
    let file = memfd_create(c"probe", MemfdFlags::CLOEXEC).unwrap();
    let status =
        under(&program, || match fadvise(&file, offset, NonZeroU64::new(length), Advice::Normal) {
            Ok(()) => 0,
            Err(errno) => errno.raw_os_error() as u8,
        });
    u8::try_from(status.exit_status().unwrap()).unwrap()
}

#[test]
fn every_operator_compares_all_64_bits() {
    const HIGH: u64 = 0x0000_0003_0000_0005;
    let one = |op: &str, value: u64, two: u64| json!([{"index": 1, "op": op, "value": value, "valueTwo": two}]);
    // The comparison, and for offsets below, at and above HIGH, in either half, whether it holds.
    let offsets = [HIGH, HIGH - 1, HIGH + 1, HIGH - (1 << 32), HIGH + (1 << 32), 5, 3 << 32];
    let table = [
        ("SCMP_CMP_EQ", HIGH, 0, [true, false, false, false, false, false, false]),
        ("SCMP_CMP_NE", HIGH, 0, [false, true, true, true, true, true, true]),
        ("SCMP_CMP_LT", HIGH, 0, [false, true, false, true, false, true, true]),
        ("SCMP_CMP_LE", HIGH, 0, [true, true, false, true, false, true, true]),
        ("SCMP_CMP_GT", HIGH, 0, [false, false, true, false, true, false, false]),
        ("SCMP_CMP_GE", HIGH, 0, [true, false, true, false, true, false, false]),
        (
            "SCMP_CMP_MASKED_EQ",
            0x1_0000_0004,
            0x1_0000_0004,
            [true, true, true, false, false, false, false],
        ),
    ];
    for (op, value, two, holds) in table {
        for (offset, holds) in offsets.into_iter().zip(holds) {
            let got = meets(&one(op, value, two), offset, 0);
            assert_eq!(got, if holds { 77 } else { 0 }, "{op} {value:#x} of {offset:#x}");
        }
    }
}

#[test]
fn several_comparisons_must_all_hold_unless_they_are_of_one_argument() {
    let both = json!([
        {"index": 1, "op": "SCMP_CMP_GE", "value": 10},
        {"index": 2, "op": "SCMP_CMP_EQ", "value": 5},
    ]);
    assert_eq!([meets(&both, 10, 5), meets(&both, 10, 6), meets(&both, 9, 5)], [77, 0, 0]);
    let same = json!([
        {"index": 1, "op": "SCMP_CMP_EQ", "value": 10},
        {"index": 1, "op": "SCMP_CMP_EQ", "value": 20},
    ]);
    assert_eq!([meets(&same, 10, 0), meets(&same, 20, 0), meets(&same, 30, 0)], [77, 77, 0]);
}

#[test]
fn every_action_does_what_it_says() {
    let ends = |action: Value| {
        let program = compile(&profile(json!({
            "defaultAction": "SCMP_ACT_ALLOW",
            "architectures": ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32", "SCMP_ARCH_AARCH64", "SCMP_ARCH_S390X"],
            "syscalls": [{"names": ["getppid", "no_such_call"], "action": action}],
        })))
        .unwrap();
        let status = under(&program, || u8::from(getppid().is_none()));
        (status.exit_status(), status.terminating_signal())
    };
    const SIGSYS: i32 = 31;
    for (action, want) in [
        ("SCMP_ACT_ALLOW", (Some(0), None)),
        ("SCMP_ACT_LOG", (Some(0), None)),
        ("SCMP_ACT_KILL", (None, Some(SIGSYS))),
        ("SCMP_ACT_KILL_THREAD", (None, Some(SIGSYS))),
        ("SCMP_ACT_KILL_PROCESS", (None, Some(SIGSYS))),
        ("SCMP_ACT_TRAP", (None, Some(SIGSYS))),
    ] {
        assert_eq!(ends(json!(action)), want, "{action}");
    }
}

#[test]
fn errnos_are_those_asked_for() {
    let meets = |json: Value| {
        let program = compile(&profile(json)).unwrap();
        let status = under(&program, || {
            let met = unmount("/no/such/place", UnmountFlags::empty()).err();
            met.map_or(0, |errno| errno.raw_os_error() as u8)
        });
        status.exit_status().unwrap()
    };
    let rule = |action: &str, errno: Option<u32>| {
        let mut rule = json!({"names": ["umount2"], "action": action});
        if let Some(errno) = errno {
            rule["errnoRet"] = json!(errno);
        }
        json!({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [rule]})
    };
    assert_eq!(meets(rule("SCMP_ACT_ERRNO", None)), Errno::PERM.raw_os_error());
    assert_eq!(meets(rule("SCMP_ACT_ERRNO", Some(99))), 99);
    // Nobody traces.
    assert_eq!(meets(rule("SCMP_ACT_TRACE", Some(7))), Errno::NOSYS.raw_os_error());
    let default = json!({
        "defaultAction": "SCMP_ACT_ERRNO", "defaultErrnoRet": 55,
        "syscalls": [{"names": ["exit_group", "rt_sigprocmask", "wait4"], "action": "SCMP_ACT_ALLOW"}],
    });
    assert_eq!(meets(default), 55);
}

#[test]
fn what_the_specification_forbids_is_refused() {
    let rule = |action: &str, names: &[&str]| json!([{"action": action, "names": names}]);
    let cases = [
        (json!({"syscalls": rule("SCMP_ACT_ERRNO", &[])}), Kind::Invalid, "names no system call"),
        (json!({"listenerMetadata": "x"}), Kind::Invalid, "listenerMetadata"),
        (json!({"syscalls": rule("SCMP_ACT_NOTIFY", &["mkdir"])}), Kind::Invalid, "listenerPath"),
        (
            json!({"listenerPath": "/l", "syscalls": rule("SCMP_ACT_NOTIFY", &["read", "write"])}),
            Kind::Unsupported,
            "SCMP_ACT_NOTIFY for the write system call",
        ),
        (
            json!({"listenerPath": "/l", "defaultAction": "SCMP_ACT_NOTIFY"}),
            Kind::Unsupported,
            "default action",
        ),
        (json!({"defaultErrnoRet": 1}), Kind::Invalid, "errnoRet"),
    ];
    for (mut given, kind, said) in cases {
        if given.get("defaultAction").is_none() {
            given["defaultAction"] = json!("SCMP_ACT_ALLOW");
        }
        let error = compile(&profile(given.clone())).unwrap_err();
        assert_eq!(error.kind(), kind, "{given}");
        assert!(error.to_string().contains(said), "{error} for {given}");
    }
    let fine = json!({
        "defaultAction": "SCMP_ACT_ALLOW", "listenerPath": "/l", "listenerMetadata": "x",
        "syscalls": rule("SCMP_ACT_NOTIFY", &["mkdir"]),
    });
    assert!(compile(&profile(fine)).unwrap().notifies());
    let unused = json!({"defaultAction": "SCMP_ACT_ALLOW", "listenerPath": "/l"});
    assert!(!compile(&profile(unused)).unwrap().notifies());
}

#[test]
fn a_process_lives_under_dockers_default_profile() {
    let kernel = KernelVersion { major: 6, minor: 18 };
    let resolved = Profile::default_profile().resolve(&[Capability::Chown], kernel);
    let status = under(&compile(&resolved).unwrap(), || {
        if socket(AddressFamily::UNIX, SocketType::STREAM, None).is_err() {
            return 3;
        }
        if socket(AddressFamily::VSOCK, SocketType::STREAM, None).err() != Some(Errno::PERM) {
            return 4;
        }
        // Without the filter this would be ENOENT.
        if unmount("/no/such/place", UnmountFlags::empty()).err() != Some(Errno::PERM) {
            return 5;
        }
        0
    });
    assert_eq!(status.exit_status(), Some(0));
}
