//! Links, addresses and routes: rtnetlink(7).
//!
//! The writers append requests to [`Messages`]; several go to the kernel with one system call. The
//! readers ask a [`Socket`] and give values back.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::{AsRawFd, BorrowedFd};

use super::message::{Attributes, Body, Messages, read_str, read_u32};
use super::{Error, Socket};

/// Bytes of `struct ifinfomsg`.
const LINK_HEADER: usize = 16;
/// Bytes of `struct ifaddrmsg`.
const ADDRESS_HEADER: usize = 8;
/// Bytes of `struct rtmsg`.
const ROUTE_HEADER: usize = 12;

// linux/if_link.h and linux/veth.h, where libc has no name for them.
const VETH_INFO_PEER: u16 = 1;
const IFLA_INET6_ADDR_GEN_MODE: u16 = 8;
const IN6_ADDR_GEN_MODE_NONE: u8 = 1;
const IFLA_BRPORT_MODE: u16 = 4;
const IF_OPER_UP: u8 = 6;

/// The far end of a veth pair.
#[derive(Debug, Clone, Copy)]
pub struct Peer<'a> {
    /// Its name.
    pub name: &'a str,
    /// The network namespace in which it appears.
    pub netns: BorrowedFd<'a>,
}

/// A link as a request names it.
#[derive(Debug, Clone, Copy)]
pub enum Target<'a> {
    /// By interface index.
    Index(u32),
    /// By name.
    Name(&'a str),
}

/// What shall become of a link. What is none or false stays as it is.
#[derive(Debug, Clone, Copy, Default)]
pub struct LinkChange<'a> {
    /// Administratively up or down.
    pub up: Option<bool>,
    /// The hardware address.
    pub mac: Option<[u8; 6]>,
    /// Bytes in a packet.
    pub mtu: Option<u32>,
    /// The bridge it becomes a port of, by index; 0 leaves the bridge.
    pub master: Option<u32>,
    /// A new name.
    pub name: Option<&'a str>,
    /// A note that people and later programs see (`ip link` shows it as `alias`).
    pub alias: Option<&'a str>,
    /// The network namespace it moves to.
    pub netns: Option<BorrowedFd<'a>>,
}

/// A link as the kernel reports it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Link {
    /// The interface index.
    pub index: u32,
    /// The name.
    pub name: String,
    /// The driver's name: `bridge`, `veth`; empty for hardware.
    pub kind: String,
    /// The alias; empty if there is none.
    pub alias: String,
    /// Whether it is administratively up.
    pub up: bool,
    /// Whether packets pass: up, with a carrier, and the kernel done with that news (RFC 2863's
    /// `ifOperStatus` is up).
    pub operational: bool,
    /// The hardware address, if it is six bytes long.
    pub mac: Option<[u8; 6]>,
    /// The bridge it is a port of, by index.
    pub master: Option<u32>,
    /// Bytes in a packet.
    pub mtu: u32,
}

/// An address of an interface.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Address {
    /// The interface's index.
    pub index: u32,
    /// The address.
    pub address: IpAddr,
    /// The length of its network's prefix in bits.
    pub prefix_len: u8,
}

/// A route of any table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Route {
    /// The network it leads to; a prefix length of 0 is a default route.
    pub destination: IpAddr,
    /// The length of the network's prefix in bits.
    pub prefix_len: u8,
    /// The interface it leaves by, where it has one.
    pub index: Option<u32>,
}

/// Creates a veth pair: `name` here, the peer in its namespace. Both ends are down.
pub fn create_veth(messages: &mut Messages, name: &str, mtu: Option<u32>, peer: &Peer<'_>) {
    let what = format!("create interface {name}");
    messages.push(what, libc::RTM_NEWLINK, CREATE, |body| {
        link_header(body, Target::Name(name), libc::AF_UNSPEC, None);
        put_mtu(body, mtu);
        body.nest(libc::IFLA_LINKINFO, |body| {
            body.put_str(libc::IFLA_INFO_KIND, "veth");
            body.nest(libc::IFLA_INFO_DATA, |body| {
                body.nest(VETH_INFO_PEER, |body| {
                    link_header(body, Target::Name(peer.name), libc::AF_UNSPEC, None);
                    put_mtu(body, mtu);
                    body.put_u32(libc::IFLA_NET_NS_FD, peer.netns.as_raw_fd() as u32);
                });
            });
        });
    });
}

/// Creates a bridge. Its hardware address is fixed, so that it does not change with its ports.
pub fn create_bridge(messages: &mut Messages, name: &str, mac: [u8; 6], mtu: Option<u32>) {
    messages.push(format!("create bridge {name}"), libc::RTM_NEWLINK, CREATE, |body| {
        link_header(body, Target::Name(name), libc::AF_UNSPEC, None);
        body.put(libc::IFLA_ADDRESS, &mac);
        put_mtu(body, mtu);
        body.nest(libc::IFLA_LINKINFO, |body| body.put_str(libc::IFLA_INFO_KIND, "bridge"));
    });
}

/// Changes a link.
pub fn change_link(messages: &mut Messages, target: Target<'_>, change: &LinkChange<'_>) {
    messages.push(format!("set up interface {target}"), libc::RTM_NEWLINK, ACK, |body| {
        link_header(body, target, libc::AF_UNSPEC, change.up);
        if let (Some(name), Target::Index(_)) = (change.name, target) {
            body.put_str(libc::IFLA_IFNAME, name);
        }
        if let Some(mac) = change.mac {
            body.put(libc::IFLA_ADDRESS, &mac);
        }
        put_mtu(body, change.mtu);
        if let Some(master) = change.master {
            body.put_u32(libc::IFLA_MASTER, master);
        }
        if let Some(alias) = change.alias {
            body.put_str(libc::IFLA_IFALIAS, alias);
        }
        if let Some(netns) = change.netns {
            body.put_u32(libc::IFLA_NET_NS_FD, netns.as_raw_fd() as u32);
        }
    });
}

/// Gives a link no IPv6 address of its own making (`addr_gen_mode none`). For a link that is down: one
/// that is up has its address already, and in one request with "up" the kernel would come to this last.
/// A kernel without IPv6 refuses it with EAFNOSUPPORT.
pub fn disable_ipv6_link_local(messages: &mut Messages, target: Target<'_>) {
    messages.push(format!("set up interface {target}"), libc::RTM_NEWLINK, ACK, |body| {
        link_header(body, target, libc::AF_UNSPEC, None);
        body.nest(libc::IFLA_AF_SPEC, |body| {
            body.nest(libc::AF_INET6 as u16, |body| {
                body.put_u8(IFLA_INET6_ADDR_GEN_MODE, IN6_ADDR_GEN_MODE_NONE);
            });
        });
    });
}

/// Lets a bridge send a packet back out of the port it came in by (hairpin mode), so that a container
/// reaches its own published port also where br_netfilter rewrites bridged packets.
pub fn set_hairpin(messages: &mut Messages, target: Target<'_>) {
    messages.push(format!("set up bridge port {target}"), libc::RTM_NEWLINK, ACK, |body| {
        link_header(body, target, libc::AF_UNSPEC, None);
        body.nest(libc::IFLA_LINKINFO, |body| {
            body.put_str(libc::IFLA_INFO_SLAVE_KIND, "bridge");
            body.nest(libc::IFLA_INFO_SLAVE_DATA, |body| body.put_u8(IFLA_BRPORT_MODE, 1));
        });
    });
}

/// Deletes a link. Not for veths: the end of their namespace takes them in the background.
pub fn delete_link(messages: &mut Messages, target: Target<'_>) {
    messages.push(format!("delete interface {target}"), libc::RTM_DELLINK, ACK, |body| {
        link_header(body, target, libc::AF_UNSPEC, None);
    });
}

/// Gives an interface an address. IPv6 skips duplicate address detection (`nodad`), IPv4 has none.
pub fn add_address(messages: &mut Messages, index: u32, address: IpAddr, prefix_len: u8) {
    let what = format!("add address {address}/{prefix_len}");
    messages.push(what, libc::RTM_NEWADDR, CREATE, |body| {
        let [a, b, c, d] = index.to_ne_bytes();
        let flags = if address.is_ipv6() { libc::IFA_F_NODAD as u8 } else { 0 };
        body.raw(&[family(address), prefix_len, flags, libc::RT_SCOPE_UNIVERSE, a, b, c, d]);
        put_address(body, libc::IFA_LOCAL, address);
        put_address(body, libc::IFA_ADDRESS, address);
        if let (IpAddr::V4(address), true) = (address, prefix_len < 31) {
            let broadcast = u32::from(address) | (u32::MAX >> prefix_len.min(31));
            put_address(body, libc::IFA_BROADCAST, IpAddr::V4(broadcast.into()));
        }
    });
}

/// Sends what has no better way to `gateway`.
pub fn add_default_route(messages: &mut Messages, index: u32, gateway: IpAddr) {
    let what = format!("add default route by {gateway}");
    messages.push(what, libc::RTM_NEWROUTE, CREATE, |body| {
        let protocol = libc::RTPROT_BOOT;
        let scope = libc::RT_SCOPE_UNIVERSE;
        let header =
            [family(gateway), 0, 0, 0, libc::RT_TABLE_MAIN, protocol, scope, libc::RTN_UNICAST];
        body.raw(&header);
        body.raw(&[0; 4]);
        put_address(body, libc::RTA_GATEWAY, gateway);
        body.put_u32(libc::RTA_OIF, index);
    });
}

/// The link of this name, if there is one.
pub fn link(socket: &mut Socket, name: &str) -> Result<Option<Link>, Error> {
    let what = format!("look for interface {name}");
    let fill = |body: &mut Body<'_>| {
        link_header(body, Target::Name(name), libc::AF_UNSPEC, None);
    };
    socket.get(what, libc::RTM_GETLINK, fill, read_link)
}

/// All links.
pub fn links(socket: &mut Socket) -> Result<Vec<Link>, Error> {
    let fill = |body: &mut Body<'_>| body.raw(&[0; LINK_HEADER]);
    socket.dump("list interfaces", libc::RTM_GETLINK, fill, |links: &mut Vec<_>, payload| {
        links.extend(read_link(payload));
    })
}

/// All addresses of all interfaces.
pub fn addresses(socket: &mut Socket) -> Result<Vec<Address>, Error> {
    let fill = |body: &mut Body<'_>| body.raw(&[0; ADDRESS_HEADER]);
    socket.dump("list addresses", libc::RTM_GETADDR, fill, |addresses: &mut Vec<_>, payload| {
        addresses.extend(read_address(payload));
    })
}

/// All unicast routes of all tables, IPv4 and IPv6.
pub fn routes(socket: &mut Socket) -> Result<Vec<Route>, Error> {
    let fill = |body: &mut Body<'_>| body.raw(&[0; ROUTE_HEADER]);
    socket.dump("list routes", libc::RTM_GETROUTE, fill, |routes: &mut Vec<_>, payload| {
        routes.extend(read_route(payload));
    })
}

const ACK: u16 = (libc::NLM_F_REQUEST | libc::NLM_F_ACK) as u16;
const CREATE: u16 = ACK | (libc::NLM_F_CREATE | libc::NLM_F_EXCL) as u16;

/// Writes a `struct ifinfomsg` and, for a link named by its name, that name.
fn link_header(body: &mut Body<'_>, target: Target<'_>, family: libc::c_int, up: Option<bool>) {
    let mut header = [0_u8; LINK_HEADER];
    header[0] = family as u8;
    if let Target::Index(index) = target {
        header[4..8].copy_from_slice(&index.to_ne_bytes());
    }
    if let Some(up) = up {
        let flag = libc::IFF_UP as u32;
        header[8..12].copy_from_slice(&(if up { flag } else { 0 }).to_ne_bytes());
        header[12..16].copy_from_slice(&flag.to_ne_bytes());
    }
    body.raw(&header);
    if let Target::Name(name) = target {
        body.put_str(libc::IFLA_IFNAME, name);
    }
}

fn put_mtu(body: &mut Body<'_>, mtu: Option<u32>) {
    if let Some(mtu) = mtu {
        body.put_u32(libc::IFLA_MTU, mtu);
    }
}

fn put_address(body: &mut Body<'_>, kind: u16, address: IpAddr) {
    match address {
        IpAddr::V4(address) => body.put(kind, &address.octets()),
        IpAddr::V6(address) => body.put(kind, &address.octets()),
    }
}

fn family(address: IpAddr) -> u8 {
    (if address.is_ipv4() { libc::AF_INET } else { libc::AF_INET6 }) as u8
}

fn read_link(payload: &[u8]) -> Option<Link> {
    let flags = read_u32(payload, 8)?;
    let mut link = Link { index: read_u32(payload, 4)?, ..Link::default() };
    link.up = flags & libc::IFF_UP as u32 != 0;
    for (kind, payload) in Attributes::after(payload, LINK_HEADER) {
        match kind {
            libc::IFLA_IFNAME => link.name = read_str(payload),
            libc::IFLA_IFALIAS => link.alias = read_str(payload),
            libc::IFLA_ADDRESS => link.mac = payload.try_into().ok(),
            libc::IFLA_MASTER => link.master = read_u32(payload, 0),
            libc::IFLA_OPERSTATE => link.operational = payload == [IF_OPER_UP],
            libc::IFLA_MTU => link.mtu = read_u32(payload, 0).unwrap_or(0),
            libc::IFLA_LINKINFO => {
                let kind = Attributes::new(payload).find(libc::IFLA_INFO_KIND);
                link.kind = kind.map(read_str).unwrap_or_default();
            }
            _ => {}
        }
    }
    Some(link)
}

fn read_address(payload: &[u8]) -> Option<Address> {
    let (family, prefix_len) = (*payload.first()?, *payload.get(1)?);
    let index = read_u32(payload, 4)?;
    let attributes = Attributes::after(payload, ADDRESS_HEADER);
    // IFA_ADDRESS is the other side on a point-to-point link; IFA_LOCAL is missing for IPv6.
    let local = attributes.clone().find(libc::IFA_LOCAL);
    let address = read_ip(family, local.or_else(|| attributes.find(libc::IFA_ADDRESS))?)?;
    Some(Address { index, address, prefix_len })
}

fn read_route(payload: &[u8]) -> Option<Route> {
    let (family, prefix_len) = (*payload.first()?, *payload.get(1)?);
    if *payload.get(7)? != libc::RTN_UNICAST {
        return None;
    }
    let attributes = Attributes::after(payload, ROUTE_HEADER);
    let index = attributes.clone().find(libc::RTA_OIF).and_then(|payload| read_u32(payload, 0));
    let destination = match attributes.find(libc::RTA_DST) {
        Some(payload) => read_ip(family, payload)?,
        None if i32::from(family) == libc::AF_INET => Ipv4Addr::UNSPECIFIED.into(),
        None if i32::from(family) == libc::AF_INET6 => Ipv6Addr::UNSPECIFIED.into(),
        None => return None,
    };
    Some(Route { destination, prefix_len, index })
}

fn read_ip(family: u8, payload: &[u8]) -> Option<IpAddr> {
    match i32::from(family) {
        libc::AF_INET => <[u8; 4]>::try_from(payload).ok().map(IpAddr::from),
        libc::AF_INET6 => <[u8; 16]>::try_from(payload).ok().map(IpAddr::from),
        _ => None,
    }
}

impl std::fmt::Display for Target<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Index(index) => write!(f, "#{index}"),
            Self::Name(name) => f.write_str(name),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::Family;
    use super::*;

    #[test]
    fn loopback_is_listed() {
        let mut socket = Socket::open(Family::Route).unwrap();
        let lo = link(&mut socket, "lo").unwrap().unwrap();
        assert!(links(&mut socket).unwrap().contains(&lo));
        let address =
            Address { index: lo.index, address: Ipv4Addr::LOCALHOST.into(), prefix_len: 8 };
        if lo.up {
            assert!(addresses(&mut socket).unwrap().contains(&address));
        }
        assert_eq!(link(&mut socket, "nosuch0").unwrap(), None);
        routes(&mut socket).unwrap();
    }

    #[test]
    fn a_refusal_names_the_deed() {
        let mut socket = Socket::open(Family::Route).unwrap();
        let mut messages = Messages::new();
        delete_link(&mut messages, Target::Name("nosuch0"));
        let error = socket.send(&mut messages).unwrap_err();
        assert_eq!(error.to_string(), "cannot delete interface nosuch0");
        assert_eq!(error.refusal(), Some(rustix::io::Errno::NODEV));
    }

    proptest! {
        #[test]
        fn reading_anything_ends(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = (read_link(&bytes), read_address(&bytes), read_route(&bytes));
        }
    }
}
