//! How a container is connected: mode, ports, names.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::ops::RangeInclusive;

use dhow_docker_wire::container::{
    Config, HostConfig, NetworkSettings, NetworkingConfig, PortBinding as WireBinding, PortMap,
};
use dhow_docker_wire::network::EndpointSettings;
use dhow_engine::spec::{NetworkMode, NetworkSpec, Port, PortBinding};
use dhow_engine::{Endpoint, PublishedPort};
use dhow_error::{Error, Result};

use super::not_offered;
use crate::networks::{endpoint_id, network_id};
use crate::query::quoted;

/// A container's connection in the engine's words.
pub(super) fn read(
    config: &Config,
    host: &HostConfig,
    networking: &NetworkingConfig,
) -> Result<NetworkSpec> {
    let mode = match NetworkMode::from(host.network_mode.clone()) {
        NetworkMode::Container(id) if id.is_empty() => {
            return Err(Error::invalid("invalid network mode: container: needs a name or id"));
        }
        _ if config.network_disabled => NetworkMode::None,
        mode => mode,
    };
    let endpoint = endpoint(&mode, networking)?;
    let mac = [&endpoint.mac_address, &config.mac_address].into_iter().find(|mac| !mac.is_empty());
    Ok(NetworkSpec {
        ports: bindings(&host.port_bindings)?,
        publish_all: host.publish_all_ports,
        mac: mac.cloned(),
        ip: wished_address(&endpoint)?,
        extra_hosts: host.extra_hosts.clone(),
        dns: host.dns.iter().map(|text| address("DNS server", text)).collect::<Result<_>>()?,
        dns_search: host.dns_search.clone(),
        dns_options: host.dns_options.clone(),
        mode,
    })
}

/// What is asked of the one network that a container joins.
fn endpoint(mode: &NetworkMode, networking: &NetworkingConfig) -> Result<EndpointSettings> {
    let name = mode.to_string();
    let bridge = |name: &str| matches!(name, "default" | "bridge");
    let mut own = EndpointSettings::default();
    for (network, settings) in &networking.endpoints_config {
        if *network != name && !(bridge(network) && bridge(&name)) {
            return Err(not_offered(format!("joining network {} as well", quoted(network))));
        }
        own = settings.clone().unwrap_or_default();
    }
    if !own.links.is_empty() {
        return Err(not_offered("a legacy link"));
    }
    Ok(own)
}

fn wished_address(endpoint: &EndpointSettings) -> Result<Option<IpAddr>> {
    let Some(ipam) = &endpoint.ipam_config else { return Ok(None) };
    if !ipam.ipv6_address.is_empty() || !ipam.link_local_ips.is_empty() {
        return Err(not_offered("choosing a container's IPv6 or link-local address"));
    }
    match ipam.ipv4_address.as_str() {
        "" => Ok(None),
        text => address("IPv4 address", text).map(Some),
    }
}

fn address(what: &str, text: &str) -> Result<IpAddr> {
    text.parse().map_err(|_| Error::invalid(format!("invalid {what}: {}", quoted(text))))
}

/// Ports that a container serves.
pub(super) fn ports<'a>(texts: impl Iterator<Item = &'a String>) -> Result<BTreeSet<Port>> {
    texts.map(|text| Ok(text.parse::<Port>()?)).collect()
}

fn bindings(map: &PortMap) -> Result<Vec<PortBinding>> {
    let mut bindings = Vec::new();
    for (port, wishes) in map {
        let port: Port = port.parse()?;
        for wish in wishes.iter().flatten() {
            let host_ip = match wish.host_ip.as_str() {
                "" => None,
                text => Some(address("host address of a published port", text)?),
            };
            bindings.push(PortBinding { port, host_ip, host_ports: host_ports(&wish.host_port)? });
        }
    }
    Ok(bindings)
}

/// Ports of the host, of which one will do; none means any.
fn host_ports(text: &str) -> Result<Option<RangeInclusive<u16>>> {
    let invalid = || Error::invalid(format!("invalid host port {}", quoted(text)));
    let number = |text: &str| text.parse::<u16>().map_err(|_| invalid());
    match text.split_once('-') {
        None if text.is_empty() => Ok(None),
        None => Ok(Some(number(text)?).filter(|port| *port != 0).map(|port| port..=port)),
        Some((first, last)) => match (number(first)?, number(last)?) {
            (first, last) if first != 0 && first <= last => Ok(Some(first..=last)),
            _ => Err(invalid()),
        },
    }
}

/// A port, or `first-last`.
fn range(ports: &RangeInclusive<u16>) -> String {
    let (first, last) = (ports.start(), ports.end());
    if first == last { first.to_string() } else { format!("{first}-{last}") }
}

/// A container's connection as Docker tells it.
pub(super) fn write(network: &NetworkSpec, host: &mut HostConfig) {
    host.network_mode = match &network.mode {
        NetworkMode::Default => "bridge".to_owned(),
        mode => mode.to_string(),
    };
    for binding in &network.ports {
        let wish = WireBinding {
            host_ip: binding.host_ip.map(|ip| ip.to_string()).unwrap_or_default(),
            host_port: binding.host_ports.as_ref().map(range).unwrap_or_default(),
        };
        let wishes = host.port_bindings.entry(binding.port.to_string()).or_default();
        wishes.get_or_insert_default().push(wish);
    }
    host.publish_all_ports = network.publish_all;
    host.extra_hosts.clone_from(&network.extra_hosts);
    host.dns = network.dns.iter().map(ToString::to_string).collect();
    host.dns_search.clone_from(&network.dns_search);
    host.dns_options.clone_from(&network.dns_options);
}

/// Ports as they are: published ones with where, exposed ones without.
pub(super) fn port_map<'a>(
    exposed: impl Iterator<Item = &'a Port>,
    published: &[PublishedPort],
) -> PortMap {
    let mut map: PortMap = exposed.map(|port| (port.to_string(), None)).collect();
    for port in published {
        let binding = WireBinding {
            host_ip: port.host_ip.to_string(),
            host_port: port.host_port.to_string(),
        };
        map.entry(port.port.to_string()).or_default().get_or_insert_default().push(binding);
    }
    map
}

/// What a container has on its networks, by name.
pub(super) fn endpoints(
    container: &str,
    mode: &str,
    endpoint: Option<&Endpoint>,
    wished_mac: Option<&str>,
) -> BTreeMap<String, EndpointSettings> {
    let name = match mode {
        "" | "default" => "bridge",
        // It has those of the other container, which tells them itself.
        mode if mode.starts_with("container:") => return BTreeMap::new(),
        mode => mode,
    };
    let settings = endpoint.map_or_else(
        || EndpointSettings {
            network_id: network_id(name),
            mac_address: wished_mac.unwrap_or_default().to_owned(),
            ..EndpointSettings::default()
        },
        |endpoint| EndpointSettings {
            network_id: network_id(&endpoint.network),
            endpoint_id: endpoint_id(&endpoint.network, container),
            gateway: endpoint.gateway.map(|ip| ip.to_string()).unwrap_or_default(),
            ip_address: endpoint.ip.to_string(),
            ip_prefix_len: endpoint.prefix_len,
            mac_address: endpoint.mac.clone(),
            ..EndpointSettings::default()
        },
    );
    BTreeMap::from([(name.to_owned(), settings)])
}

/// The fields of [`NetworkSettings`] that repeat what a container has on the bridge.
pub(super) fn settings(
    networks: BTreeMap<String, EndpointSettings>,
    ports: PortMap,
    pid: i32,
) -> NetworkSettings {
    let bridge = networks.get("bridge").cloned().unwrap_or_default();
    NetworkSettings {
        sandbox_key: if pid > 0 { format!("/proc/{pid}/ns/net") } else { String::new() },
        ports,
        endpoint_id: bridge.endpoint_id,
        gateway: bridge.gateway,
        ip_address: bridge.ip_address,
        ip_prefix_len: bridge.ip_prefix_len,
        mac_address: bridge.mac_address,
        networks,
        ..NetworkSettings::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn networking(json: &str) -> NetworkingConfig {
        serde_json::from_str(json).unwrap()
    }

    #[test]
    fn only_one_network_is_joined() {
        let host = HostConfig { network_mode: "bridge".into(), ..HostConfig::default() };
        let read = |json: &str| read(&Config::default(), &host, &networking(json));
        assert!(read(r#"{"EndpointsConfig":{"default":null}}"#).is_ok());
        assert!(read(r#"{"EndpointsConfig":{"web":{}}}"#).is_err());
        let spec = read(
            r#"{"EndpointsConfig":{"bridge":{"MacAddress":"02:42:00:00:00:01","IPAMConfig":{"IPv4Address":"172.17.0.9"}}}}"#,
        )
        .unwrap();
        assert_eq!(spec.mac.as_deref(), Some("02:42:00:00:00:01"));
        assert_eq!(spec.ip, Some("172.17.0.9".parse().unwrap()));
    }

    #[test]
    fn host_ports_read() {
        assert_eq!(host_ports("").unwrap(), None);
        assert_eq!(host_ports("0").unwrap(), None);
        assert_eq!(host_ports("8080").unwrap(), Some(8080..=8080));
        assert_eq!(host_ports("80-90").unwrap(), Some(80..=90));
        for bad in ["x", "65536", "0-90", "90-80", "-", "80-"] {
            assert!(host_ports(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn published_and_exposed_ports_are_told_apart() {
        let exposed: Vec<Port> = vec!["80/tcp".parse().unwrap(), "81/tcp".parse().unwrap()];
        let published = [PublishedPort {
            port: exposed[0],
            host_ip: "0.0.0.0".parse().unwrap(),
            host_port: 8080,
        }];
        let map = port_map(exposed.iter(), &published);
        assert_eq!(map["80/tcp"].as_ref().unwrap()[0].host_port, "8080");
        assert_eq!(map["81/tcp"], None);
    }
}
