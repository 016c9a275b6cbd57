//! The few instructions between our code and a container's command, in a sealed program of their own.
//!
//! Whatever of ours a container can see, it can reach as /proc/PID/exe; and a command that is a script of
//! `#!/proc/self/exe` executes it (CVE-2019-5736). So a process that becomes a container's is first executed
//! from something that nobody can write to. That may be a view of our whole binary ([`crate::seal`]), which
//! then has to start up once more; or it is this: 200 bytes that do what is left to do. It is a memory file,
//! sealed, without a path, and started in a tenth of the time.
//!
//! ```text
//!   our child, of which the container can see nothing:   everything else ─► execveat(springboard)
//!   springboard of a first process:   execve(argv[0], argv + 1, envp)
//!   springboard at a gate:            waits for a byte on the channel ─► the same
//!   springboard that joins:           clone(CLONE_PARENT) ─► tells the sibling's pid, ends
//!                                       └─► setsid ─► terminal? ─► ready ─► execve
//! ```
//!
//! It speaks with the parent over the descriptor that it was made for, a packet each: `P` and the pid (four
//! bytes), `R` for ready, `X`, the errno and the path if the command could not be executed, `S` and the
//! errno if another step failed. A successful execve closes the descriptor.
//!
//! Invariants: it has no memory but its stack, no relocation, no library; it cannot be changed once made.

use std::arch::global_asm;
use std::ffi::CStr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::slice;

use rustix::fs::{MemfdFlags, Mode, OFlags, SealFlags};
use rustix::io::{Errno, FdFlags, Result};

use super::{Strings, last_errno};

/// Where the program lies in memory; any address that no Linux gives to something else at start.
const BASE: u64 = 0x1000_0000;
/// Sizes of an ELF64 header and of its two program headers (elf(5)).
const HEADER: usize = 64;
const PROGRAM_HEADER: usize = 56;
const CODE_AT: usize = HEADER + 2 * PROGRAM_HEADER;

// The kernel enters with argc, argv, null, envp on the stack; system calls keep all registers but rax, rcx
// and r11. ebx is the channel, r12d says what is to be done. The calls, in order: fcntl(F_SETFD, CLOEXEC)
// 72, prctl(PR_SET_DUMPABLE, 0) 157, read 0, clone 56, setsid 112, ioctl(TIOCSCTTY) 16, write 1,
// execve 59, exit_group 231. argv[1] follows argv[0] and its NUL in memory, so that its address tells the
// length; what lies before argv[0] is padding and AT_PLATFORM, which nobody here reads.
#[cfg(target_arch = "x86_64")]
global_asm!(
    ".pushsection .rodata.dhow_springboard, \"a\", @progbits",
    "dhow_springboard_begin:",
    "mov ebx, dword ptr [rip + 8f]",
    "mov r12d, dword ptr [rip + 9f]",
    "mov edi, ebx",
    "mov esi, 2",
    "mov edx, 1",
    "mov eax, 72",
    "syscall",
    // A container that executes /proc/self/exe once more has no channel.
    "test eax, eax",
    "js 33f",
    "test r12d, 4",
    "jz 34f",
    // At the gate: in nobody's reach, until somebody writes.
    "mov edi, 4",
    "xor esi, esi",
    "mov eax, 157",
    "syscall",
    "push 0",
    "32:",
    "mov edi, ebx",
    "mov rsi, rsp",
    "mov edx, 1",
    "xor eax, eax",
    "syscall",
    "cmp eax, -4",
    "je 32b",
    "test eax, eax",
    "jle 33f",
    "add rsp, 8",
    "34:",
    "test r12d, 1",
    "jz 5f",
    // Joins: a sibling in the pid namespace of our children.
    "mov edi, 0x8000",
    "xor esi, esi",
    "xor edx, edx",
    "xor r10d, r10d",
    "xor r8d, r8d",
    "mov eax, 56",
    "syscall",
    "test eax, eax",
    "js 6f",
    "jz 2f",
    // The one that joined: P and the pid.
    "push rax",
    "push 0",
    "mov byte ptr [rsp + 7], 0x50",
    "lea rsi, [rsp + 7]",
    "mov edx, 5",
    "call 7f",
    "xor edi, edi",
    "mov eax, 231",
    "syscall",
    // The sibling.
    "2:",
    "mov eax, 112",
    "syscall",
    "test eax, eax",
    "js 6f",
    "test r12d, 2",
    "jz 3f",
    "xor edi, edi",
    "mov esi, 0x540e",
    "xor edx, edx",
    "mov eax, 16",
    "syscall",
    "test eax, eax",
    "js 6f",
    "3:",
    "push 0x52",
    "mov rsi, rsp",
    "mov edx, 1",
    "call 7f",
    "add rsp, 8",
    "test eax, eax",
    "js 6f",
    // The command.
    "5:",
    "mov rdi, [rsp + 8]",
    "lea rsi, [rsp + 16]",
    "mov rax, [rsp]",
    "lea rdx, [rsp + rax * 8 + 16]",
    "mov eax, 59",
    "syscall",
    "neg eax",
    "mov rsi, [rsp + 8]",
    "mov rdx, [rsp + 16]",
    "sub rdx, rsi",
    "inc rdx",
    "mov byte ptr [rsi - 1], al",
    "mov byte ptr [rsi - 2], 0x58",
    "sub rsi, 2",
    "jmp 4f",
    // Another step failed: S and the errno.
    "6:",
    "neg eax",
    "shl eax, 8",
    "or eax, 0x53",
    "push rax",
    "mov rsi, rsp",
    "mov edx, 2",
    "4:",
    "call 7f",
    "33:",
    "mov edi, 126",
    "mov eax, 231",
    "syscall",
    // write(channel, rsi, rdx)
    "7:",
    "mov edi, ebx",
    "mov eax, 1",
    "syscall",
    "ret",
    ".balign 4",
    "8:",
    ".long -1",
    "9:",
    ".long 0",
    "dhow_springboard_end:",
    ".popsection",
);

/// The numbers after the code: the channel's descriptor, and what is to be done.
const NUMBERS: usize = 8;

#[cfg(target_arch = "x86_64")]
fn code() -> &'static [u8] {
    unsafe extern "C" {
        static dhow_springboard_begin: u8;
        static dhow_springboard_end: u8;
    }
    let begin = &raw const dhow_springboard_begin;
    let end = &raw const dhow_springboard_end;
    let length = end.addr().wrapping_sub(begin.addr());
    // SAFETY: both symbols stand in the one read-only section above, begin before end, so what lies between
    // them is initialised, never written, and there as long as the program runs.
    unsafe { slice::from_raw_parts(begin, length) }
}

#[cfg(not(target_arch = "x86_64"))]
fn code() -> &'static [u8] {
    &[]
}

/// What a springboard does before it executes the command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Jump {
    /// Nothing: the process is the one to be.
    Itself,
    /// The same, once a byte can be read from the channel. It is not dumpable while it waits.
    Gate,
    /// A sibling executes it, in a session of its own and in the pid namespace that is joined for children.
    Sibling {
        /// Whether descriptor 0 becomes the session's terminal.
        terminal: bool,
    },
}

/// The sealed program.
#[derive(Debug)]
pub struct Springboard(OwnedFd);

impl Springboard {
    /// Makes one that speaks over `channel` in this process or its copies. Needs procfs in /proc.
    ///
    /// Errors: those of memfd_create(2), EACCES where vm.memfd_noexec forbids it; ENOSYS on processors for
    /// which it is not written.
    pub fn make(channel: BorrowedFd<'_>, jump: Jump) -> Result<Self> {
        let code = code();
        if code.is_empty() {
            return Err(Errno::NOSYS);
        }
        let memory = create()?;
        let what: i32 = match jump {
            Jump::Itself => 0,
            Jump::Gate => 4,
            Jump::Sibling { terminal: false } => 1,
            Jump::Sibling { terminal: true } => 3,
        };
        let image = image(code, channel.as_raw_fd(), what);
        if rustix::io::write(&memory, &image)? != image.len() {
            return Err(Errno::IO);
        }
        rustix::fs::fchmod(&memory, Mode::from_raw_mode(0o555))?;
        let seals = SealFlags::WRITE | SealFlags::SHRINK | SealFlags::GROW | SealFlags::SEAL;
        rustix::fs::fcntl_add_seals(&memory, seals)?;
        // A file open for writing cannot be executed (ETXTBSY).
        let path = format!("/proc/self/fd/{}", memory.as_raw_fd());
        Ok(Self(rustix::fs::open(path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?))
    }

    /// Executes the program of `path` by way of the springboard. `channel` is the descriptor it was made
    /// for. Comes back only with the reason why the springboard itself cannot be executed.
    pub fn exec(
        &self,
        channel: BorrowedFd<'_>,
        path: &CStr,
        arguments: &Strings,
        environment: &Strings,
    ) -> Errno {
        // It sets this again for the command.
        if let Err(errno) = rustix::io::fcntl_setfd(channel, FdFlags::empty()) {
            return errno;
        }
        // SAFETY: `path` and every text are NUL-terminated; both lists end with a null pointer and own or
        // borrow what they point to, so all of it lives across the call. The kernel only reads. The path is
        // a static empty text, so the descriptor itself is executed.
        unsafe {
            libc::syscall(
                libc::SYS_execveat,
                self.0.as_raw_fd(),
                c"".as_ptr(),
                arguments.list_after(path),
                environment.list(),
                libc::AT_EMPTY_PATH,
            );
        }
        last_errno()
    }
}

impl AsFd for Springboard {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

fn create() -> Result<OwnedFd> {
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    // MFD_EXEC says since Linux 6.3 what older kernels always do, and they refuse the flag.
    match rustix::fs::memfd_create("dhow", flags | MemfdFlags::EXEC) {
        Err(Errno::INVAL) => rustix::fs::memfd_create("dhow", flags),
        other => other,
    }
}

/// The program as a file: an ELF header, one segment that is loaded, one that says "no executable stack",
/// the code and its numbers.
fn image(code: &[u8], channel: i32, what: i32) -> Vec<u8> {
    /// elf(5): a 64-bit little-endian System V file.
    const IDENT: [u8; 16] = [0x7f, b'E', b'L', b'F', 2, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    const EXECUTABLE: u16 = 2;
    const X86_64: u16 = 62;
    const LOAD: u32 = 1;
    const STACK: u32 = 0x6474_e551;
    const READ: u32 = 4;
    const WRITE: u32 = 2;
    const EXECUTE: u32 = 1;
    let length = (CODE_AT + code.len()) as u64;
    let mut file = Vec::with_capacity(CODE_AT + code.len());
    file.extend_from_slice(&IDENT);
    file.extend_from_slice(&EXECUTABLE.to_le_bytes());
    file.extend_from_slice(&X86_64.to_le_bytes());
    file.extend_from_slice(&1_u32.to_le_bytes());
    // Entry, program headers, section headers.
    for number in [BASE + CODE_AT as u64, HEADER as u64, 0] {
        file.extend_from_slice(&number.to_le_bytes());
    }
    file.extend_from_slice(&0_u32.to_le_bytes());
    for number in [HEADER as u16, PROGRAM_HEADER as u16, 2, 0, 0, 0] {
        file.extend_from_slice(&number.to_le_bytes());
    }
    // Offset, address, physical address, size in the file, size in memory, alignment.
    let loaded = [0, BASE, BASE, length, length, 0x1000];
    for (kind, flags, numbers) in [(LOAD, READ | EXECUTE, loaded), (STACK, READ | WRITE, [0; 6])] {
        file.extend_from_slice(&kind.to_le_bytes());
        file.extend_from_slice(&flags.to_le_bytes());
        for number in numbers {
            file.extend_from_slice(&number.to_le_bytes());
        }
    }
    file.extend_from_slice(code.get(..code.len() - NUMBERS).unwrap_or_default());
    file.extend_from_slice(&channel.to_le_bytes());
    file.extend_from_slice(&what.to_le_bytes());
    file
}

#[cfg(test)]
mod tests {
    use std::ffi::CString;

    use rustix::process::{WaitId, WaitIdOptions, waitid};

    use super::*;
    use crate::fdpass;
    use crate::namespace::Namespaces;
    use crate::process::clone3;

    fn list(texts: &[&str]) -> Strings {
        Strings::new(texts.iter().map(|text| CString::new(*text).unwrap()).collect())
    }

    /// Jumps, and gives the packets and the code of the process that jumped.
    fn jump(jump: Jump, path: &CStr, arguments: &[&str]) -> (Vec<Vec<u8>>, Option<i32>) {
        let (ours, theirs) = fdpass::packet_pair().unwrap();
        let board = Springboard::make(theirs.as_fd(), jump).unwrap();
        let (arguments, environment) = (list(arguments), list(&["A=b"]));
        let child = clone3(Namespaces::NONE, None, || {
            board.exec(theirs.as_fd(), path, &arguments, &environment);
            99
        })
        .unwrap();
        drop(theirs);
        let mut packets = Vec::new();
        loop {
            let mut packet = [0; 256];
            match rustix::io::read(&ours, &mut packet) {
                Ok(0) => break,
                Ok(length) => packets.push(packet[..length].to_vec()),
                Err(errno) => panic!("{errno}"),
            }
        }
        let status = waitid(WaitId::PidFd(child.pidfd.as_fd()), WaitIdOptions::EXITED).unwrap();
        (packets, status.and_then(|status| status.exit_status()))
    }

    #[test]
    fn it_becomes_the_command() {
        let script = "[ $A$1 = bx ] && ! [ -e /proc/self/fd/5 ] && exit 7";
        let (packets, code) = jump(Jump::Itself, c"/bin/sh", &["sh", "-c", script, "-", "x"]);
        assert_eq!((packets, code), (vec![], Some(7)));
    }

    #[test]
    fn it_works_once() {
        let (packets, code) = jump(Jump::Itself, c"/proc/self/exe", &["/bin/true"]);
        assert_eq!((packets, code), (vec![], Some(126)));
    }

    #[test]
    fn it_tells_what_cannot_be_executed() {
        let (packets, code) = jump(Jump::Itself, c"/no/such", &["such", "x"]);
        assert_eq!((packets, code), (vec![b"X\x02/no/such".to_vec()], Some(126)));
    }

    #[test]
    fn a_sibling_becomes_the_command() {
        let (packets, code) = jump(Jump::Sibling { terminal: false }, c"/bin/true", &["true"]);
        assert_eq!(code, Some(0));
        let pid = packets.iter().find(|packet| packet.first() == Some(&b'P')).unwrap();
        assert!(packets.contains(&b"R".to_vec()) && packets.len() == 2);
        let pid = i32::from_le_bytes(pid[1..].try_into().unwrap());
        let pid = rustix::process::Pid::from_raw(pid).unwrap();
        let status = waitid(WaitId::Pid(pid), WaitIdOptions::EXITED).unwrap();
        assert_eq!(status.and_then(|status| status.exit_status()), Some(0));
    }

    #[test]
    fn a_gate_is_waited_at() {
        let (ours, theirs) = fdpass::packet_pair().unwrap();
        let board = Springboard::make(theirs.as_fd(), Jump::Gate).unwrap();
        let (arguments, environment) = (list(&["sh", "-c", "exit 5"]), list(&[]));
        let child = clone3(Namespaces::NONE, None, || {
            board.exec(theirs.as_fd(), c"/bin/sh", &arguments, &environment);
            99
        })
        .unwrap();
        drop(theirs);
        let look = WaitIdOptions::EXITED | WaitIdOptions::NOHANG;
        assert!(waitid(WaitId::PidFd(child.pidfd.as_fd()), look).unwrap().is_none());
        rustix::io::write(&ours, b"0").unwrap();
        let status = waitid(WaitId::PidFd(child.pidfd.as_fd()), WaitIdOptions::EXITED).unwrap();
        assert_eq!(status.and_then(|status| status.exit_status()), Some(5));
    }

    #[test]
    fn a_step_that_fails_is_told() {
        let (packets, _) = jump(Jump::Sibling { terminal: true }, c"/bin/true", &["true"]);
        // Descriptor 0 is no terminal here, or is another session's.
        let told = packets.iter().find(|packet| packet.first() == Some(&b'S')).unwrap();
        assert_eq!(told.len(), 2);
    }

    #[test]
    fn cve_2019_5736_it_cannot_be_written() {
        let (_ours, theirs) = fdpass::packet_pair().unwrap();
        let board = Springboard::make(theirs.as_fd(), Jump::Itself).unwrap();
        let path = format!("/proc/self/fd/{}", board.as_fd().as_raw_fd());
        let file = rustix::fs::open(path, OFlags::RDWR | OFlags::CLOEXEC, Mode::empty());
        assert!(file.is_err() || file.is_ok_and(|file| rustix::io::write(file, b"x").is_err()));
    }
}
