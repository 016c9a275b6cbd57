//! What is there: tables, chains that drop, the keys of a map.

use super::super::message::{Attributes, Body, read_str};
use super::super::{Error, Socket};
use super::{
    CHAIN_HOOK, CHAIN_NAME, CHAIN_POLICY, DATA_VALUE, Family, Hook, SUBSYSTEM, TABLE,
    TABLE_USERDATA, USERDATA_COMMENT,
};

// enum nf_tables_msg_types
const GET_TABLE: u16 = 1;
const GET_CHAIN: u16 = 4;
const GET_ELEMENT: u16 = 13;
/// Bytes of `struct nfgenmsg`.
const HEADER_LEN: usize = 4;

/// A base chain of some table that drops what it does not accept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DroppingChain {
    /// The table's name.
    pub table: String,
    /// The chain's name.
    pub chain: String,
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

/// The keys of a map's elements.
pub fn map_keys(
    socket: &mut Socket,
    family: Family,
    table: &str,
    map: &str,
) -> Result<Vec<Vec<u8>>, Error> {
    let what = format!("list nftables map {map}");
    let fill = |body: &mut Body<'_>| {
        body.raw(&[family as u8, 0, 0, 0]);
        body.put_str(TABLE, table);
        body.put_str(2, map);
    };
    let kind = SUBSYSTEM << 8 | GET_ELEMENT;
    socket.dump(what, kind, fill, |keys: &mut Vec<_>, payload| keys.extend(read_keys(payload)))
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

/// The keys in a message that lists elements.
fn read_keys(payload: &[u8]) -> Vec<Vec<u8>> {
    let list = Attributes::after(payload, HEADER_LEN).find(3).unwrap_or_default();
    Attributes::new(list)
        .filter_map(|(_, element)| Attributes::new(element).find(1))
        .filter_map(|key| Attributes::new(key).find(DATA_VALUE))
        .map(<[u8]>::to_vec)
        .collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn reading_anything_ends(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = (read_comment(&bytes), read_dropping_chain(&bytes), read_keys(&bytes));
        }
    }
}
