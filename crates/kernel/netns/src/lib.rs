//! Network namespaces, veths, bridges and the nftables table.
