//! BPF programs for device cgroups: load, attach, list, detach (bpf(2)).
//!
//! cgroup2 has no device controller: a program of type BPF_PROG_TYPE_CGROUP_DEVICE, attached to the
//! cgroup's directory, decides on each access (Linux 4.15). Several may be attached; an access needs the
//! consent of all, here and in every ancestor. This module moves instructions and descriptors; what a
//! program says is made elsewhere.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use dhow_error::{Classify, Kind};

const PROG_LOAD: libc::c_int = 5;
const PROG_ATTACH: libc::c_int = 8;
const PROG_DETACH: libc::c_int = 9;
const PROG_GET_FD_BY_ID: libc::c_int = 13;
const PROG_QUERY: libc::c_int = 16;

const PROG_TYPE_CGROUP_DEVICE: u32 = 15;
const ATTACH_TYPE_CGROUP_DEVICE: u32 = 6;
const F_ALLOW_MULTI: u32 = 2;

/// BPF_CGROUP_MAX_PROGS: no cgroup has more programs of one type.
const MAX_ATTACHED: usize = 64;

/// What can go wrong with a device program.
#[derive(Debug, thiserror::Error)]
pub enum BpfError {
    /// The kernel's verifier or the permission check refused the program.
    #[error("cannot load a device program of {instructions} BPF instructions")]
    Load {
        /// Its length.
        instructions: usize,
        /// Why not.
        source: io::Error,
    },
    /// The program could not be attached.
    #[error("cannot attach a device program to the cgroup")]
    Attach(#[source] io::Error),
    /// The attached programs could not be listed.
    #[error("cannot list the device programs of the cgroup")]
    Query(#[source] io::Error),
    /// A program could not be taken off.
    #[error("cannot detach device program {id} from the cgroup")]
    Detach {
        /// The kernel's id of the program.
        id: u32,
        /// Why not.
        source: io::Error,
    },
}

impl Classify for BpfError {
    fn kind(&self) -> Kind {
        let (Self::Load { source, .. }
        | Self::Attach(source)
        | Self::Query(source)
        | Self::Detach { source, .. }) = self;
        match source.raw_os_error() {
            Some(libc::EPERM | libc::EACCES) => Kind::Forbidden,
            Some(libc::ENOSYS | libc::EINVAL) => Kind::Unsupported,
            _ => Kind::Internal,
        }
    }

    fn hint(&self) -> Option<String> {
        let text = match self.kind() {
            Kind::Forbidden => "CAP_BPF and CAP_NET_ADMIN, or CAP_SYS_ADMIN, are needed",
            Kind::Unsupported => "the kernel needs CONFIG_CGROUP_BPF and CONFIG_BPF_SYSCALL",
            _ => return None,
        };
        Some(text.to_owned())
    }
}

/// One BPF instruction (`struct bpf_insn`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(C)]
pub struct Instruction {
    /// Operation code.
    pub code: u8,
    /// Destination register in the low four bits, source register in the high four.
    pub registers: u8,
    /// Jump distance or memory offset.
    pub offset: i16,
    /// Immediate operand.
    pub immediate: i32,
}

/// Loads a device program and gives its descriptor.
///
/// # Errors
/// [`BpfError::Load`].
pub fn load_device(instructions: &[Instruction]) -> Result<OwnedFd, BpfError> {
    #[repr(C)]
    struct LoadAttributes {
        prog_type: u32,
        insn_cnt: u32,
        insns: u64,
        license: u64,
        log_level: u32,
        log_size: u32,
        log_buf: u64,
        kern_version: u32,
        prog_flags: u32,
        prog_name: [u8; 16],
    }
    let attributes = LoadAttributes {
        prog_type: PROG_TYPE_CGROUP_DEVICE,
        insn_cnt: instructions.len() as u32,
        insns: instructions.as_ptr() as u64,
        license: c"Apache-2.0".as_ptr() as u64,
        log_level: 0,
        log_size: 0,
        log_buf: 0,
        kern_version: 0,
        prog_flags: 0,
        prog_name: *b"dhow_devices\0\0\0\0",
    };
    // SAFETY: `insns` points to `insn_cnt` instructions in the kernel's layout (repr(C), 8 bytes each)
    // and `license` to a NUL-terminated constant; both outlive the call, and the kernel only reads.
    let fd = unsafe { bpf(PROG_LOAD, &attributes) }
        .map_err(|source| BpfError::Load { instructions: instructions.len(), source })?;
    // SAFETY: BPF_PROG_LOAD returned a new descriptor (close-on-exec by itself) that nobody else owns.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Attaches a device program to a cgroup2 directory, beside those already there.
///
/// # Errors
/// [`BpfError::Attach`].
pub fn attach_device(cgroup: BorrowedFd<'_>, program: BorrowedFd<'_>) -> Result<(), BpfError> {
    let attributes = AttachAttributes::new(cgroup, program, F_ALLOW_MULTI);
    // SAFETY: the attributes carry numbers of descriptors that are borrowed over the call, no pointers.
    unsafe { bpf(PROG_ATTACH, &attributes) }.map(drop).map_err(BpfError::Attach)
}

/// The ids of the device programs attached to a cgroup2 directory itself.
///
/// # Errors
/// [`BpfError::Query`].
pub fn attached_devices(cgroup: BorrowedFd<'_>) -> Result<Vec<u32>, BpfError> {
    #[repr(C)]
    struct ListAttributes {
        target_fd: u32,
        attach_type: u32,
        query_flags: u32,
        attach_flags: u32,
        prog_ids: u64,
        prog_cnt: u32,
        pad: u32,
    }
    let mut ids = vec![0_u32; MAX_ATTACHED];
    let mut attributes = ListAttributes {
        target_fd: cgroup.as_raw_fd() as u32,
        attach_type: ATTACH_TYPE_CGROUP_DEVICE,
        query_flags: 0,
        attach_flags: 0,
        prog_ids: ids.as_mut_ptr() as u64,
        prog_cnt: MAX_ATTACHED as u32,
        pad: 0,
    };
    // SAFETY: `prog_ids` points to room for `prog_cnt` ids, which lives and is not otherwise borrowed
    // during the call; the kernel writes at most that many, and the true count into `prog_cnt`.
    unsafe { bpf_mut(PROG_QUERY, &mut attributes) }.map_err(BpfError::Query)?;
    ids.truncate(attributes.prog_cnt as usize);
    Ok(ids)
}

/// Takes the device program with that id off a cgroup2 directory. One that is gone is fine.
///
/// # Errors
/// [`BpfError::Detach`].
pub fn detach_device(cgroup: BorrowedFd<'_>, id: u32) -> Result<(), BpfError> {
    #[repr(C)]
    struct ById {
        prog_id: u32,
        next_id: u32,
        open_flags: u32,
    }
    let fail = |source: io::Error| match source.raw_os_error() {
        Some(libc::ENOENT) => Ok(()),
        _ => Err(BpfError::Detach { id, source }),
    };
    let by_id = ById { prog_id: id, next_id: 0, open_flags: 0 };
    // SAFETY: the attributes are three numbers; there are no pointers.
    let program = match unsafe { bpf(PROG_GET_FD_BY_ID, &by_id) } {
        // SAFETY: BPF_PROG_GET_FD_BY_ID returned a new descriptor that nobody else owns.
        Ok(fd) => unsafe { OwnedFd::from_raw_fd(fd) },
        Err(error) => return fail(error),
    };
    let attributes = AttachAttributes::new(cgroup, program.as_fd(), 0);
    // SAFETY: the attributes carry numbers of descriptors that live over the call, no pointers.
    unsafe { bpf(PROG_DETACH, &attributes) }.map(drop).or_else(fail)
}

/// The attributes of BPF_PROG_ATTACH and BPF_PROG_DETACH.
#[repr(C)]
struct AttachAttributes {
    target_fd: u32,
    attach_bpf_fd: u32,
    attach_type: u32,
    attach_flags: u32,
    replace_bpf_fd: u32,
}

impl AttachAttributes {
    fn new(cgroup: BorrowedFd<'_>, program: BorrowedFd<'_>, attach_flags: u32) -> Self {
        Self {
            target_fd: cgroup.as_raw_fd() as u32,
            attach_bpf_fd: program.as_raw_fd() as u32,
            attach_type: ATTACH_TYPE_CGROUP_DEVICE,
            attach_flags,
            replace_bpf_fd: 0,
        }
    }
}

/// bpf(2) with attributes that the kernel only reads.
///
/// # Safety
/// `T` must be a prefix of `union bpf_attr` as `command` uses it, without padding, and every pointer in it
/// must be valid for what `command` does with it.
unsafe fn bpf<T>(command: libc::c_int, attributes: &T) -> io::Result<i32> {
    // SAFETY: the address and size are those of a live `T`; the caller answers for what is in it.
    let result =
        unsafe { libc::syscall(libc::SYS_bpf, command, &raw const *attributes, size_of::<T>()) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result as i32) }
}

/// bpf(2) with attributes that the kernel also writes to.
///
/// # Safety
/// As [`bpf`].
unsafe fn bpf_mut<T>(command: libc::c_int, attributes: &mut T) -> io::Result<i32> {
    // SAFETY: the address and size are those of a live, exclusively borrowed `T`; the caller answers for
    // what is in it.
    let result =
        unsafe { libc::syscall(libc::SYS_bpf, command, &raw mut *attributes, size_of::<T>()) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result as i32) }
}
