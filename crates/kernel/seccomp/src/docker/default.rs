//! Docker's default profile as facts: which calls are allowed, and with which capability.
//!
//! The facts are those of github.com/moby/profiles (seccomp/default.json, with its allow list of socket
//! families), without the parts for other architectures. Everything else fails with EPERM, `clone3` with ENOSYS so that C libraries fall back to
//! `clone`, whose flags a filter can see.

use dhow_spec::oci_runtime::{
    Arch, LinuxSeccompAction, LinuxSeccompArg, LinuxSeccompArgBuilder, LinuxSeccompOperator,
};

use super::{Conditions, KernelVersion, Profile, Rule};

const EPERM: u32 = 1;
const ENOSYS: u32 = 38;

/// Allowed for everybody, whatever the arguments.
const ALWAYS: &str = "
    accept accept4 access adjtimex alarm bind brk cachestat capget capset chdir chmod chown chown32
    clock_adjtime clock_adjtime64 clock_getres clock_getres_time64 clock_gettime clock_gettime64
    clock_nanosleep clock_nanosleep_time64 close close_range connect copy_file_range creat dup dup2 dup3
    epoll_create epoll_create1 epoll_ctl epoll_ctl_old epoll_pwait epoll_pwait2 epoll_wait epoll_wait_old
    eventfd eventfd2 execve execveat exit exit_group faccessat faccessat2 fadvise64 fadvise64_64 fallocate
    fanotify_mark fchdir fchmod fchmodat fchmodat2 fchown fchown32 fchownat fcntl fcntl64 fdatasync
    fgetxattr flistxattr flock fork fremovexattr fsetxattr fstat fstat64 fstatat64 fstatfs fstatfs64 fsync
    ftruncate ftruncate64 futex futex_requeue futex_time64 futex_wait futex_waitv futex_wake futimesat
    getcpu getcwd getdents getdents64 getegid getegid32 geteuid geteuid32 getgid getgid32 getgroups
    getgroups32 getitimer getpeername getpgid getpgrp getpid getppid getpriority getrandom getresgid
    getresgid32 getresuid getresuid32 getrlimit get_robust_list getrusage getsid getsockname getsockopt
    get_thread_area gettid gettimeofday getuid getuid32 getxattr getxattrat inotify_add_watch
    inotify_init inotify_init1 inotify_rm_watch io_cancel ioctl io_destroy io_getevents io_pgetevents
    io_pgetevents_time64 ioprio_get ioprio_set io_setup io_submit ipc kill landlock_add_rule
    landlock_create_ruleset landlock_restrict_self lchown lchown32 lgetxattr link linkat listen listmount
    listxattr listxattrat llistxattr _llseek lremovexattr lseek lsetxattr lstat lstat64 madvise
    map_shadow_stack membarrier memfd_create memfd_secret mincore mkdir mkdirat mknod mknodat mlock mlock2
    mlockall mmap mmap2 mprotect mq_getsetattr mq_notify mq_open mq_timedreceive mq_timedreceive_time64
    mq_timedsend mq_timedsend_time64 mq_unlink mremap mseal msgctl msgget msgrcv msgsnd msync munlock
    munlockall munmap name_to_handle_at nanosleep newfstatat _newselect open openat openat2 pause
    pidfd_open pidfd_send_signal pipe pipe2 pkey_alloc pkey_free pkey_mprotect poll ppoll ppoll_time64
    prctl pread64 preadv preadv2 prlimit64 process_mrelease pselect6 pselect6_time64 pwrite64 pwritev
    pwritev2 read readahead readlink readlinkat readv recv recvfrom recvmmsg recvmmsg_time64 recvmsg
    remap_file_pages removexattr removexattrat rename renameat renameat2 restart_syscall rmdir rseq
    rt_sigaction rt_sigpending rt_sigprocmask rt_sigqueueinfo rt_sigreturn rt_sigsuspend rt_sigtimedwait
    rt_sigtimedwait_time64 rt_tgsigqueueinfo sched_getaffinity sched_getattr sched_getparam
    sched_get_priority_max sched_get_priority_min sched_getscheduler sched_rr_get_interval
    sched_rr_get_interval_time64 sched_setaffinity sched_setattr sched_setparam sched_setscheduler
    sched_yield seccomp select semctl semget semop semtimedop semtimedop_time64 send sendfile sendfile64
    sendmmsg sendmsg sendto setfsgid setfsgid32 setfsuid setfsuid32 setgid setgid32 setgroups setgroups32
    setitimer setpgid setpriority setregid setregid32 setresgid setresgid32 setresuid setresuid32 setreuid
    setreuid32 setrlimit set_robust_list setsid setsockopt set_thread_area set_tid_address setuid setuid32
    setxattr setxattrat shmat shmctl shmdt shmget shutdown sigaltstack signalfd signalfd4 sigprocmask
    sigreturn socketcall socketpair splice stat stat64 statfs statfs64 statmount statx symlink symlinkat
    sync sync_file_range syncfs sysinfo tee tgkill time timer_create timer_delete timer_getoverrun
    timer_gettime timer_gettime64 timer_settime timer_settime64 timerfd_create timerfd_gettime
    timerfd_gettime64 timerfd_settime timerfd_settime64 times tkill truncate truncate64 ugetrlimit umask
    uname unlink unlinkat uretprobe utime utimensat utimensat_time64 utimes vfork vmsplice wait4 waitid
    waitpid write writev
    arch_prctl modify_ldt";

/// Allowed with a capability.
const WITH_CAPABILITY: [(&str, &str); 14] = [
    ("DAC_READ_SEARCH", "open_by_handle_at"),
    (
        "SYS_ADMIN",
        "bpf clone clone3 fanotify_init fsconfig fsmount fsopen fspick lookup_dcookie lsm_get_self_attr
        lsm_list_modules lsm_set_self_attr mount mount_setattr move_mount open_tree perf_event_open
        quotactl quotactl_fd setdomainname sethostname setns syslog umount umount2 unshare",
    ),
    ("SYS_BOOT", "reboot"),
    ("SYS_CHROOT", "chroot"),
    ("SYS_MODULE", "delete_module init_module finit_module"),
    ("SYS_PACCT", "acct"),
    ("SYS_PTRACE", "kcmp pidfd_getfd process_madvise process_vm_readv process_vm_writev ptrace"),
    ("SYS_RAWIO", "iopl ioperm"),
    ("SYS_TIME", "settimeofday stime clock_settime clock_settime64"),
    ("SYS_TTY_CONFIG", "vhangup"),
    ("SYS_NICE", "get_mempolicy mbind set_mempolicy set_mempolicy_home_node"),
    ("SYSLOG", "syslog"),
    ("BPF", "bpf"),
    ("PERFMON", "perf_event_open"),
];

/// Until 4.8 a tracer could get round a filter with ptrace.
const SINCE_4_8: &str = "process_vm_readv process_vm_writev ptrace";

/// Socket families: those below this one, and a few more. Left out are those without an implementation, ALG
/// (a way into the kernel's cryptography that containers do not need) and VSOCK (not in a network namespace
/// of its own, so it leads to the host).
const FAMILIES_BELOW: u64 = 12;
const FAMILIES: [u64; 25] = [
    13, 14, 15, 16, 17, 18, 21, 22, 24, 26, 27, 28, 29, 30, 31, 32, 33, 35, 36, 39, 41, 42, 43, 44,
    45,
];

/// personality(2): Linux, 32-bit Linux, both with UNAME26, and asking without changing.
const PERSONALITIES: [u64; 5] = [0, 0x8, 0x2_0000, 0x2_0008, 0xffff_ffff];

/// clone's flags for new namespaces: NEWNS, NEWCGROUP, NEWUTS, NEWIPC, NEWUSER, NEWPID, NEWNET.
const CLONE_NAMESPACES: u64 = 0x7e02_0000;

pub(super) fn profile() -> Profile {
    let mut rules = vec![allow(ALWAYS), Rule { includes: since(4, 8), ..allow(SINCE_4_8) }];
    rules.push(allow_if("socket", LinuxSeccompOperator::ScmpCmpLt, FAMILIES_BELOW));
    let equal = LinuxSeccompOperator::ScmpCmpEq;
    rules.extend(FAMILIES.map(|family| allow_if("socket", equal, family)));
    rules.extend(PERSONALITIES.map(|personality| allow_if("personality", equal, personality)));
    let with = |(capability, names): (&str, &str)| Rule {
        includes: capability_condition(capability),
        ..allow(names)
    };
    rules.extend(WITH_CAPABILITY.map(with));
    let masked = LinuxSeccompOperator::ScmpCmpMaskedEq;
    rules.push(Rule {
        excludes: capability_condition("SYS_ADMIN"),
        ..allow_if("clone", masked, CLONE_NAMESPACES)
    });
    rules.push(Rule {
        action: LinuxSeccompAction::ScmpActErrno,
        errno: Some(ENOSYS),
        excludes: capability_condition("SYS_ADMIN"),
        ..allow("clone3")
    });
    Profile {
        default_action: LinuxSeccompAction::ScmpActErrno,
        default_errno: Some(EPERM),
        architectures: vec![Arch::ScmpArchX86_64, Arch::ScmpArchX86, Arch::ScmpArchX32],
        flags: None,
        rules,
    }
}

fn allow(names: &str) -> Rule {
    Rule {
        names: names.split_whitespace().map(str::to_owned).collect(),
        action: LinuxSeccompAction::ScmpActAllow,
        errno: None,
        args: Vec::new(),
        includes: Conditions::default(),
        excludes: Conditions::default(),
    }
}

/// Allowed if the first argument compares so.
fn allow_if(names: &str, op: LinuxSeccompOperator, value: u64) -> Rule {
    let arg = LinuxSeccompArgBuilder::default().index(0_usize).value(value).value_two(0_u64).op(op);
    // Every member has a default, so building cannot fail; without the argument nothing is allowed.
    let (args, names) = match arg.build() {
        Ok(arg) => (vec![arg], names),
        Err(_) => (Vec::<LinuxSeccompArg>::new(), ""),
    };
    Rule { args, ..allow(names) }
}

fn capability_condition(name: &str) -> Conditions {
    Conditions { capabilities: vec![name.to_owned()], ..Conditions::default() }
}

fn since(major: u32, minor: u32) -> Conditions {
    Conditions { min_kernel: Some(KernelVersion { major, minor }), ..Conditions::default() }
}
