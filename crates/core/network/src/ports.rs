//! Taking ports of the host for containers.
//!
//! A published port is rewritten by the nftables table and never reaches a socket. A socket is bound to
//! it all the same, without listening, and kept as long as the port is published: so the kernel itself
//! sees to it that nobody else takes the port, and we hear of it when somebody has.

use std::net::{IpAddr, Ipv4Addr, SocketAddrV4};
use std::ops::RangeInclusive;
use std::os::fd::OwnedFd;

use dhow_sys::rustix::io::Errno;
use dhow_sys::rustix::net::{AddressFamily, SocketFlags, SocketType, bind, socket_with, sockopt};

use crate::error::Error;
use crate::holder::{self, Found, Holder};
use crate::types::{PortRequest, Protocol, PublishedPort};

/// How many ports after the one that is taken are tried for the hint.
const NEIGHBOURS: u16 = 20;

/// A port that is nobody else's as long as this lives.
#[derive(Debug)]
pub(crate) struct Reservation {
    _socket: OwnedFd,
}

/// Gives out ports of the ephemeral range in turn, so that one that was just given back rests.
#[derive(Debug, Clone)]
pub(crate) struct Ephemeral {
    range: RangeInclusive<u16>,
    next: u16,
}

impl Ephemeral {
    /// The kernel's range for ports that nobody chose (`ip_local_port_range` of ip(7)).
    pub(crate) fn of_kernel() -> Self {
        let text = std::fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range");
        Self::new(text.ok().as_deref().and_then(parse_range).unwrap_or(32768..=60999))
    }

    fn new(range: RangeInclusive<u16>) -> Self {
        let next = *range.start();
        Self { range, next }
    }

    /// Every port of the range once, starting behind the last one given out.
    fn candidates(&self) -> impl Iterator<Item = u16> + use<> {
        let (first, last, next) = (*self.range.start(), *self.range.end(), self.next);
        (next..=last).chain(first..next)
    }

    fn given(&mut self, port: u16) {
        self.next = if port >= *self.range.end() { *self.range.start() } else { port + 1 };
    }
}

/// Takes a port for a container. `own` says which of this daemon's containers has a port.
pub(crate) fn take(
    request: &PortRequest,
    ephemeral: &mut Ephemeral,
    own: impl Fn(Protocol, Ipv4Addr, u16) -> Option<Holder>,
) -> Result<(PublishedPort, Reservation), Error> {
    let protocol = request.protocol;
    let address = host_address(request.host_ip)?;
    let (port, reservation) = match &request.host_ports {
        Some(ports) if ports.start() == ports.end() => {
            let port = *ports.start();
            (port, take_one(request, address, port, own)?)
        }
        Some(ports) => first_free(request, address, ports.clone(), ports)?,
        None => {
            let range = ephemeral.range.clone();
            let taken = first_free(request, address, ephemeral.candidates(), &range)?;
            ephemeral.given(taken.0);
            taken
        }
    };
    let published = PublishedPort {
        protocol,
        host_ip: IpAddr::V4(address),
        host_port: port,
        container_port: request.container_port,
    };
    Ok((published, reservation))
}

/// Takes back a port that a container had before the daemon was restarted.
pub(crate) fn retake(published: &PublishedPort) -> Result<Reservation, Error> {
    let address = host_address(Some(published.host_ip))?;
    let request = PortRequest {
        protocol: published.protocol,
        host_ip: Some(published.host_ip),
        host_ports: None,
        container_port: published.container_port,
    };
    take_one(&request, address, published.host_port, |_, _, _| None)
}

/// One certain port, or a full account of why not.
fn take_one(
    request: &PortRequest,
    address: Ipv4Addr,
    port: u16,
    own: impl Fn(Protocol, Ipv4Addr, u16) -> Option<Holder>,
) -> Result<Reservation, Error> {
    let protocol = request.protocol;
    let refused = match reserve(protocol, address, port, false) {
        Ok(reservation) => return Ok(reservation),
        Err(errno) => errno,
    };
    if refused != Errno::ADDRINUSE {
        return Err(failure(protocol, address, port, refused));
    }
    let holder = match own(protocol, address, port) {
        Some(holder) => Some(holder),
        None => match holder::find(protocol, address, port) {
            Found::Socket(inode) => holder::process(inode),
            Found::Nothing => None,
            // Ended connections are no reason to refuse: any server would reuse the address.
            Found::Remains => match reserve(protocol, address, port, true) {
                Ok(reservation) => return Ok(reservation),
                Err(_) => None,
            },
        },
    };
    let free = |port: &u16| reserve(protocol, address, *port, false).is_ok();
    let neighbour = (1..=NEIGHBOURS).filter_map(|offset| port.checked_add(offset)).find(free);
    let instead = neighbour.map(|free| (free, request.container_port));
    Err(Error::PortInUse { port, protocol, holder, instead })
}

/// The first of `candidates` that is free.
fn first_free(
    request: &PortRequest,
    address: Ipv4Addr,
    candidates: impl Iterator<Item = u16>,
    range: &RangeInclusive<u16>,
) -> Result<(u16, Reservation), Error> {
    let protocol = request.protocol;
    for port in candidates.filter(|port| *port != 0) {
        match reserve(protocol, address, port, false) {
            Ok(reservation) => return Ok((port, reservation)),
            Err(Errno::ADDRINUSE) => {}
            Err(errno) => return Err(failure(protocol, address, port, errno)),
        }
    }
    let (first, last) = (*range.start(), *range.end());
    Err(Error::NoPort { container_port: request.container_port, protocol, first, last })
}

fn reserve(
    protocol: Protocol,
    address: Ipv4Addr,
    port: u16,
    reuse: bool,
) -> Result<Reservation, Errno> {
    let kind = match protocol {
        Protocol::Tcp => SocketType::STREAM,
        Protocol::Udp => SocketType::DGRAM,
    };
    let socket = socket_with(AddressFamily::INET, kind, SocketFlags::CLOEXEC, None)?;
    if reuse {
        sockopt::set_socket_reuseaddr(&socket, true)?;
    }
    if protocol == Protocol::Udp {
        // Should a packet ever come by, nobody reads it: the kernel's minimum is plenty.
        sockopt::set_socket_recv_buffer_size(&socket, 0)?;
    }
    bind(&socket, &SocketAddrV4::new(address, port))?;
    Ok(Reservation { _socket: socket })
}

fn host_address(wanted: Option<IpAddr>) -> Result<Ipv4Addr, Error> {
    match wanted {
        None => Ok(Ipv4Addr::UNSPECIFIED),
        Some(IpAddr::V4(address)) => Ok(address),
        Some(address @ IpAddr::V6(_)) => Err(Error::Ipv6(address)),
    }
}

fn failure(protocol: Protocol, address: Ipv4Addr, port: u16, errno: Errno) -> Error {
    match errno {
        Errno::ADDRNOTAVAIL => Error::NoHostAddress { port, protocol, address: address.into() },
        errno => Error::Port { port, protocol, source: errno.into() },
    }
}

/// Two numbers with white space between them, as /proc/sys has them.
fn parse_range(text: &str) -> Option<RangeInclusive<u16>> {
    let mut numbers = text.split_whitespace().map(str::parse::<u16>);
    let (first, last) = (numbers.next()?.ok()?, numbers.next()?.ok()?);
    (first > 0 && first <= last).then_some(first..=last)
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, UdpSocket};

    use dhow_error::{Classify, Kind};

    use super::*;

    fn request(protocol: Protocol, ports: Option<RangeInclusive<u16>>) -> PortRequest {
        let host_ip = Some(Ipv4Addr::LOCALHOST.into());
        PortRequest { protocol, host_ip, host_ports: ports, container_port: 80 }
    }

    fn nobody(_: Protocol, _: Ipv4Addr, _: u16) -> Option<Holder> {
        None
    }

    fn try_take(
        protocol: Protocol,
        ports: Option<RangeInclusive<u16>>,
    ) -> Result<(PublishedPort, Reservation), Error> {
        take(&request(protocol, ports), &mut Ephemeral::of_kernel(), nobody)
    }

    #[test]
    fn a_taken_port_names_its_holder_and_another() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let error = try_take(Protocol::Tcp, Some(port..=port)).unwrap_err();
        let (text, pid) = (error.to_string(), std::process::id());
        assert!(
            text.starts_with(&format!("cannot publish port {port}: address in use by ")),
            "{text}"
        );
        assert!(text.ends_with(&format!("(pid {pid})")), "{text}");
        assert_eq!(error.kind(), Kind::Conflict);
        let hint = error.hint().unwrap();
        assert!(hint.starts_with("choose another with -p ") && hint.ends_with(":80"), "{hint}");
    }

    #[test]
    fn a_reserved_port_is_taken_for_everybody() {
        let (published, reservation) = try_take(Protocol::Tcp, None).unwrap();
        let port = published.host_port;
        assert!(TcpListener::bind(("127.0.0.1", port)).is_err());
        let (udp, _kept) = try_take(Protocol::Udp, None).unwrap();
        let error = try_take(Protocol::Udp, Some(udp.host_port..=udp.host_port)).unwrap_err();
        let text = error.to_string();
        assert!(
            text.starts_with(&format!("cannot publish port {}/udp: ", udp.host_port)),
            "{text}"
        );
        assert!(error.hint().unwrap().ends_with(":80/udp"));
        assert!(UdpSocket::bind(("127.0.0.1", udp.host_port)).is_err());
        drop(reservation);
        TcpListener::bind(("127.0.0.1", port)).unwrap();
    }

    #[test]
    fn a_range_gives_its_first_free_port() {
        let (published, _kept) = try_take(Protocol::Tcp, None).unwrap();
        let first = published.host_port;
        let (second, _kept) = try_take(Protocol::Tcp, Some(first..=first + 50)).unwrap();
        assert!(second.host_port > first);
        let error = try_take(Protocol::Tcp, Some(first..=first)).unwrap_err();
        assert!(matches!(error, Error::PortInUse { .. }), "{error}");
    }

    #[test]
    fn an_exhausted_range_is_named() {
        let (published, _kept) = try_take(Protocol::Udp, None).unwrap();
        let port = published.host_port;
        let mut ephemeral = Ephemeral::new(port..=port);
        let error = take(&request(Protocol::Udp, None), &mut ephemeral, nobody).unwrap_err();
        let text = format!("cannot publish port 80/udp: no free port among {port} to {port}");
        assert_eq!((error.to_string(), error.kind()), (text, Kind::Exhausted));
    }

    #[test]
    fn impossible_addresses_are_told() {
        let mut request = request(Protocol::Tcp, Some(8080..=8080));
        request.host_ip = Some(Ipv4Addr::new(203, 0, 113, 7).into());
        let error = take(&request, &mut Ephemeral::of_kernel(), nobody).unwrap_err();
        let text = "cannot publish port 8080 on 203.0.113.7: this machine has no such address";
        assert_eq!(error.to_string(), text);
        request.host_ip = Some("::1".parse().unwrap());
        let error = take(&request, &mut Ephemeral::of_kernel(), nobody).unwrap_err();
        assert_eq!(error.kind(), Kind::Unsupported);
    }

    #[test]
    fn ephemeral_ports_come_in_turn() {
        let mut ephemeral = Ephemeral::new(10..=13);
        ephemeral.given(11);
        assert_eq!(ephemeral.candidates().collect::<Vec<_>>(), [12, 13, 10, 11]);
        ephemeral.given(13);
        assert_eq!(ephemeral.candidates().next(), Some(10));
        assert_eq!(parse_range("32768\t60999\n"), Some(32768..=60999));
        assert_eq!(parse_range("9 3"), None);
        assert_eq!(parse_range("x"), None);
    }
}
