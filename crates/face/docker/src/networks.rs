//! `/networks`: what a daemon has without anybody making it: the bridge, the host's, and none.

use std::collections::BTreeMap;

use dhow_docker_wire::network::{Ipam, IpamRange, Network, NetworkContainer};
use dhow_engine::ListOptions;
use dhow_error::{Error, Result};
use dhow_spec::Digest;

use crate::answer::{self, Answer};
use crate::request::Request;
use crate::{Services, time};

/// Names of the networks, each with its driver.
const NETWORKS: [(&str, &str); 3] = [("bridge", "bridge"), ("host", "host"), ("none", "null")];

/// The id under which clients see the daemon's network of that name: 64 hex digits, always the same.
pub(crate) fn network_id(name: &str) -> String {
    Digest::of(format!("dhow network {name}").as_bytes()).hex()
}

/// The id under which clients see a container's place on a network: 64 hex digits, always the same.
pub(crate) fn endpoint_id(network: &str, container: &str) -> String {
    Digest::of(format!("dhow endpoint {network} {container}").as_bytes()).hex()
}

/// `GET /networks`.
pub(crate) fn list(services: &Services, request: &Request) -> Result<Answer> {
    let filters =
        request.query.filters(&["dangling", "driver", "id", "label", "name", "scope", "type"])?;
    let passes = |name: &str, driver: &str| {
        let id = network_id(name);
        filters.0.iter().all(|(filter, values)| {
            values.is_empty()
                || values.iter().any(|value| match filter.as_str() {
                    "name" => name.contains(value.as_str()),
                    "id" => id.starts_with(value.as_str()),
                    "driver" => driver == value,
                    "scope" => value == "local",
                    "type" => value == "builtin",
                    "dangling" => matches!(value.as_str(), "false" | "0"),
                    _ => false,
                })
        })
    };
    let mut list = Vec::new();
    for (name, driver) in NETWORKS {
        if passes(name, driver) {
            // Only details tell who is on a network, as with Docker.
            list.push(describe(services, name, driver));
        }
    }
    Ok(answer::ok(&list))
}

/// `GET /networks/{name or id}`.
pub(crate) async fn inspect(services: &Services, wanted: &str) -> Result<Answer> {
    let found = NETWORKS.into_iter().find(|(name, _)| {
        *name == wanted || (wanted.len() >= 4 && network_id(name).starts_with(wanted))
    });
    let Some((name, driver)) = found else {
        return Err(Error::not_found(format!("network {wanted} not found")));
    };
    let mut network = describe(services, name, driver);
    network.containers = members(services, name).await?;
    Ok(answer::ok(&network))
}

fn describe(services: &Services, name: &str, driver: &str) -> Network {
    let mut network = Network {
        name: name.to_owned(),
        id: network_id(name),
        created: time::NEVER.to_owned(),
        scope: "local".to_owned(),
        driver: driver.to_owned(),
        enable_ipv4: true,
        ipam: Ipam { driver: "default".to_owned(), ..Ipam::default() },
        ..Network::default()
    };
    if name == "bridge" {
        let info = services.network.info();
        network.ipam.config = vec![IpamRange {
            subnet: info.address.network().to_string(),
            gateway: info.address.address().to_string(),
            ..IpamRange::default()
        }];
        network.options = [
            ("com.docker.network.bridge.default_bridge", "true".to_owned()),
            ("com.docker.network.bridge.enable_ip_masquerade", "true".to_owned()),
            ("com.docker.network.bridge.name", info.bridge.clone()),
            ("com.docker.network.driver.mtu", info.mtu.to_string()),
        ]
        .map(|(name, value)| (name.to_owned(), value))
        .into();
    }
    network
}

/// The running containers on a network.
async fn members(services: &Services, network: &str) -> Result<BTreeMap<String, NetworkContainer>> {
    let running = services.engine.list(&ListOptions::default()).await?;
    let members = running.into_iter().filter_map(|summary| {
        let (address, mac) = match &summary.endpoint {
            Some(endpoint) if endpoint.network == network => {
                let address = format!("{}/{}", endpoint.ip, endpoint.prefix_len);
                (address, endpoint.mac.clone())
            }
            None if summary.network_mode == network => Default::default(),
            _ => return None,
        };
        let member = NetworkContainer {
            name: summary.name,
            endpoint_id: endpoint_id(network, &summary.id),
            mac_address: mac,
            ipv4_address: address,
            ipv6_address: String::new(),
        };
        Some((summary.id, member))
    });
    Ok(members.collect())
}
