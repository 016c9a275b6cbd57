//! Control groups: v1, hybrid and v2 behind one type.
//!
//! A [`Layout`] says where this machine mounts which controller. From it comes a [`Cgroup`]: one path
//! ("/dhow/<id>") that means a directory in every mounted hierarchy. Controllers are looked up one by
//! one, so a machine with memory on v1 and pids on v2 works like any other.
//!
//! The life of a container's cgroup, in the order that costs least:
//!
//! ```text
//!   place ─► create ─► apply ─► entry ─► clone3(CLONE_INTO_CGROUP = entry.directory())
//!                                          └ child: entry.enter(), then unshare(CLONE_NEWCGROUP), then exec
//!   kill ─► oom_kills ─► destroy
//! ```
//!
//! Why [`Entry`] and not [`Cgroup::add`]: moving another process by its pid takes the kernel's global
//! `cgroup_threadgroup_rwsem` for writing, which waits for an RCU grace period (6 to 11 ms on an idle
//! Linux 6.18). A single-threaded process that writes `0` into v1's `tasks`, or that is born into a
//! cgroup2 directory by clone3, needs no such lock (0.2 ms for nine hierarchies).
//!
//! Invariants: a path never leaves its hierarchy (no `..`); a directory that existed before is used as
//! it is; nothing outside the given path is written to, but for what lets its ancestors hand their
//! controllers down (`cgroup.subtree_control` on cgroup2, a cpuset's `cgroup.clone_children` on v1).
//! Limits asked for and not possible are errors, never silently dropped; the documented exceptions are
//! those that Docker discards too (see [`Cgroup::apply`]).
//!
//! References: cgroups(7), the kernel's admin-guide/cgroup-v1 and cgroup-v2.

mod below;
mod control;
mod controller;
mod cpu;
mod delegate;
pub mod device;
mod error;
mod group;
mod layout;
mod life;
mod limit;
mod oom;
mod place;
mod report;
mod resources;
mod stats;
mod update;
mod v1;
mod v2;

pub use controller::{Controller, Controllers};
pub use error::CgroupError;
pub use group::{Cgroup, Entry};
pub use layout::{Layout, Mode};
pub use oom::OomWatch;
pub use report::{
    CpuUse, CpusetUse, HugePageUse, IoEntry, IoUse, MemoryCounter, MemoryUse, Pressure, RdmaUse,
    Report, Stall,
};
pub use stats::{Io, Stats, Throttling};

/// A result with this crate's error.
pub type Result<T, E = CgroupError> = std::result::Result<T, E>;
