//! Networks, and what a container has on one of them.

use std::collections::BTreeMap;

wire!("PascalCase" {
    /// An element of `GET /networks`, and `GET /networks/{id}`.
    pub struct Network {
        /// Its name.
        pub name: String,
        /// Its id.
        pub id: String,
        /// When it was made, RFC 3339.
        pub created: String,
        /// `local`.
        pub scope: String,
        /// `bridge`, `host`, `null`.
        pub driver: String,
        /// IPv4 is on.
        #[serde(rename = "EnableIPv4")]
        pub enable_ipv4: bool,
        /// IPv6 is on.
        #[serde(rename = "EnableIPv6")]
        pub enable_ipv6: bool,
        /// Its addresses.
        #[serde(rename = "IPAM")]
        pub ipam: Ipam,
        /// Not reachable from outside.
        pub internal: bool,
        /// Containers may join it by hand (swarm).
        pub attachable: bool,
        /// Swarm's routing mesh.
        pub ingress: bool,
        /// Network that this one takes its settings from.
        pub config_from: ConfigFrom,
        /// It only holds settings for others.
        pub config_only: bool,
        /// Containers on it, by full id.
        pub containers: BTreeMap<String, NetworkContainer>,
        /// Driver options.
        pub options: BTreeMap<String, String>,
        /// Labels.
        pub labels: BTreeMap<String, String>,
    }

    /// Where a network's settings come from.
    pub struct ConfigFrom {
        /// Name of that network.
        pub network: String,
    }

    /// A network's address management.
    pub struct Ipam {
        /// `default`.
        pub driver: String,
        /// Driver options.
        #[serde(serialize_with = "crate::null::when_empty")]
        pub options: BTreeMap<String, String>,
        /// Address ranges.
        pub config: Vec<IpamRange>,
    }

    /// One address range.
    pub struct IpamRange {
        /// In CIDR form.
        #[serde(skip_serializing_if = "String::is_empty")]
        pub subnet: String,
        /// Part of it that containers get addresses from.
        #[serde(rename = "IPRange", skip_serializing_if = "String::is_empty")]
        pub ip_range: String,
        /// The host's address in it.
        #[serde(skip_serializing_if = "String::is_empty")]
        pub gateway: String,
    }

    /// A container on a network.
    pub struct NetworkContainer {
        /// The container's name.
        pub name: String,
        /// Id of its endpoint.
        #[serde(rename = "EndpointID")]
        pub endpoint_id: String,
        /// Its Ethernet address.
        pub mac_address: String,
        /// Its address in CIDR form.
        #[serde(rename = "IPv4Address")]
        pub ipv4_address: String,
        /// Its IPv6 address in CIDR form.
        #[serde(rename = "IPv6Address")]
        pub ipv6_address: String,
    }

    /// What a container asks of a network, and what it has there.
    pub struct EndpointSettings {
        /// Addresses asked for.
        #[serde(rename = "IPAMConfig")]
        pub ipam_config: Option<EndpointIpam>,
        /// Legacy links.
        #[serde(serialize_with = "crate::null::when_empty")]
        pub links: Vec<String>,
        /// Further names on this network.
        #[serde(serialize_with = "crate::null::when_empty")]
        pub aliases: Vec<String>,
        /// Ethernet address asked for or had.
        pub mac_address: String,
        /// Driver options.
        #[serde(serialize_with = "crate::null::when_empty")]
        pub driver_opts: BTreeMap<String, String>,
        /// Id of the network.
        #[serde(rename = "NetworkID")]
        pub network_id: String,
        /// Id of the endpoint.
        #[serde(rename = "EndpointID")]
        pub endpoint_id: String,
        /// The way out.
        pub gateway: String,
        /// Address had.
        #[serde(rename = "IPAddress")]
        pub ip_address: String,
        /// Length of the network's prefix, in bits.
        #[serde(rename = "IPPrefixLen")]
        pub ip_prefix_len: u8,
        /// The IPv6 way out.
        #[serde(rename = "IPv6Gateway")]
        pub ipv6_gateway: String,
        /// IPv6 address had.
        #[serde(rename = "GlobalIPv6Address")]
        pub global_ipv6_address: String,
        /// Length of the IPv6 prefix, in bits.
        #[serde(rename = "GlobalIPv6PrefixLen")]
        pub global_ipv6_prefix_len: u8,
        /// Names under which it resolves.
        #[serde(rename = "DNSNames", serialize_with = "crate::null::when_empty")]
        pub dns_names: Vec<String>,
    }

    /// Addresses that a container asks for.
    pub struct EndpointIpam {
        /// An IPv4 address.
        #[serde(rename = "IPv4Address", skip_serializing_if = "String::is_empty")]
        pub ipv4_address: String,
        /// An IPv6 address.
        #[serde(rename = "IPv6Address", skip_serializing_if = "String::is_empty")]
        pub ipv6_address: String,
        /// Link-local addresses.
        #[serde(rename = "LinkLocalIPs", skip_serializing_if = "Vec::is_empty")]
        pub link_local_ips: Vec<String>,
    }
});
