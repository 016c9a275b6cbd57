//! Addresses as networks use them: an address with its prefix, and hardware addresses.
//!
//! Pure values; nothing here asks the kernel.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr};
use std::str::FromStr;

use dhow_error::{Classify, Kind};

/// An IP address with the length of its network's prefix: `10.1.0.1/16`.
///
/// The address is kept as it was written, so that one type says both "this network" and "this host on
/// this network" (`--bip 10.1.0.1/16` is both).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Cidr {
    address: IpAddr,
    prefix_len: u8,
}

/// Why an address with a prefix or a hardware address cannot be.
#[derive(Debug, Clone, thiserror::Error, PartialEq, Eq)]
pub enum AddressError {
    /// Not `address/prefix`, or the prefix is longer than the address.
    #[error("invalid network {0:?}: expected an address and a prefix length such as 10.1.0.1/16")]
    Cidr(String),
    /// Not six hex bytes separated by colons.
    #[error("invalid MAC address {0:?}: expected six hex bytes such as 02:42:0a:01:00:02")]
    Mac(String),
}

impl Classify for AddressError {
    fn kind(&self) -> Kind {
        Kind::Invalid
    }
}

impl Cidr {
    /// `address/prefix_len`; an error if the prefix is longer than the address.
    pub fn new(address: IpAddr, prefix_len: u8) -> Result<Self, AddressError> {
        if prefix_len > width(address) {
            return Err(AddressError::Cidr(format!("{address}/{prefix_len}")));
        }
        Ok(Self { address, prefix_len })
    }

    /// The address as it was written, host bits included.
    pub fn address(&self) -> IpAddr {
        self.address
    }

    /// The prefix length in bits.
    pub fn prefix_len(&self) -> u8 {
        self.prefix_len
    }

    /// The same network with all host bits zero.
    #[must_use]
    pub fn network(&self) -> Self {
        let address = match self.address {
            IpAddr::V4(address) => {
                IpAddr::V4((u32::from(address) & high_bits(self.prefix_len, 32) as u32).into())
            }
            IpAddr::V6(address) => {
                IpAddr::V6((u128::from(address) & high_bits(self.prefix_len, 128)).into())
            }
        };
        Self { address, prefix_len: self.prefix_len }
    }

    /// Whether `address` lies in this network.
    pub fn contains(&self, address: IpAddr) -> bool {
        self.address.is_ipv4() == address.is_ipv4()
            && (Self { address, prefix_len: self.prefix_len }).network() == self.network()
    }

    /// Whether any address lies in both networks.
    pub fn overlaps(&self, other: &Self) -> bool {
        let wider = if self.prefix_len <= other.prefix_len { self } else { other };
        wider.contains(self.address) && wider.contains(other.address)
    }
}

/// The `length` highest of `width` bits.
fn high_bits(length: u8, width: u32) -> u128 {
    let all = if width == 128 { u128::MAX } else { (1_u128 << width) - 1 };
    let low = width.saturating_sub(u32::from(length));
    if low >= 128 { 0 } else { (all >> low) << low }
}

/// The bits of an address.
fn width(address: IpAddr) -> u8 {
    if address.is_ipv4() { 32 } else { 128 }
}

impl fmt::Display for Cidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.prefix_len)
    }
}

impl FromStr for Cidr {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        let malformed = || AddressError::Cidr(text.chars().take(100).collect());
        let (address, prefix_len) = text.split_once('/').ok_or_else(malformed)?;
        let address = address.parse().map_err(|_| malformed())?;
        let prefix_len = prefix_len.parse().map_err(|_| malformed())?;
        Self::new(address, prefix_len).map_err(|_| malformed())
    }
}

/// A hardware address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Mac(pub [u8; 6]);

impl Mac {
    /// The address of an interface that holds `address`: `02:42` and the four bytes of the IPv4 address,
    /// so that a neighbour's cache stays true when an address is given to another container. `02` is the
    /// "locally administered" bit (IEEE 802).
    pub fn of(address: Ipv4Addr) -> Self {
        let [a, b, c, d] = address.octets();
        Self([0x02, 0x42, a, b, c, d])
    }
}

impl fmt::Display for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [first, rest @ ..] = self.0;
        write!(f, "{first:02x}")?;
        rest.iter().try_for_each(|byte| write!(f, ":{byte:02x}"))
    }
}

impl FromStr for Mac {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        let malformed = || AddressError::Mac(text.chars().take(100).collect());
        let mut bytes = [0_u8; 6];
        let mut parts = text.split(':');
        for byte in &mut bytes {
            let part = parts.next().filter(|part| part.len() == 2).ok_or_else(malformed)?;
            *byte = u8::from_str_radix(part, 16).map_err(|_| malformed())?;
        }
        if parts.next().is_some() {
            return Err(malformed());
        }
        Ok(Self(bytes))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn cidr(text: &str) -> Cidr {
        text.parse().unwrap()
    }

    #[test]
    fn networks_contain_and_overlap() {
        let wide = cidr("10.1.0.1/16");
        assert_eq!(wide.network().to_string(), "10.1.0.0/16");
        assert!(wide.contains("10.1.255.255".parse().unwrap()));
        assert!(!wide.contains("10.2.0.0".parse().unwrap()));
        assert!(!wide.contains("::1".parse().unwrap()));
        assert!(wide.overlaps(&cidr("10.1.8.0/24")));
        assert!(cidr("10.1.8.0/24").overlaps(&wide));
        assert!(!wide.overlaps(&cidr("10.2.0.0/24")));
        assert!(cidr("0.0.0.0/0").overlaps(&wide));
        assert!(!cidr("::/0").overlaps(&wide));
        assert!(cidr("::/0").contains("fe80::1".parse().unwrap()));
    }

    #[test]
    fn malformed_networks_are_named() {
        for text in ["", "10.1.0.0", "10.1.0.0/33", "::/129", "a/8", "10.1.0.0/x"] {
            assert_eq!(text.parse::<Cidr>(), Err(AddressError::Cidr(text.to_owned())));
        }
    }

    #[test]
    fn a_mac_follows_its_address() {
        let mac = Mac::of(Ipv4Addr::new(10, 1, 0, 255));
        assert_eq!(mac.to_string(), "02:42:0a:01:00:ff");
        assert_eq!("02:42:0a:01:00:ff".parse(), Ok(mac));
        for text in
            ["", "02:42:0a:01:00", "02:42:0a:01:00:ff:00", "2:42:0a:01:00:ff", "zz:42:0a:01:00:ff"]
        {
            assert!(text.parse::<Mac>().is_err(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn parsing_never_panics(text in ".{0,60}") {
            let _ = text.parse::<Cidr>();
            let _ = text.parse::<Mac>();
        }

        #[test]
        fn a_network_prints_and_parses(bits: u32, prefix_len in 0_u8..=32) {
            let cidr = Cidr::new(IpAddr::V4(bits.into()), prefix_len).unwrap();
            prop_assert_eq!(cidr.to_string().parse(), Ok(cidr));
            prop_assert!(cidr.contains(cidr.address()));
            prop_assert!(cidr.network().overlaps(&cidr));
        }
    }
}
