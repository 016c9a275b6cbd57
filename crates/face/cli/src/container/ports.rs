//! `--publish`, `--expose`, `--add-host`.

use std::net::IpAddr;
use std::ops::RangeInclusive;

use dhow_docker_wire::container::{PortBinding, PortMap};
use dhow_docker_wire::null::{Set, set};

use super::bad;
use crate::failure::Failure;

/// What `--publish` and `--expose` say: all exposed ports, and where the published ones are published.
pub(super) fn published(publish: &[String], expose: &[String]) -> Result<(Set, PortMap), Failure> {
    let mut exposed = Vec::new();
    let mut published = PortMap::new();
    for flag in publish {
        for (port, binding) in bindings(flag)? {
            exposed.push(port.clone());
            published.entry(port).or_default().get_or_insert_default().push(binding);
        }
    }
    for flag in expose {
        let (ports, protocol) = protocol(flag)?;
        let invalid = || bad(format!("invalid port in --expose: {flag}"));
        exposed.extend(range(ports).ok_or_else(invalid)?.map(|port| format!("{port}/{protocol}")));
    }
    Ok((set(exposed), published))
}

/// `[[ADDRESS:]HOSTPORT:]PORT[/PROTOCOL]`, the ports being ranges of equal length. A range on the host
/// for one port in the container means: any free one of them.
fn bindings(flag: &str) -> Result<Vec<(String, PortBinding)>, Failure> {
    let invalid = |why: &str| {
        bad(format!("invalid --publish {flag}: {why}"))
            .with_hint("write -p 8080:80, -p 80 or -p 127.0.0.1:8080:80/udp")
    };
    let (rest, protocol) = protocol(flag)?;
    let (front, inside) = rest.rsplit_once(':').unwrap_or(("", rest));
    let (address, outside) = match front.rsplit_once(':') {
        Some((address, outside)) => {
            (address.trim_start_matches('[').trim_end_matches(']'), outside)
        }
        None => ("", front),
    };
    if !address.is_empty() && address.parse::<IpAddr>().is_err() {
        return Err(invalid("the address is not an IP address"));
    }
    let inside = range(inside).ok_or_else(|| invalid("the container's port is not a port"))?;
    let binding = |host_port: String| PortBinding { host_ip: address.to_owned(), host_port };
    if outside.is_empty() {
        return Ok(inside
            .map(|port| (format!("{port}/{protocol}"), binding(String::new())))
            .collect());
    }
    let ports = range(outside).ok_or_else(|| invalid("the host's port is not a port"))?;
    if inside.len() == 1 && ports.len() > 1 {
        return Ok(vec![(format!("{}/{protocol}", inside.start()), binding(outside.to_owned()))]);
    }
    if inside.len() != ports.len() {
        return Err(invalid("the two ranges differ in length"));
    }
    let pairs = inside.zip(ports);
    Ok(pairs
        .map(|(inside, port)| (format!("{inside}/{protocol}"), binding(port.to_string())))
        .collect())
}

/// `PORT/PROTOCOL` apart.
fn protocol(text: &str) -> Result<(&str, String), Failure> {
    let (ports, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
    let protocol = protocol.to_ascii_lowercase();
    match protocol.as_str() {
        "tcp" | "udp" | "sctp" => Ok((ports, protocol)),
        _ => Err(bad(format!("invalid protocol in {text}: tcp, udp and sctp are known"))),
    }
}

/// `80` or `8000-8010`.
fn range(text: &str) -> Option<RangeInclusive<u16>> {
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let (first, last): (u16, u16) = (first.parse().ok()?, last.parse().ok()?);
    (1 <= first && first <= last).then_some(first..=last)
}

/// `NAME:ADDRESS` or `NAME=ADDRESS` of `--add-host`, with a colon.
pub(super) fn extra_host(text: &str) -> Result<String, Failure> {
    let (name, address) =
        text.split_once('=').or_else(|| text.split_once(':')).unwrap_or((text, ""));
    let bare = address.trim_start_matches('[').trim_end_matches(']');
    if name.is_empty() || bare != "host-gateway" && bare.parse::<IpAddr>().is_err() {
        return Err(bad(format!("invalid --add-host {text:?}: expected NAME:ADDRESS")));
    }
    Ok(format!("{name}:{bare}"))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(flag: &str) -> Result<Vec<String>, String> {
        let (_, map) = published(&[flag.to_owned()], &[]).map_err(|it| it.message)?;
        let text = |(port, to): (String, Option<Vec<PortBinding>>)| {
            let to = to.unwrap_or_default();
            to.into_iter().map(move |it| format!("{}:{}->{port}", it.host_ip, it.host_port))
        };
        Ok(map.into_iter().flat_map(text).collect())
    }

    #[test]
    fn all_forms() {
        let cases = [
            ("80", &[":->80/tcp"][..]),
            ("8080:80", &[":8080->80/tcp"]),
            ("8080:80/udp", &[":8080->80/udp"]),
            ("127.0.0.1:8080:80", &["127.0.0.1:8080->80/tcp"]),
            ("127.0.0.1::80", &["127.0.0.1:->80/tcp"]),
            ("[::1]:8080:80", &["::1:8080->80/tcp"]),
            ("8000-8001:80-81", &[":8000->80/tcp", ":8001->81/tcp"]),
            ("8000-8010:80", &[":8000-8010->80/tcp"]),
        ];
        for (flag, expected) in cases {
            assert_eq!(
                read(flag).as_deref(),
                Ok(&expected.iter().map(ToString::to_string).collect::<Vec<_>>()[..]),
                "{flag}"
            );
        }
        for flag in ["", "x", "0", "80/icmp", "1-2:3-5", "70000:80", "a:1:2", "2-1:1-2"] {
            assert!(read(flag).is_err(), "{flag}");
        }
    }

    proptest! {
        #[test]
        fn never_panics(flag in "[0-9:./\\[\\]a-z-]{0,30}") {
            let _ = read(&flag);
        }
    }
}
