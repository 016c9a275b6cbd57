//! Network namespaces, veths, bridges and the nftables table: what Linux does for container networks.
//!
//! ```text
//!   host's namespace                                container's namespace
//!   ┌───────────────────────────────────────┐      ┌──────────────────────────┐
//!   │ eth0 ── forward, nat ── bridge ── vethX ══════ eth0  lo                  │
//!   │         table <bridge>   10.1.0.1/16  │      │ 10.1.0.2/16, by 10.1.0.1 │
//!   └───────────────────────────────────────┘      └──────────────────────────┘
//! ```
//!
//! Synchronous: every call is a few netlink messages. Sockets are handed in, so that the caller decides
//! in which namespace "the host" is, and many daemons with a bridge each live side by side. Nothing is
//! touched but namespaces made here, the bridge and table of the name given, and settings of that bridge
//! ([`enable_forwarding`] is the one exception, and the caller says it aloud).

mod address;
mod bridge;
mod error;
mod flows;
mod namespace;
mod sysctl;
mod table;

pub use address::{AddressError, Cidr, Mac};
pub use bridge::{Bridge, enable_forwarding, taken_networks};
pub use error::{Error, Result};
pub use flows::forget_exchanges;
pub use namespace::{INTERFACE, Interface, Namespace, current};
pub use table::{Publication, Table, Transport};
