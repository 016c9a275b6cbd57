//! nf_tables: one table's chains, rules, maps and elements in atomic batches.
//!
//! ```text
//! BATCH_BEGIN · request* · BATCH_END      all of it takes effect at once, or nothing does
//! ```
//!
//! A rule is a list of [`Expression`]s that work on registers; each maps to one expression of the
//! kernel's virtual machine, as `nft --debug=netlink` prints them. Only what dhow's tables use exists
//! here. Numbers in attributes are in network order, data in registers as the packet has it.

use std::borrow::Cow;

use super::message::{Attributes, Body, Messages, read_str};
use super::{Error, Socket};

// linux/netfilter/nfnetlink.h
const SUBSYSTEM: u16 = 10;
const BATCH_BEGIN: u16 = 0x10;
const BATCH_END: u16 = 0x11;
// enum nf_tables_msg_types
const NEW_TABLE: u16 = 0;
const GET_TABLE: u16 = 1;
const DELETE_TABLE: u16 = 2;
const NEW_CHAIN: u16 = 3;
const GET_CHAIN: u16 = 4;
const NEW_RULE: u16 = 6;
const NEW_SET: u16 = 9;
const NEW_ELEMENT: u16 = 12;
const DELETE_ELEMENT: u16 = 14;
/// Bytes of `struct nfgenmsg`.
const HEADER_LEN: usize = 4;
/// The first attribute of table, chain, rule, set and element messages: the table's name.
const TABLE: u16 = 1;
const TABLE_USERDATA: u16 = 6;
/// The type that nft gives a comment in user data (libnftnl's `NFTNL_UDATA_TABLE_COMMENT`).
const USERDATA_COMMENT: u8 = 0;
/// Elements in one message, so that the list stays far below an attribute's 64 KiB.
const ELEMENTS_A_MESSAGE: usize = 256;

/// The address family of a table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Family {
    /// IPv4 (`table ip`).
    Ipv4 = libc::NFPROTO_IPV4 as u8,
    /// IPv6 (`table ip6`).
    Ipv6 = libc::NFPROTO_IPV6 as u8,
}

/// Where in a packet's way a base chain sits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub enum Hook {
    /// Every packet that comes in, before routing.
    Prerouting = 0,
    /// Packets on their way through.
    Forward = 2,
    /// Packets made here.
    Output = 3,
    /// Every packet that goes out, after routing.
    Postrouting = 4,
}

/// What a base chain does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChainKind {
    /// Lets pass or drops.
    Filter,
    /// Rewrites addresses; sees only the first packet of a connection.
    Nat,
}

/// A part of a map's key or value. In a register each takes a multiple of four bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Field {
    /// An IPv4 address.
    Ipv4,
    /// A transport protocol's number.
    Protocol,
    /// A port.
    Port,
}

impl Field {
    /// The number nft knows this type by, for `nft list`.
    fn type_id(self) -> u32 {
        match self {
            Self::Ipv4 => 7,
            Self::Protocol => 12,
            Self::Port => 13,
        }
    }
}

/// Whether a comparison wants equal or different.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub enum Compare {
    /// Go on if equal.
    Equal = 0,
    /// Go on if different.
    Differs = 1,
}

/// Which header an offset counts from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub enum Header {
    /// The IP header.
    Network = 1,
    /// The TCP or UDP header.
    Transport = 2,
}

/// A four-byte register of the kernel's virtual machine, 0 to 15.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Register(pub u8);

impl Register {
    /// `NFT_REG32_00` and up.
    fn number(self) -> u32 {
        8 + u32::from(self.0)
    }
}

/// Where a rule sends a packet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// Away.
    Drop,
    /// On to the next base chain.
    Accept,
    /// Through another chain of the table and back.
    Jump(&'static str),
}

/// One step of a rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Expression {
    /// The incoming interface's name, 16 bytes.
    InputInterface(Register),
    /// The outgoing interface's name, 16 bytes.
    OutputInterface(Register),
    /// Bytes of the packet.
    Payload {
        /// Where to.
        to: Register,
        /// Which header.
        header: Header,
        /// Bytes from the header's start.
        offset: u32,
        /// How many bytes.
        length: u32,
    },
    /// The connection's state bits (`ct state`), four bytes.
    ConnectionState(Register),
    /// The connection's status bits (`ct status`), four bytes.
    ConnectionStatus(Register),
    /// The kind of the destination address by the routing tables (`fib daddr type`), four bytes.
    DestinationKind(Register),
    /// Keeps the bits in the mask.
    Mask {
        /// In and out.
        register: Register,
        /// As long as the value in the register.
        mask: Vec<u8>,
    },
    /// Ends the rule here unless the comparison holds.
    Compare {
        /// What is compared.
        register: Register,
        /// How.
        compare: Compare,
        /// With what.
        value: Vec<u8>,
    },
    /// Looks the key up in a map; ends the rule here if it is not there.
    Lookup {
        /// The map's name.
        map: &'static str,
        /// Where the key starts.
        key: Register,
        /// Where the value goes.
        to: Register,
    },
    /// Sends the connection to another IPv4 address and port.
    DestinationNat {
        /// The address.
        address: Register,
        /// The port.
        port: Register,
    },
    /// Gives the connection the address of the interface it leaves by.
    Masquerade,
    /// Decides.
    Verdict(Verdict),
}

/// A change to one table.
#[derive(Debug)]
pub struct Batch {
    messages: Messages,
    family: Family,
    table: String,
}

/// A base chain of some table that drops what it does not accept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DroppingChain {
    /// The table's name.
    pub table: String,
    /// The chain's name.
    pub chain: String,
}

impl Batch {
    /// An empty change to the table of this name.
    pub fn new(family: Family, table: impl Into<String>) -> Self {
        let mut messages = Messages::new();
        push_delimiter(&mut messages, BATCH_BEGIN);
        Self { messages, family, table: table.into() }
    }

    /// Creates the table if it is not there. `comment` is for people.
    pub fn add_table(&mut self, comment: &str) {
        let what = format!("create nftables table {}", self.table);
        self.push(what, NEW_TABLE, libc::NLM_F_CREATE, |body| {
            // User data: type, length, zero-terminated text.
            let mut data = vec![USERDATA_COMMENT, (comment.len() + 1).min(255) as u8];
            data.extend(comment.bytes().take(254));
            data.push(0);
            body.put(TABLE_USERDATA, &data);
        });
    }

    /// Deletes the table with all that is in it.
    pub fn delete_table(&mut self) {
        let what = format!("delete nftables table {}", self.table);
        self.push(what, DELETE_TABLE, 0, |_| {});
    }

    /// Creates a map from keys of one shape to values of another.
    pub fn add_map(&mut self, name: &str, key: &[Field], value: &[Field]) {
        const SET_NAME: u16 = 2;
        const SET_FLAGS: u16 = 3;
        const SET_KEY_TYPE: u16 = 4;
        const SET_KEY_LEN: u16 = 5;
        const SET_DATA_TYPE: u16 = 6;
        const SET_DATA_LEN: u16 = 7;
        const SET_ID: u16 = 10;
        const FLAG_MAP: u32 = 8;
        // Mandatory; it only has to differ within the batch.
        let id = self.messages.len() as u32;
        let what = format!("create nftables map {name}");
        self.push(what, NEW_SET, libc::NLM_F_CREATE, |body| {
            body.put_str(SET_NAME, name);
            body.put_be32(SET_FLAGS, FLAG_MAP);
            body.put_be32(SET_KEY_TYPE, type_id(key));
            body.put_be32(SET_KEY_LEN, 4 * key.len() as u32);
            body.put_be32(SET_DATA_TYPE, type_id(value));
            body.put_be32(SET_DATA_LEN, 4 * value.len() as u32);
            body.put_be32(SET_ID, id);
        });
    }

    /// Creates a chain that rules jump to.
    pub fn add_chain(&mut self, name: &str) {
        let what = format!("create nftables chain {name}");
        self.push(what, NEW_CHAIN, libc::NLM_F_CREATE, |body| body.put_str(CHAIN_NAME, name));
    }

    /// Creates a chain that packets meet at `hook`, before those of a higher `priority`. What no rule
    /// decides goes on.
    pub fn add_base_chain(&mut self, name: &str, kind: ChainKind, hook: Hook, priority: i32) {
        let what = format!("create nftables chain {name}");
        self.push(what, NEW_CHAIN, libc::NLM_F_CREATE, |body| {
            body.put_str(CHAIN_NAME, name);
            body.nest(CHAIN_HOOK, |body| {
                body.put_be32(1, hook as u32);
                body.put_be32(2, priority as u32);
            });
            body.put_be32(CHAIN_POLICY, libc::NF_ACCEPT as u32);
            let kind = match kind {
                ChainKind::Filter => "filter",
                ChainKind::Nat => "nat",
            };
            body.put_str(CHAIN_TYPE, kind);
        });
    }

    /// Appends a rule to a chain.
    pub fn add_rule(&mut self, chain: &str, expressions: &[Expression]) {
        const RULE_CHAIN: u16 = 2;
        const RULE_EXPRESSIONS: u16 = 4;
        let family = self.family;
        let what = format!("add a rule to nftables chain {chain}");
        self.push(what, NEW_RULE, libc::NLM_F_CREATE | libc::NLM_F_APPEND, |body| {
            body.put_str(RULE_CHAIN, chain);
            body.nest(RULE_EXPRESSIONS, |body| {
                for expression in expressions {
                    body.nest(1, |body| put_expression(body, expression, family));
                }
            });
        });
    }

    /// Adds elements, key and value each, to a map. A key that is there already with another value is
    /// refused with EEXIST.
    pub fn add_elements(&mut self, map: &str, elements: &[(Vec<u8>, Vec<u8>)]) {
        for part in elements.chunks(ELEMENTS_A_MESSAGE) {
            let part = part.iter().map(|(key, value)| (&key[..], Some(&value[..])));
            let what = format!("add to nftables map {map}");
            self.push_elements(what, NEW_ELEMENT, libc::NLM_F_CREATE, map, part);
        }
    }

    /// Removes elements by their keys. One that is not there is refused with ENOENT, and the whole
    /// batch with it.
    pub fn delete_elements(&mut self, map: &str, keys: &[Vec<u8>]) {
        for part in keys.chunks(ELEMENTS_A_MESSAGE) {
            let part = part.iter().map(|key| (&key[..], None));
            let what = format!("remove from nftables map {map}");
            self.push_elements(what, DELETE_ELEMENT, 0, map, part);
        }
    }

    /// Makes the change.
    pub fn commit(mut self, socket: &mut Socket) -> Result<(), Error> {
        push_delimiter(&mut self.messages, BATCH_END);
        socket.send(&mut self.messages)
    }

    fn push_elements<'a>(
        &mut self,
        what: String,
        kind: u16,
        flags: libc::c_int,
        map: &str,
        elements: impl Iterator<Item = (&'a [u8], Option<&'a [u8]>)>,
    ) {
        self.push(what, kind, flags, |body| {
            body.put_str(2, map);
            body.nest(3, |body| {
                for (key, value) in elements {
                    body.nest(1, |body| {
                        body.nest(1, |body| body.put(DATA_VALUE, key));
                        if let Some(value) = value {
                            body.nest(2, |body| body.put(DATA_VALUE, value));
                        }
                    });
                }
            });
        });
    }

    fn push(
        &mut self,
        what: impl Into<Cow<'static, str>>,
        kind: u16,
        flags: libc::c_int,
        fill: impl FnOnce(&mut Body<'_>),
    ) {
        let flags = (libc::NLM_F_REQUEST | libc::NLM_F_ACK | flags) as u16;
        let (family, table) = (self.family, &self.table);
        self.messages.push(what, SUBSYSTEM << 8 | kind, flags, |body| {
            body.raw(&[family as u8, 0, 0, 0]);
            body.put_str(TABLE, table);
            fill(body);
        });
    }
}

/// The comment of the table of this name; none if there is no such table.
pub fn table_comment(
    socket: &mut Socket,
    family: Family,
    table: &str,
) -> Result<Option<String>, Error> {
    let what = format!("look for nftables table {table}");
    let fill = |body: &mut Body<'_>| {
        body.raw(&[family as u8, 0, 0, 0]);
        body.put_str(TABLE, table);
    };
    socket.get(what, SUBSYSTEM << 8 | GET_TABLE, fill, |payload| {
        let data = Attributes::after(payload, HEADER_LEN).find(TABLE_USERDATA).unwrap_or_default();
        Some(read_comment(data))
    })
}

/// The chains of any table of IPv4 that see forwarded packets and drop what they do not accept: a
/// packet that dhow's table lets pass still dies there.
pub fn forward_drops(socket: &mut Socket) -> Result<Vec<DroppingChain>, Error> {
    let fill = |body: &mut Body<'_>| body.raw(&[libc::NFPROTO_UNSPEC as u8, 0, 0, 0]);
    let kind = SUBSYSTEM << 8 | GET_CHAIN;
    socket.dump("list nftables chains", kind, fill, |chains: &mut Vec<_>, payload| {
        chains.extend(read_dropping_chain(payload));
    })
}

const CHAIN_NAME: u16 = 3;
const CHAIN_HOOK: u16 = 4;
const CHAIN_POLICY: u16 = 5;
const CHAIN_TYPE: u16 = 7;
const DATA_VALUE: u16 = 1;
const DATA_VERDICT: u16 = 2;

fn push_delimiter(messages: &mut Messages, kind: u16) {
    messages.push("change nftables", kind, libc::NLM_F_REQUEST as u16, |body| {
        let [high, low] = SUBSYSTEM.to_be_bytes();
        body.raw(&[libc::AF_UNSPEC as u8, 0, high, low]);
    });
}

/// The number nft knows a concatenation by: six bits a part.
fn type_id(fields: &[Field]) -> u32 {
    fields.iter().fold(0, |id, field| id << 6 | field.type_id())
}

fn put_expression(body: &mut Body<'_>, expression: &Expression, family: Family) {
    const IMMEDIATE_DREG: u16 = 1;
    const VERDICT_REGISTER: u32 = 0;
    let mut named = |name: &str, fill: &mut dyn FnMut(&mut Body<'_>)| {
        body.put_str(1, name);
        body.nest(2, |body| fill(body));
    };
    match expression {
        Expression::InputInterface(to) => named("meta", &mut |body| put_load(body, *to, 6)),
        Expression::OutputInterface(to) => named("meta", &mut |body| put_load(body, *to, 7)),
        Expression::ConnectionState(to) => named("ct", &mut |body| put_load(body, *to, 0)),
        Expression::ConnectionStatus(to) => named("ct", &mut |body| put_load(body, *to, 2)),
        // NFT_FIB_RESULT_ADDRTYPE by NFTA_FIB_F_DADDR.
        Expression::DestinationKind(to) => named("fib", &mut |body| {
            put_load(body, *to, 3);
            body.put_be32(3, 2);
        }),
        Expression::Payload { to, header, offset, length } => named("payload", &mut |body| {
            put_load(body, *to, *header as u32);
            body.put_be32(3, *offset);
            body.put_be32(4, *length);
        }),
        Expression::Mask { register, mask } => named("bitwise", &mut |body| {
            body.put_be32(1, register.number());
            body.put_be32(2, register.number());
            body.put_be32(3, mask.len() as u32);
            body.nest(4, |body| body.put(DATA_VALUE, mask));
            body.nest(5, |body| body.put(DATA_VALUE, &vec![0; mask.len()]));
        }),
        Expression::Compare { register, compare, value } => named("cmp", &mut |body| {
            body.put_be32(1, register.number());
            body.put_be32(2, *compare as u32);
            body.nest(3, |body| body.put(DATA_VALUE, value));
        }),
        Expression::Lookup { map, key, to } => named("lookup", &mut |body| {
            body.put_str(1, map);
            body.put_be32(2, key.number());
            body.put_be32(3, to.number());
        }),
        Expression::DestinationNat { address, port } => named("nat", &mut |body| {
            const NAT_DESTINATION: u32 = 1;
            body.put_be32(1, NAT_DESTINATION);
            body.put_be32(2, family as u32);
            body.put_be32(3, address.number());
            body.put_be32(5, port.number());
        }),
        Expression::Masquerade => named("masq", &mut |_| {}),
        Expression::Verdict(verdict) => named("immediate", &mut |body| {
            body.put_be32(IMMEDIATE_DREG, VERDICT_REGISTER);
            body.nest(2, |body| body.nest(DATA_VERDICT, |body| put_verdict(body, verdict)));
        }),
    }
}

/// The two attributes that every loading expression starts with: register and key.
fn put_load(body: &mut Body<'_>, to: Register, key: u32) {
    body.put_be32(1, to.number());
    body.put_be32(2, key);
}

fn put_verdict(body: &mut Body<'_>, verdict: &Verdict) {
    const CODE: u16 = 1;
    const CHAIN: u16 = 2;
    const JUMP: i32 = -3;
    match verdict {
        Verdict::Drop => body.put_be32(CODE, libc::NF_DROP as u32),
        Verdict::Accept => body.put_be32(CODE, libc::NF_ACCEPT as u32),
        Verdict::Jump(chain) => {
            body.put_be32(CODE, JUMP as u32);
            body.put_str(CHAIN, chain);
        }
    }
}

fn read_comment(data: &[u8]) -> String {
    match data {
        [USERDATA_COMMENT, length, text @ ..] => {
            read_str(text.get(..usize::from(*length)).unwrap_or_default())
        }
        _ => String::new(),
    }
}

fn read_dropping_chain(payload: &[u8]) -> Option<DroppingChain> {
    let family = i32::from(*payload.first()?);
    let attributes = Attributes::after(payload, HEADER_LEN);
    let find = |kind| attributes.clone().find(kind);
    let number = |payload: &[u8]| payload.try_into().ok().map(u32::from_be_bytes);
    let hook = Attributes::new(find(CHAIN_HOOK)?).find(1).and_then(number)?;
    let policy = find(CHAIN_POLICY).and_then(number)?;
    let sees_ipv4 = family == libc::NFPROTO_IPV4 || family == libc::NFPROTO_INET;
    (sees_ipv4 && hook == Hook::Forward as u32 && policy == libc::NF_DROP as u32).then(|| {
        DroppingChain {
            table: find(TABLE).map(read_str).unwrap_or_default(),
            chain: find(CHAIN_NAME).map(read_str).unwrap_or_default(),
        }
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::Family as Protocol;
    use super::*;

    #[test]
    fn a_missing_table_is_none() {
        let mut socket = Socket::open(Protocol::Netfilter).unwrap();
        let table = format!("dhow-none-{}", std::process::id());
        assert_eq!(table_comment(&mut socket, Family::Ipv4, &table).unwrap(), None);
    }

    #[test]
    fn a_batch_is_all_or_nothing() {
        let mut socket = Socket::open(Protocol::Netfilter).unwrap();
        let table = format!("dhow-half-{}", std::process::id());
        let mut batch = Batch::new(Family::Ipv4, &*table);
        batch.add_table("a test");
        batch.add_rule("nosuch", &[Expression::Masquerade]);
        let error = batch.commit(&mut socket).unwrap_err();
        assert_eq!(error.to_string(), "cannot add a rule to nftables chain nosuch");
        assert_eq!(table_comment(&mut socket, Family::Ipv4, &table).unwrap(), None);

        let mut batch = Batch::new(Family::Ipv4, &*table);
        batch.add_table("a test");
        batch.commit(&mut socket).unwrap();
        let comment = table_comment(&mut socket, Family::Ipv4, &table).unwrap();
        assert_eq!(comment.as_deref(), Some("a test"));
        let mut batch = Batch::new(Family::Ipv4, &*table);
        batch.delete_table();
        batch.commit(&mut socket).unwrap();
    }

    proptest! {
        #[test]
        fn reading_anything_ends(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = (read_comment(&bytes), read_dropping_chain(&bytes));
        }
    }
}
