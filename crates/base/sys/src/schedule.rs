//! How a process is scheduled: policy, I/O priority, memory policy; and its execution domain.
//!
//! All of it is the calling thread's and passes on to what it executes and forks, except where the kernel
//! says otherwise ([`Flags::RESET_ON_FORK`]).

use std::ops::BitOr;

use rustix::io::{Errno, Result};

use crate::process::check;

/// A scheduling policy (sched(7)).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Policy {
    /// The default: fair shares.
    #[default]
    Other,
    /// First in, first out, in real time.
    Fifo,
    /// Round robin, in real time.
    RoundRobin,
    /// As the default, for what computes.
    Batch,
    /// Only when nobody else runs.
    Idle,
    /// A share of time in each period.
    Deadline,
}

impl Policy {
    fn number(self) -> u32 {
        let number = match self {
            Self::Other => libc::SCHED_OTHER,
            Self::Fifo => libc::SCHED_FIFO,
            Self::RoundRobin => libc::SCHED_RR,
            Self::Batch => libc::SCHED_BATCH,
            Self::Idle => libc::SCHED_IDLE,
            Self::Deadline => libc::SCHED_DEADLINE,
        };
        number as u32
    }
}

/// Flags of a policy, with the kernel's SCHED_FLAG_* bits (sched_setattr(2)).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Flags(u64);

impl Flags {
    /// None.
    pub const NONE: Self = Self(0);
    /// Children begin with the default policy.
    pub const RESET_ON_FORK: Self = Self(libc::SCHED_FLAG_RESET_ON_FORK as u64);
    /// A deadline task may use time that others leave.
    pub const RECLAIM: Self = Self(libc::SCHED_FLAG_RECLAIM as u64);
    /// SIGXCPU tells of an overrun.
    pub const DEADLINE_OVERRUN: Self = Self(libc::SCHED_FLAG_DL_OVERRUN as u64);
    /// The policy stays as it is.
    pub const KEEP_POLICY: Self = Self(libc::SCHED_FLAG_KEEP_POLICY as u64);
    /// The parameters stay as they are.
    pub const KEEP_PARAMETERS: Self = Self(libc::SCHED_FLAG_KEEP_PARAMS as u64);

    /// Whether all of `other` are among these.
    pub fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// These without `other`.
    #[must_use]
    pub fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }
}

impl BitOr for Flags {
    type Output = Self;

    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

/// Everything that sched_setattr(2) takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Attributes {
    /// The policy.
    pub policy: Policy,
    /// Its flags.
    pub flags: Flags,
    /// -20 to 19, for the default and batch policies.
    pub nice: i32,
    /// 1 to 99, for the real-time policies.
    pub priority: u32,
    /// Nanoseconds in each period, for deadlines.
    pub runtime_ns: u64,
    /// Nanoseconds from the beginning of a period, for deadlines.
    pub deadline_ns: u64,
    /// Nanoseconds, for deadlines.
    pub period_ns: u64,
}

/// Schedules this thread so (sched_setattr(2)). Errors: EPERM without CAP_SYS_NICE, EINVAL for what makes
/// no sense together, EBUSY where no time is left for a deadline.
pub fn set(attributes: &Attributes) -> Result<()> {
    let raw = libc::sched_attr {
        size: size_of::<libc::sched_attr>() as u32,
        sched_policy: attributes.policy.number(),
        sched_flags: attributes.flags.0,
        sched_nice: attributes.nice,
        sched_priority: attributes.priority,
        sched_runtime: attributes.runtime_ns,
        sched_deadline: attributes.deadline_ns,
        sched_period: attributes.period_ns,
    };
    // SAFETY: the kernel reads a sched_attr of the size that it says itself, alive across the call.
    check(unsafe { libc::syscall(libc::SYS_sched_setattr, 0, std::ptr::from_ref(&raw), 0_u32) })
}

/// A class of I/O (ioprio_set(2)).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IoClass {
    /// Before all others.
    RealTime,
    /// The usual.
    BestEffort,
    /// When nobody else wants the disk.
    Idle,
}

/// Sets the I/O class and priority (0, the highest, to 7) of this thread. Errors: EPERM for the real-time
/// class without CAP_SYS_ADMIN or CAP_SYS_NICE, EINVAL for a priority that does not exist.
pub fn set_io_priority(class: IoClass, priority: u8) -> Result<()> {
    const IOPRIO_WHO_PROCESS: libc::c_int = 1;
    const IOPRIO_CLASS_SHIFT: u32 = 13;
    if priority > 7 {
        // Higher bits are hints since Linux 6.5, not errors.
        return Err(Errno::INVAL);
    }
    let class = match class {
        IoClass::RealTime => 1_u32,
        IoClass::BestEffort => 2,
        IoClass::Idle => 3,
    };
    let value = class << IOPRIO_CLASS_SHIFT | u32::from(priority);
    // SAFETY: ioprio_set takes three integers.
    check(unsafe { libc::syscall(libc::SYS_ioprio_set, IOPRIO_WHO_PROCESS, 0, value) })
}

/// Where memory comes from (set_mempolicy(2)).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MemoryMode {
    /// The node of the CPU.
    Default,
    /// These nodes only.
    Bind,
    /// These nodes in turn.
    Interleave,
    /// These nodes in turn, by their weights (Linux 6.9).
    WeightedInterleave,
    /// That node first.
    Preferred,
    /// Those nodes first (Linux 5.15).
    PreferredMany,
    /// The node of the CPU first.
    Local,
}

impl MemoryMode {
    fn number(self) -> i32 {
        match self {
            Self::Default => libc::MPOL_DEFAULT,
            Self::Bind => libc::MPOL_BIND,
            Self::Interleave => libc::MPOL_INTERLEAVE,
            // linux/mempolicy.h, where libc has no names.
            Self::WeightedInterleave => 6,
            Self::Preferred => libc::MPOL_PREFERRED,
            Self::PreferredMany => 5,
            Self::Local => libc::MPOL_LOCAL,
        }
    }
}

/// Flags of a memory policy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct MemoryFlags(i32);

impl MemoryFlags {
    /// None.
    pub const NONE: Self = Self(0);
    /// Pages move to where they are used.
    pub const NUMA_BALANCING: Self = Self(libc::MPOL_F_NUMA_BALANCING);
    /// Nodes are counted among those allowed.
    pub const RELATIVE_NODES: Self = Self(libc::MPOL_F_RELATIVE_NODES);
    /// Nodes stay what they are whatever becomes allowed.
    pub const STATIC_NODES: Self = Self(libc::MPOL_F_STATIC_NODES);
}

impl BitOr for MemoryFlags {
    type Output = Self;

    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

/// Sets this thread's memory policy; `nodes` is a bit a node, the lowest first.
pub fn set_memory_policy(mode: MemoryMode, flags: MemoryFlags, nodes: &[u64]) -> Result<()> {
    // The kernel takes one bit less than it is told.
    let most = if nodes.is_empty() { 0 } else { nodes.len() * 64 + 1 };
    let mask = if nodes.is_empty() { std::ptr::null() } else { nodes.as_ptr() };
    // SAFETY: the kernel reads as many bits as `nodes` has, rounded up to whole words, or nothing.
    check(unsafe { libc::syscall(libc::SYS_set_mempolicy, mode.number() | flags.0, mask, most) })
}

/// An execution domain (personality(2)).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Domain {
    /// The machine's own.
    Linux,
    /// uname(2) says a 32-bit machine.
    Linux32,
}

/// Sets this process's execution domain.
pub fn set_domain(domain: Domain) -> Result<()> {
    // PER_LINUX and PER_LINUX32 (linux/personality.h).
    let persona = match domain {
        Domain::Linux => 0_usize,
        Domain::Linux32 => 8,
    };
    // SAFETY: personality takes an integer.
    check(unsafe { libc::syscall(libc::SYS_personality, persona) })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// On a thread of its own: all of it is the thread's.
    fn apart(body: impl FnOnce() + Send + 'static) {
        std::thread::spawn(body).join().unwrap();
    }

    #[test]
    fn a_policy_is_taken_on() {
        apart(|| {
            set(&Attributes { policy: Policy::Batch, nice: 5, ..Attributes::default() }).unwrap();
            let stat = std::fs::read_to_string("/proc/thread-self/stat").unwrap();
            let fields: Vec<&str> = stat.rsplit_once(") ").unwrap().1.split(' ').collect();
            // proc_pid_stat(5): nice is field 19, policy 41; these begin with field 3.
            assert_eq!((fields[16], fields[38]), ("5", "3"));
            let wrong = Attributes { policy: Policy::Fifo, ..Attributes::default() };
            assert_eq!(set(&wrong), Err(Errno::INVAL));
        });
    }

    #[test]
    fn memory_policies_and_io_priorities() {
        apart(|| {
            set_memory_policy(MemoryMode::Bind, MemoryFlags::STATIC_NODES, &[1]).unwrap();
            set_memory_policy(MemoryMode::Default, MemoryFlags::NONE, &[]).unwrap();
            set_io_priority(IoClass::BestEffort, 6).unwrap();
            assert_eq!(set_io_priority(IoClass::BestEffort, 8), Err(Errno::INVAL));
        });
    }
}
