//! A line of a list of containers, as Docker tells it.

use dhow_docker_wire::container::{
    ContainerSummary, Port as WirePort, SummaryHostConfig, SummaryNetworks,
};
use dhow_engine::Summary;

use super::{mounts, network};

/// A line of a list.
pub(crate) fn summary(summary: &Summary) -> ContainerSummary {
    let networks =
        network::endpoints(&summary.id, &summary.network_mode, summary.endpoint.as_ref(), None);
    ContainerSummary {
        id: summary.id.clone(),
        names: vec![format!("/{}", summary.name)],
        image: summary.image.clone(),
        image_id: summary.image_id.to_string(),
        command: summary.command.clone(),
        created: (summary.created_ns / 1_000_000_000) as i64,
        ports: ports(summary),
        labels: summary.labels.clone(),
        state: summary.state.status.as_str().to_owned(),
        status: summary.status_text.clone(),
        host_config: SummaryHostConfig {
            network_mode: match summary.network_mode.as_str() {
                "" | "default" => "bridge".to_owned(),
                mode => mode.to_owned(),
            },
            ..SummaryHostConfig::default()
        },
        network_settings: SummaryNetworks { networks },
        mounts: summary.mounts.iter().map(mounts::point).collect(),
        ..ContainerSummary::default()
    }
}

/// Published ports, and those that are only exposed; none of a container that does not run.
fn ports(summary: &Summary) -> Vec<WirePort> {
    if !summary.state.status.is_live() {
        return Vec::new();
    }
    let published = summary.ports.iter().map(|port| WirePort {
        ip: port.host_ip.to_string(),
        private_port: port.port.number,
        public_port: port.host_port,
        kind: port.port.protocol.to_string(),
    });
    let is_published = |port| summary.ports.iter().any(|published| published.port == port);
    let exposed = summary.exposed.iter().filter(|port| !is_published(**port));
    let exposed = exposed.map(|port| WirePort {
        private_port: port.number,
        kind: port.protocol.to_string(),
        ..WirePort::default()
    });
    published.chain(exposed).collect()
}
