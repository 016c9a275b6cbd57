//! What nf_tables rules are made of: expressions on registers.
//!
//! Each [`Expression`] is one of the kernel's virtual machine, as `nft --debug=netlink` prints them. A
//! rule is a list of them, worked off until one says "not this packet" or decides.

use super::super::message::Body;
use super::{DATA_VALUE, Family};

const DATA_VERDICT: u16 = 2;

/// Whether a comparison wants equal or different.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub enum Compare {
    /// Go on if equal.
    Equal = 0,
    /// Go on if different.
    Differs = 1,
}

/// Which header an offset counts from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub enum Header {
    /// The IP header.
    Network = 1,
    /// The TCP or UDP header.
    Transport = 2,
}

/// A four-byte register of the kernel's virtual machine, 0 to 15.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Register(pub u8);

impl Register {
    /// `NFT_REG32_00` and up.
    fn number(self) -> u32 {
        8 + u32::from(self.0)
    }
}

/// Where a rule sends a packet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// Away.
    Drop,
    /// On to the next base chain.
    Accept,
    /// Through another chain of the table and back.
    Jump(&'static str),
}

/// One step of a rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Expression {
    /// The incoming interface's name, 16 bytes.
    InputInterface(Register),
    /// The outgoing interface's name, 16 bytes.
    OutputInterface(Register),
    /// Bytes of the packet.
    Payload {
        /// Where to.
        to: Register,
        /// Which header.
        header: Header,
        /// Bytes from the header's start.
        offset: u32,
        /// How many bytes.
        length: u32,
    },
    /// The connection's state bits (`ct state`), four bytes.
    ConnectionState(Register),
    /// The connection's status bits (`ct status`), four bytes.
    ConnectionStatus(Register),
    /// The kind of the destination address by the routing tables (`fib daddr type`), four bytes.
    DestinationKind(Register),
    /// Keeps the bits in the mask.
    Mask {
        /// In and out.
        register: Register,
        /// As long as the value in the register.
        mask: Vec<u8>,
    },
    /// Ends the rule here unless the comparison holds.
    Compare {
        /// What is compared.
        register: Register,
        /// How.
        compare: Compare,
        /// With what.
        value: Vec<u8>,
    },
    /// Looks the key up in a map; ends the rule here if it is not there.
    Lookup {
        /// The map's name.
        map: &'static str,
        /// Where the key starts.
        key: Register,
        /// Where the value goes.
        to: Register,
    },
    /// Sends the connection to another IPv4 address and port.
    DestinationNat {
        /// The address.
        address: Register,
        /// The port.
        port: Register,
    },
    /// Gives the connection the address of the interface it leaves by.
    Masquerade,
    /// Decides.
    Verdict(Verdict),
}

/// Writes an expression's name and data.
pub(super) fn put_expression(body: &mut Body<'_>, expression: &Expression, family: Family) {
    const IMMEDIATE_DREG: u16 = 1;
    const VERDICT_REGISTER: u32 = 0;
    let mut named = |name: &str, fill: &mut dyn FnMut(&mut Body<'_>)| {
        body.put_str(1, name);
        body.nest(2, |body| fill(body));
    };
    match expression {
        Expression::InputInterface(to) => named("meta", &mut |body| put_load(body, *to, 6)),
        Expression::OutputInterface(to) => named("meta", &mut |body| put_load(body, *to, 7)),
        Expression::ConnectionState(to) => named("ct", &mut |body| put_load(body, *to, 0)),
        Expression::ConnectionStatus(to) => named("ct", &mut |body| put_load(body, *to, 2)),
        // NFT_FIB_RESULT_ADDRTYPE by NFTA_FIB_F_DADDR.
        Expression::DestinationKind(to) => named("fib", &mut |body| {
            put_load(body, *to, 3);
            body.put_be32(3, 2);
        }),
        Expression::Payload { to, header, offset, length } => named("payload", &mut |body| {
            put_load(body, *to, *header as u32);
            body.put_be32(3, *offset);
            body.put_be32(4, *length);
        }),
        Expression::Mask { register, mask } => named("bitwise", &mut |body| {
            body.put_be32(1, register.number());
            body.put_be32(2, register.number());
            body.put_be32(3, mask.len() as u32);
            body.nest(4, |body| body.put(DATA_VALUE, mask));
            body.nest(5, |body| body.put(DATA_VALUE, &vec![0; mask.len()]));
        }),
        Expression::Compare { register, compare, value } => named("cmp", &mut |body| {
            body.put_be32(1, register.number());
            body.put_be32(2, *compare as u32);
            body.nest(3, |body| body.put(DATA_VALUE, value));
        }),
        Expression::Lookup { map, key, to } => named("lookup", &mut |body| {
            body.put_str(1, map);
            body.put_be32(2, key.number());
            body.put_be32(3, to.number());
        }),
        Expression::DestinationNat { address, port } => named("nat", &mut |body| {
            const NAT_DESTINATION: u32 = 1;
            body.put_be32(1, NAT_DESTINATION);
            body.put_be32(2, family as u32);
            body.put_be32(3, address.number());
            body.put_be32(5, port.number());
        }),
        Expression::Masquerade => named("masq", &mut |_| {}),
        Expression::Verdict(verdict) => named("immediate", &mut |body| {
            body.put_be32(IMMEDIATE_DREG, VERDICT_REGISTER);
            body.nest(2, |body| body.nest(DATA_VERDICT, |body| put_verdict(body, verdict)));
        }),
    }
}

/// The two attributes that every loading expression starts with: register and key.
fn put_load(body: &mut Body<'_>, to: Register, key: u32) {
    body.put_be32(1, to.number());
    body.put_be32(2, key);
}

fn put_verdict(body: &mut Body<'_>, verdict: &Verdict) {
    const CODE: u16 = 1;
    const CHAIN: u16 = 2;
    const JUMP: i32 = -3;
    match verdict {
        Verdict::Drop => body.put_be32(CODE, libc::NF_DROP as u32),
        Verdict::Accept => body.put_be32(CODE, libc::NF_ACCEPT as u32),
        Verdict::Jump(chain) => {
            body.put_be32(CODE, JUMP as u32);
            body.put_str(CHAIN, chain);
        }
    }
}
