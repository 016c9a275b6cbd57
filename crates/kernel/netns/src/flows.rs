//! UDP exchanges under way, which outlive the rule that redirected them.

use std::net::Ipv4Addr;

use dhow_sys::netlink::{Socket, conntrack};

use crate::table::{Publication, Transport};
use crate::{Error, Result};

/// The number of UDP in IP (RFC 768).
const UDP: u8 = 17;

/// Has the kernel forget whom it asked so far for what is sent to these ports of the host, so that the next
/// datagram goes by the table as it is now: to a new container, or to none. Publications of TCP need
/// nothing: their connections end with the container. `socket` is a netfilter socket.
pub fn forget_exchanges(socket: &mut Socket, publications: &[Publication]) -> Result<()> {
    let is_udp = |publication: &&Publication| publication.transport == Transport::Udp;
    let ports: Vec<(Option<Ipv4Addr>, u16)> =
        publications.iter().filter(is_udp).map(|it| (it.host, it.host_port)).collect();
    if ports.is_empty() {
        return Ok(());
    }
    let doomed = |connection: &conntrack::Connection| {
        let (address, port) = connection.asked;
        connection.protocol == UDP
            && ports.iter().any(|(host, it)| *it == port && host.is_none_or(|it| it == address))
    };
    conntrack::forget(socket, doomed).map_err(Error::from)
}
