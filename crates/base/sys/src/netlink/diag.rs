//! Who holds a port, also where /proc/net does not tell: sock_diag(7).
//!
//! A TCP socket that is bound but neither listens nor is connected appears in no file below /proc/net;
//! from kernel 6.8 on it can be asked for here.

use std::net::{IpAddr, Ipv6Addr};

use super::message::{Body, read_u32};
use super::{Error, Socket};

/// `SOCK_DIAG_BY_FAMILY` of linux/sock_diag.h.
const BY_FAMILY: u16 = 20;
/// `TCP_BOUND_INACTIVE`, and the states up to `TCP_CLOSING` that have numbers below it, as bits.
const ALL_STATES: u32 = (1 << 14) - 1;
/// Bytes of `struct inet_diag_sockid`.
const ID_LEN: usize = 48;
/// Bytes of `struct inet_diag_msg`.
const ANSWER_LEN: usize = 72;

/// A socket bound to a port.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bound {
    /// The address it is bound to; an IPv4 address inside IPv6 is given as IPv4.
    pub address: IpAddr,
    /// The inode, by which /proc/PID/fd shows it; 0 if no process has it any more.
    pub inode: u32,
}

/// The sockets of `protocol` (6 is TCP, 17 UDP) that are bound to `port`, IPv4 and IPv6. `socket` is of
/// [`Family::SocketDiagnosis`](super::Family::SocketDiagnosis).
pub fn bound_sockets(socket: &mut Socket, protocol: u8, port: u16) -> Result<Vec<Bound>, Error> {
    let mut bound = Vec::new();
    for family in [libc::AF_INET, libc::AF_INET6] {
        let fill = |body: &mut Body<'_>| {
            body.raw(&[family as u8, protocol, 0, 0]);
            body.raw(&ALL_STATES.to_ne_bytes());
            let mut id = [0; ID_LEN];
            id[..2].copy_from_slice(&port.to_be_bytes());
            body.raw(&id);
        };
        let found =
            socket.dump("list sockets", BY_FAMILY, fill, |found: &mut Vec<_>, payload| {
                found.extend(read_bound(payload, port));
            })?;
        bound.extend(found);
    }
    Ok(bound)
}

fn read_bound(payload: &[u8], wanted: u16) -> Option<Bound> {
    let payload = payload.get(..ANSWER_LEN)?;
    let port = u16::from_be_bytes([payload[4], payload[5]]);
    let address = match i32::from(payload[0]) {
        libc::AF_INET => IpAddr::from(<[u8; 4]>::try_from(&payload[8..12]).ok()?),
        libc::AF_INET6 => {
            Ipv6Addr::from(<[u8; 16]>::try_from(&payload[8..24]).ok()?).to_canonical()
        }
        _ => return None,
    };
    (port == wanted).then_some(Bound { address, inode: read_u32(payload, ANSWER_LEN - 4)? })
}

#[cfg(test)]
mod tests {
    use std::net::UdpSocket;

    use proptest::prelude::*;

    use super::super::Family;
    use super::*;

    #[test]
    fn a_bound_socket_is_found() {
        let bound = UdpSocket::bind("127.0.0.1:0").unwrap();
        let port = bound.local_addr().unwrap().port();
        let mut socket = Socket::open(Family::SocketDiagnosis).unwrap();
        let found = bound_sockets(&mut socket, 17, port).unwrap();
        assert!(found.iter().any(|it| it.address.is_loopback() && it.inode != 0), "{found:?}");
    }

    proptest! {
        #[test]
        fn reading_anything_ends(bytes in proptest::collection::vec(any::<u8>(), 0..100), port: u16) {
            let _ = read_bound(&bytes, port);
        }
    }
}
