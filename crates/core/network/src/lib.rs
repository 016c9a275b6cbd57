//! Networks, addresses, ports and the pool of warm namespaces.

mod types;

pub use dhow_netns::{Cidr, Mac};
pub use types::{
    AddressPool, AttachRequest, Attachment, Config, Endpoint, Info, Mode, Notice, PortRequest,
    Protocol, PublishedPort, Survivor,
};

use dhow_error::Result;
use dhow_spec::ContainerId;

/// The network service of one daemon: a bridge, its addresses, published ports, warm namespaces.
/// Cloning is cheap; all clones are the same service.
#[derive(Debug, Clone)]
pub struct Network {
    info: Info,
}

impl Network {
    /// Sets up bridge, addresses and nftables table, or takes over what an earlier daemon with the same
    /// bridge name left, and starts filling the pool. The notices are for the daemon's log and `info`.
    #[allow(clippy::unused_async)]
    pub async fn open(config: Config) -> Result<(Self, Vec<Notice>)> {
        let address = config.address.ok_or_else(|| dhow_error::Error::internal("not built"))?;
        let info = Info { bridge: config.bridge, address, mtu: config.mtu.unwrap_or(1500) };
        Ok((Self { info }, Vec::new()))
    }

    /// The network as it is set up.
    pub fn info(&self) -> &Info {
        &self.info
    }

    /// Gives a container its namespace, address and published ports.
    ///
    /// Errors: `Conflict` for a taken port (naming the holder, with a hint) or address, or an id that is
    /// attached already; `Exhausted` when the range has no free address; `Invalid` for ports without a
    /// bridge or an address outside the network. On failure nothing is kept.
    #[allow(clippy::unused_async)]
    pub async fn attach(&self, request: AttachRequest) -> Result<Attachment> {
        Err(dhow_error::Error::internal(format!("not built: {}", request.id)))
    }

    /// Takes a container's ports and address back. An unknown id is fine. The namespace itself goes when
    /// its last process and descriptor go.
    #[allow(clippy::unused_async)]
    pub async fn detach(&self, id: &ContainerId) -> Result<()> {
        let _ = id;
        Ok(())
    }

    /// After a restart of the daemon, before the first `attach`: takes over the containers that still
    /// run, and removes what those that died meanwhile left. To be called once, with all of them (an
    /// empty list if there are none). A port that can't be reserved again is a notice, not an error.
    #[allow(clippy::unused_async)]
    pub async fn restore(&self, survivors: Vec<Survivor>) -> Result<Vec<Notice>> {
        let _ = survivors;
        Ok(Vec::new())
    }

    /// Ends the service. With `keep` bridge and table stay for the containers that run on; without,
    /// nothing is left.
    #[allow(clippy::unused_async)]
    pub async fn close(self, keep: bool) -> Result<()> {
        let _ = keep;
        Ok(())
    }
}
