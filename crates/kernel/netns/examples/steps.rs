//! What each step of a container's network costs, in microseconds: `cargo run -p dhow-netns --example
//! steps`, as root. The "host" is a network namespace of its own, so the machine's network stays as
//! it is.

use std::error::Error;
use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use dhow_netns::{Bridge, Cidr, Interface, Mac, Namespace, Publication, Table, Transport};
use dhow_sys::namespace::{Namespaces, join};
use dhow_sys::netlink::{Family, Socket};

/// How many containers are plugged in.
const CONTAINERS: u8 = 100;

fn main() -> Result<(), Box<dyn Error>> {
    let host = Namespace::create()?;
    join(host.fd(), Namespaces::NETWORK)?;
    let mut route = Socket::open(Family::Route)?;
    let mut netfilter = Socket::open(Family::Netfilter)?;
    let address: Cidr = "10.77.0.1/16".parse()?;
    let bridge = Bridge::create(&mut route, "dhow-fig", address, None)?;
    bridge.apply_settings()?;
    let table = Table::new("dhow-fig", address)?;
    table.install(&mut netfilter, &[])?;

    let mut times: [Vec<Duration>; 6] = Default::default();
    let [create, plug, configure, publish, unpublish, end] = &mut times;
    let mut kept = Vec::new();
    for last in 2..CONTAINERS + 2 {
        let ip = Ipv4Addr::new(10, 77, 0, last);
        let interface = Interface {
            mac: Mac::of(ip),
            address: Cidr::new(ip.into(), 16)?,
            gateway: address.address(),
        };
        let publication = Publication {
            transport: Transport::Tcp,
            host: None,
            host_port: u16::from(last),
            container: ip,
            container_port: 80,
        };
        let mut netns = timed(create, Namespace::create)?;
        timed(plug, || netns.plug(&mut route, &bridge))?;
        timed(configure, || netns.configure(&interface))?;
        timed(publish, || table.publish(&mut netfilter, &[publication]))?;
        timed(unpublish, || table.unpublish(&mut netfilter, &[publication]))?;
        kept.push(netns.into_fd());
    }
    timed(end, || drop(kept));
    let names = ["create", "plug", "configure", "publish", "unpublish", "end all"];
    names.into_iter().zip(times).for_each(|(name, times)| print(name, times));
    Ok(())
}

fn timed<T>(times: &mut Vec<Duration>, work: impl FnOnce() -> T) -> T {
    let started = Instant::now();
    let result = work();
    times.push(started.elapsed());
    result
}

fn print(name: &str, mut times: Vec<Duration>) {
    times.sort();
    let micros = |it: Option<&Duration>| it.map_or(0, Duration::as_micros);
    let (min, median) = (micros(times.first()), micros(times.get(times.len() / 2)));
    println!("{name:<10} min {min:>6}   median {median:>6}");
}
