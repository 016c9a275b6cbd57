//! Addresses that outlast a move: what an interface is given for good is lost when it changes its network
//! namespace, and can be given to it again there.

use super::message::{Attributes, Body, Messages, read_u32};
use super::{Error, Socket};

/// Bytes of `struct ifaddrmsg`.
const HEADER: usize = 8;
/// What makes an address, in the order in which it is written again.
const PARTS: [u16; 3] = [libc::IFA_LOCAL, libc::IFA_ADDRESS, libc::IFA_BROADCAST];

/// An address with all that belongs to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lasting {
    family: u8,
    prefix_len: u8,
    parts: Vec<(u16, Vec<u8>)>,
}

/// The addresses of an interface that are permanent (IFA_F_PERMANENT) and global (RT_SCOPE_UNIVERSE).
pub fn lasting(socket: &mut Socket, index: u32) -> Result<Vec<Lasting>, Error> {
    let fill = |body: &mut Body<'_>| body.raw(&[0; HEADER]);
    socket.dump("list addresses", libc::RTM_GETADDR, fill, |found: &mut Vec<_>, payload| {
        found.extend(read(payload, index));
    })
}

/// Gives an interface such an address, without looking for others that have it.
pub fn restore(messages: &mut Messages, index: u32, address: &Lasting) {
    const FLAGS: u16 =
        (libc::NLM_F_REQUEST | libc::NLM_F_ACK | libc::NLM_F_CREATE | libc::NLM_F_EXCL) as u16;
    let what = format!("give interface #{index} its address back");
    messages.push(what, libc::RTM_NEWADDR, FLAGS, |body| {
        let [a, b, c, d] = index.to_ne_bytes();
        let is_ipv6 = i32::from(address.family) == libc::AF_INET6;
        let flags = if is_ipv6 { libc::IFA_F_NODAD as u8 } else { 0 };
        let (family, prefix_len) = (address.family, address.prefix_len);
        body.raw(&[family, prefix_len, flags, libc::RT_SCOPE_UNIVERSE, a, b, c, d]);
        for (kind, value) in &address.parts {
            body.put(*kind, value);
        }
    });
}

fn read(payload: &[u8], index: u32) -> Option<Lasting> {
    let header: &[u8; HEADER] = payload.first_chunk()?;
    let [family, prefix_len, flags, scope, ..] = *header;
    let permanent = u32::from(flags) & libc::IFA_F_PERMANENT != 0;
    if read_u32(payload, 4)? != index || !permanent || scope != libc::RT_SCOPE_UNIVERSE {
        return None;
    }
    let attributes = Attributes::after(payload, HEADER);
    let part = |kind| Some((kind, attributes.clone().find(kind)?.to_vec()));
    let parts: Vec<_> = PARTS.into_iter().filter_map(part).collect();
    if parts.is_empty() { None } else { Some(Lasting { family, prefix_len, parts }) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::Family;
    use super::super::route;
    use super::*;

    #[test]
    fn loopback_has_none_that_is_global() {
        let mut socket = Socket::open(Family::Route).unwrap();
        let lo = route::link(&mut socket, "lo").unwrap().unwrap();
        assert_eq!(lasting(&mut socket, lo.index).unwrap(), []);
    }

    proptest! {
        #[test]
        fn reading_anything_ends(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = read(&bytes, 1);
        }
    }
}
