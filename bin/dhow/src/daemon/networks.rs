//! The network service, as the engine asks for it: each has types of its own, and here they meet.

use std::net::IpAddr;

use dhow_engine as engine;
use dhow_error::{Error, Result};
use dhow_network::{self as network, Mode, Network, Protocol, Resolvers};
use dhow_spec::ContainerId;

/// The daemon's bridge, behind the engine's trait.
#[derive(Debug)]
pub(crate) struct Bridged(Network);

impl Bridged {
    /// Wraps the service.
    pub(crate) fn new(network: Network) -> Self {
        Self(network)
    }

    async fn connect(&self, request: engine::AttachRequest) -> Result<engine::Attachment> {
        let mode = match request.network.as_deref() {
            None => Mode::None,
            Some("" | "bridge") => Mode::Bridge,
            Some(other) => return Err(Error::not_found(format!("network {other} not found"))),
        };
        let attachment = self
            .0
            .attach(network::AttachRequest {
                id: request.id.parse()?,
                mode,
                ports: request.ports.into_iter().map(wanted).collect(),
                address: request.ip,
                mac: request.mac,
            })
            .await?;
        Ok(engine::Attachment {
            netns: attachment.netns,
            endpoint: attachment.endpoint.map(endpoint_out),
            ports: attachment.ports.into_iter().map(port_out).collect(),
        })
    }

    async fn take_over(&self, survivors: Vec<engine::Survivor>) -> Result<()> {
        let survivors = survivors.into_iter().map(|survivor| {
            Ok(network::Survivor {
                id: survivor.id.parse()?,
                endpoint: survivor.endpoint.map(endpoint_in),
                ports: survivor.ports.into_iter().map(port_in).collect(),
            })
        });
        // The service logs its notices.
        self.0.restore(survivors.collect::<Result<_>>()?).await?;
        Ok(())
    }
}

impl engine::Networks for Bridged {
    fn attach(
        &self,
        request: engine::AttachRequest,
    ) -> engine::BoxFuture<'_, Result<engine::Attachment>> {
        Box::pin(self.connect(request))
    }

    fn detach<'a>(&'a self, id: &'a str) -> engine::BoxFuture<'a, Result<()>> {
        Box::pin(async move { self.0.detach(&id.parse::<ContainerId>()?).await })
    }

    fn restore(&self, survivors: Vec<engine::Survivor>) -> engine::BoxFuture<'_, Result<()>> {
        Box::pin(self.take_over(survivors))
    }

    fn resolver(&self) -> engine::Resolver {
        let host = Resolvers::of_host();
        engine::Resolver { servers: host.servers, search: host.search, options: host.options }
    }

    fn host_gateway(&self) -> Option<IpAddr> {
        Some(self.0.info().address.address())
    }
}

fn wanted(binding: engine::spec::PortBinding) -> network::PortRequest {
    network::PortRequest {
        protocol: protocol_in(binding.port.protocol),
        host_ip: binding.host_ip,
        host_ports: binding.host_ports,
        container_port: binding.port.number,
    }
}

fn protocol_in(protocol: engine::spec::Protocol) -> Protocol {
    match protocol {
        engine::spec::Protocol::Tcp => Protocol::Tcp,
        engine::spec::Protocol::Udp => Protocol::Udp,
    }
}

fn protocol_out(protocol: Protocol) -> engine::spec::Protocol {
    match protocol {
        Protocol::Tcp => engine::spec::Protocol::Tcp,
        Protocol::Udp => engine::spec::Protocol::Udp,
    }
}

fn endpoint_out(endpoint: network::Endpoint) -> engine::Endpoint {
    engine::Endpoint {
        network: endpoint.network,
        ip: endpoint.address,
        prefix_len: endpoint.prefix_len,
        gateway: Some(endpoint.gateway),
        mac: endpoint.mac,
    }
}

fn endpoint_in(endpoint: engine::Endpoint) -> network::Endpoint {
    network::Endpoint {
        network: endpoint.network,
        address: endpoint.ip,
        prefix_len: endpoint.prefix_len,
        // Every endpoint that this service gave has one.
        gateway: endpoint.gateway.unwrap_or(endpoint.ip),
        mac: endpoint.mac,
    }
}

fn port_out(port: network::PublishedPort) -> engine::PublishedPort {
    let inside =
        engine::spec::Port { number: port.container_port, protocol: protocol_out(port.protocol) };
    engine::PublishedPort { port: inside, host_ip: port.host_ip, host_port: port.host_port }
}

fn port_in(port: engine::PublishedPort) -> network::PublishedPort {
    network::PublishedPort {
        protocol: protocol_in(port.port.protocol),
        host_ip: port.host_ip,
        host_port: port.host_port,
        container_port: port.port.number,
    }
}
