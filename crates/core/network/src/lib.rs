//! Networks, addresses, ports and the pool of warm namespaces.
//!
//! One [`Network`] is the default bridge network of one daemon. It owns a bridge, the nftables table of
//! the same name, the addresses on it and the host's ports that are published, and keeps a few network
//! namespaces warm. What a container has of it is told to the caller, who keeps it and gives it back
//! after a restart: nothing here is durable but the bridge and the table themselves, in the kernel.
//!
//! - pure: `ipam` (addresses), `range` (a free range for a bridge), [`Resolvers`] (name servers), the
//!   sizes of `pool`;
//! - with the kernel: `setup` (bridge and table, new or found again), `ports` (reservations), `holder`
//!   (who has a port), `pool` (warm namespaces), `service` (all of it together).
//!
//! Invariants: no interface is deleted but the daemon's own bridge; nothing outside its bridge and table
//! is changed but net.ipv4.ip_forward, and that is said; several daemons, each with a bridge of its own,
//! live side by side.

mod claim;
mod error;
mod holder;
mod ipam;
mod pool;
mod ports;
mod range;
mod resolvers;
mod service;
mod setup;
mod types;

pub use dhow_netns::{Cidr, Mac};
pub use resolvers::Resolvers;
pub use service::Network;
pub use types::{
    AddressPool, AttachRequest, Attachment, Config, Endpoint, Info, Mode, Notice, PortRequest,
    Protocol, PublishedPort, Survivor,
};
