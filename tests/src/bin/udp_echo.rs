//! Answers every datagram on a port with itself, until it is killed. Tests put it into images: busybox
//! has nothing that speaks UDP.

use std::net::{Ipv4Addr, UdpSocket};

use anyhow::{Context, Result};

fn main() -> Result<()> {
    let port = std::env::args().nth(1).context("expected a port")?;
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, port.parse()?))?;
    println!("listening");
    let mut datagram = [0; 2048];
    loop {
        let (length, sender) = socket.recv_from(&mut datagram)?;
        socket.send_to(datagram.get(..length).unwrap_or_default(), sender)?;
    }
}
