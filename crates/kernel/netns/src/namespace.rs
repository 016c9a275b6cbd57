//! A network namespace, from its making to the container that joins it.
//!
//! ```text
//! create: a thread of its own leaves for a new namespace, opens /proc/thread-self/ns/net and a netlink
//!    │    socket there, sets the defaults, and ends; two descriptors remain
//!    ▼
//! plug: a veth pair, one end a port of the bridge, the other inside as eth0; both up       (pooled)
//!    ▼
//! configure: hardware address, address, default route: one system call                    (per start)
//!    ▼
//! into_fd: the descriptor goes to whoever clones the container
//! ```
//!
//! A namespace has no name and no mount: when the last descriptor and the last process are gone, the
//! kernel removes it in the background, and its veth pair with it. Nothing here deletes a veth, which
//! would cost 20 ms.
//!
//! The pair is up before anybody wants it because a carrier is news that the kernel works off in the
//! background ("link watch"): until it has, queue and bridge port drop what is sent, and a first packet
//! that is lost costs its sender a second.

use std::fs::File;
use std::io;
use std::net::IpAddr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::thread;
use std::time::Duration;

use dhow_sys::namespace::{Namespaces, unshare};
use dhow_sys::netlink::route::{self, LinkChange, Peer, Target};
use dhow_sys::netlink::{Family, Messages, Socket};
use dhow_sys::rustix::io::Errno;
use dhow_sys::rustix::rand::{GetRandomFlags, getrandom};

use crate::bridge::Bridge;
use crate::error::{Error, Result};
use crate::sysctl;
use crate::{Cidr, Mac};

/// The interface's name inside a container.
pub const INTERFACE: &str = "eth0";

/// What a new namespace differs in from the kernel's defaults: no router advertisement is believed
/// (CVE-2020-13401: a container could make itself the host's or another container's router), and, as
/// people know it from Docker, any user may bind low ports and send pings.
const DEFAULTS: [(&str, &str); 4] = [
    ("ipv6/conf/all/accept_ra", "0"),
    ("ipv6/conf/default/accept_ra", "0"),
    ("ipv4/ip_unprivileged_port_start", "0"),
    ("ipv4/ping_group_range", "0 2147483647"),
];

/// A network namespace that no process lives in yet.
#[derive(Debug)]
pub struct Namespace {
    fd: OwnedFd,
    /// At home inside the namespace.
    socket: Socket,
    /// The index of eth0, once plugged.
    interface: Option<u32>,
}

/// What the interface inside a container gets.
#[derive(Debug, Clone, Copy)]
pub struct Interface {
    /// The hardware address.
    pub mac: Mac,
    /// Address and network.
    pub address: Cidr,
    /// Where packets for elsewhere go.
    pub gateway: IpAddr,
}

impl Namespace {
    /// Makes a namespace with loopback up and the default settings. About a millisecond: not for the
    /// start path.
    pub fn create() -> Result<Self> {
        let failed = |source| Error::Namespace {
            what: "start a thread for a new network namespace",
            source,
        };
        let maker = thread::Builder::new()
            .name("netns".to_owned())
            .stack_size(128 * 1024)
            .spawn(Self::create_here)
            .map_err(failed)?;
        maker.join().map_err(|_| failed(io::Error::other("the thread broke down")))?
    }

    /// Moves the calling thread into a new namespace and opens that.
    fn create_here() -> Result<Self> {
        unshare(Namespaces::NETWORK).map_err(|errno| Error::Namespace {
            what: "make a network namespace",
            source: errno.into(),
        })?;
        let fd = current()?;
        let mut socket = Socket::open(Family::Route)?;
        for (name, value) in DEFAULTS {
            sysctl::set(name, value)?;
        }
        let mut messages = Messages::new();
        let up = LinkChange { up: Some(true), ..LinkChange::default() };
        route::change_link(&mut messages, Target::Name("lo"), &up);
        socket.send(&mut messages)?;
        Ok(Self { fd, socket, interface: None })
    }

    /// Connects the namespace to a bridge by a veth pair; `host` is a socket of the bridge's namespace.
    /// When it returns, packets pass. Not for the start path. On failure the namespace is of no use: drop
    /// it, and what was made goes with it.
    pub fn plug(&mut self, host: &mut Socket, bridge: &Bridge) -> Result<()> {
        let has_ipv6 = sysctl::has_ipv6();
        let name = self.create_veth(host, bridge)?;
        let inside = route::link(&mut self.socket, INTERFACE)?;
        let index = inside.ok_or_else(|| Error::Vanished(INTERFACE.to_owned()))?.index;
        let up = LinkChange { up: Some(true), ..LinkChange::default() };
        let mut messages = Messages::new();
        if has_ipv6 {
            route::disable_ipv6_link_local(&mut messages, Target::Index(index));
        }
        route::change_link(&mut messages, Target::Index(index), &up);
        self.socket.send(&mut messages)?;

        let mut messages = Messages::new();
        let target = Target::Name(&name);
        if has_ipv6 {
            route::disable_ipv6_link_local(&mut messages, target);
        }
        let join = LinkChange { master: Some(bridge.index()), ..up };
        route::change_link(&mut messages, target, &join);
        route::set_hairpin(&mut messages, target);
        host.send(&mut messages)?;

        wait_until_operational(&mut self.socket, INTERFACE)?;
        wait_until_operational(host, &name)?;
        wait_until_operational(host, bridge.name())?;
        self.interface = Some(index);
        Ok(())
    }

    /// Gives a plugged namespace its place: one system call of some fifty microseconds.
    pub fn configure(&mut self, interface: &Interface) -> Result<()> {
        let index = self.interface.ok_or_else(|| Error::Vanished(INTERFACE.to_owned()))?;
        let mut messages = Messages::new();
        let change = LinkChange { mac: Some(interface.mac.0), ..LinkChange::default() };
        route::change_link(&mut messages, Target::Index(index), &change);
        let address = interface.address;
        route::add_address(&mut messages, index, address.address(), address.prefix_len());
        route::add_default_route(&mut messages, index, interface.gateway);
        Ok(self.socket.send(&mut messages)?)
    }

    /// The descriptor that setns(2) takes.
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }

    /// The descriptor alone; what else held the namespace is closed.
    pub fn into_fd(self) -> OwnedFd {
        self.fd
    }

    /// A veth pair with a fresh name for the host's end, which is given back.
    fn create_veth(&self, host: &mut Socket, bridge: &Bridge) -> Result<String> {
        /// Two of 2^32 names meet so rarely that a few attempts are plenty.
        const ATTEMPTS: u32 = 4;
        let mut attempt = 1;
        loop {
            let name = fresh_name()?;
            let mut messages = Messages::new();
            let peer = Peer { name: INTERFACE, netns: self.fd.as_fd() };
            route::create_veth(&mut messages, &name, Some(bridge.mtu()), &peer);
            match host.send(&mut messages) {
                Ok(()) => return Ok(name),
                Err(error) if error.refusal() == Some(Errno::EXIST) && attempt < ATTEMPTS => {
                    attempt += 1;
                }
                Err(error) => return Err(error.into()),
            }
        }
    }
}

/// The calling thread's own network namespace.
pub fn current() -> Result<OwnedFd> {
    let opened = File::open("/proc/thread-self/ns/net");
    let failed = |source| Error::Namespace { what: "open a network namespace", source };
    opened.map(OwnedFd::from).map_err(failed)
}

/// Returns when packets pass, or after a while anyway: a foreign bridge may be down for its own reasons.
///
/// From Linux 6.9 on the kernel catches up with its news before it answers for one link, so that the
/// first look is enough; before, it takes a moment.
fn wait_until_operational(socket: &mut Socket, name: &str) -> Result<()> {
    const LOOKS: u32 = 50;
    const BETWEEN: Duration = Duration::from_micros(400);
    for _ in 0..LOOKS {
        if route::link(socket, name)?.is_some_and(|link| link.operational) {
            return Ok(());
        }
        thread::sleep(BETWEEN);
    }
    Ok(())
}

/// `veth` and eight random hex digits.
fn fresh_name() -> Result<String> {
    let mut bytes = [0_u8; 4];
    let failed =
        |errno: Errno| Error::Namespace { what: "read random bytes", source: errno.into() };
    getrandom(&mut bytes, GetRandomFlags::empty()).map_err(failed)?;
    Ok(format!("veth{:08x}", u32::from_ne_bytes(bytes)))
}
