//! The launcher and the shim: one small process per container that owns it.
//!
//! ```text
//!   daemon ──SEQPACKET: one byte + descriptors──► launcher            (launcher.rs)
//!     │                                              │ fork, no exec
//!     │  memfd: what to run ────────────────────────►│
//!     │◄── reply socket: Started | Failed ───────── shim              (start.rs, shim.rs)
//!     │                                              │ clone3
//!     └── state_dir/shim.sock: attach, exec, wait ─► shim ─► container init
//! ```
//!
//! - [`protocol`]: every message and file; [`frame`]: how they lie on a socket.
//! - [`client`]: the daemon's side: [`client::Launcher`], [`client::connect`].
//! - [`launcher_main`]: what the binary becomes when its `argv[0]` is [`LAUNCHER_ARGV0`].
//!
//! Invariants: one thread, no tokio; the launcher never reads a request, so that nothing of one container
//! (its environment, its descriptors) can reach the next; a shim needs neither daemon nor launcher once it
//! runs; every descriptor is close-on-exec.

pub mod client;
mod clock;
mod connection;
mod ending;
pub mod frame;
mod launcher;
mod line;
mod log;
mod outbox;
pub mod protocol;
mod release;
mod request;
mod shim;
mod start;
mod state;
mod streams;
mod unit;

pub use launcher::launcher_main;

/// The `argv[0]` that makes the binary a launcher.
pub const LAUNCHER_ARGV0: &str = "dhow-launcher";
