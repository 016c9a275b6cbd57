//! The nftables table of one bridge: outbound masquerading and published ports.
//!
//! ```text
//! table ip <bridge>
//!   map published     protocol . port           → container . port    on all of the host's addresses
//!   map published_at  address . protocol . port → container . port    on one of them
//!
//!   guard        prerouting, raw     from the bridge to 127.0.0.0/8: drop (before connection tracking
//!                                    turns answers to 127.0.0.1 back)
//!   prerouting   nat                 to one of the host's addresses but 127.0.0.0/8: publish
//!   output       nat                 to one of the host's addresses: publish
//!   publish                          rewritten by published_at, else by published
//!   postrouting  nat                 from the network to elsewhere: masquerade
//!                                    from 127.0.0.0/8 to the bridge: masquerade
//!                                    from the network to the bridge, rewritten: masquerade (hairpin)
//!   forward      filter              to the bridge from elsewhere: only answers and published ports
//! ```
//!
//! The rules never change: a container adds elements to the maps and takes them away, so that the cost
//! of a packet and of a start does not grow with the number of containers. Every change is one atomic
//! batch. No other table is ever touched.

use std::net::{IpAddr, Ipv4Addr};

use dhow_sys::netlink::nft::expression::{Compare, Expression, Header, Register, Verdict};
use dhow_sys::netlink::nft::query::{map_keys, table_comment};
use dhow_sys::netlink::nft::{Batch, ChainKind, Family, Field, Hook};
use dhow_sys::netlink::{self, Socket};
use dhow_sys::rustix::io::Errno;

use crate::Cidr;
use crate::error::{Error, Result};

/// Says in the table's comment how it is laid out. To be changed with the layout: a table with another
/// comment is built anew.
const LAYOUT: &str = "dhow, layout 1";
const PUBLISHED: &str = "published";
const PUBLISHED_AT: &str = "published_at";
const PUBLISH: &str = "publish";

/// A transport whose ports can be published.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum Transport {
    /// TCP, protocol 6.
    Tcp = 6,
    /// UDP, protocol 17.
    Udp = 17,
}

/// A published port as an element of the table's maps.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Publication {
    /// The transport.
    pub transport: Transport,
    /// The host's address; none means all of them.
    pub host: Option<Ipv4Addr>,
    /// The host's port.
    pub host_port: u16,
    /// The container's address.
    pub container: Ipv4Addr,
    /// The container's port.
    pub container_port: u16,
}

/// The table of one bridge.
#[derive(Debug, Clone)]
pub struct Table {
    bridge: String,
    network: Cidr,
}

impl Table {
    /// The table of the bridge of this name with this network. Nothing is made yet.
    pub fn new(bridge: impl Into<String>, network: Cidr) -> Result<Self> {
        let bridge = bridge.into();
        match network.address() {
            IpAddr::V4(_) => Ok(Self { bridge, network: network.network() }),
            IpAddr::V6(_) => Err(Error::NotIpv4(network.address())),
        }
    }

    /// Whether the table is there in today's layout.
    pub fn is_installed(&self, socket: &mut Socket) -> Result<bool> {
        Ok(table_comment(socket, Family::Ipv4, &self.bridge)?.as_deref() == Some(LAYOUT))
    }

    /// Builds the table anew, in one atomic step, with exactly these publications.
    pub fn install(&self, socket: &mut Socket, publications: &[Publication]) -> Result<()> {
        let mut batch = self.batch();
        // Deleting needs something to delete.
        batch.add_table(LAYOUT);
        batch.delete_table();
        batch.add_table(LAYOUT);
        let value = [Field::Ipv4, Field::Port];
        batch.add_map(PUBLISHED, &[Field::Protocol, Field::Port], &value);
        batch.add_map(PUBLISHED_AT, &[Field::Ipv4, Field::Protocol, Field::Port], &value);
        for (name, kind, hook, priority) in BASE_CHAINS {
            batch.add_base_chain(name, kind, hook, priority);
        }
        batch.add_chain(PUBLISH);
        for (chain, rule) in self.rules() {
            batch.add_rule(chain, &rule);
        }
        add(&mut batch, publications);
        Ok(batch.commit(socket)?)
    }

    /// Adds publications. An element that an earlier daemon left under the same key is replaced.
    pub fn publish(&self, socket: &mut Socket, publications: &[Publication]) -> Result<()> {
        let attempt = |socket: &mut Socket| {
            let mut batch = self.batch();
            add(&mut batch, publications);
            batch.commit(socket)
        };
        if publications.is_empty() {
            return Ok(());
        }
        match attempt(socket) {
            Err(error) if error.refusal() == Some(Errno::EXIST) => {
                self.unpublish(socket, publications)?;
                Ok(attempt(socket)?)
            }
            result => Ok(result?),
        }
    }

    /// Removes publications; those that are not there are fine.
    pub fn unpublish(&self, socket: &mut Socket, publications: &[Publication]) -> Result<()> {
        let keys = elements(publications)
            .map(|(map, elements)| (map, elements.into_iter().map(|(key, _)| key).collect()));
        if !is_absent(self.remove(socket, &keys))? {
            return Ok(());
        }
        // One was missing, so none was removed: see which there are. A missing table has none.
        let mut present = keys;
        for (map, keys) in &mut present {
            match map_keys(socket, Family::Ipv4, &self.bridge, map) {
                Ok(known) => keys.retain(|key| known.contains(key)),
                Err(error) if error.refusal() == Some(Errno::NOENT) => keys.clear(),
                Err(error) => return Err(error.into()),
            }
        }
        is_absent(self.remove(socket, &present)).map(|_| ())
    }

    fn remove(
        &self,
        socket: &mut Socket,
        keys: &[(&'static str, Vec<Vec<u8>>)],
    ) -> std::result::Result<(), netlink::Error> {
        if keys.iter().all(|(_, keys)| keys.is_empty()) {
            return Ok(());
        }
        let mut batch = self.batch();
        for (map, keys) in keys {
            batch.delete_elements(map, keys);
        }
        batch.commit(socket)
    }

    /// Deletes the table; absent is fine.
    pub fn delete(&self, socket: &mut Socket) -> Result<()> {
        let mut batch = self.batch();
        batch.add_table(LAYOUT);
        batch.delete_table();
        Ok(batch.commit(socket)?)
    }

    fn batch(&self) -> Batch {
        Batch::new(Family::Ipv4, &*self.bridge)
    }

    /// Every rule, with its chain, in order.
    fn rules(&self) -> Vec<(&'static str, Vec<Expression>)> {
        let from_bridge = [Expression::InputInterface(R0), compare(Compare::Equal, self.name())];
        let to_bridge = [Expression::OutputInterface(R0), compare(Compare::Equal, self.name())];
        let not_to_bridge =
            [Expression::OutputInterface(R0), compare(Compare::Differs, self.name())];
        let from_network = in_network(SOURCE, self.network);
        let loopback = |offset, how| [first_byte(offset), compare(how, vec![127])].to_vec();
        let from_loopback = loopback(SOURCE, Compare::Equal);
        let to_host = [
            Expression::DestinationKind(R0),
            compare(Compare::Equal, RTN_LOCAL.to_ne_bytes().into()),
        ];
        let rewritten = status(Expression::ConnectionStatus(R0), IPS_DST_NAT);
        let masquerade = [Expression::Masquerade];
        let verdict = |verdict| [Expression::Verdict(verdict)];
        let publish = verdict(Verdict::Jump(PUBLISH));
        let accept = verdict(Verdict::Accept);
        let drop = verdict(Verdict::Drop);
        let to_loopback = loopback(DESTINATION, Compare::Equal);
        let not_to_loopback = loopback(DESTINATION, Compare::Differs);
        let answers = status(Expression::ConnectionState(R0), STATE_ESTABLISHED_OR_RELATED);
        vec![
            ("guard", [&from_bridge[..], &to_loopback, &drop].concat()),
            (PUBLISH, publish_by(PUBLISHED_AT, &[DESTINATION_ADDRESS, PROTOCOL, DESTINATION_PORT])),
            (PUBLISH, publish_by(PUBLISHED, &[PROTOCOL, DESTINATION_PORT])),
            ("prerouting", [&not_to_loopback[..], &to_host, &publish].concat()),
            ("output", [&to_host[..], &publish].concat()),
            ("postrouting", [&from_network[..], &not_to_bridge, &masquerade].concat()),
            ("postrouting", [&from_loopback[..], &to_bridge, &masquerade].concat()),
            ("postrouting", [&from_network[..], &to_bridge, &rewritten, &masquerade].concat()),
            ("forward", [&not_to_bridge[..], &accept].concat()),
            ("forward", [&from_bridge[..], &accept].concat()),
            ("forward", [&answers[..], &accept].concat()),
            ("forward", [&rewritten[..], &accept].concat()),
            ("forward", drop.to_vec()),
        ]
    }

    /// The bridge's name as a register holds it.
    fn name(&self) -> Vec<u8> {
        let mut name = self.bridge.as_bytes().to_vec();
        name.resize(INTERFACE_NAME_LEN, 0);
        name
    }
}

/// Name, kind, hook and priority; the numbers are nft(8)'s `raw`, `dstnat`, `srcnat` and `filter`.
const BASE_CHAINS: [(&str, ChainKind, Hook, i32); 5] = [
    ("guard", ChainKind::Filter, Hook::Prerouting, -300),
    ("prerouting", ChainKind::Nat, Hook::Prerouting, -100),
    ("output", ChainKind::Nat, Hook::Output, -100),
    ("postrouting", ChainKind::Nat, Hook::Postrouting, 100),
    ("forward", ChainKind::Filter, Hook::Forward, 0),
];

const R0: Register = Register(0);
/// Bytes of an interface's name in a register (`IFNAMSIZ`).
const INTERFACE_NAME_LEN: usize = 16;
/// The offset of the source address in an IPv4 header.
const SOURCE: u32 = 12;
/// The offset of the destination address in an IPv4 header.
const DESTINATION: u32 = 16;
/// The kind of an address that is the host's own (linux/rtnetlink.h).
const RTN_LOCAL: u32 = 2;
/// The connection's destination was rewritten (linux/netfilter/nf_conntrack_common.h).
const IPS_DST_NAT: u32 = 1 << 5;
/// `ct state established,related` as bits.
const STATE_ESTABLISHED_OR_RELATED: u32 = 1 << 1 | 1 << 2;

/// A part of a map's key: header, offset and length in bytes.
type Part = (Header, u32, u32);
const DESTINATION_ADDRESS: Part = (Header::Network, DESTINATION, 4);
const PROTOCOL: Part = (Header::Network, 9, 1);
const DESTINATION_PORT: Part = (Header::Transport, 2, 2);

fn compare(compare: Compare, value: Vec<u8>) -> Expression {
    Expression::Compare { register: R0, compare, value }
}

/// Loads the first byte of an address.
fn first_byte(offset: u32) -> Expression {
    Expression::Payload { to: R0, header: Header::Network, offset, length: 1 }
}

/// Goes on if the address at `offset` lies in an IPv4 network.
fn in_network(offset: u32, network: Cidr) -> Vec<Expression> {
    let IpAddr::V4(address) = network.address() else { return Vec::new() };
    let mask = u32::MAX.checked_shl(32 - u32::from(network.prefix_len())).unwrap_or(0);
    vec![
        Expression::Payload { to: R0, header: Header::Network, offset, length: 4 },
        Expression::Mask { register: R0, mask: mask.to_be_bytes().into() },
        compare(Compare::Equal, address.octets().into()),
    ]
}

/// Goes on if any of `bits` is set in what `load` loads.
fn status(load: Expression, bits: u32) -> Vec<Expression> {
    vec![
        load,
        Expression::Mask { register: R0, mask: bits.to_ne_bytes().into() },
        compare(Compare::Differs, vec![0; 4]),
    ]
}

/// Rewrites the destination to what `map` has for the key.
fn publish_by(map: &'static str, key: &[Part]) -> Vec<Expression> {
    let load = (0..).zip(key).map(|(to, &(header, offset, length))| Expression::Payload {
        to: Register(to),
        header,
        offset,
        length,
    });
    load.chain([
        Expression::Lookup { map, key: R0, to: R0 },
        Expression::DestinationNat { address: R0, port: Register(1) },
    ])
    .collect()
}

fn add(batch: &mut Batch, publications: &[Publication]) {
    for (map, elements) in elements(publications) {
        batch.add_elements(map, &elements);
    }
}

/// A key and its value.
type Element = (Vec<u8>, Vec<u8>);

/// The publications as elements, each map's together.
fn elements(publications: &[Publication]) -> [(&'static str, Vec<Element>); 2] {
    let (mut everywhere, mut somewhere) = (Vec::new(), Vec::new());
    for publication in publications {
        let element = (publication.key(), publication.value());
        if publication.host.is_some() { &mut somewhere } else { &mut everywhere }.push(element);
    }
    [(PUBLISHED, everywhere), (PUBLISHED_AT, somewhere)]
}

impl Publication {
    /// Each part in a register of its own, filled up with zeros.
    fn key(&self) -> Vec<u8> {
        let mut key = self.host.map(|host| host.octets().to_vec()).unwrap_or_default();
        key.extend([self.transport as u8, 0, 0, 0]);
        key.extend(register_of(self.host_port));
        key
    }

    fn value(&self) -> Vec<u8> {
        [self.container.octets(), register_of(self.container_port)].concat()
    }
}

fn register_of(port: u16) -> [u8; 4] {
    let [high, low] = port.to_be_bytes();
    [high, low, 0, 0]
}

/// Whether a removal failed because there was nothing to remove; another failure stays one.
fn is_absent(result: std::result::Result<(), netlink::Error>) -> Result<bool> {
    match result {
        Ok(()) => Ok(false),
        Err(error) if error.refusal() == Some(Errno::NOENT) => Ok(true),
        Err(error) => Err(error.into()),
    }
}
