//! Network namespaces, veths, bridges and the nftables table.

mod address;

pub use address::{AddressError, Cidr, Mac};
