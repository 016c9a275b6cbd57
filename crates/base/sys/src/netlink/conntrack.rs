//! Connections that the kernel keeps track of, and how it forgets them (ctnetlink).
//!
//! The kernel translates the addresses of a connection's first packet and remembers the result. UDP knows
//! no end of a connection: who goes on sending to a port that was published is answered by the old
//! translation, until that is forgotten. Numbers and layouts are those of linux/netfilter/
//! nfnetlink_conntrack.h; ports and addresses are in network order.

use std::net::Ipv4Addr;

use rustix::io::Errno;

use super::message::{Attributes, Body};
use super::{Error, Messages, Socket};

/// `NFNL_SUBSYS_CTNETLINK`, as the upper byte of a message's type.
const SUBSYSTEM: u16 = 1 << 8;
const GET: u16 = 1;
const DELETE: u16 = 2;
/// Bytes of `struct nfgenmsg`.
const HEADER: [u8; 4] = [libc::AF_INET as u8, 0, 0, 0];

const TUPLE_ORIGINAL: u16 = 1;
const TUPLE_REPLY: u16 = 2;
const ID: u16 = 12;
const ZONE: u16 = 18;
const TUPLE_IP: u16 = 1;
const TUPLE_PROTOCOL: u16 = 2;
const IPV4_SOURCE: u16 = 1;
const IPV4_DESTINATION: u16 = 2;
const PROTOCOL_NUMBER: u16 = 1;
const PROTOCOL_SOURCE: u16 = 2;
const PROTOCOL_DESTINATION: u16 = 3;

/// A tracked connection over IPv4.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Connection {
    /// The protocol's number: 6 is TCP, 17 UDP.
    pub protocol: u8,
    /// To whom its first packet was sent.
    pub asked: (Ipv4Addr, u16),
    /// Who answers it: the same, or where it was redirected to.
    pub answers: (Ipv4Addr, u16),
    /// What names it to the kernel: the first packet's addresses, its id, its zone.
    name: Vec<(u16, Vec<u8>)>,
}

/// Forgets every tracked connection for which `doomed` is true. `socket` is of
/// [`Family::Netfilter`](super::Family::Netfilter). One that ends meanwhile is no error. The kernel tells
/// all that it has, so this takes some milliseconds for every ten thousand connections of the machine.
pub fn forget(socket: &mut Socket, doomed: impl Fn(&Connection) -> bool) -> Result<(), Error> {
    let fill = |body: &mut Body<'_>| body.raw(&HEADER);
    let all =
        socket.dump("list connections", SUBSYSTEM | GET, fill, |all: &mut Vec<_>, payload| {
            all.extend(read(payload).filter(|connection| doomed(connection)));
        })?;
    for connection in all {
        let mut request = Messages::new();
        let flags = (libc::NLM_F_REQUEST | libc::NLM_F_ACK) as u16;
        request.push("forget a connection", SUBSYSTEM | DELETE, flags, |body| {
            body.raw(&HEADER);
            for (kind, payload) in &connection.name {
                match *kind {
                    TUPLE_ORIGINAL => body.nest(TUPLE_ORIGINAL, |body| body.raw(payload)),
                    other => body.put(other, payload),
                }
            }
        });
        match socket.send(&mut request) {
            Err(error) if error.refusal() != Some(Errno::NOENT) => return Err(error),
            _ => {}
        }
    }
    Ok(())
}

fn read(payload: &[u8]) -> Option<Connection> {
    let attributes = Attributes::after(payload, HEADER.len());
    let original = attributes.clone().find(TUPLE_ORIGINAL)?;
    let (protocol, asked) = end(original, IPV4_DESTINATION, PROTOCOL_DESTINATION)?;
    let (_, answers) = end(attributes.clone().find(TUPLE_REPLY)?, IPV4_SOURCE, PROTOCOL_SOURCE)?;
    let is_name = |kind: u16| [TUPLE_ORIGINAL, ID, ZONE].contains(&kind);
    let name = attributes.filter(|(kind, _)| is_name(*kind));
    let name = name.map(|(kind, payload)| (kind, payload.to_vec())).collect();
    Some(Connection { protocol, asked, answers, name })
}

/// The protocol of a tuple, and one of its ends.
fn end(tuple: &[u8], address: u16, port: u16) -> Option<(u8, (Ipv4Addr, u16))> {
    let tuple = Attributes::new(tuple);
    let ip = Attributes::new(tuple.clone().find(TUPLE_IP)?).find(address)?;
    let ip = Ipv4Addr::from(<[u8; 4]>::try_from(ip).ok()?);
    let protocol = Attributes::new(tuple.find(TUPLE_PROTOCOL)?);
    let number = *protocol.clone().find(PROTOCOL_NUMBER)?.first()?;
    let port = u16::from_be_bytes(protocol.find(port)?.try_into().ok()?);
    Some((number, (ip, port)))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn tuple(body: &mut Body<'_>, source: [u8; 4], destination: [u8; 4]) {
        body.nest(TUPLE_IP, |body| {
            body.put(IPV4_SOURCE, &source);
            body.put(IPV4_DESTINATION, &destination);
        });
        body.nest(TUPLE_PROTOCOL, |body| {
            body.put_u8(PROTOCOL_NUMBER, 17);
            body.put(PROTOCOL_SOURCE, &4000_u16.to_be_bytes());
            body.put(PROTOCOL_DESTINATION, &53_u16.to_be_bytes());
        });
    }

    #[test]
    fn a_redirected_connection_is_read() {
        let mut messages = Messages::new();
        messages.push("", 0, 0, |body| {
            body.raw(&HEADER);
            body.nest(TUPLE_ORIGINAL, |body| tuple(body, [127, 0, 0, 1], [127, 0, 0, 1]));
            body.nest(TUPLE_REPLY, |body| tuple(body, [10, 0, 0, 2], [127, 0, 0, 1]));
            body.put_u32(ID, 7);
        });
        let connection = read(&messages.numbered(1)[16..]).unwrap();
        assert_eq!(connection.protocol, 17);
        assert_eq!(connection.asked, (Ipv4Addr::LOCALHOST, 53));
        assert_eq!(connection.answers, (Ipv4Addr::new(10, 0, 0, 2), 4000));
        assert_eq!(connection.name.len(), 2);
    }

    proptest! {
        #[test]
        fn reading_anything_ends(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = read(&bytes);
        }
    }
}
