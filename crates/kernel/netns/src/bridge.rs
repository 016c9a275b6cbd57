//! The bridge that containers are plugged into.
//!
//! A bridge of dhow's own is known by its hardware address, which follows from its name and is there
//! from the first instant on: whatever a crash left half-made is recognised. A bridge with another
//! hardware address belongs to somebody else: it is used as it is and never changed or deleted.

use std::net::IpAddr;
use std::time::Instant;

use dhow_sys::netlink::route::{self, Link, LinkChange, Target};
use dhow_sys::netlink::{LinkEvents, Messages, Socket};

use crate::error::{Error, Result};
use crate::sysctl;
use crate::{Cidr, Mac};

/// The longest name of an interface in bytes (`IFNAMSIZ` less the final zero).
const NAME_MAX: usize = 15;

/// A bridge of this machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bridge {
    name: String,
    index: u32,
    mtu: u32,
    own: bool,
}

impl Bridge {
    /// Whether this can be a bridge's name; it is also a table's name and part of paths.
    pub fn check_name(name: &str) -> Result<()> {
        let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
        let fits = (1..=NAME_MAX).contains(&name.len()) && name.bytes().all(is_plain);
        if fits && !matches!(name, "." | ".." | "all" | "default" | "lo") {
            Ok(())
        } else {
            Err(Error::Name(name.chars().take(100).collect()))
        }
    }

    /// The bridge of this name, if there is one. An interface of another kind is an error.
    pub fn find(host: &mut Socket, name: &str) -> Result<Option<Self>> {
        match route::link(host, name)? {
            None => Ok(None),
            Some(link) if link.kind == "bridge" => Ok(Some(Self::from_link(link))),
            Some(_) => Err(Error::NotABridge(name.to_owned())),
        }
    }

    /// Makes a bridge: fixed hardware address, no IPv6 of its own, up, `address`.
    pub fn create(host: &mut Socket, name: &str, address: Cidr, mtu: Option<u32>) -> Result<Self> {
        Self::check_name(name)?;
        let mut messages = Messages::new();
        route::create_bridge(&mut messages, name, own_mac(name).0, mtu);
        host.send(&mut messages)?;
        let bridge = Self::find(host, name)?.ok_or_else(|| Error::Vanished(name.to_owned()))?;
        match bridge.set_up(host, address) {
            Ok(()) => Ok(bridge),
            Err(error) => {
                // The first failure is the one to tell; the attempt to clean up has no better news.
                let _ = bridge.delete(host);
                Err(error)
            }
        }
    }

    fn set_up(&self, host: &mut Socket, address: Cidr) -> Result<()> {
        let mut messages = Messages::new();
        let target = Target::Index(self.index);
        if sysctl::has_ipv6() {
            route::disable_ipv6_link_local(&mut messages, target);
        }
        let up = LinkChange { up: Some(true), ..LinkChange::default() };
        route::change_link(&mut messages, target, &up);
        route::add_address(&mut messages, self.index, address.address(), address.prefix_len());
        Ok(host.send(&mut messages)?)
    }

    /// The settings the bridge needs in the calling thread's namespace: packets from 127.0.0.1 may leave
    /// by it, which ports published on the loopback address need (the table keeps containers from using
    /// that the other way round), and router advertisements of containers are not believed
    /// (CVE-2020-13401).
    pub fn apply_settings(&self) -> Result<()> {
        sysctl::set(&format!("ipv4/conf/{}/route_localnet", self.name), "1")?;
        sysctl::set(&format!("ipv6/conf/{}/accept_ra", self.name), "0")?;
        Ok(())
    }

    /// The first IPv4 address of the bridge, if it has one.
    pub fn address(&self, host: &mut Socket) -> Result<Option<Cidr>> {
        let found = route::addresses(host)?
            .into_iter()
            .find(|found| found.index == self.index && found.address.is_ipv4());
        Ok(found.and_then(|found| Cidr::new(found.address, found.prefix_len).ok()))
    }

    /// How many ports the bridge has.
    pub fn ports(&self, host: &mut Socket) -> Result<usize> {
        let links = route::links(host)?;
        Ok(links.iter().filter(|link| link.master == Some(self.index)).count())
    }

    /// Waits until no port is left, which is when the kernel is done with the namespaces that were
    /// dropped. False if some are left at the deadline. `events` was opened before the namespaces were
    /// dropped.
    pub fn wait_for_no_ports(
        &self,
        host: &mut Socket,
        events: &LinkEvents,
        deadline: Instant,
    ) -> Result<bool> {
        while self.ports(host)? > 0 {
            if !events.wait(deadline)? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Deletes the bridge, if it is dhow's own.
    pub fn delete(&self, host: &mut Socket) -> Result<()> {
        if self.own {
            let mut messages = Messages::new();
            route::delete_link(&mut messages, Target::Index(self.index));
            host.send(&mut messages)?;
        }
        Ok(())
    }

    /// The name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The interface index.
    pub fn index(&self) -> u32 {
        self.index
    }

    /// Bytes in a packet.
    pub fn mtu(&self) -> u32 {
        self.mtu
    }

    /// Whether dhow made it.
    pub fn is_own(&self) -> bool {
        self.own
    }

    fn from_link(link: Link) -> Self {
        let own = link.mac == Some(own_mac(&link.name).0);
        Self { index: link.index, mtu: link.mtu, own, name: link.name }
    }
}

/// Every network that this namespace's interfaces and routes know, but for default routes: what a new
/// range must not overlap. `except` leaves out one interface.
pub fn taken_networks(host: &mut Socket, except: Option<u32>) -> Result<Vec<Cidr>> {
    let addresses = route::addresses(host)?;
    let routes = route::routes(host)?;
    let addresses = addresses.into_iter().map(|it| (Some(it.index), it.address, it.prefix_len));
    let routes = routes.into_iter().map(|it| (it.index, it.destination, it.prefix_len));
    let is_default = |address: IpAddr, prefix_len| prefix_len == 0 && address.is_unspecified();
    Ok(addresses
        .chain(routes)
        .filter(|(index, address, prefix_len)| {
            (except.is_none() || *index != except) && !is_default(*address, *prefix_len)
        })
        .filter_map(|(_, address, prefix_len)| Cidr::new(address, prefix_len).ok())
        .collect())
}

/// Lets this machine pass IPv4 packets on between interfaces. Gives whether that had been off.
pub fn enable_forwarding() -> Result<bool> {
    sysctl::set("ipv4/ip_forward", "1")
}

/// The hardware address of dhow's own bridge of this name: `02:d0` (locally administered, and no
/// container's) and four bytes of the name's FNV-1a hash.
fn own_mac(name: &str) -> Mac {
    let hash = name
        .bytes()
        .fold(0x811c_9dc5_u32, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193));
    let [a, b, c, d] = hash.to_be_bytes();
    Mac([0x02, 0xd0, a, b, c, d])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_checked() {
        for name in ["dhow0", "br-1.2_x", "a", "123456789012345"] {
            assert!(Bridge::check_name(name).is_ok(), "{name}");
        }
        for name in ["", "1234567890123456", "a b", "a/b", "..", "lo", "all", "é", "a:1"] {
            assert!(Bridge::check_name(name).is_err(), "{name}");
        }
    }

    #[test]
    fn own_addresses_differ_by_name() {
        assert_ne!(own_mac("dhow0"), own_mac("dhow1"));
        assert_eq!(own_mac("dhow0").0[..2], [0x02, 0xd0]);
    }
}
