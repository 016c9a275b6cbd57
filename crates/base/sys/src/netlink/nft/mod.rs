//! nf_tables: one table's chains, rules, maps and elements in atomic batches.
//!
//! ```text
//! BATCH_BEGIN · request* · BATCH_END      all of it takes effect at once, or nothing does
//! ```
//!
//! [`expression`] holds what rules are made of, [`query`] asks what is there. Only what dhow's tables
//! use exists here. Numbers in attributes are in network order, data in registers as the packet has it.

pub mod expression;
pub mod query;

use std::borrow::Cow;

use self::expression::{Expression, put_expression};
use super::message::{Body, Messages};
use super::{Error, Socket};

// linux/netfilter/nfnetlink.h
const SUBSYSTEM: u16 = 10;
const BATCH_BEGIN: u16 = 0x10;
const BATCH_END: u16 = 0x11;
// enum nf_tables_msg_types
const NEW_TABLE: u16 = 0;
const DELETE_TABLE: u16 = 2;
const NEW_CHAIN: u16 = 3;
const NEW_RULE: u16 = 6;
const NEW_SET: u16 = 9;
const NEW_ELEMENT: u16 = 12;
const DELETE_ELEMENT: u16 = 14;
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

/// A change to one table.
#[derive(Debug)]
pub struct Batch {
    messages: Messages,
    family: Family,
    table: String,
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

const CHAIN_NAME: u16 = 3;
const CHAIN_HOOK: u16 = 4;
const CHAIN_POLICY: u16 = 5;
const CHAIN_TYPE: u16 = 7;
const DATA_VALUE: u16 = 1;

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

#[cfg(test)]
mod tests {
    use super::super::Family as Protocol;
    use super::*;

    #[test]
    fn a_missing_table_is_none() {
        let mut socket = Socket::open(Protocol::Netfilter).unwrap();
        let table = format!("dhow-none-{}", std::process::id());
        assert_eq!(query::table_comment(&mut socket, Family::Ipv4, &table).unwrap(), None);
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
        assert_eq!(query::table_comment(&mut socket, Family::Ipv4, &table).unwrap(), None);

        let mut batch = Batch::new(Family::Ipv4, &*table);
        batch.add_table("a test");
        batch.commit(&mut socket).unwrap();
        let comment = query::table_comment(&mut socket, Family::Ipv4, &table).unwrap();
        assert_eq!(comment.as_deref(), Some("a test"));
        let mut batch = Batch::new(Family::Ipv4, &*table);
        batch.delete_table();
        batch.commit(&mut socket).unwrap();
    }
}
