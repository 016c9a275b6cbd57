//! Which name servers containers ask: the host's, as far as a container can reach them.
//!
//! The parser takes the text of a resolv.conf(5) and gives values; only [`Resolvers::of_host`] reads files.

use std::fmt::Write;
use std::net::{IpAddr, Ipv4Addr};

/// Lines beyond this are not read; no resolver would.
const LINES_MAX: usize = 1000;

/// What a container's resolv.conf says.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Resolvers {
    /// The name servers, in order.
    pub servers: Vec<IpAddr>,
    /// The domains in which short names are looked for.
    pub search: Vec<String>,
    /// The resolver's options, such as `ndots:2`.
    pub options: Vec<String>,
    /// Whether the host has no name server that a container could reach, so that public ones stand in.
    pub fallback: bool,
}

/// The public servers that stand in when the host has none that a container can reach.
const FALLBACK: [Ipv4Addr; 2] = [Ipv4Addr::new(8, 8, 8, 8), Ipv4Addr::new(8, 8, 4, 4)];

impl Resolvers {
    /// Reads a resolv.conf(5). Servers on loopback addresses are the host's own and unreachable from a
    /// container; IPv6 servers are left out unless the network has `ipv6`. As the manual says, of
    /// several `search` or `domain` lines the last counts.
    pub fn parse(resolv_conf: &str, ipv6: bool) -> Self {
        let mut resolvers = Self::default();
        for line in resolv_conf.lines().take(LINES_MAX) {
            let mut words = line.split_whitespace();
            match words.next() {
                Some("nameserver") => {
                    let server = words.next().and_then(|word| word.parse::<IpAddr>().ok());
                    resolvers.servers.extend(server.filter(|server| is_reachable(*server, ipv6)));
                }
                Some("search" | "domain") => {
                    resolvers.search =
                        words.filter(|word| *word != ".").map(str::to_owned).collect();
                }
                Some("options") => resolvers.options.extend(words.map(str::to_owned)),
                _ => {}
            }
        }
        resolvers
    }

    /// The same with public servers in place of none, and that said.
    #[must_use]
    pub fn or_public(mut self) -> Self {
        if self.servers.is_empty() {
            self.servers = FALLBACK.into_iter().map(IpAddr::V4).collect();
            self.fallback = true;
        }
        self
    }

    /// As a resolv.conf(5).
    pub fn to_resolv_conf(&self) -> String {
        let mut text = String::new();
        for server in &self.servers {
            let _ = writeln!(text, "nameserver {server}");
        }
        for (word, values) in [("search", &self.search), ("options", &self.options)] {
            if !values.is_empty() {
                let _ = writeln!(text, "{word} {}", values.join(" "));
            }
        }
        text
    }

    /// The host's resolvers as containers on a bridge can use them: /etc/resolv.conf, or, where that
    /// names only systemd-resolved's own address, the servers which that forwards to; public ones if
    /// there are none at all.
    pub fn of_host() -> Self {
        const FILES: [&str; 2] = ["/etc/resolv.conf", "/run/systemd/resolve/resolv.conf"];
        let mut first = None;
        for file in FILES {
            let Ok(text) = std::fs::read(file) else { continue };
            let resolvers = Self::parse(&String::from_utf8_lossy(&text), false);
            if !resolvers.servers.is_empty() {
                return resolvers;
            }
            first.get_or_insert(resolvers);
        }
        first.unwrap_or_default().or_public()
    }
}

fn is_reachable(server: IpAddr, ipv6: bool) -> bool {
    !server.is_loopback() && !server.is_unspecified() && (server.is_ipv4() || ipv6)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_a_container_can_reach_is_taken() {
        let text = "# made by hand\nnameserver 127.0.0.53\nnameserver 10.0.0.53 ; the real one\n\
                    nameserver fd00::53\nsearch old.example\nsearch a.example b.example\n\
                    options ndots:2 rotate\nnameserver nonsense\nsortlist 1.2.3.4\n";
        let resolvers = Resolvers::parse(text, false);
        assert_eq!(resolvers.servers, [IpAddr::from([10, 0, 0, 53])]);
        assert_eq!(resolvers.search, ["a.example", "b.example"]);
        assert_eq!(resolvers.options, ["ndots:2", "rotate"]);
        assert!(!resolvers.clone().or_public().fallback);
        assert_eq!(Resolvers::parse(text, true).servers.len(), 2);
        assert_eq!(
            resolvers.to_resolv_conf(),
            "nameserver 10.0.0.53\nsearch a.example b.example\noptions ndots:2 rotate\n"
        );
    }

    #[test]
    fn without_a_server_public_ones_stand_in_and_say_so() {
        let resolvers =
            Resolvers::parse("nameserver 127.0.0.53\nnameserver ::1\n", true).or_public();
        assert!(resolvers.fallback);
        assert_eq!(resolvers.servers, FALLBACK.map(IpAddr::V4));
    }

    proptest! {
        #[test]
        fn any_text_is_read_and_what_is_written_reads_the_same(text in "(?s).{0,400}") {
            let resolvers = Resolvers::parse(&text, true);
            prop_assert_eq!(Resolvers::parse(&resolvers.to_resolv_conf(), true), resolvers);
        }
    }
}
