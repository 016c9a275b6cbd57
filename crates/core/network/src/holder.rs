//! Who has a port: from the kernel's lists of sockets to an inode, from there to the process that has it
//! open.
//!
//! Slow (it looks at every process), so only asked once a port is known to be taken, to tell people by
//! whom. Processes come and go meanwhile: what cannot be read is passed over.

use std::fmt;
use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::Path;

use dhow_netns::Transport;
use dhow_spec::ContainerId;
use dhow_sys::netlink::diag::{Bound, bound_sockets};
use dhow_sys::netlink::{Family, Socket};

use crate::types::Protocol;

/// Who has a port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Holder {
    /// A container of this daemon.
    Container(ContainerId),
    /// A process of this machine.
    Process { name: String, pid: u32 },
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Container(id) => write!(f, "container {}", id.short()),
            Self::Process { name, pid } => write!(f, "{name} (pid {pid})"),
        }
    }
}

/// What holds a port on an address, as the kernel's tables show it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Found {
    /// A socket with this inode.
    Socket(u64),
    /// Only connections that have ended and wait for stragglers (TIME_WAIT).
    Remains,
    /// Nothing that these tables show.
    Nothing,
}

/// What keeps `port` on `address` from being bound, in the calling thread's network namespace.
pub(crate) fn find(protocol: Protocol, address: Ipv4Addr, port: u16) -> Found {
    let mut found = Found::Nothing;
    for name in [protocol.to_string(), format!("{protocol}6")] {
        let path = format!("/proc/thread-self/net/{name}");
        let table = fs::read_to_string(path).unwrap_or_default();
        for entry in table.lines().skip(1).filter_map(parse) {
            let same_address = address.is_unspecified()
                || entry.address.is_unspecified()
                || entry.address == IpAddr::V4(address);
            if entry.port != port || !same_address {
                continue;
            }
            if entry.inode != 0 {
                return Found::Socket(entry.inode);
            }
            found = Found::Remains;
        }
    }
    match found {
        Found::Nothing => find_inactive(protocol, address, port),
        found => found,
    }
}

/// The same for sockets that are bound and nothing more, such as the reservations of another daemon:
/// /proc/net does not list them for TCP. Older kernels have no answer.
fn find_inactive(protocol: Protocol, address: Ipv4Addr, port: u16) -> Found {
    let sockets = Socket::open(Family::SocketDiagnosis)
        .and_then(|mut socket| bound_sockets(&mut socket, Transport::from(protocol) as u8, port))
        .unwrap_or_default();
    let concerns = |bound: &Bound| {
        address.is_unspecified()
            || bound.address.is_unspecified()
            || bound.address == IpAddr::V4(address)
    };
    let socket = sockets.iter().find(|bound| bound.inode != 0 && concerns(bound));
    socket.map_or(Found::Nothing, |bound| Found::Socket(bound.inode.into()))
}

/// The process that has the socket of this inode open.
pub(crate) fn process(inode: u64) -> Option<Holder> {
    let wanted = format!("socket:[{inode}]");
    let processes = fs::read_dir("/proc").ok()?.flatten();
    let mut pids = processes.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    pids.find_map(|pid| {
        let descriptors = fs::read_dir(format!("/proc/{pid}/fd")).ok()?.flatten();
        let mut links = descriptors.filter_map(|entry| fs::read_link(entry.path()).ok());
        links.any(|link| link == Path::new(&wanted)).then(|| {
            let name = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
            Holder::Process { name: name.trim_end().to_owned(), pid }
        })
    })
}

/// A line of /proc/net/tcp, tcp6, udp or udp6.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Entry {
    address: IpAddr,
    port: u16,
    inode: u64,
}

/// Reads `sl local_address rem_address st tx:rx tr:tm retrnsmt uid timeout inode …`; proc_pid_net(5). An
/// IPv4 address inside IPv6 is given as IPv4.
fn parse(line: &str) -> Option<Entry> {
    let mut fields = line.split_ascii_whitespace();
    let (address, port) = fields.nth(1)?.split_once(':')?;
    let port = u16::from_str_radix(port, 16).ok()?;
    let inode = fields.nth(7)?.parse().ok()?;
    if !address.is_ascii() {
        return None;
    }
    // Words in the machine's order.
    let word = |at: usize| {
        let digits = address.get(at * 8..at * 8 + 8)?;
        u32::from_str_radix(digits, 16).ok().map(u32::to_ne_bytes)
    };
    let address = match address.len() {
        8 => IpAddr::from(word(0)?),
        32 => {
            let words = [word(0)?, word(1)?, word(2)?, word(3)?].concat();
            Ipv6Addr::from(<[u8; 16]>::try_from(words).ok()?).to_canonical()
        }
        _ => return None,
    };
    Some(Entry { address, port, inode })
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn lines_are_read() {
        let line = "   0: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000  \
                    0        0 4242 1 0000000000000000 100 0 0 10 0";
        let entry = Entry { address: [127, 0, 0, 1].into(), port: 8080, inode: 4242 };
        assert_eq!(parse(line), Some(entry));
        let line = "  1: 00000000000000000000000000000000:0050 00000000000000000000000000000000:0000 0A \
                    00000000:00000000 00:00000000 00000000     0        0 7 1";
        let entry = Entry { address: Ipv6Addr::UNSPECIFIED.into(), port: 80, inode: 7 };
        assert_eq!(parse(line), Some(entry));
    }

    #[test]
    fn this_process_is_found_by_its_socket() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let Found::Socket(inode) = find(Protocol::Tcp, Ipv4Addr::LOCALHOST, port) else {
            panic!("the listener is not found")
        };
        assert!(matches!(find(Protocol::Tcp, Ipv4Addr::UNSPECIFIED, port), Found::Socket(_)));
        let Some(Holder::Process { pid, .. }) = process(inode) else { panic!("no process") };
        assert_eq!(pid, std::process::id());
    }

    proptest! {
        #[test]
        fn any_line_is_read(line in ".{0,200}", digits in "[0-9A-F]{0,40}:[0-9A-F]{0,6}") {
            let _ = parse(&line);
            let _ = parse(&format!("0: {digits} x st a b c d 1 2 3"));
        }
    }
}
