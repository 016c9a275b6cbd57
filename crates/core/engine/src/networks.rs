//! What the engine needs from whoever connects containers.
//!
//! The engine asks for a network namespace with an endpoint in it, keeps what it was given beside the
//! running container, and gives it back after a restart of the daemon ([`Networks::restore`]), so that
//! the network service itself keeps nothing durable about containers.
//!
//! ```text
//!   start ── attach ──► Attachment ── run ──► detach        (also after a failed start)
//!                           │ kept in RUN/containers/<id>/network.json
//!   daemon starts again ────┴──► restore (once, with all containers that still run)
//! ```

use std::future::Future;
use std::net::IpAddr;
use std::os::fd::OwnedFd;
use std::pin::Pin;

use dhow_error::Result;
use serde::{Deserialize, Serialize};

use crate::spec::{Port, PortBinding};

/// A future in a box, so that [`Networks`] can be a trait object.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// Connects containers. One method call per container at a time; different containers at once.
pub trait Networks: Send + Sync + 'static {
    /// Gives a container its network namespace, endpoint and published ports. A failure leaves nothing
    /// behind. Never called for the modes `host` and `container:`.
    fn attach(&self, request: AttachRequest) -> BoxFuture<'_, Result<Attachment>>;

    /// Takes back what `attach` or `restore` gave. Fine when there is nothing.
    fn detach<'a>(&'a self, id: &'a str) -> BoxFuture<'a, Result<()>>;

    /// Takes over the containers that already run: their addresses and ports are in use as told; what
    /// others left is removed. Called once, before the first `attach`, also with an empty list.
    fn restore(&self, survivors: Vec<Survivor>) -> BoxFuture<'_, Result<()>>;

    /// The name servers, search domains and options of the host that containers can use.
    fn resolver(&self) -> Resolver {
        Resolver::default()
    }

    /// The address by which containers reach the host (`host-gateway`), where there is one.
    fn host_gateway(&self) -> Option<IpAddr> {
        None
    }
}

/// What a container needs of the network.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AttachRequest {
    /// The container's id.
    pub id: String,
    /// The container's name, without slash.
    pub name: String,
    /// The network: `None` for a namespace with only a loopback interface, `Some("")` for the daemon's
    /// bridge, else a network by name.
    pub network: Option<String>,
    /// Ports to publish; those without a host port get a free one. Empty without a bridge.
    pub ports: Vec<PortBinding>,
    /// The MAC address asked for.
    pub mac: Option<String>,
    /// The address asked for.
    pub ip: Option<IpAddr>,
}

/// A connected network namespace.
#[derive(Debug)]
pub struct Attachment {
    /// The namespace. The container joins it; it dies with its last process and descriptor.
    pub netns: OwnedFd,
    /// The interface in it, unless there is only loopback.
    pub endpoint: Option<Endpoint>,
    /// The ports as they were published.
    pub ports: Vec<PublishedPort>,
}

/// A container's place in a network.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Endpoint {
    /// The network's name.
    pub network: String,
    /// The container's address.
    pub ip: IpAddr,
    /// The length of the network's prefix.
    pub prefix_len: u8,
    /// The default route.
    pub gateway: Option<IpAddr>,
    /// `02:42:ac:11:00:02`.
    pub mac: String,
}

/// A container that outlived the daemon.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Survivor {
    /// The container's id.
    pub id: String,
    /// Its interface, as [`Attachment`] told it.
    pub endpoint: Option<Endpoint>,
    /// Its published ports, as [`Attachment`] told them.
    pub ports: Vec<PublishedPort>,
}

/// A port that leads into a container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PublishedPort {
    /// The container's port.
    pub port: Port,
    /// The host's address.
    pub host_ip: IpAddr,
    /// The host's port.
    pub host_port: u16,
}

/// What goes into a container's `/etc/resolv.conf`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Resolver {
    /// Addresses of name servers.
    pub servers: Vec<IpAddr>,
    /// Search domains.
    pub search: Vec<String>,
    /// Options.
    pub options: Vec<String>,
}
