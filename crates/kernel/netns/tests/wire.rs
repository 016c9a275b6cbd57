//! Namespaces, bridge and table at work: each test makes a "host" of its own in a network namespace of
//! its own, so that the machine sees nothing of it.

#![allow(clippy::unwrap_used, reason = "these are tests")]

use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::BorrowedFd;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use dhow_netns::{Bridge, Cidr, Interface, Mac, Namespace, Publication, Table, Transport};
use dhow_sys::namespace::{Namespaces, join};
use dhow_sys::netlink::route::{self, LinkChange, Peer, Target};
use dhow_sys::netlink::{Family, LinkEvents, Messages, Socket};

const PATIENCE: Duration = Duration::from_secs(5);

/// Runs `work` in a network namespace, on a thread of its own.
fn inside<T: Send>(netns: BorrowedFd<'_>, work: impl FnOnce() -> T + Send) -> T {
    thread::scope(|scope| {
        let worker = scope.spawn(|| {
            join(netns, Namespaces::NETWORK).unwrap();
            work()
        });
        worker.join().unwrap()
    })
}

/// Runs a test in a namespace that plays the host.
fn on_a_host(test: impl FnOnce(&mut Host) + Send) {
    let netns = Namespace::create().unwrap();
    inside(netns.fd(), || {
        let mut route = Socket::open(Family::Route).unwrap();
        let mut netfilter = Socket::open(Family::Netfilter).unwrap();
        let address: Cidr = "10.77.0.1/16".parse().unwrap();
        let bridge = Bridge::create(&mut route, "dhow-t0", address, None).unwrap();
        bridge.apply_settings().unwrap();
        dhow_netns::enable_forwarding().unwrap();
        let table = Table::new("dhow-t0", address).unwrap();
        table.install(&mut netfilter, &[]).unwrap();
        test(&mut Host { route, netfilter, address, bridge, table });
    });
}

struct Host {
    route: Socket,
    netfilter: Socket,
    address: Cidr,
    bridge: Bridge,
    table: Table,
}

impl Host {
    fn container(&mut self, last: u8) -> Namespace {
        let mut netns = Namespace::create().unwrap();
        netns.plug(&mut self.route, &self.bridge).unwrap();
        netns.configure(&self.interface(last)).unwrap();
        netns
    }

    fn interface(&self, last: u8) -> Interface {
        let address = Ipv4Addr::new(10, 77, 0, last);
        Interface {
            mac: Mac::of(address),
            address: Cidr::new(address.into(), 16).unwrap(),
            gateway: self.address.address(),
        }
    }

    /// A machine beyond the host: 192.0.2.2, the host being 192.0.2.1 there.
    fn outside(&mut self) -> Namespace {
        let netns = Namespace::create().unwrap();
        let mut messages = Messages::new();
        let peer = Peer { name: "eth0", netns: netns.fd() };
        route::create_veth(&mut messages, "wan0", None, &peer);
        self.route.send(&mut messages).unwrap();
        set_up(&mut self.route, "wan0", Ipv4Addr::new(192, 0, 2, 1));
        inside(netns.fd(), || {
            let mut socket = Socket::open(Family::Route).unwrap();
            let index = set_up(&mut socket, "eth0", Ipv4Addr::new(192, 0, 2, 2));
            let mut messages = Messages::new();
            route::add_default_route(&mut messages, index, Ipv4Addr::new(192, 0, 2, 1).into());
            socket.send(&mut messages).unwrap();
        });
        netns
    }

    fn publish(&mut self, host: Option<Ipv4Addr>, host_port: u16, last: u8) -> Publication {
        let publication = Publication {
            transport: Transport::Tcp,
            host,
            host_port,
            container: Ipv4Addr::new(10, 77, 0, last),
            container_port: 80,
        };
        self.table.publish(&mut self.netfilter, &[publication]).unwrap();
        publication
    }
}

fn set_up(socket: &mut Socket, name: &str, address: Ipv4Addr) -> u32 {
    let index = route::link(socket, name).unwrap().unwrap().index;
    let mut messages = Messages::new();
    let change = LinkChange { up: Some(true), ..LinkChange::default() };
    route::change_link(&mut messages, Target::Index(index), &change);
    route::add_address(&mut messages, index, address.into(), 24);
    socket.send(&mut messages).unwrap();
    index
}

/// Serves port 80 in a namespace as long as `work` runs: each client is told its own address.
fn serving<T>(netns: &Namespace, work: impl FnOnce() -> T) -> T {
    thread::scope(|scope| {
        let (ready, listening) = mpsc::channel();
        let server = scope.spawn(move || {
            join(netns.fd(), Namespaces::NETWORK).unwrap();
            let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, 80)).unwrap();
            ready.send(()).unwrap();
            loop {
                let (mut client, from) = listener.accept().unwrap();
                write!(client, "{}", from.ip()).unwrap();
                if from.ip().is_loopback() {
                    break;
                }
            }
        });
        listening.recv().unwrap();
        let result = catch_unwind(AssertUnwindSafe(work));
        // A client from inside ends the server.
        inside(netns.fd(), || ask(Ipv4Addr::LOCALHOST.into(), 80)).unwrap();
        server.join().unwrap();
        result.unwrap_or_else(|panic| resume_unwind(panic))
    })
}

/// Who the server says that we are; none if it cannot be reached.
fn ask(address: IpAddr, port: u16) -> Option<IpAddr> {
    let mut stream = TcpStream::connect_timeout(&SocketAddr::new(address, port), PATIENCE).ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    answer.parse().ok()
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

#[test]
fn two_containers_and_the_host_reach_each_other() {
    on_a_host(|host| {
        let (first, second) = (host.container(2), host.container(3));
        serving(&first, || {
            assert_eq!(inside(second.fd(), || ask(ip("10.77.0.2"), 80)), Some(ip("10.77.0.3")));
            assert_eq!(ask(ip("10.77.0.2"), 80), Some(ip("10.77.0.1")));
        });
    });
}

#[test]
fn a_published_port_is_reached_from_everywhere() {
    reach_from_everywhere("1");
}

#[test]
fn a_published_port_is_reached_without_br_netfilter() {
    reach_from_everywhere("0");
}

/// `br_netfilter` decides whether bridged packets meet the table; where the module is not loaded there
/// is nothing to decide.
fn reach_from_everywhere(br_netfilter: &str) {
    on_a_host(|host| {
        let _ = std::fs::write("/proc/sys/net/bridge/bridge-nf-call-iptables", br_netfilter);
        let (server, other, outside) = (host.container(2), host.container(3), host.outside());
        let publication = host.publish(None, 8080, 2);
        serving(&server, || {
            // From the host, by whatever address it has.
            assert_eq!(ask(ip("127.0.0.1"), 8080), Some(ip("10.77.0.1")));
            assert!(ask(ip("10.77.0.1"), 8080).is_some());
            assert!(ask(ip("192.0.2.1"), 8080).is_some());
            // From elsewhere; the container sees who it is.
            let seen = inside(outside.fd(), || ask(ip("192.0.2.1"), 8080));
            assert_eq!(seen, Some(ip("192.0.2.2")));
            // From another container and from itself, by the host's address.
            assert!(inside(other.fd(), || ask(ip("192.0.2.1"), 8080)).is_some());
            assert!(inside(server.fd(), || ask(ip("192.0.2.1"), 8080)).is_some());
            assert!(inside(server.fd(), || ask(ip("10.77.0.1"), 8080)).is_some());
            host.table.unpublish(&mut host.netfilter, &[publication]).unwrap();
            assert_eq!(ask(ip("127.0.0.1"), 8080), None);
        });
    });
}

#[test]
fn a_port_published_on_one_address_is_not_on_others() {
    on_a_host(|host| {
        let (server, outside) = (host.container(2), host.outside());
        host.publish(Some(Ipv4Addr::LOCALHOST), 8080, 2);
        host.publish(Some(Ipv4Addr::new(192, 0, 2, 1)), 8081, 2);
        serving(&server, || {
            assert!(ask(ip("127.0.0.1"), 8080).is_some());
            assert_eq!(ask(ip("192.0.2.1"), 8080), None);
            assert_eq!(inside(outside.fd(), || ask(ip("192.0.2.1"), 8080)), None);
            assert_eq!(inside(outside.fd(), || ask(ip("192.0.2.1"), 8081)), Some(ip("192.0.2.2")));
            assert_eq!(ask(ip("127.0.0.1"), 8081), None);
        });
    });
}

#[test]
fn what_is_not_published_is_not_reached_from_outside_but_reaches_it() {
    on_a_host(|host| {
        let (container, outside) = (host.container(2), host.outside());
        let judged = receiver("192.0.2.1:9");
        serving(&outside, || {
            // Masqueraded: the host's address is what the outside sees.
            let seen = inside(container.fd(), || ask(ip("192.0.2.2"), 80));
            assert_eq!(seen, Some(ip("192.0.2.1")));
        });
        // A neighbour that routes packets for the container to us is not let through.
        let server = inside(container.fd(), || receiver("10.77.0.2:53"));
        inside(outside.fd(), || {
            let stranger = UdpSocket::bind("192.0.2.2:0").unwrap();
            stranger.send_to(b"stranger", "10.77.0.2:53").unwrap();
            // Once this has arrived, the stranger's packet has been judged.
            stranger.send_to(b"done", "192.0.2.1:9").unwrap();
        });
        assert_eq!(first_message(&judged).0, "done");
        UdpSocket::bind("10.77.0.1:0").unwrap().send_to(b"host", "10.77.0.2:53").unwrap();
        assert_eq!(first_message(&server), ("host".to_owned(), ip("10.77.0.1")));
    });
}

/// Makes the calling thread's namespace, an attacker's, send packets for 127.0.0.0/8 out by eth0.
fn send_loopback_outside() {
    const RTM_DELADDR: u16 = 21;
    const REQUEST_AND_ACK: u16 = 5;
    const IFA_LOCAL: u16 = 2;
    std::fs::write("/proc/sys/net/ipv4/conf/eth0/route_localnet", "1").unwrap();
    let mut socket = Socket::open(Family::Route).unwrap();
    let [a, b, c, d] = route::link(&mut socket, "lo").unwrap().unwrap().index.to_ne_bytes();
    let mut messages = Messages::new();
    messages.push("delete 127.0.0.1", RTM_DELADDR, REQUEST_AND_ACK, |body| {
        body.raw(&[2, 8, 0, 0, a, b, c, d]);
        body.put(IFA_LOCAL, &[127, 0, 0, 1]);
    });
    // A namespace whose loopback was never up has no such address.
    let _ = socket.send(&mut messages);
}

fn receiver(address: &str) -> UdpSocket {
    let socket = UdpSocket::bind(address).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    socket
}

/// The first message that comes, and from where.
fn first_message(socket: &UdpSocket) -> (String, IpAddr) {
    let mut buffer = [0; 32];
    let (length, from) = socket.recv_from(&mut buffer).unwrap();
    (String::from_utf8_lossy(&buffer[..length]).into_owned(), from.ip())
}

/// A container must not reach what the host serves on loopback only, which route_localnet would allow.
#[test]
fn loopback_services_of_the_host_are_out_of_reach() {
    on_a_host(|host| {
        let container = host.container(2);
        let secret = receiver("127.0.0.1:5353");
        let public = receiver("10.77.0.1:5353");
        inside(container.fd(), || {
            send_loopback_outside();
            let attacker = UdpSocket::bind("10.77.0.2:0").unwrap();
            attacker.send_to(b"attack", "127.0.0.1:5353").unwrap();
            attacker.send_to(b"hello", "10.77.0.1:5353").unwrap();
        });
        assert_eq!(first_message(&public).0, "hello");
        UdpSocket::bind("127.0.0.1:0").unwrap().send_to(b"local", "127.0.0.1:5353").unwrap();
        assert_eq!(first_message(&secret).0, "local");
    });
}

/// CVE-2020-8558, for published ports: a neighbour must not reach what is published on 127.0.0.1.
#[test]
fn ports_published_on_loopback_are_out_of_a_neighbours_reach() {
    on_a_host(|host| {
        let (container, outside) = (host.container(2), host.outside());
        let publish = |address, host_port| Publication {
            transport: Transport::Udp,
            host: Some(address),
            host_port,
            container: Ipv4Addr::new(10, 77, 0, 2),
            container_port: 53,
        };
        let publications =
            [publish(Ipv4Addr::LOCALHOST, 5353), publish(Ipv4Addr::new(192, 0, 2, 1), 5354)];
        host.table.publish(&mut host.netfilter, &publications).unwrap();
        let server = inside(container.fd(), || receiver("10.77.0.2:53"));
        inside(outside.fd(), || {
            send_loopback_outside();
            let neighbour = UdpSocket::bind("192.0.2.2:0").unwrap();
            neighbour.send_to(b"attack", "127.0.0.1:5353").unwrap();
            neighbour.send_to(b"hello", "192.0.2.1:5354").unwrap();
        });
        assert_eq!(first_message(&server), ("hello".to_owned(), ip("192.0.2.2")));
        UdpSocket::bind("127.0.0.1:0").unwrap().send_to(b"local", "127.0.0.1:5353").unwrap();
        assert_eq!(first_message(&server), ("local".to_owned(), ip("10.77.0.1")));
    });
}

#[test]
fn no_interface_gives_itself_an_ipv6_address() {
    on_a_host(|host| {
        let container = host.container(2);
        let made_itself = |socket: &mut Socket| {
            let found = route::addresses(socket).unwrap().into_iter();
            found.filter(|it| it.address.is_ipv6() && !it.address.is_loopback()).collect::<Vec<_>>()
        };
        assert_eq!(made_itself(&mut host.route), []);
        let mut inside = inside(container.fd(), || Socket::open(Family::Route).unwrap());
        assert_eq!(made_itself(&mut inside), []);
    });
}

#[test]
fn dropped_namespaces_leave_the_bridge_empty() {
    on_a_host(|host| {
        let containers: Vec<_> = (2..5).map(|last| host.container(last)).collect();
        assert_eq!(host.bridge.ports(&mut host.route).unwrap(), 3);
        let events = LinkEvents::open().unwrap();
        drop(containers);
        let deadline = Instant::now() + PATIENCE;
        assert!(host.bridge.wait_for_no_ports(&mut host.route, &events, deadline).unwrap());
        host.table.delete(&mut host.netfilter).unwrap();
        host.bridge.delete(&mut host.route).unwrap();
        assert_eq!(Bridge::find(&mut host.route, "dhow-t0").unwrap(), None);
        assert!(!host.table.is_installed(&mut host.netfilter).unwrap());
    });
}

#[test]
fn the_table_takes_many_ports_and_replaces_stale_ones() {
    on_a_host(|host| {
        let publications: Vec<_> = (0..1000)
            .map(|offset| Publication {
                transport: if offset % 2 == 0 { Transport::Tcp } else { Transport::Udp },
                host: (offset % 3 == 0).then_some(Ipv4Addr::LOCALHOST),
                host_port: 20_000 + offset,
                container: Ipv4Addr::new(10, 77, 0, 2),
                container_port: 80,
            })
            .collect();
        host.table.install(&mut host.netfilter, &publications).unwrap();
        assert!(host.table.is_installed(&mut host.netfilter).unwrap());
        // The same ports for another container: the old elements go.
        let moved = publications.iter().take(10).copied();
        let moved: Vec<_> =
            moved.map(|it| Publication { container: Ipv4Addr::new(10, 77, 0, 3), ..it }).collect();
        host.table.publish(&mut host.netfilter, &moved).unwrap();
        host.table.unpublish(&mut host.netfilter, &publications).unwrap();
        host.table.unpublish(&mut host.netfilter, &publications).unwrap();
    });
}

#[test]
fn other_bridges_and_other_interfaces_are_told_apart() {
    on_a_host(|host| {
        assert!(host.bridge.is_own());
        assert_eq!(host.bridge.address(&mut host.route).unwrap(), Some(host.address));
        let mut messages = Messages::new();
        route::create_bridge(&mut messages, "br-other", [2, 0, 0, 0, 0, 1], None);
        host.route.send(&mut messages).unwrap();
        let other = Bridge::find(&mut host.route, "br-other").unwrap().unwrap();
        assert!(!other.is_own());
        other.delete(&mut host.route).unwrap();
        assert!(Bridge::find(&mut host.route, "br-other").unwrap().is_some());
        let error = Bridge::find(&mut host.route, "lo").unwrap_err();
        assert_eq!(
            error.to_string(),
            "cannot use lo as a bridge: it is an interface of another kind"
        );
        let taken = dhow_netns::taken_networks(&mut host.route, None).unwrap();
        assert!(taken.iter().any(|it| it.overlaps(&host.address)));
        let taken = dhow_netns::taken_networks(&mut host.route, Some(host.bridge.index())).unwrap();
        assert!(!taken.iter().any(|it| it.overlaps(&host.address)));
    });
}
