//! Networks, addresses, ports and the pool of warm namespaces.
