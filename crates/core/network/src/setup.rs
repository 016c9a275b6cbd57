//! Setting up the bridge and its table, or taking over what an earlier daemon left.
//!
//! ```text
//! no bridge ──────────────────────────► choose a range, make it, build the table
//! own bridge with an address ─────────► keep its range; the table stays until restore rebuilds it
//! own bridge, empty, unfit ───────────► delete it (half-made, or another --bip), then as above
//! own bridge in use, unfit ───────────► error: running containers depend on it
//! somebody else's bridge ─────────────► use it with the address it has; never change or delete it
//! ```

use std::net::IpAddr;

use dhow_netns::{Bridge, Cidr, Table, enable_forwarding, taken_networks};
use dhow_sys::netlink::nft::query::forward_drops;
use dhow_sys::netlink::{Family, Socket};

use crate::claim::Claim;
use crate::error::Error;
use crate::range::{bridge_address, choose};
use crate::resolvers::Resolvers;
use crate::types::{Config, Notice};

/// How often another range is tried when other daemons choose at the same time.
const ATTEMPTS: usize = 16;

/// A bridge with its table, ready for containers.
#[derive(Debug)]
pub(crate) struct Setup {
    pub(crate) bridge: Bridge,
    pub(crate) address: Cidr,
    pub(crate) table: Table,
    pub(crate) route: Socket,
    pub(crate) netfilter: Socket,
    pub(crate) notices: Vec<Notice>,
    pub(crate) claim: Claim,
}

/// Sets everything up. Blocks for some milliseconds.
pub(crate) fn set_up(config: &Config) -> Result<Setup, Error> {
    Bridge::check_name(&config.bridge)?;
    // Before anything is looked at: a bridge in use is not ours to change.
    let claim = Claim::take(&config.bridge)?;
    let mut route = Socket::open(Family::Route).map_err(dhow_netns::Error::from)?;
    let mut netfilter = Socket::open(Family::Netfilter).map_err(dhow_netns::Error::from)?;
    let wanted = match config.address {
        Some(given) => Some(bridge_address(given).ok_or(Error::BridgeAddress(given))?),
        None => None,
    };
    let found = find(&mut route, &config.bridge, wanted)?;
    let is_new = found.is_none();
    let (bridge, address) = match found {
        Some(found) => found,
        None => make(&mut route, config, wanted)?,
    };
    // A bridge that was made, or made anew, is claimed now; whoever was faster has it.
    let claim = if is_new { Claim::take(&config.bridge)? } else { claim };
    let claim = claim.ok_or_else(|| Error::NoBridgeAddress { bridge: config.bridge.clone() })?;
    let table = Table::new(bridge.name(), address)?;
    let mut notices = Vec::new();
    let prepared = prepare(&bridge, &table, &mut netfilter, is_new, &mut notices);
    if let (Err(_), true) = (&prepared, is_new) {
        // The failure above is the one to tell.
        let _ = bridge.delete(&mut route);
    }
    prepared?;
    Ok(Setup { bridge, address, table, route, netfilter, notices, claim })
}

/// Settings and table of a bridge that is there.
fn prepare(
    bridge: &Bridge,
    table: &Table,
    netfilter: &mut Socket,
    is_new: bool,
    notices: &mut Vec<Notice>,
) -> Result<(), Error> {
    bridge.apply_settings()?;
    if enable_forwarding()? {
        let text = "switched net.ipv4.ip_forward on, so that containers reach other machines";
        notices.push(Notice(text.to_owned()));
    }
    if is_new || !table.is_installed(netfilter)? {
        table.install(netfilter, &[])?;
    }
    // A chain of somebody else's that drops what it does not know cannot be overruled by ours.
    for dropping in forward_drops(netfilter).unwrap_or_default() {
        notices.push(Notice(format!(
            "chain {} of nftables table {} drops forwarded packets by default: containers on {} may \
             not reach other machines, nor be reached, unless it accepts them",
            dropping.chain,
            dropping.table,
            bridge.name()
        )));
    }
    Ok(())
}

/// The bridge that is there and fit for use, with its address.
fn find(
    route: &mut Socket,
    name: &str,
    wanted: Option<Cidr>,
) -> Result<Option<(Bridge, Cidr)>, Error> {
    let Some(bridge) = Bridge::find(route, name)? else { return Ok(None) };
    let found = bridge.address(route)?;
    if let Some(address) = found.filter(|found| wanted.is_none_or(|wanted| wanted == *found)) {
        return Ok(Some((bridge, address)));
    }
    if bridge.is_own() && bridge.ports(route)? == 0 {
        bridge.delete(route)?;
        return Ok(None);
    }
    let bridge = name.to_owned();
    match (found, wanted) {
        (Some(found), Some(wanted)) => Err(Error::OtherAddress { bridge, found, wanted }),
        _ => Err(Error::NoBridgeAddress { bridge }),
    }
}

/// A new bridge, on a range that is nobody else's.
fn make(
    route: &mut Socket,
    config: &Config,
    wanted: Option<Cidr>,
) -> Result<(Bridge, Cidr), Error> {
    let name = &config.bridge;
    if let Some(address) = wanted {
        return Ok((Bridge::create(route, name, address, config.mtu)?, address));
    }
    let servers = Resolvers::of_host().servers.into_iter();
    let servers: Vec<_> =
        servers.filter_map(|server| Cidr::new(server, width(server)).ok()).collect();
    for attempt in 0..ATTEMPTS {
        let mut taken = taken_networks(route, None)?;
        taken.extend(&servers);
        let chosen = choose(&config.pools, &taken, skip(attempt));
        let Some(address) = chosen.or_else(|| choose(&config.pools, &taken, 0)) else { break };
        let bridge = Bridge::create(route, name, address, config.mtu)?;
        // Another daemon may have chosen the same range between our look and now. Each looks again
        // after it has taken its range, so at least the later one sees both, and makes way.
        let others = taken_networks(route, Some(bridge.index()))?;
        if !others.iter().any(|other| other.overlaps(&address)) {
            return Ok((bridge, address));
        }
        bridge.delete(route)?;
    }
    Err(Error::NoRange { bridge: name.clone() })
}

/// How many free ranges to leave out on this attempt: none at first, then by the process's number, so
/// that two daemons that made way for each other part.
fn skip(attempt: usize) -> usize {
    if attempt == 0 { 0 } else { (std::process::id() as usize / (1 << (attempt - 1))) % 4 }
}

fn width(address: IpAddr) -> u8 {
    if address.is_ipv4() { 32 } else { 128 }
}
