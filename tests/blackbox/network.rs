//! Networks and published ports.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::time::Duration;

use anyhow::{Context, Result};
use dhow_tests::{Daemon, http, images};

/// A port of the loopback that nothing listens on at this moment.
fn free_port() -> Result<u16> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port())
}

fn ip(daemon: &Daemon, name: &str) -> Result<String> {
    daemon.ok(&["inspect", "-f", "{{.NetworkSettings.IPAddress}}", name])
}

/// Starts busybox's web server with one page.
fn web(daemon: &Daemon, flags: &[&str]) -> Result<String> {
    let serve = "mkdir /www; echo page > /www/index.html; exec httpd -f -p 80 -h /www";
    daemon.ok(&[&["run", "-d"], flags, &["busybox", "sh", "-c", serve]].concat())
}

#[test]
fn published_ports_lead_inside() -> Result<()> {
    let daemon = Daemon::start()?;
    images::busybox(&daemon)?;
    let port = free_port()?;
    web(&daemon, &["--name", "web", "-p", &format!("{port}:80")])?;
    for address in [Ipv4Addr::LOCALHOST, gateway(&daemon)?] {
        assert_eq!(http::get(SocketAddr::from((address, port)))?, "page\n");
    }
    assert_eq!(daemon.ok(&["port", "web"])?, format!("80/tcp -> 0.0.0.0:{port}"));
    assert_eq!(daemon.ok(&["port", "web", "80"])?, format!("0.0.0.0:{port}"));
    let url = format!("http://{}/", ip(&daemon, "web")?);
    let beside = daemon.ok(&["run", "--rm", "busybox", "wget", "-q", "-O", "-", &url])?;
    assert_eq!(beside, "page");
    daemon.ok(&["stop", "-t", "0", "web"])?;
    let refused = TcpStream::connect_timeout(
        &SocketAddr::from((Ipv4Addr::LOCALHOST, port)),
        Duration::from_secs(5),
    );
    assert!(refused.is_err(), "a stopped container publishes nothing");
    TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)).context("the port is free again")?;
    daemon.leave_nothing()
}

fn gateway(daemon: &Daemon) -> Result<Ipv4Addr> {
    let route = daemon.ok(&["run", "--rm", "busybox", "ip", "route"])?;
    let gateway = route.split_whitespace().skip_while(|word| *word != "via").nth(1);
    Ok(gateway.context("no default route")?.parse()?)
}

#[test]
fn one_address_only_and_free_ports() -> Result<()> {
    let daemon = Daemon::start()?;
    images::busybox(&daemon)?;
    web(&daemon, &["--name", "web", "-p", "127.0.0.1::80", "-p", "127.0.0.2::80"])?;
    let listed = daemon.ok(&["port", "web", "80/tcp"])?;
    let addresses: Vec<SocketAddr> = listed.lines().map(str::parse).collect::<Result<_, _>>()?;
    assert_eq!(addresses.len(), 2, "{listed}");
    for address in addresses {
        assert_eq!(http::get(address)?, "page\n");
        let elsewhere = SocketAddr::from((Ipv4Addr::new(127, 0, 0, 9), address.port()));
        assert!(TcpStream::connect_timeout(&elsewhere, Duration::from_secs(2)).is_err());
    }
    daemon.leave_nothing()
}

#[test]
fn udp_is_published_too() -> Result<()> {
    let daemon = Daemon::start()?;
    let echo = images::tar_of_file("udp_echo", &std::fs::read(env!("CARGO_BIN_EXE_udp_echo"))?)?;
    daemon.dhow_fed(&["import", "-c", r#"CMD ["/udp_echo", "53"]"#, "-", "echo"], &echo)?.ok()?;
    let port = free_port()?;
    let publish = format!("127.0.0.1:{port}:53/udp");
    let run = |name| ["run", "-d", "--name", name, "-p", &publish, "echo"];
    daemon.ok(&run("first"))?;
    let client = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
    client.set_read_timeout(Some(Duration::from_millis(100)))?;
    let is_answered = || {
        let mut answer = [0; 16];
        // What comes before it listens is lost, as datagrams are.
        (0..200).any(|_| {
            let _ = client.send_to(b"ping", (Ipv4Addr::LOCALHOST, port));
            client.recv(&mut answer).is_ok_and(|length| &answer[..length] == b"ping")
        })
    };
    assert!(is_answered());
    // Another container at the same port has another address, and answers the same client.
    daemon.ok(&["rm", "-f", "first"])?;
    daemon.ok(&run("second"))?;
    assert!(is_answered());
    daemon.leave_nothing()
}

#[test]
fn a_taken_port_is_named_with_its_holder() -> Result<()> {
    let daemon = Daemon::start()?;
    images::busybox(&daemon)?;
    let holder = TcpListener::bind((Ipv4Addr::UNSPECIFIED, 0))?;
    let port = holder.local_addr()?.port();
    let output = daemon.dhow(&[
        "run",
        "-d",
        "--name",
        "web",
        "-p",
        &format!("{port}:80"),
        "busybox",
        "true",
    ])?;
    assert_eq!(output.code, 125, "{}", output.stderr);
    assert!(output.stderr.contains(&port.to_string()), "{}", output.stderr);
    assert!(output.stderr.contains(&format!("pid {}", std::process::id())), "{}", output.stderr);
    assert!(output.stderr.contains("hint: "), "{}", output.stderr);
    drop(holder);
    daemon.ok(&["start", "web"])?;
    daemon.leave_nothing()
}

#[test]
fn no_network_and_the_hosts() -> Result<()> {
    let daemon = Daemon::start()?;
    images::busybox(&daemon)?;
    let links = |network: &str| {
        let list = "ls /sys/class/net | tr '\\n' ' '";
        daemon.ok(&["run", "--rm", "--network", network, "busybox", "sh", "-c", list])
    };
    assert_eq!(links("none")?, "lo ");
    assert_eq!(links("bridge")?, "eth0 lo ");
    assert!(links("host")?.contains(daemon.bridge()));
    let name = daemon.ok(&["run", "--rm", "--network", "host", "busybox", "hostname"])?;
    assert_eq!(name, std::fs::read_to_string("/proc/sys/kernel/hostname")?.trim());
    web(&daemon, &["--name", "web"])?;
    let fetch = ["busybox", "wget", "-q", "-O", "-", "http://127.0.0.1/"];
    let shared =
        daemon.ok(&[&["run", "--rm", "--network", "container:web"], &fetch[..]].concat())?;
    assert_eq!(shared, "page", "the loopback is the other container's");
    let unknown = daemon.dhow(&["run", "--rm", "--network", "nope", "busybox", "true"])?;
    assert_eq!(unknown.code, 125);
    assert!(unknown.stderr.contains("nope"), "{}", unknown.stderr);
    daemon.leave_nothing()
}

#[test]
fn the_hosts_loopback_is_out_of_reach() -> Result<()> {
    let daemon = Daemon::start()?;
    images::busybox(&daemon)?;
    let secret = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let port = secret.local_addr()?.port().to_string();
    let gateway = gateway(&daemon)?.to_string();
    // route_localnet is on for the bridge; a route to 127/8 by the gateway must not lead to the host.
    let script = format!(
        "ip route add 127.0.0.9/32 via {gateway} dev eth0; ip addr del 127.0.0.1/8 dev lo; \
        nc -w 2 127.0.0.9 {port} </dev/null && echo reached; nc -w 2 {gateway} {port} </dev/null && echo reached; true"
    );
    let said =
        daemon.ok(&["run", "--rm", "--cap-add", "NET_ADMIN", "busybox", "sh", "-c", &script])?;
    assert!(!said.contains("reached"), "{said}");
    daemon.leave_nothing()
}

#[test]
fn the_host_is_reached_by_the_gateway() -> Result<()> {
    let daemon = Daemon::start()?;
    images::busybox(&daemon)?;
    let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, 0))?;
    let port = listener.local_addr()?.port().to_string();
    let server = std::thread::spawn(move || -> Result<SocketAddr> {
        let (mut connection, peer) = listener.accept()?;
        connection.write_all(b"from the host\n")?;
        Ok(peer)
    });
    let script = format!("nc -w 5 host.internal {port} </dev/null; cat /etc/hosts");
    let said = daemon.ok(&[
        "run",
        "--rm",
        "--add-host",
        "host.internal:host-gateway",
        "--add-host",
        "other:192.0.2.1",
        "busybox",
        "sh",
        "-c",
        &script,
    ])?;
    assert!(said.starts_with("from the host\n") && said.contains("192.0.2.1\tother"), "{said}");
    let peer = server.join().map_err(|_| anyhow::anyhow!("the server died"))??;
    assert!(!peer.ip().is_loopback());
    daemon.leave_nothing()
}

#[test]
fn names_are_configured() -> Result<()> {
    let daemon = Daemon::start()?;
    images::busybox(&daemon)?;
    let run = [
        "run",
        "--rm",
        "--dns",
        "192.0.2.53",
        "--dns-search",
        "example.test",
        "busybox",
        "cat",
        "/etc/resolv.conf",
    ];
    let said = daemon.ok(&run)?;
    assert!(
        said.contains("nameserver 192.0.2.53") && said.contains("search example.test"),
        "{said}"
    );
    let hosts = daemon.ok(&[
        "run",
        "--rm",
        "--hostname",
        "me",
        "busybox",
        "grep",
        "-w",
        "me",
        "/etc/hosts",
    ])?;
    assert!(
        hosts.split_whitespace().next().is_some_and(|it| it.parse::<Ipv4Addr>().is_ok()),
        "{hosts}"
    );
    daemon.leave_nothing()
}

#[test]
fn many_connections_through_one_port() -> Result<()> {
    let daemon = Daemon::start()?;
    images::busybox(&daemon)?;
    let port = free_port()?;
    web(&daemon, &["-p", &format!("127.0.0.1:{port}:80")])?;
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    http::get(address)?;
    for _ in 0..100 {
        let mut connection = TcpStream::connect(address)?;
        connection.write_all(b"GET / HTTP/1.0\r\n\r\n")?;
        let mut answer = String::new();
        connection.read_to_string(&mut answer)?;
        assert!(answer.ends_with("page\n"));
    }
    daemon.leave_nothing()
}
