//! What compiled filters decide: against an interpreter of the kernel's BPF, against a naive reading of
//! the profile, and in a real process.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on has failed")]

use std::collections::BTreeSet;
use std::str::FromStr;

use dhow_error::{Classify, Kind};
use dhow_seccomp::docker::{KernelVersion, Profile};
use dhow_seccomp::{Flags, Program, SeccompError, compile};
use dhow_spec::oci_runtime::{
    Arch, Capability, LinuxSeccomp, LinuxSeccompAction, LinuxSeccompArg, LinuxSeccompArgBuilder,
    LinuxSeccompFilterFlag, LinuxSeccompOperator, LinuxSyscall, LinuxSyscallBuilder,
};
use proptest::prelude::*;

const X86_64: u32 = 0xc000_003e;
const I386: u32 = 0x4000_0003;
const X32: u32 = 0x4000_0000;
const ALLOW: u32 = 0x7fff_0000;
const KILL_PROCESS: u32 = 0x8000_0000;
const EPERM: u32 = 0x0005_0001;
const ENOSYS: u32 = 0x0005_0026;
const KERNEL: KernelVersion = KernelVersion { major: 6, minor: 18 };

/// `struct seccomp_data`.
#[derive(Debug, Clone, Copy)]
struct Call {
    number: u32,
    arch: u32,
    args: [u64; 6],
}

impl Call {
    fn word(&self, offset: u32) -> u32 {
        match offset {
            0 => self.number,
            4 => self.arch,
            16..=60 => {
                let arg = self.args[(offset as usize - 16) / 8];
                if offset.is_multiple_of(8) { arg as u32 } else { (arg >> 32) as u32 }
            }
            _ => panic!("load at {offset}"),
        }
    }
}

/// Runs a filter as the kernel would; gives the verdict and the number of instructions it took.
fn run(program: &Program, call: Call) -> (u32, usize) {
    let code = program.instructions();
    let (mut at, mut accumulator, mut steps) = (0, 0_u32, 0);
    loop {
        let instruction = code[at];
        let constant = (instruction >> 32) as u32;
        let (yes, no) = ((instruction >> 16) as u8, (instruction >> 24) as u8);
        let jump = |holds: bool| usize::from(if holds { yes } else { no });
        steps += 1;
        at += 1;
        match instruction as u16 {
            0x20 => accumulator = call.word(constant),
            0x54 => accumulator &= constant,
            0x05 => at += constant as usize,
            0x15 => at += jump(accumulator == constant),
            0x25 => at += jump(accumulator > constant),
            0x35 => at += jump(accumulator >= constant),
            0x06 => return (constant, steps),
            other => panic!("instruction {other:#x}"),
        }
    }
}

fn call(name: &str, args: [u64; 6]) -> Call {
    let number = syscalls::x86_64::Sysno::from_str(name).unwrap().id() as u32;
    Call { number, arch: X86_64, args }
}

/// The profile read rule by rule, as slowly and plainly as can be.
mod naive {
    use super::*;

    fn number(arch: u32, is_x32: bool, name: &str) -> Option<u32> {
        if arch == I386 {
            return syscalls::x86::Sysno::from_str(name).ok().map(|call| call.id() as u32);
        }
        let own = match name {
            "ioctl" => Some(514),
            "execve" => Some(520),
            _ => None,
        };
        let number = syscalls::x86_64::Sysno::from_str(name).ok().map(|call| call.id() as u32);
        if is_x32 { own.or(number).map(|number| number | X32) } else { number }
    }

    fn code(action: LinuxSeccompAction, errno: Option<u32>) -> u32 {
        match action {
            LinuxSeccompAction::ScmpActKill | LinuxSeccompAction::ScmpActKillThread => 0,
            LinuxSeccompAction::ScmpActKillProcess => KILL_PROCESS,
            LinuxSeccompAction::ScmpActTrap => 0x0003_0000,
            LinuxSeccompAction::ScmpActErrno => 0x0005_0000 | errno.unwrap_or(1),
            LinuxSeccompAction::ScmpActTrace => 0x7ff0_0000 | errno.unwrap_or(1),
            LinuxSeccompAction::ScmpActLog => 0x7ffc_0000,
            LinuxSeccompAction::ScmpActAllow => ALLOW,
            LinuxSeccompAction::ScmpActNotify => 0x7fc0_0000,
        }
    }

    fn holds(arg: &LinuxSeccompArg, call: &Call, wide: bool) -> bool {
        let cut = |value: u64| if wide { value } else { value & 0xffff_ffff };
        let (have, want) = (cut(call.args[arg.index()]), cut(arg.value()));
        match arg.op() {
            LinuxSeccompOperator::ScmpCmpNe => have != want,
            LinuxSeccompOperator::ScmpCmpLt => have < want,
            LinuxSeccompOperator::ScmpCmpLe => have <= want,
            LinuxSeccompOperator::ScmpCmpEq => have == want,
            LinuxSeccompOperator::ScmpCmpGe => have >= want,
            LinuxSeccompOperator::ScmpCmpGt => have > want,
            LinuxSeccompOperator::ScmpCmpMaskedEq => {
                have & want == arg.value_two().unwrap_or(0) & want
            }
        }
    }

    fn rule_holds(rule: &LinuxSyscall, call: &Call, wide: bool) -> bool {
        let args = rule.args().as_deref().unwrap_or_default();
        let indices: BTreeSet<_> = args.iter().map(LinuxSeccompArg::index).collect();
        let mut each = args.iter().map(|arg| holds(arg, call, wide));
        if indices.len() < args.len() { each.any(|holds| holds) } else { each.all(|holds| holds) }
    }

    /// socketcall(2) for "socket" and "bind", on x86.
    fn multiplexed(call: &Call, name: &str) -> bool {
        let function = match name {
            "socket" => 1,
            "bind" => 2,
            _ => return false,
        };
        call.arch == I386 && call.number == 102 && call.args[0] as u32 == function
    }

    pub(super) fn verdict(profile: &LinuxSeccomp, call: Call) -> u32 {
        let declares = |arch| profile.architectures().iter().flatten().any(|one| *one == arch);
        let is_x32 = call.arch == X86_64 && call.number >= X32;
        let covered = match call.arch {
            X86_64 => !is_x32 || declares(Arch::ScmpArchX32),
            I386 => declares(Arch::ScmpArchX86),
            _ => false,
        };
        if !covered {
            return KILL_PROCESS;
        }
        let default = code(profile.default_action(), profile.default_errno_ret());
        let wide = call.arch == X86_64 && !is_x32;
        let (mut newest, mut unconditional) = (None, None);
        let mut first = None;
        for rule in profile.syscalls().iter().flatten() {
            let verdict = code(rule.action(), rule.errno_ret());
            let is_plain = rule.args().iter().flatten().count() == 0;
            for name in rule.names() {
                let number = number(call.arch, is_x32, name);
                newest = newest.max(number);
                let is_mux = is_plain && ["socket", "bind"].contains(&name.as_str());
                if is_mux && call.arch == I386 && verdict != default {
                    newest = newest.max(Some(102));
                }
                if number == Some(call.number) && !is_plain {
                    if first.is_none() && rule_holds(rule, &call, wide) {
                        first = Some(verdict);
                    }
                } else if verdict != default {
                    if number == Some(call.number) {
                        unconditional.get_or_insert(verdict);
                    } else if is_plain && multiplexed(&call, name) && first.is_none() {
                        first = Some(verdict);
                    }
                }
            }
        }
        let permits = [ALLOW, 0x7ffc_0000].contains(&default);
        if !permits && newest.is_some_and(|newest| call.number > newest) {
            return ENOSYS;
        }
        first.or(unconditional).unwrap_or(default)
    }
}

const NAMES: [&str; 14] = [
    "read",
    "write",
    "open",
    "socket",
    "bind",
    "socketcall",
    "ioctl",
    "execve",
    "clone",
    "clone3",
    "personality",
    "openat2",
    "no_such_call",
    "statx",
];
const VALUES: [u64; 9] =
    [0, 1, 2, 0xffff, 0xffff_ffff, 0x1_0000_0000, 0x1_0000_0001, u64::MAX - 1, u64::MAX];

fn action() -> impl Strategy<Value = LinuxSeccompAction> {
    prop::sample::select(vec![
        LinuxSeccompAction::ScmpActAllow,
        LinuxSeccompAction::ScmpActErrno,
        LinuxSeccompAction::ScmpActKill,
        LinuxSeccompAction::ScmpActKillProcess,
        LinuxSeccompAction::ScmpActTrap,
        LinuxSeccompAction::ScmpActTrace,
        LinuxSeccompAction::ScmpActLog,
    ])
}

fn value() -> impl Strategy<Value = u64> {
    prop_oneof![prop::sample::select(VALUES.to_vec()), any::<u64>()]
}

fn arg() -> impl Strategy<Value = LinuxSeccompArg> {
    let op = prop::sample::select(vec![
        LinuxSeccompOperator::ScmpCmpNe,
        LinuxSeccompOperator::ScmpCmpLt,
        LinuxSeccompOperator::ScmpCmpLe,
        LinuxSeccompOperator::ScmpCmpEq,
        LinuxSeccompOperator::ScmpCmpGe,
        LinuxSeccompOperator::ScmpCmpGt,
        LinuxSeccompOperator::ScmpCmpMaskedEq,
    ]);
    (0_usize..3, value(), value(), op).prop_map(|(index, value, value_two, op)| {
        let arg = LinuxSeccompArgBuilder::default().index(index).value(value).op(op);
        arg.value_two(value_two).build().unwrap()
    })
}

/// An errno is only for those that return one.
fn has_errno(action: LinuxSeccompAction) -> bool {
    matches!(action, LinuxSeccompAction::ScmpActErrno | LinuxSeccompAction::ScmpActTrace)
}

fn rule() -> impl Strategy<Value = LinuxSyscall> {
    let names = prop::collection::vec(prop::sample::select(NAMES.to_vec()), 1..6);
    let args = prop::collection::vec(arg(), 0..4);
    let action = prop_oneof![6 => action(), 1 => Just(LinuxSeccompAction::ScmpActNotify)];
    (names, action, prop::option::of(0_u32..4096), args).prop_map(|(names, action, errno, args)| {
        let mut names: Vec<String> = names.into_iter().map(str::to_owned).collect();
        if action == LinuxSeccompAction::ScmpActNotify {
            names.iter_mut().filter(|name| *name == "write").for_each(|it| it.push('_'));
        }
        let errno = errno.filter(|_| has_errno(action));
        let rule = LinuxSyscallBuilder::default().names(names).action(action).args(args);
        match errno {
            Some(errno) => rule.errno_ret(errno).build().unwrap(),
            None => rule.build().unwrap(),
        }
    })
}

fn profile() -> impl Strategy<Value = LinuxSeccomp> {
    let archs = prop::sample::subsequence(
        vec![Arch::ScmpArchX86_64, Arch::ScmpArchX86, Arch::ScmpArchX32, Arch::ScmpArchArm],
        0..=4,
    );
    let rules = prop::collection::vec(rule(), 0..12);
    (action(), prop::option::of(0_u32..100), archs, rules).prop_map(
        |(action, errno, archs, rules)| {
            let mut profile = LinuxSeccomp::default();
            let errno = errno.filter(|_| has_errno(action));
            profile.set_default_action(action).set_default_errno_ret(errno);
            profile.set_listener_path(Some("/run/listener".into()));
            profile.set_architectures(Some(archs)).set_syscalls(Some(rules));
            profile
        },
    )
}

fn probe() -> impl Strategy<Value = Call> {
    let numbers: Vec<u32> = NAMES
        .iter()
        .flat_map(|name| {
            let wide = syscalls::x86_64::Sysno::from_str(name).map(|call| call.id() as u32).ok();
            let narrow = syscalls::x86::Sysno::from_str(name).map(|call| call.id() as u32).ok();
            wide.into_iter().chain(narrow).flat_map(|number| [number, number + 1])
        })
        .chain([514, 520, 521, u32::MAX])
        .flat_map(|number| [number, number | X32])
        .collect();
    let number = prop_oneof![8 => prop::sample::select(numbers), 1 => any::<u32>()];
    let arch = prop_oneof![5 => Just(X86_64), 4 => Just(I386), 1 => any::<u32>()];
    (number, arch, prop::array::uniform6(value())).prop_map(|(number, arch, args)| {
        // The kernel clears what a 32-bit call cannot say.
        let args = if arch == I386 { args.map(|arg| arg & 0xffff_ffff) } else { args };
        Call { number, arch, args }
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_filter_decides_as_the_profile_says(
        profile in profile(),
        probes in prop::collection::vec(probe(), 20),
    ) {
        let program = compile(&profile).unwrap();
        for probe in probes {
            let (got, _) = run(&program, probe);
            prop_assert_eq!(got, naive::verdict(&profile, probe), "{:x?}", probe);
        }
    }

    #[test]
    fn bytes_that_are_no_profile_are_refused_without_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = Profile::parse(&bytes);
        let _ = Program::from_bytes(&bytes);
    }

    #[test]
    fn any_json_of_a_profiles_words_is_read_or_refused(
        action in "(SCMP_ACT_ALLOW|SCMP_ACT_ERRNO|SCMP_ACT_NOTIFY|x|)",
        op in "(SCMP_CMP_EQ|SCMP_CMP_MASKED_EQ|y)",
        index in 0_u64..8,
        errno in any::<u32>(),
        version in "[0-9.]{0,6}",
        names in prop::collection::vec("[a-z0-9_]{0,8}", 0..4),
    ) {
        let json = serde_json::json!({
            "defaultAction": "SCMP_ACT_ERRNO",
            "defaultErrnoRet": errno,
            "syscalls": [{
                "names": names, "action": action, "errnoRet": errno,
                "args": [{"index": index, "value": 1, "op": op}],
                "includes": {"minKernel": version},
            }],
        });
        if let Ok(profile) = Profile::parse(json.to_string().as_bytes()) {
            let _ = compile(&profile.resolve(&[], KERNEL));
        }
    }
}

/// What Docker gives a container by default.
const DOCKER_CAPABILITIES: [Capability; 14] = [
    Capability::Chown,
    Capability::DacOverride,
    Capability::Fsetid,
    Capability::Fowner,
    Capability::Mknod,
    Capability::NetRaw,
    Capability::Setgid,
    Capability::Setuid,
    Capability::Setfcap,
    Capability::Setpcap,
    Capability::NetBindService,
    Capability::SysChroot,
    Capability::Kill,
    Capability::AuditWrite,
];

fn default_program(capabilities: &[Capability]) -> Program {
    compile(&Profile::default_profile().resolve(capabilities, KERNEL)).unwrap()
}

#[test]
fn dockers_default_profile_decides_as_docker_says() {
    let program = default_program(&DOCKER_CAPABILITIES);
    let none = [0; 6];
    let first = |arg: u64| [arg, 0, 0, 0, 0, 0];
    let table = [
        (call("read", none), ALLOW),
        (call("ptrace", none), ALLOW),
        (call("chroot", none), ALLOW),
        (call("arch_prctl", none), ALLOW),
        (call("mount", none), EPERM),
        (call("unshare", none), EPERM),
        (call("bpf", none), EPERM),
        (call("keyctl", none), EPERM),
        (call("io_uring_setup", none), EPERM),
        (call("clone3", none), ENOSYS),
        (call("clone", first(0x0100_0011)), ALLOW), // CLONE_CHILD_SETTID | SIGCHLD
        (call("clone", first(0x1000_0011)), EPERM), // CLONE_NEWUSER
        (call("socket", first(2)), ALLOW),
        (call("socket", first(17)), ALLOW),
        (call("socket", first(38)), EPERM), // AF_ALG
        (call("socket", first(40)), EPERM), // AF_VSOCK
        (call("socket", first(0x1_0000_0002)), EPERM),
        (call("personality", first(0xffff_ffff)), ALLOW),
        (call("personality", first(0x0004_0000)), EPERM),
        (Call { number: 466, arch: X86_64, args: none }, ALLOW), // removexattrat
        (Call { number: 467, arch: X86_64, args: none }, ENOSYS), // open_tree_attr, not in the profile
        (Call { number: 5000, arch: X86_64, args: none }, ENOSYS),
        (Call { number: 3, arch: I386, args: none }, ALLOW),
        (Call { number: 21, arch: I386, args: none }, EPERM), // mount
        (Call { number: X32, arch: X86_64, args: none }, ALLOW),
        (Call { number: X32 | 0xa5, arch: X86_64, args: none }, EPERM), // mount
        (Call { number: 0, arch: 0xc000_00b7, args: none }, KILL_PROCESS), // aarch64
    ];
    for (call, want) in table {
        assert_eq!(run(&program, call).0, want, "{call:x?}");
    }
    assert_eq!(program.flags(), Flags::SPEC_ALLOW);
    assert!(program.len() < 1500, "{}", program.len());
    let longest = (0..470).map(|number| run(&program, Call { number, arch: X86_64, args: none }).1);
    assert!(longest.max().unwrap() <= 120);
    assert!(run(&program, call("read", none)).1 <= 14);
}

#[test]
fn capabilities_open_what_they_are_for() {
    let none = [0; 6];
    let admin = default_program(&[Capability::SysAdmin]);
    for name in ["mount", "unshare", "setns", "clone3", "bpf", "clone"] {
        assert_eq!(run(&admin, call(name, [u64::MAX; 6])).0, ALLOW, "{name}");
    }
    assert_eq!(run(&admin, call("reboot", none)).0, EPERM);
    let boot = default_program(&[Capability::SysBoot, Capability::Syslog, Capability::Perfmon]);
    for name in ["reboot", "syslog", "perf_event_open"] {
        assert_eq!(run(&boot, call(name, none)).0, ALLOW, "{name}");
    }
    let old = KernelVersion { major: 4, minor: 7 };
    let old = compile(&Profile::default_profile().resolve(&[], old)).unwrap();
    assert_eq!(run(&old, call("ptrace", none)).0, EPERM);
}

#[test]
fn a_users_profile_is_read() {
    let json = br#"{
        "defaultAction": "SCMP_ACT_ALLOW", "comment": "mine",
        "archMap": [
            {"architecture": "SCMP_ARCH_LOONGARCH64", "subArchitectures": null},
            {"architecture": "SCMP_ARCH_X86_64", "subArchitectures": ["SCMP_ARCH_X86"]}
        ],
        "flags": ["SECCOMP_FILTER_FLAG_LOG", "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV"],
        "syscalls": [
            {"name": "mkdir", "action": "SCMP_ACT_ERRNO", "args": null, "includes": {}, "excludes": null},
            {"names": ["chmod", "chown"], "action": "SCMP_ACT_ERRNO", "errnoRet": 13, "args": [],
             "excludes": {"caps": ["CAP_FOWNER"]}},
            {"names": ["rmdir"], "action": "SCMP_ACT_KILL_PROCESS", "includes": {"arches": ["arm64"]}},
            {"names": ["sync"], "action": "SCMP_ACT_TRAP", "includes": {"minKernel": "7.1"}}
        ]}"#;
    let profile = Profile::parse(json).unwrap();
    let resolved = profile.resolve(&[], KERNEL);
    let program = compile(&resolved).unwrap();
    let verdict = |name| run(&program, call(name, [0; 6])).0;
    assert_eq!(verdict("mkdir"), EPERM);
    assert_eq!(verdict("chmod"), 0x0005_000d);
    assert_eq!(verdict("rmdir"), ALLOW);
    assert_eq!(verdict("sync"), ALLOW);
    assert_eq!(run(&program, Call { number: 9999, arch: X86_64, args: [0; 6] }).0, ALLOW);
    assert_eq!(run(&program, Call { number: X32, arch: X86_64, args: [0; 6] }).0, KILL_PROCESS);
    assert_eq!(run(&program, Call { number: 39, arch: I386, args: [0; 6] }).0, EPERM);
    assert_eq!(program.flags(), Flags::LOG.union(Flags::WAIT_KILLABLE));
    let owner = compile(&profile.resolve(&[Capability::Fowner], KERNEL)).unwrap();
    assert_eq!(run(&owner, call("chmod", [0; 6])).0, ALLOW);
    assert_eq!(Program::from_bytes(&program.to_bytes()).unwrap(), program);
}

#[test]
fn bad_profiles_say_what_is_wrong() {
    let cases: [(&str, &str); 9] = [
        ("{", "cannot read the seccomp profile"),
        (r#"{"syscalls": [{"names": ["a"], "action": "SCMP_ACT_ALLOW"}]}"#, "no defaultAction"),
        (
            r#"{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"name": "a", "names": ["b"], "action": "SCMP_ACT_ERRNO"}]}"#,
            "both name \"a\" and names",
        ),
        (
            r#"{"defaultAction": "SCMP_ACT_ALLOW", "architectures": ["SCMP_ARCH_X86"], "archMap": [{"architecture": "SCMP_ARCH_X86_64"}]}"#,
            "both architectures and archMap",
        ),
        (r#"{"defaultAction": "SCMP_ACT_ALLOW", "flags": ["NEW"]}"#, "flag \"NEW\""),
        (
            r#"{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"name": "a", "action": "SCMP_ACT_ERRNO", "includes": {"minKernel": "new"}}]}"#,
            "minKernel \"new\" is not a version",
        ),
        (
            r#"{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"name": "a", "action": "SCMP_ACT_ERRNO", "args": [{"index": 6, "value": 0, "op": "SCMP_CMP_EQ"}]}]}"#,
            "argument 6",
        ),
        (r#"{"defaultAction": "SCMP_ACT_ALLOW", "listenerPath": "/x"}"#, "listenerPath"),
        (
            r#"{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"name": "a", "action": "SCMP_ACT_NOTIFY"}]}"#,
            "SCMP_ACT_NOTIFY",
        ),
    ];
    for (json, want) in cases {
        let error = Profile::parse(json.as_bytes()).unwrap_err();
        assert!(error.to_string().contains(want), "{error} for {json}");
    }
    let large = Profile::parse(&vec![b' '; (1 << 20) + 1]).unwrap_err();
    assert!(matches!(large, SeccompError::TooLarge { size: 1_048_577, .. }));
    // Nesting is bounded by the JSON reader.
    let deep = format!("{}{}", r#"{"syscalls":"#, "[".repeat(100_000));
    assert!(Profile::parse(deep.as_bytes()).is_err());
}

#[test]
fn what_cannot_be_compiled_is_refused() {
    let mut profile = LinuxSeccomp::default();
    profile.set_default_action(LinuxSeccompAction::ScmpActNotify);
    assert_eq!(compile(&profile).unwrap_err().kind(), Kind::Unsupported);
    profile.set_default_action(LinuxSeccompAction::ScmpActAllow).set_default_errno_ret(Some(1));
    assert!(compile(&profile).unwrap_err().to_string().contains("errnoRet 1 of SCMP_ACT_ALLOW"));
    profile.set_default_action(LinuxSeccompAction::ScmpActErrno).set_default_errno_ret(Some(5000));
    assert_eq!(compile(&profile).unwrap_err().kind(), Kind::Invalid);

    let many = (0_u64..2000).map(|value| {
        let arg = LinuxSeccompArgBuilder::default().index(0_usize).value(value).build().unwrap();
        let rule = LinuxSyscallBuilder::default().names(vec!["ioctl".to_owned()]);
        rule.action(LinuxSeccompAction::ScmpActErrno).args(vec![arg]).build().unwrap()
    });
    let mut profile = LinuxSeccomp::default();
    profile.set_syscalls(Some(many.collect()));
    assert!(matches!(compile(&profile), Err(SeccompError::TooLong { limit: 4096, .. })));
}

#[test]
fn flags_are_handed_on() {
    let mut profile = LinuxSeccomp::default();
    assert_eq!(compile(&profile).unwrap().flags(), Flags::SPEC_ALLOW);
    profile.set_flags(Some(vec![]));
    assert_eq!(compile(&profile).unwrap().flags(), Flags::default());
    profile.set_flags(Some(vec![
        LinuxSeccompFilterFlag::SeccompFilterFlagLog,
        LinuxSeccompFilterFlag::SeccompFilterFlagTsync,
        LinuxSeccompFilterFlag::SeccompFilterFlagWaitKillableRecv,
    ]));
    let all = Flags::LOG.union(Flags::TSYNC).union(Flags::WAIT_KILLABLE);
    assert_eq!(compile(&profile).unwrap().flags(), all);
}
