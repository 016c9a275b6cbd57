//! The three system call interfaces of an x86-64 kernel, and what their calls are called.
//!
//! ```text
//!   interface  seccomp_data.arch     numbers                       arguments compared
//!   x86_64     AUDIT_ARCH_X86_64     0..                           64 bits
//!   x32        AUDIT_ARCH_X86_64     0x4000_0000 | (0.. or 512..)  low 32 bits
//!   x86        AUDIT_ARCH_I386       0..                           low 32 bits
//! ```

use std::str::FromStr;

use dhow_spec::oci_runtime::Arch;
use syscalls::{x86, x86_64};

/// AUDIT_ARCH_X86_64: EM_X86_64 with the 64-bit and little-endian marks.
pub(crate) const AUDIT_X86_64: u32 = 0xc000_003e;
/// AUDIT_ARCH_I386: EM_386 with the little-endian mark.
pub(crate) const AUDIT_I386: u32 = 0x4000_0003;
/// __X32_SYSCALL_BIT
pub(crate) const X32_BIT: u32 = 0x4000_0000;

/// A system call interface.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Abi {
    X86_64,
    X32,
    X86,
}

impl Abi {
    /// The interfaces a profile's list asks for. The native one is always among them; those of other
    /// machines are passed over, since no such call can arrive here.
    pub(crate) fn declared(list: &[Arch]) -> Vec<Self> {
        let has = |arch| list.contains(&arch);
        let mut declared = vec![Self::X86_64];
        if has(Arch::ScmpArchX32) {
            declared.push(Self::X32);
        }
        if has(Arch::ScmpArchX86) {
            declared.push(Self::X86);
        }
        declared
    }

    /// Whether arguments have 64 bits that count.
    pub(crate) fn is_wide(self) -> bool {
        self == Self::X86_64
    }

    /// A call's number as seccomp_data has it; None if this interface has no such call.
    pub(crate) fn number(self, name: &str) -> Option<u32> {
        match self {
            Self::X86_64 => x86_64_number(name),
            Self::X32 => {
                let own = X32_OWN.iter().position(|own| *own == name).map(|at| 512 + at as u32);
                own.or_else(|| x86_64_number(name)).map(|number| number | X32_BIT)
            }
            Self::X86 => {
                let known = x86::Sysno::from_str(name).ok().map(|call| call.id() as u32);
                known.or_else(|| newer(name))
            }
        }
    }

    /// On x86 the older form of a socket or IPC call: the number of socketcall(2) or ipc(2), and which of
    /// their functions.
    pub(crate) fn multiplexed(self, name: &str) -> Option<(u32, Multiplexed)> {
        if self != Self::X86 {
            return None;
        }
        if let Some(at) = SOCKETCALLS.iter().position(|call| *call == name) {
            return Some((102, Multiplexed::Socket(at as u32 + 1)));
        }
        let (_, function) = IPC_CALLS.iter().find(|(call, _)| *call == name)?;
        Some((117, Multiplexed::Ipc(*function)))
    }
}

/// The first argument of socketcall(2) or ipc(2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Multiplexed {
    /// The whole argument.
    Socket(u32),
    /// Its low 16 bits; a version is above them.
    Ipc(u32),
}

fn x86_64_number(name: &str) -> Option<u32> {
    let known = x86_64::Sysno::from_str(name).ok().map(|call| call.id() as u32);
    known.or_else(|| newer(name)).or(match name {
        "uretprobe" => Some(335),
        "uprobe" => Some(336),
        _ => None,
    })
}

/// Calls that joined Linux after the table in use was made (6.10 to 7.0). New calls have had one number on
/// every architecture since 424.
fn newer(name: &str) -> Option<u32> {
    const FIRST: u32 = 462;
    const NAMES: [&str; 10] = [
        "mseal",
        "setxattrat",
        "getxattrat",
        "listxattrat",
        "removexattrat",
        "open_tree_attr",
        "file_getattr",
        "file_setattr",
        "listns",
        "rseq_slice_yield",
    ];
    NAMES.iter().position(|newer| *newer == name).map(|at| FIRST + at as u32)
}

/// x32's own calls from 512 on (arch/x86/entry/syscalls/syscall_64.tbl).
const X32_OWN: [&str; 36] = [
    "rt_sigaction",
    "rt_sigreturn",
    "ioctl",
    "readv",
    "writev",
    "recvfrom",
    "sendmsg",
    "recvmsg",
    "execve",
    "ptrace",
    "rt_sigpending",
    "rt_sigtimedwait",
    "rt_sigqueueinfo",
    "sigaltstack",
    "timer_create",
    "mq_notify",
    "kexec_load",
    "waitid",
    "set_robust_list",
    "get_robust_list",
    "vmsplice",
    "move_pages",
    "preadv",
    "pwritev",
    "rt_tgsigqueueinfo",
    "recvmmsg",
    "sendmmsg",
    "process_vm_readv",
    "process_vm_writev",
    "setsockopt",
    "getsockopt",
    "io_setup",
    "io_submit",
    "execveat",
    "preadv2",
    "pwritev2",
];

/// The functions of socketcall(2), from 1 on (linux/net.h).
const SOCKETCALLS: [&str; 20] = [
    "socket",
    "bind",
    "connect",
    "listen",
    "accept",
    "getsockname",
    "getpeername",
    "socketpair",
    "send",
    "recv",
    "sendto",
    "recvfrom",
    "shutdown",
    "setsockopt",
    "getsockopt",
    "sendmsg",
    "recvmsg",
    "accept4",
    "recvmmsg",
    "sendmmsg",
];

/// The functions of ipc(2) (linux/ipc.h).
const IPC_CALLS: [(&str, u32); 12] = [
    ("semop", 1),
    ("semget", 2),
    ("semctl", 3),
    ("semtimedop", 4),
    ("msgsnd", 11),
    ("msgrcv", 12),
    ("msgget", 13),
    ("msgctl", 14),
    ("shmat", 21),
    ("shmdt", 22),
    ("shmget", 23),
    ("shmctl", 24),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_of_each_interface() {
        assert_eq!(Abi::X86_64.number("read"), Some(0));
        assert_eq!(Abi::X86.number("read"), Some(3));
        assert_eq!(Abi::X32.number("read"), Some(0x4000_0000));
        assert_eq!(Abi::X32.number("execve"), Some(0x4000_0000 + 520));
        assert_eq!(Abi::X32.number("pwritev2"), Some(0x4000_0000 + 547));
        assert_eq!(Abi::X86_64.number("socketcall"), None);
        assert_eq!(Abi::X86.number("socketcall"), Some(102));
        assert_eq!(Abi::X86.number("ipc"), Some(117));
        assert_eq!(Abi::X86.number("mseal"), Some(462));
        assert_eq!(Abi::X86_64.number("uretprobe"), Some(335));
        assert_eq!(Abi::X86.number("uretprobe"), None);
        assert_eq!(Abi::X86_64.number("no_such_call"), None);
        assert_eq!(Abi::X86.multiplexed("sendmmsg"), Some((102, Multiplexed::Socket(20))));
        assert_eq!(Abi::X86_64.multiplexed("sendmmsg"), None);
    }
}
