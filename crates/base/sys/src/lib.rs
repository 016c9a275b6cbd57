//! Every system call, ioctl and netlink message, and all `unsafe` code of dhow.
//!
//! rustix is the first choice: its safe calls are re-exported as [`rustix`]. What it lacks (clone3,
//! mount_setattr, the netlink families, seccomp, BPF) stands here, one file per kernel interface, each
//! `unsafe` block with its own argument. Higher floors never see a raw descriptor number or pointer.

pub use rustix;

pub mod beneath;
pub mod bpf;
pub mod caps;
pub mod event;
pub mod fdpass;
pub mod mount;
pub mod namespace;
pub mod netlink;
pub mod process;
pub mod schedule;
pub mod seal;
pub mod seccomp;
pub mod tty;
pub mod userns;
