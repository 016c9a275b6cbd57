//! The network service as the engine uses it. Each test plays host in a network namespace of its own,
//! so that bridges, tables and ports of tests never meet; one runs in the machine's own.

#![allow(clippy::unwrap_used, reason = "these are tests")]

use std::future::Future;
use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use dhow_error::Kind;
use dhow_netns::{Bridge, Namespace, Table};
use dhow_network::{
    AttachRequest, Attachment, Config, Mode, Network, PortRequest, Protocol, Survivor,
};
use dhow_spec::ContainerId;
use dhow_sys::namespace::{Namespaces, join};
use dhow_sys::netlink::{Family, Socket, route};

const BRIDGE: &str = "dhow0";
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

/// Runs a test in a namespace that plays the host. The runtime's threads are started from there, so
/// they are in it too.
fn on_a_host<F: Future<Output = ()>>(test: impl FnOnce() -> F + Send) {
    let netns = Namespace::create().unwrap();
    inside(netns.fd(), || run(test()));
}

fn run(test: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(test);
}

async fn open(config: Config) -> Network {
    Network::open(config).await.unwrap().0
}

fn request(mode: Mode, ports: Vec<PortRequest>) -> AttachRequest {
    AttachRequest { id: ContainerId::random().unwrap(), mode, ports, address: None, mac: None }
}

fn tcp(host_port: Option<u16>) -> PortRequest {
    let host_ports = host_port.map(|port| port..=port);
    PortRequest { protocol: Protocol::Tcp, host_ip: None, host_ports, container_port: 80 }
}

fn survivor(request: &AttachRequest, attachment: &Attachment) -> Survivor {
    Survivor {
        id: request.id.clone(),
        endpoint: attachment.endpoint.clone(),
        ports: attachment.ports.clone(),
    }
}

/// Serves one client on port 80 of a namespace: it is told its own address.
fn serve_once(netns: BorrowedFd<'_>) -> thread::JoinHandle<()> {
    let netns = netns.try_clone_to_owned().unwrap();
    let (ready, listening) = mpsc::channel();
    let server = thread::spawn(move || {
        join(netns.as_fd(), Namespaces::NETWORK).unwrap();
        let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, 80)).unwrap();
        ready.send(()).unwrap();
        let (mut client, from) = listener.accept().unwrap();
        write!(client, "{}", from.ip()).unwrap();
    });
    listening.recv().unwrap();
    server
}

/// Who the server says that we are; none if it cannot be reached.
fn ask(address: impl Into<IpAddr>, port: u16) -> Option<IpAddr> {
    let address = SocketAddr::new(address.into(), port);
    let mut stream = TcpStream::connect_timeout(&address, PATIENCE).ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    answer.parse().ok()
}

/// The interfaces of the calling thread's namespace but loopback.
fn interfaces() -> Vec<String> {
    let mut socket = Socket::open(Family::Route).unwrap();
    let links = route::links(&mut socket).unwrap().into_iter();
    links.map(|link| link.name).filter(|name| name != "lo").collect()
}

fn has_table() -> bool {
    let table = Table::new(BRIDGE, "10.0.0.1/16".parse().unwrap()).unwrap();
    table.is_installed(&mut Socket::open(Family::Netfilter).unwrap()).unwrap()
}

#[test]
fn containers_come_and_go_and_nothing_is_left() {
    on_a_host(|| async {
        // A new namespace starts with what the machine has.
        std::fs::write("/proc/sys/net/ipv4/ip_forward", "0").unwrap();
        let (network, notices) = Network::open(Config::new(BRIDGE)).await.unwrap();
        assert!(notices.iter().any(|it| it.0.contains("net.ipv4.ip_forward")), "{notices:?}");
        network.restore(Vec::new()).await.unwrap();
        assert_eq!(network.info().address.to_string(), "172.17.0.1/16");
        let asked = request(Mode::Bridge, vec![tcp(Some(8080)), tcp(None)]);
        let attachment = network.attach(asked.clone()).await.unwrap();
        let endpoint = attachment.endpoint.as_ref().unwrap();
        assert_eq!(endpoint.address, IpAddr::from([172, 17, 0, 2]));
        assert_eq!(endpoint.mac, "02:42:ac:11:00:02");
        assert!(attachment.ports[1].host_port >= 32768);
        for port in [8080, attachment.ports[1].host_port] {
            let server = serve_once(attachment.netns.as_fd());
            assert!(ask(Ipv4Addr::LOCALHOST, port).is_some());
            server.join().unwrap();
        }
        network.detach(&asked.id).await.unwrap();
        network.detach(&asked.id).await.unwrap();
        assert_eq!(ask(Ipv4Addr::LOCALHOST, 8080), None);
        drop(attachment);
        network.close(false).await.unwrap();
        assert_eq!(interfaces(), Vec::<String>::new());
        assert!(!has_table());
        let error = network.attach(request(Mode::None, Vec::new())).await.unwrap_err();
        assert_eq!(error.to_string(), "the network is closed");
    });
}

#[test]
fn a_container_without_network_has_loopback_only() {
    on_a_host(|| async {
        let network = open(Config::new(BRIDGE)).await;
        let attachment = network.attach(request(Mode::None, Vec::new())).await.unwrap();
        assert!(attachment.endpoint.is_none());
        let (others, answer) = inside(attachment.netns.as_fd(), || {
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            let port = listener.local_addr().unwrap().port();
            (interfaces(), TcpStream::connect(("127.0.0.1", port)).is_ok())
        });
        assert!(others.is_empty() && answer, "{others:?}");
        let error = network.attach(request(Mode::None, vec![tcp(None)])).await.unwrap_err();
        assert_eq!(error.kind(), Kind::Invalid);
        network.close(false).await.unwrap();
    });
}

#[test]
fn a_taken_port_names_the_container_or_the_process() {
    on_a_host(|| async {
        let network = open(Config::new(BRIDGE)).await;
        let first = request(Mode::Bridge, vec![tcp(Some(8080))]);
        let attachment = network.attach(first.clone()).await.unwrap();
        let error = network.attach(request(Mode::Bridge, vec![tcp(Some(8080))])).await.unwrap_err();
        let expected =
            format!("cannot publish port 8080: address in use by container {}", first.id.short());
        assert_eq!((error.to_string(), error.kind()), (expected, Kind::Conflict));
        assert_eq!(error.hint(), Some("choose another with -p 8081:80"));

        let twice = request(Mode::Bridge, vec![tcp(Some(8090)), tcp(Some(8090))]);
        let error = network.attach(twice.clone()).await.unwrap_err();
        assert!(error.to_string().contains(twice.id.short()), "{error}");

        let listener = TcpListener::bind("127.0.0.1:8085").unwrap();
        let error = network.attach(request(Mode::Bridge, vec![tcp(Some(8085))])).await.unwrap_err();
        let pid = std::process::id();
        assert!(error.to_string().ends_with(&format!("(pid {pid})")), "{error}");
        drop(listener);

        // What failed has kept nothing: the address in between is given and the ports are free.
        let attached = network.attach(request(Mode::Bridge, vec![tcp(Some(8090))])).await.unwrap();
        assert!(attached.endpoint.is_some());
        drop((attachment, attached));
        network.close(false).await.unwrap();
    });
}

#[test]
fn two_daemons_live_side_by_side_and_one_bridge_has_one_daemon() {
    on_a_host(|| async {
        let first = open(Config::new(BRIDGE)).await;
        let second = open(Config::new("dhow1")).await;
        assert!(!first.info().address.overlaps(&second.info().address));
        let error = Network::open(Config::new(BRIDGE)).await.unwrap_err();
        assert_eq!(error.to_string(), "bridge dhow0 belongs to another daemon that is running");

        let taken = first.attach(request(Mode::Bridge, vec![tcp(Some(8080))])).await.unwrap();
        let error = second.attach(request(Mode::Bridge, vec![tcp(Some(8080))])).await.unwrap_err();
        let text = error.to_string();
        assert!(text.starts_with("cannot publish port 8080: address in use"), "{text}");
        // Through the first daemon's published port, from a container of the second.
        let other = second.attach(request(Mode::Bridge, Vec::new())).await.unwrap();
        let gateway = first.info().address.address();
        let server = serve_once(taken.netns.as_fd());
        assert!(inside(other.netns.as_fd(), || ask(gateway, 8080)).is_some());
        server.join().unwrap();
        drop((taken, other));
        second.close(false).await.unwrap();
        first.close(false).await.unwrap();
        assert_eq!(interfaces(), Vec::<String>::new());
    });
}

#[test]
fn a_daemon_that_died_is_succeeded() {
    on_a_host(|| async {
        let network = open(Config::new(BRIDGE)).await;
        let living = request(Mode::Bridge, vec![tcp(Some(8080))]);
        let kept = network.attach(living.clone()).await.unwrap();
        let dead = request(Mode::Bridge, vec![tcp(Some(8081))]);
        drop(network.attach(dead).await.unwrap());
        let address = network.info().address;
        // As kill -9 does it: nothing is taken back but what the kernel takes back.
        drop(network);

        // Until the successor knows who lives, ports go on working.
        let server = serve_once(kept.netns.as_fd());
        assert!(ask(Ipv4Addr::LOCALHOST, 8080).is_some());
        server.join().unwrap();

        let network = open(Config::new(BRIDGE)).await;
        assert_eq!(network.info().address, address);
        let server = serve_once(kept.netns.as_fd());
        assert!(ask(Ipv4Addr::LOCALHOST, 8080).is_some());
        server.join().unwrap();
        let notices = network.restore(vec![survivor(&living, &kept)]).await.unwrap();
        assert_eq!(notices, []);
        let server = serve_once(kept.netns.as_fd());
        assert!(ask(Ipv4Addr::LOCALHOST, 8080).is_some());
        server.join().unwrap();
        assert_eq!(ask(Ipv4Addr::LOCALHOST, 8081), None);

        // The survivor's address and port are its own, the dead one's port is free.
        let error = network.attach(request(Mode::Bridge, vec![tcp(Some(8080))])).await.unwrap_err();
        assert!(error.to_string().contains(living.id.short()), "{error}");
        let next = network.attach(request(Mode::Bridge, vec![tcp(Some(8081))])).await.unwrap();
        let of = |attachment: &Attachment| attachment.endpoint.as_ref().unwrap().address;
        assert_ne!(of(&next), of(&kept));

        // Stopped with containers running, everything of theirs stays.
        network.close(true).await.unwrap();
        drop(next);
        let server = serve_once(kept.netns.as_fd());
        assert!(ask(Ipv4Addr::LOCALHOST, 8080).is_some());
        server.join().unwrap();
        drop(kept);
        let network = open(Config::new(BRIDGE)).await;
        network.restore(Vec::new()).await.unwrap();
        assert_eq!(ask(Ipv4Addr::LOCALHOST, 8080), None);
        network.close(false).await.unwrap();
        assert_eq!(interfaces(), Vec::<String>::new());
        assert!(!has_table());
    });
}

#[test]
fn a_port_lost_meanwhile_is_a_notice() {
    on_a_host(|| async {
        let network = open(Config::new(BRIDGE)).await;
        let asked = request(Mode::Bridge, vec![tcp(Some(8080))]);
        let kept = network.attach(asked.clone()).await.unwrap();
        network.close(true).await.unwrap();
        drop(network);
        let thief = TcpListener::bind("0.0.0.0:8080").unwrap();
        let network = open(Config::new(BRIDGE)).await;
        let notices = network.restore(vec![survivor(&asked, &kept)]).await.unwrap();
        let [notice] = &notices[..] else { panic!("{notices:?}") };
        assert!(notice.0.contains(asked.id.short()) && notice.0.contains("8080"), "{notice}");
        drop((thief, kept));
        network.close(false).await.unwrap();
    });
}

#[test]
fn an_exhausted_range_says_so_and_a_wished_address_is_given() {
    on_a_host(|| async {
        let config =
            Config { address: Some("10.9.0.0/29".parse().unwrap()), ..Config::new(BRIDGE) };
        let network = open(config.clone()).await;
        assert_eq!(network.info().address.to_string(), "10.9.0.1/29");
        let mut kept = Vec::new();
        let mut wished = request(Mode::Bridge, Vec::new());
        wished.address = Some([10, 9, 0, 6].into());
        wished.mac = Some("02:00:00:00:00:09".to_owned());
        kept.push(network.attach(wished.clone()).await.unwrap());
        let endpoint = kept[0].endpoint.clone().unwrap();
        assert_eq!(endpoint.mac, "02:00:00:00:00:09");
        wished.id = ContainerId::random().unwrap();
        let error = network.attach(wished.clone()).await.unwrap_err();
        assert_eq!(error.to_string(), "cannot give the container address 10.9.0.6: it is in use");
        wished.address = Some([10, 10, 0, 6].into());
        let error = network.attach(wished).await.unwrap_err();
        let text = "cannot give the container address 10.10.0.6: it is not in 10.9.0.1/29";
        assert_eq!(error.to_string(), text);
        for _ in 0..4 {
            kept.push(network.attach(request(Mode::Bridge, Vec::new())).await.unwrap());
        }
        let error = network.attach(request(Mode::Bridge, Vec::new())).await.unwrap_err();
        let text = "cannot attach to the network: all addresses of 10.9.0.0/29 are in use";
        assert_eq!((error.to_string().as_str(), error.kind()), (text, Kind::Exhausted));

        // With containers on it, the bridge keeps its range; without, it takes the new one.
        network.close(true).await.unwrap();
        drop(network);
        let other = Config { address: Some("10.8.0.1/24".parse().unwrap()), ..config.clone() };
        let error = Network::open(other.clone()).await.unwrap_err();
        assert_eq!(error.to_string(), "bridge dhow0 has address 10.9.0.1/29, not 10.8.0.1/24");
        drop(kept);
        let network = open(config).await;
        network.close(false).await.unwrap();
        drop(network);
        let network = open(other).await;
        assert_eq!(network.info().address.to_string(), "10.8.0.1/24");
        network.close(false).await.unwrap();
    });
}

#[test]
fn a_bridge_of_somebody_elses_is_used_and_left() {
    on_a_host(|| async {
        let mut socket = Socket::open(Family::Route).unwrap();
        let mut messages = dhow_sys::netlink::Messages::new();
        route::create_bridge(&mut messages, "br-lan", [2, 0, 0, 0, 0, 1], None);
        socket.send(&mut messages).unwrap();
        let error = Network::open(Config::new("br-lan")).await.unwrap_err();
        assert_eq!(error.to_string(), "cannot use bridge br-lan: it has no IPv4 address");
        let index = Bridge::find(&mut socket, "br-lan").unwrap().unwrap().index();
        let mut messages = dhow_sys::netlink::Messages::new();
        route::add_address(&mut messages, index, [10, 5, 0, 1].into(), 24);
        let up = route::LinkChange { up: Some(true), ..route::LinkChange::default() };
        route::change_link(&mut messages, route::Target::Index(index), &up);
        socket.send(&mut messages).unwrap();
        let network = open(Config::new("br-lan")).await;
        assert_eq!(network.info().address.to_string(), "10.5.0.1/24");
        let attachment = network.attach(request(Mode::Bridge, Vec::new())).await.unwrap();
        let server = serve_once(attachment.netns.as_fd());
        assert!(ask([10, 5, 0, 2], 80).is_some());
        server.join().unwrap();
        drop(attachment);
        network.close(false).await.unwrap();
        assert!(interfaces().contains(&"br-lan".to_owned()));
    });
}

#[test]
fn a_table_that_somebody_flushed_is_built_anew() {
    on_a_host(|| async {
        let network = open(Config::new(BRIDGE)).await;
        let first = network.attach(request(Mode::Bridge, vec![tcp(Some(8080))])).await.unwrap();
        let table = Table::new(BRIDGE, network.info().address).unwrap();
        table.delete(&mut Socket::open(Family::Netfilter).unwrap()).unwrap();
        let asked = request(Mode::Bridge, vec![tcp(Some(8081))]);
        let second = network.attach(asked.clone()).await.unwrap();
        for (attachment, port) in [(&first, 8080), (&second, 8081)] {
            let server = serve_once(attachment.netns.as_fd());
            assert!(ask(Ipv4Addr::LOCALHOST, port).is_some());
            server.join().unwrap();
        }
        table.delete(&mut Socket::open(Family::Netfilter).unwrap()).unwrap();
        network.detach(&asked.id).await.unwrap();
        drop((first, second));
        network.close(false).await.unwrap();
    });
}

/// On the machine itself, beside whatever else runs there.
#[test]
fn the_machines_own_namespace_is_left_as_it_was() {
    let name = format!("dh-t{}", std::process::id());
    let pools =
        vec![dhow_network::AddressPool { base: "10.213.0.0/16".parse().unwrap(), prefix_len: 24 }];
    run(async {
        let network = open(Config { pools, ..Config::new(&name) }).await;
        let attachment = network.attach(request(Mode::Bridge, vec![tcp(None)])).await.unwrap();
        let server = serve_once(attachment.netns.as_fd());
        assert!(ask(Ipv4Addr::LOCALHOST, attachment.ports[0].host_port).is_some());
        server.join().unwrap();
        drop(attachment);
        network.close(false).await.unwrap();
        assert!(!interfaces().contains(&name));
    });
}

#[test]
fn many_at_once_get_an_address_each() {
    on_a_host(|| async {
        let network = open(Config::new(BRIDGE)).await;
        let attempts: Vec<_> = (0..40)
            .map(|_| {
                let network = network.clone();
                tokio::spawn(async move {
                    network.attach(request(Mode::Bridge, vec![tcp(None)])).await.unwrap()
                })
            })
            .collect();
        let mut attachments = Vec::new();
        for attempt in attempts {
            attachments.push(attempt.await.unwrap());
        }
        let addresses = attachments.iter().map(|it| it.endpoint.as_ref().unwrap().address);
        let ports = attachments.iter().map(|it| it.ports[0].host_port);
        assert_eq!(addresses.collect::<std::collections::HashSet<_>>().len(), 40);
        assert_eq!(ports.collect::<std::collections::HashSet<_>>().len(), 40);
        drop(attachments);
        network.close(false).await.unwrap();
        assert_eq!(interfaces(), Vec::<String>::new());
    });
}

/// A packet sent before the kernel has worked off the news of a carrier is lost, and TCP tries again
/// after a second. One late answer in twenty may be the machine's; with the fault it is every other.
#[test]
fn the_first_packet_is_not_lost() {
    on_a_host(|| async {
        let network = open(Config::new(BRIDGE)).await;
        let mut late = 0;
        for _ in 0..20 {
            let asked = request(Mode::Bridge, vec![tcp(Some(8080))]);
            let attachment = network.attach(asked.clone()).await.unwrap();
            let server = serve_once(attachment.netns.as_fd());
            let started = Instant::now();
            assert!(ask(Ipv4Addr::LOCALHOST, 8080).is_some());
            late += u32::from(started.elapsed() > Duration::from_millis(900));
            server.join().unwrap();
            network.detach(&asked.id).await.unwrap();
        }
        assert!(late < 2, "{late} late answers");
        network.close(false).await.unwrap();
    });
}
