//! A static HTTP server of one file: answers every request with one line.
//!
//! It is what `cargo xtask demo` packs into an image `FROM scratch`. It listens on port 8080, or on the
//! one named by `PORT`, says so on standard output, and logs a line for each request.

use std::io::{BufRead, BufReader, Result, Write};
use std::net::{TcpListener, TcpStream};

/// No request line of a browser or a probe is longer; a longer one is cut.
const LONGEST_REQUEST: u64 = 8 * 1024;

fn main() -> Result<()> {
    let port = std::env::var("PORT").unwrap_or_else(|_| "8080".to_owned());
    let listener = TcpListener::bind(format!("0.0.0.0:{port}"))?;
    println!("hello listens on port {port}");
    for connection in listener.incoming() {
        if let Err(error) = connection.and_then(answer) {
            eprintln!("hello: {error}");
        }
    }
    Ok(())
}

/// Reads one request and answers it.
fn answer(mut connection: TcpStream) -> Result<()> {
    use std::io::Read;
    let mut request = BufReader::new(connection.try_clone()?.take(LONGEST_REQUEST)).lines();
    let first = request.next().transpose()?.unwrap_or_default();
    for line in request {
        if line?.is_empty() {
            break;
        }
    }
    println!("{first}");
    let greeting = std::env::var("GREETING").unwrap_or_else(|_| "hello from dhow".to_owned());
    let length = greeting.len() + 1;
    write!(
        connection,
        "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: {length}\r\n\
         Connection: close\r\n\r\n{greeting}\n"
    )
}
