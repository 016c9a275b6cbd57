//! One HTTP request over TCP, as plain as it gets.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

/// How long a server may take until it answers at all.
const PATIENCE: Duration = Duration::from_secs(10);

/// The body of `GET /` at `address`. A refused connection is tried again at once: the server may still
/// be starting.
///
/// # Errors
/// If nothing answers in ten seconds.
pub fn get(address: SocketAddr) -> Result<String> {
    let begin = Instant::now();
    loop {
        match attempt(address) {
            Ok(body) => return Ok(body),
            Err(error) if begin.elapsed() > PATIENCE => {
                return Err(error).with_context(|| format!("no answer from {address}"));
            }
            Err(_) => std::thread::yield_now(),
        }
    }
}

/// One try.
///
/// # Errors
/// If the connection fails or the answer has no body.
pub fn attempt(address: SocketAddr) -> Result<String> {
    let mut connection = TcpStream::connect_timeout(&address, Duration::from_secs(2))?;
    connection.set_read_timeout(Some(PATIENCE))?;
    write!(connection, "GET / HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n")?;
    let mut answer = String::new();
    connection.read_to_string(&mut answer)?;
    let (_, body) = answer.split_once("\r\n\r\n").context("an answer without a body")?;
    Ok(body.to_owned())
}
