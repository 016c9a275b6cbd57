//! Netlink: routes, links, addresses, nftables.
