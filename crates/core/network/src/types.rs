//! What callers of the network service say and hear.
//!
//! Addresses are [`IpAddr`] throughout, so that IPv6 changes no type; today networks are IPv4 only and
//! say so. Everything an endpoint needs after a restart of the daemon is in [`Endpoint`] and
//! [`PublishedPort`]: the engine keeps both with its container and gives them back by
//! [`Network::restore`](crate::Network::restore).

use std::fmt;
use std::net::{IpAddr, Ipv4Addr};
use std::ops::RangeInclusive;
use std::os::fd::OwnedFd;

use dhow_netns::{Cidr, Transport};
use dhow_spec::ContainerId;
use serde::{Deserialize, Serialize};

/// How a daemon's network is set up.
#[derive(Debug, Clone)]
pub struct Config {
    /// The bridge's name, at most 15 bytes; also the name of the nftables table.
    pub bridge: String,
    /// The bridge's address and network (`--bip`). Left out, a bridge found again keeps its own, and a
    /// new one takes a free range from `pools`.
    pub address: Option<Cidr>,
    /// Where free ranges are taken from (`--default-address-pool`).
    pub pools: Vec<AddressPool>,
    /// Bytes in a packet on the bridge and in the containers; left out, the kernel's 1500.
    pub mtu: Option<u32>,
    /// How many namespaces of each kind wait for containers when nothing is going on; the pool grows by
    /// itself up to four times this when containers come faster than it refills.
    pub warm: usize,
}

impl Config {
    /// The default set-up on a bridge of this name: a free range, four warm namespaces.
    pub fn new(bridge: impl Into<String>) -> Self {
        Self {
            bridge: bridge.into(),
            address: None,
            pools: AddressPool::defaults(),
            mtu: None,
            warm: 4,
        }
    }
}

/// A range of addresses from which networks of one size are cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AddressPool {
    /// The whole range.
    pub base: Cidr,
    /// The prefix length of each network cut from it.
    pub prefix_len: u8,
}

impl AddressPool {
    /// The ranges used when none are configured: the private ranges of RFC 1918 that people expect
    /// containers in, 172.17.0.0/16 to 172.31.0.0/16, then 192.168.0.0/16 in parts of /20.
    pub fn defaults() -> Vec<Self> {
        let pool = |a, b, base_len, prefix_len| {
            let address = IpAddr::V4(Ipv4Addr::new(a, b, 0, 0));
            Cidr::new(address, base_len).ok().map(|base| Self { base, prefix_len })
        };
        (17..=31)
            .map(|second| pool(172, second, 16, 16))
            .chain([pool(192, 168, 16, 20)])
            .flatten()
            .collect()
    }
}

/// What kind of network a container gets. Host networking and another container's network need nothing
/// from here: the engine passes no namespace, or that container's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// A namespace with an interface on the bridge.
    Bridge,
    /// A namespace with nothing but loopback.
    None,
}

/// A transport whose ports can be published.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
}

impl From<Protocol> for Transport {
    fn from(protocol: Protocol) -> Self {
        match protocol {
            Protocol::Tcp => Self::Tcp,
            Protocol::Udp => Self::Udp,
        }
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
        })
    }
}

/// A wish to publish one port of a container on the host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PortRequest {
    /// The transport.
    pub protocol: Protocol,
    /// The host's address to publish on; left out, all IPv4 addresses.
    pub host_ip: Option<IpAddr>,
    /// The host's ports of which the first free one is taken; left out, a free port of the kernel's
    /// ephemeral range.
    pub host_ports: Option<RangeInclusive<u16>>,
    /// The container's port.
    pub container_port: u16,
}

/// A port of a container as it is published on the host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct PublishedPort {
    /// The transport.
    pub protocol: Protocol,
    /// The host's address; `0.0.0.0` means all of its IPv4 addresses.
    pub host_ip: IpAddr,
    /// The host's port.
    pub host_port: u16,
    /// The container's port.
    pub container_port: u16,
}

/// What a container that starts asks for.
#[derive(Debug, Clone)]
pub struct AttachRequest {
    /// The container. A second attachment under the same id is a conflict.
    pub id: ContainerId,
    /// The kind of network.
    pub mode: Mode,
    /// The ports to publish; must be empty unless the mode is [`Mode::Bridge`].
    pub ports: Vec<PortRequest>,
    /// A wished address; left out, a free one.
    pub address: Option<IpAddr>,
    /// A wished hardware address (`02:42:ac:11:00:02`); left out, one that follows from the address.
    pub mac: Option<String>,
}

/// A container's place on a network.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Endpoint {
    /// The network's name as people see it: `bridge`.
    pub network: String,
    /// The container's address.
    pub address: IpAddr,
    /// The length of the network's prefix in bits.
    pub prefix_len: u8,
    /// Where packets for elsewhere go: the bridge's address.
    pub gateway: IpAddr,
    /// The hardware address, as `02:42:ac:11:00:02`.
    pub mac: String,
}

/// A container's network, ready to be joined.
#[derive(Debug)]
pub struct Attachment {
    /// The namespace. It lives as long as a descriptor or a process holds it; when the last one goes,
    /// the kernel removes it together with its interfaces.
    pub netns: OwnedFd,
    /// The place on the bridge; none in [`Mode::None`].
    pub endpoint: Option<Endpoint>,
    /// The ports as published, in the order of the request.
    pub ports: Vec<PublishedPort>,
}

/// A container that survived the daemon, given back after a restart.
#[derive(Debug, Clone)]
pub struct Survivor {
    /// The container.
    pub id: ContainerId,
    /// Its place on the bridge, as [`Attachment`] told it.
    pub endpoint: Option<Endpoint>,
    /// Its published ports, as [`Attachment`] told them.
    pub ports: Vec<PublishedPort>,
}

/// The network as it is set up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Info {
    /// The bridge's name.
    pub bridge: String,
    /// The bridge's address and network.
    pub address: Cidr,
    /// Bytes in a packet.
    pub mtu: u32,
}

/// Something the user should hear once, on one line, lower case: a changed system setting, a port that
/// could not be taken back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Notice(pub String);

impl fmt::Display for Notice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
