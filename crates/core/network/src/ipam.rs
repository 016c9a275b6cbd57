//! Which addresses of a network are given away.
//!
//! Pure. Addresses are given in order and an address that was given back is not given again before the
//! others have had their turn, so that what still remembers a container that is gone (neighbour tables,
//! open connections, people) does not meet another one in its place.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;

/// The addresses of one IPv4 network.
#[derive(Debug, Clone)]
pub(crate) struct Addresses {
    first: u32,
    last: u32,
    /// Where the search for a free one starts.
    next: u32,
    taken: BTreeSet<u32>,
}

/// Why an address cannot be had.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unavailable {
    /// All are taken.
    Exhausted,
    /// This one is taken.
    Taken,
    /// Not a host's address of this network.
    Outside,
}

impl Addresses {
    /// All hosts of `network/prefix_len` but `gateway`. Network and broadcast address are no hosts.
    pub(crate) fn new(network: Ipv4Addr, prefix_len: u8, gateway: Ipv4Addr) -> Self {
        let size = 1_u32.checked_shl(32 - u32::from(prefix_len)).unwrap_or(0);
        let base = u32::from(network) & 0_u32.wrapping_sub(size);
        let first = base.saturating_add(1);
        let last = base.wrapping_add(size).wrapping_sub(2);
        Self { first, last, next: first, taken: BTreeSet::from([gateway.into()]) }
    }

    /// Gives away the next free address.
    pub(crate) fn allocate(&mut self) -> Result<Ipv4Addr, Unavailable> {
        let later = self.next..=self.last;
        let earlier = self.first..=self.next.saturating_sub(1).min(self.last);
        let free = later.chain(earlier).find(|address| !self.taken.contains(address));
        let address = free.ok_or(Unavailable::Exhausted)?;
        self.give(address);
        Ok(address.into())
    }

    /// Gives away this address.
    pub(crate) fn claim(&mut self, address: Ipv4Addr) -> Result<(), Unavailable> {
        let address = u32::from(address);
        if !(self.first..=self.last).contains(&address) {
            return Err(Unavailable::Outside);
        }
        if self.taken.contains(&address) {
            return Err(Unavailable::Taken);
        }
        self.give(address);
        Ok(())
    }

    /// Takes an address back. Its turn comes again after all others.
    pub(crate) fn release(&mut self, address: Ipv4Addr) {
        self.taken.remove(&u32::from(address));
    }

    fn give(&mut self, address: u32) {
        self.taken.insert(address);
        self.next = if address >= self.last { self.first } else { address + 1 };
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use proptest::prelude::*;

    use super::*;

    fn small() -> Addresses {
        Addresses::new(Ipv4Addr::new(10, 1, 0, 0), 29, Ipv4Addr::new(10, 1, 0, 1))
    }

    fn host(last: u8) -> Ipv4Addr {
        Ipv4Addr::new(10, 1, 0, last)
    }

    #[test]
    fn addresses_come_in_order_until_none_is_left() {
        let mut addresses = small();
        for last in 2..=6 {
            assert_eq!(addresses.allocate(), Ok(host(last)));
        }
        assert_eq!(addresses.allocate(), Err(Unavailable::Exhausted));
        addresses.release(host(4));
        assert_eq!(addresses.allocate(), Ok(host(4)));
    }

    #[test]
    fn an_address_is_not_given_again_at_once() {
        let mut addresses = small();
        assert_eq!(addresses.allocate(), Ok(host(2)));
        addresses.release(host(2));
        assert_eq!(addresses.allocate(), Ok(host(3)));
    }

    #[test]
    fn a_wished_address_is_checked() {
        let mut addresses = small();
        assert_eq!(addresses.claim(host(5)), Ok(()));
        assert_eq!(addresses.claim(host(5)), Err(Unavailable::Taken));
        assert_eq!(addresses.claim(host(1)), Err(Unavailable::Taken));
        for last in [0, 7, 8] {
            assert_eq!(addresses.claim(host(last)), Err(Unavailable::Outside));
        }
    }

    #[test]
    fn the_ends_of_the_address_space_do_no_harm() {
        let mut addresses = Addresses::new(Ipv4Addr::UNSPECIFIED, 0, Ipv4Addr::new(0, 0, 0, 1));
        assert_eq!(addresses.allocate(), Ok(Ipv4Addr::new(0, 0, 0, 2)));
        let gateway = Ipv4Addr::new(255, 255, 255, 253);
        let mut addresses = Addresses::new(Ipv4Addr::new(255, 255, 255, 252), 30, gateway);
        assert_eq!(addresses.allocate(), Ok(Ipv4Addr::new(255, 255, 255, 254)));
        assert_eq!(addresses.allocate(), Err(Unavailable::Exhausted));
    }

    proptest! {
        /// Whatever is taken and given back in whatever order, no address is held twice, none lies
        /// outside, and one that is free is found.
        #[test]
        fn no_address_is_held_twice(
            prefix_len in 22_u8..=30,
            steps in proptest::collection::vec(any::<(bool, u16)>(), 0..400),
        ) {
            let network = Ipv4Addr::new(10, 1, 0, 0);
            let gateway = Ipv4Addr::new(10, 1, 0, 1);
            let mut addresses = Addresses::new(network, prefix_len, gateway);
            let hosts = (1_usize << (32 - prefix_len)) - 3;
            let mut held: Vec<Ipv4Addr> = Vec::new();
            for (give_back, which) in steps {
                if give_back && !held.is_empty() {
                    let address = held.swap_remove(usize::from(which) % held.len());
                    addresses.release(address);
                    continue;
                }
                match addresses.allocate() {
                    Ok(address) => held.push(address),
                    Err(error) => {
                        prop_assert_eq!(error, Unavailable::Exhausted);
                        prop_assert_eq!(held.len(), hosts);
                    }
                }
            }
            let distinct: HashSet<_> = held.iter().collect();
            prop_assert_eq!(distinct.len(), held.len());
            let mask = u32::MAX << (32 - prefix_len);
            let inside = |it: &Ipv4Addr| u32::from(*it) & mask == u32::from(network);
            prop_assert!(held.iter().all(|it| inside(it) && *it != gateway));
        }
    }
}
