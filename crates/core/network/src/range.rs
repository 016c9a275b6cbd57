//! Which range of addresses a new bridge takes.
//!
//! Pure: the pools and the networks in use go in, a bridge's address comes out.

use std::net::{IpAddr, Ipv4Addr};

use dhow_netns::Cidr;

use crate::types::AddressPool;

/// The address of a bridge on a free network: the first network of the pools, in their order, that
/// overlaps none in `taken`; `skip` leaves out that many free ones (for a second attempt when another
/// daemon was faster). None if there is no such network.
pub(crate) fn choose(pools: &[AddressPool], taken: &[Cidr], skip: usize) -> Option<Cidr> {
    let free = |network: &Cidr| !taken.iter().any(|taken| taken.overlaps(network));
    let network = pools.iter().flat_map(networks).filter(free).nth(skip)?;
    bridge_address(network)
}

/// The bridge's address on a network: as given, or the first host if the network itself was given. None
/// if no bridge and container could share it.
pub(crate) fn bridge_address(given: Cidr) -> Option<Cidr> {
    let IpAddr::V4(address) = given.address() else { return None };
    let IpAddr::V4(network) = given.network().address() else { return None };
    if !(8..=30).contains(&given.prefix_len()) {
        return None;
    }
    let host = if address == network {
        Ipv4Addr::from(u32::from(network).saturating_add(1))
    } else {
        address
    };
    let broadcast = u32::from(network) | (u32::MAX >> given.prefix_len());
    if u32::from(host) == broadcast {
        return None;
    }
    Cidr::new(host.into(), given.prefix_len()).ok()
}

/// The networks of a pool, in order. IPv6 pools and impossible sizes have none.
fn networks(pool: &AddressPool) -> impl Iterator<Item = Cidr> + use<> {
    let (base_len, prefix_len) = (pool.base.prefix_len(), pool.prefix_len);
    let base = match pool.base.network().address() {
        IpAddr::V4(base) if base_len <= prefix_len && (8..=30).contains(&prefix_len) => Some(base),
        _ => None,
    };
    base.into_iter().flat_map(move |base| {
        let count = 1_u64 << (prefix_len - base_len);
        let size = 1_u64 << (32 - prefix_len);
        (0..count).filter_map(move |index| {
            let network = u32::try_from(u64::from(u32::from(base)) + index * size).ok()?;
            Cidr::new(IpAddr::V4(network.into()), prefix_len).ok()
        })
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn cidr(text: &str) -> Cidr {
        text.parse().unwrap()
    }

    fn pool(base: &str, prefix_len: u8) -> AddressPool {
        AddressPool { base: cidr(base), prefix_len }
    }

    #[test]
    fn the_first_free_network_is_taken() {
        let defaults = AddressPool::defaults();
        assert_eq!(choose(&defaults, &[], 0), Some(cidr("172.17.0.1/16")));
        let taken = [cidr("172.17.0.1/16"), cidr("172.16.0.0/14"), cidr("fd00::/8")];
        assert_eq!(choose(&defaults, &taken, 0), Some(cidr("172.20.0.1/16")));
        assert_eq!(choose(&defaults, &taken, 1), Some(cidr("172.21.0.1/16")));
        assert_eq!(choose(&defaults, &[cidr("172.0.0.0/8")], 0), Some(cidr("192.168.0.1/20")));
        assert_eq!(choose(&defaults, &[cidr("0.0.0.0/0")], 0), None);
    }

    #[test]
    fn impossible_pools_have_no_networks() {
        for pool in [pool("10.0.0.0/24", 16), pool("10.0.0.0/24", 31), pool("fd00::/64", 80)] {
            assert_eq!(choose(&[pool], &[], 0), None);
        }
    }

    #[test]
    fn a_network_stands_for_its_first_host() {
        assert_eq!(bridge_address(cidr("10.1.0.0/16")), Some(cidr("10.1.0.1/16")));
        assert_eq!(bridge_address(cidr("10.1.0.9/16")), Some(cidr("10.1.0.9/16")));
        for bad in ["10.1.255.255/16", "10.1.0.1/31", "fd00::1/64", "10.0.0.1/4"] {
            assert_eq!(bridge_address(cidr(bad)), None, "{bad}");
        }
    }

    proptest! {
        #[test]
        fn what_is_chosen_overlaps_nothing(
            taken in proptest::collection::vec((any::<u32>(), 4_u8..=32), 0..30),
            skip in 0_usize..4,
        ) {
            let taken: Vec<_> = taken
                .into_iter()
                .map(|(bits, len)| Cidr::new(IpAddr::V4(bits.into()), len).unwrap())
                .collect();
            if let Some(chosen) = choose(&AddressPool::defaults(), &taken, skip) {
                prop_assert!(!taken.iter().any(|it| it.overlaps(&chosen)));
            }
        }
    }
}
