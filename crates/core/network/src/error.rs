//! Why the network service could not do what it was asked.

use std::net::IpAddr;

use dhow_error::{Classify, Kind};
use dhow_netns::Cidr;

use crate::holder::Holder;
use crate::types::Protocol;

/// Why the network service could not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// The kernel's side of it failed.
    #[error(transparent)]
    Netns(#[from] dhow_netns::Error),
    /// Another daemon has this bridge.
    #[error("bridge {bridge} belongs to another daemon that is running")]
    BridgeInUse { bridge: String },
    /// Whether another daemon has this bridge could not be found out.
    #[error("cannot take bridge {bridge} for this daemon")]
    Claim { bridge: String, source: std::io::Error },
    /// The bridge has another address than the one configured.
    #[error("bridge {bridge} has address {found}, not {wanted}")]
    OtherAddress { bridge: String, found: Cidr, wanted: Cidr },
    /// A bridge of somebody else's without an address.
    #[error("cannot use bridge {bridge}: it has no IPv4 address")]
    NoBridgeAddress { bridge: String },
    /// The configured address cannot be a bridge's.
    #[error(
        "cannot use {0} for a bridge: expected an IPv4 host address with a prefix of 8 to 30 bits"
    )]
    BridgeAddress(Cidr),
    /// Every pool overlaps networks that the machine has.
    #[error(
        "cannot find a free address range for bridge {bridge}: all pools overlap networks in use"
    )]
    NoRange { bridge: String },
    /// No address is left.
    #[error("cannot attach to the network: all addresses of {0} are in use")]
    NoAddress(Cidr),
    /// The wished address is another container's, the bridge's, or no host's.
    #[error("cannot give the container address {0}: it is in use")]
    AddressInUse(IpAddr),
    /// The wished address lies elsewhere.
    #[error("cannot give the container address {address}: it is not in {network}")]
    AddressOutside { address: IpAddr, network: Cidr },
    /// The wished hardware address is none.
    #[error(transparent)]
    Mac(dhow_netns::AddressError),
    /// A second attachment of one container.
    #[error("container {0} is attached to the network already")]
    Attached(String),
    /// Ports without a bridge.
    #[error("cannot publish ports of a container without a bridge network")]
    NoBridge,
    /// A port that somebody has.
    #[error("cannot publish port {port}{}: {}", of(*.protocol), in_use(.holder.as_ref()))]
    PortInUse {
        port: u16,
        protocol: Protocol,
        holder: Option<Holder>,
        /// A free port and the container's port, for the hint.
        instead: Option<(u16, u16)>,
    },
    /// Nothing free among the ports allowed.
    #[error("cannot publish port {container_port}{}: no free port among {first} to {last}", of(*.protocol))]
    NoPort { container_port: u16, protocol: Protocol, first: u16, last: u16 },
    /// An address the machine does not have.
    #[error("cannot publish port {port}{} on {address}: this machine has no such address", of(*.protocol))]
    NoHostAddress { port: u16, protocol: Protocol, address: IpAddr },
    /// IPv6 is not built.
    #[error("cannot publish on {0}: published ports are IPv4 only")]
    Ipv6(IpAddr),
    /// Any other failure to take a port.
    #[error("cannot publish port {port}{}", of(*.protocol))]
    Port { port: u16, protocol: Protocol, source: std::io::Error },
    /// The service has been closed.
    #[error("the network is closed")]
    Closed,
    /// The thread that did the work broke down.
    #[error("the network's work broke off")]
    BrokeOff,
}

impl Classify for Error {
    fn kind(&self) -> Kind {
        match self {
            Self::Netns(error) => error.kind(),
            Self::BridgeInUse { .. }
            | Self::OtherAddress { .. }
            | Self::AddressInUse(_)
            | Self::Attached(_)
            | Self::PortInUse { .. } => Kind::Conflict,
            Self::NoBridgeAddress { .. }
            | Self::BridgeAddress(_)
            | Self::AddressOutside { .. }
            | Self::Mac(_)
            | Self::NoBridge
            | Self::NoHostAddress { .. } => Kind::Invalid,
            Self::NoRange { .. } | Self::NoAddress(_) | Self::NoPort { .. } => Kind::Exhausted,
            Self::Ipv6(_) => Kind::Unsupported,
            Self::Claim { .. } | Self::Port { .. } | Self::Closed | Self::BrokeOff => {
                Kind::Internal
            }
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            Self::Netns(error) => error.hint(),
            Self::BridgeInUse { .. } => {
                Some("give each daemon a bridge of its own with --bridge".to_owned())
            }
            Self::OtherAddress { bridge, found, .. } => Some(format!(
                "leave --bip out to keep {found}, or stop its containers and delete bridge {bridge}"
            )),
            Self::NoBridgeAddress { bridge } => {
                Some(format!("give {bridge} an address, or choose another name with --bridge"))
            }
            Self::BridgeAddress(_) => Some("an example is --bip 10.1.0.1/16".to_owned()),
            Self::NoRange { .. } => {
                Some("name a free range with --bip or --default-address-pool".to_owned())
            }
            Self::NoAddress(_) => {
                Some("remove containers, or choose a larger range with --bip".to_owned())
            }
            Self::PortInUse { instead: Some((host, container)), protocol, .. } => {
                Some(format!("choose another with -p {host}:{container}{}", of(*protocol)))
            }
            _ => None,
        }
    }
}

/// TCP goes without saying.
fn of(protocol: Protocol) -> &'static str {
    match protocol {
        Protocol::Tcp => "",
        Protocol::Udp => "/udp",
    }
}

fn in_use(holder: Option<&Holder>) -> String {
    match holder {
        Some(holder) => format!("address in use by {holder}"),
        None => "address in use".to_owned(),
    }
}
