//! The network service of one daemon.
//!
//! ```text
//! open ──► restore ──► attach / detach … ──► close(keep)
//!
//! attach: warm namespace · address · ports bound · interface set up · ports in the table
//! detach:                  address free · ports free ◄──────────── ports out of the table
//! ```
//!
//! What is known about containers lives in memory only: the engine keeps it beside each container and
//! gives it back by [`Network::restore`]. Everything that waits for the kernel runs on tokio's blocking
//! threads; an operation whose caller went away is completed there all the same.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, TryLockError};
use std::time::{Duration, Instant};

use dhow_error::Result;
use dhow_netns::{Bridge, Cidr, Interface, Mac, Namespace, Publication, Table, forget_exchanges};
use dhow_spec::ContainerId;
use dhow_sys::netlink::{Family, LinkEvents, Socket};
use dhow_sys::rustix::io::Errno;
use tokio::task::spawn_blocking;

use crate::claim::Claim;
use crate::error::Error;
use crate::holder::Holder;
use crate::ipam::{Addresses, Unavailable};
use crate::pool::Pool;
use crate::ports::{self, Ephemeral, Reservation};
use crate::setup::{Setup, set_up};
use crate::types::{
    AttachRequest, Attachment, Config, Endpoint, Info, Mode, Notice, PublishedPort, Survivor,
};

/// The network's name as people see it.
const NETWORK: &str = "bridge";
/// How long the kernel may take to remove the last namespaces when the service ends for good.
const TEARDOWN: Duration = Duration::from_secs(10);

/// The network service of one daemon: a bridge, its addresses, published ports, warm namespaces.
/// Cloning is cheap; all clones are the same service.
#[derive(Debug, Clone)]
pub struct Network {
    service: Arc<Service>,
}

#[derive(Debug)]
struct Service {
    info: Info,
    bridge: Bridge,
    table: Table,
    pool: Pool,
    state: Mutex<State>,
}

/// What changes while containers come and go.
#[derive(Debug)]
struct State {
    route: Socket,
    netfilter: Socket,
    addresses: Addresses,
    ephemeral: Ephemeral,
    attached: HashMap<ContainerId, Attached>,
    /// Gone once the service is closed.
    claim: Option<Claim>,
}

/// What a container has of the network.
#[derive(Debug, Default)]
struct Attached {
    address: Option<Ipv4Addr>,
    ports: Vec<PublishedPort>,
    reservations: Vec<Reservation>,
}

impl Network {
    /// Sets up bridge, addresses and nftables table, or takes over what an earlier daemon with the same
    /// bridge name left, and starts filling the pool. The notices are for the daemon's log and `info`.
    ///
    /// Errors: `Conflict` when another daemon has the bridge, or running containers hold it on another
    /// range; `Exhausted` when no pool has a free range; `Invalid` for a bad name or address.
    pub async fn open(config: Config) -> Result<(Self, Vec<Notice>)> {
        let warm = config.warm;
        let mut setup = blocking(move || set_up(&config)).await?;
        let notices = std::mem::take(&mut setup.notices);
        for notice in &notices {
            tracing::warn!("{notice}");
        }
        Ok((Self { service: Arc::new(Service::new(setup, warm)?) }, notices))
    }

    /// The network as it is set up.
    pub fn info(&self) -> &Info {
        &self.service.info
    }

    /// Gives a container its namespace, address and published ports.
    ///
    /// Errors: `Conflict` for a taken port (naming the holder, with a hint) or address, or an id that is
    /// attached already; `Exhausted` when the range has no free address; `Invalid` for ports without a
    /// bridge or an address outside the network. On failure nothing is kept. A caller that goes away
    /// before the answer still owes a [`detach`](Self::detach).
    pub async fn attach(&self, request: AttachRequest) -> Result<Attachment> {
        let service = Arc::clone(&self.service);
        blocking(move || service.attach(&request)).await
    }

    /// Takes a container's ports and address back. An unknown id is fine. The namespace itself goes when
    /// its last process and descriptor go.
    pub async fn detach(&self, id: &ContainerId) -> Result<()> {
        if self.service.detach_unpublished(id)? {
            return Ok(());
        }
        let (service, id) = (Arc::clone(&self.service), id.clone());
        blocking(move || service.detach(&id)).await
    }

    /// After a restart of the daemon, before the first `attach`: takes over the containers that still
    /// run, and removes what those that died meanwhile left. To be called once, with all of them (an
    /// empty list if there are none). A port that can't be reserved again is a notice, not an error.
    pub async fn restore(&self, survivors: Vec<Survivor>) -> Result<Vec<Notice>> {
        let service = Arc::clone(&self.service);
        let notices = blocking(move || service.restore(survivors)).await?;
        for notice in &notices {
            tracing::warn!("{notice}");
        }
        Ok(notices)
    }

    /// Ends the service. With `keep` bridge and table stay for the containers that run on; without,
    /// nothing is left when this returns. Every other operation fails from then on.
    pub async fn close(&self, keep: bool) -> Result<()> {
        let service = Arc::clone(&self.service);
        blocking(move || service.close(keep)).await
    }
}

impl Service {
    fn new(setup: Setup, warm: usize) -> Result<Self, Error> {
        let Setup { bridge, address, table, route, netfilter, claim, .. } = setup;
        let plugging = Socket::open(Family::Route).map_err(dhow_netns::Error::from)?;
        let gateway = ipv4(address.address())?;
        let network = ipv4(address.network().address())?;
        let state = State {
            route,
            netfilter,
            addresses: Addresses::new(network, address.prefix_len(), gateway),
            ephemeral: Ephemeral::of_kernel(),
            attached: HashMap::new(),
            claim: Some(claim),
        };
        let info = Info { bridge: bridge.name().to_owned(), address, mtu: bridge.mtu() };
        let pool = Pool::start(bridge.clone(), plugging, warm);
        Ok(Self { info, bridge, table, pool, state: Mutex::new(state) })
    }

    fn attach(&self, request: &AttachRequest) -> Result<Attachment, Error> {
        if request.mode == Mode::None {
            return self.attach_alone(request);
        }
        let mac = request.mac.as_deref().map(str::parse::<Mac>).transpose().map_err(Error::Mac)?;
        self.state()?.admit(&request.id)?;
        let attempt = self.connect(request, mac);
        if attempt.is_err() {
            // The failure above is the one to tell.
            let _ = self.detach(&request.id);
        }
        attempt
    }

    fn attach_alone(&self, request: &AttachRequest) -> Result<Attachment, Error> {
        if !request.ports.is_empty() {
            return Err(Error::NoBridge);
        }
        self.state()?.admit(&request.id)?;
        match self.pool.take(Mode::None) {
            Ok(namespace) => {
                Ok(Attachment { netns: namespace.into_fd(), endpoint: None, ports: Vec::new() })
            }
            Err(error) => {
                let _ = self.detach(&request.id);
                Err(error)
            }
        }
    }

    /// The way of an admitted container onto the bridge.
    fn connect(&self, request: &AttachRequest, mac: Option<Mac>) -> Result<Attachment, Error> {
        let (address, ports) = self.state()?.allot(request, self.info.address)?;
        let mac = mac.unwrap_or_else(|| Mac::of(address));
        let mut namespace = self.pool.take(Mode::Bridge)?;
        self.configure(&mut namespace, address, mac)?;
        if !ports.is_empty() {
            let publications = publications(address, &ports)?;
            let state = &mut *self.state()?;
            self.publish(state, &publications)?;
            // Whoever has sent here in vain is heard from now on.
            forget_exchanges(&mut state.netfilter, &publications)?;
        }
        let endpoint = Endpoint {
            network: NETWORK.to_owned(),
            address: address.into(),
            prefix_len: self.info.address.prefix_len(),
            gateway: self.info.address.address(),
            mac: mac.to_string(),
        };
        Ok(Attachment { netns: namespace.into_fd(), endpoint: Some(endpoint), ports })
    }

    fn configure(
        &self,
        namespace: &mut Namespace,
        address: Ipv4Addr,
        mac: Mac,
    ) -> Result<(), Error> {
        let network = self.info.address;
        let address = Cidr::new(address.into(), network.prefix_len());
        let address = address.map_err(|_| Error::BridgeAddress(network))?;
        Ok(namespace.configure(&Interface { mac, address, gateway: network.address() })?)
    }

    /// Adds to the table. If somebody has removed the table, it is built anew with all that is known.
    fn publish(&self, state: &mut State, publications: &[Publication]) -> Result<(), Error> {
        match self.table.publish(&mut state.netfilter, publications) {
            Err(dhow_netns::Error::Netlink(error)) if error.refusal() == Some(Errno::NOENT) => {
                tracing::warn!(table = %self.info.bridge, "the nftables table was gone: built anew");
                let all = state.publications()?;
                Ok(self.table.install(&mut state.netfilter, &all)?)
            }
            result => Ok(result?),
        }
    }

    /// Detaches a container that has no ports in the table, which asks nothing of the kernel; says whether
    /// that is all there is to do. While another operation holds the state, it is not.
    fn detach_unpublished(&self, id: &ContainerId) -> Result<bool, Error> {
        let mut state = match self.state.try_lock() {
            Ok(state) => state,
            Err(TryLockError::Poisoned(state)) => state.into_inner(),
            Err(TryLockError::WouldBlock) => return Ok(false),
        };
        if state.claim.is_none() {
            return Err(Error::Closed);
        }
        let Some(attached) = state.attached.get(id) else { return Ok(true) };
        if !attached.ports.is_empty() {
            return Ok(false);
        }
        if let Some(attached) = state.attached.remove(id)
            && let Some(address) = attached.address
        {
            state.addresses.release(address);
        }
        Ok(true)
    }

    fn detach(&self, id: &ContainerId) -> Result<(), Error> {
        let mut state = self.state()?;
        let Some(attached) = state.attached.get(id) else { return Ok(()) };
        if let Some(address) = attached.address {
            let publications = publications(address, &attached.ports)?;
            // Should this fail, the container stays attached and detach can be tried again.
            self.table.unpublish(&mut state.netfilter, &publications)?;
            forget_exchanges(&mut state.netfilter, &publications)?;
            state.addresses.release(address);
        }
        state.attached.remove(id);
        Ok(())
    }

    fn restore(&self, survivors: Vec<Survivor>) -> Result<Vec<Notice>, Error> {
        let mut state = self.state()?;
        let mut notices = Vec::new();
        for survivor in survivors {
            state.resume(survivor, &mut notices);
        }
        let publications = state.publications()?;
        self.table.install(&mut state.netfilter, &publications)?;
        Ok(notices)
    }

    fn close(&self, keep: bool) -> Result<(), Error> {
        let events = LinkEvents::open().map_err(dhow_netns::Error::from)?;
        self.pool.close();
        let mut state = self.state()?;
        state.attached.clear();
        if !keep {
            self.table.delete(&mut state.netfilter)?;
            if self.bridge.is_own() {
                let deadline = Instant::now() + TEARDOWN;
                self.bridge.wait_for_no_ports(&mut state.route, &events, deadline)?;
                self.bridge.delete(&mut state.route)?;
            }
        }
        state.claim = None;
        Ok(())
    }

    /// The state, unless the service is closed. A panic elsewhere does not make it wrong.
    fn state(&self) -> Result<MutexGuard<'_, State>, Error> {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.claim.is_some() { Ok(state) } else { Err(Error::Closed) }
    }
}

impl State {
    /// Makes room for a container.
    fn admit(&mut self, id: &ContainerId) -> Result<(), Error> {
        if self.attached.contains_key(id) {
            return Err(Error::Attached(id.short().to_owned()));
        }
        self.attached.insert(id.clone(), Attached::default());
        Ok(())
    }

    /// Gives an admitted container its address and ports.
    fn allot(
        &mut self,
        request: &AttachRequest,
        network: Cidr,
    ) -> Result<(Ipv4Addr, Vec<PublishedPort>), Error> {
        let address = self.address(request.address, network)?;
        let mut attached = Attached { address: Some(address), ..Attached::default() };
        let failure = request.ports.iter().find_map(|wanted| {
            let own = |protocol, host, port| {
                let known = self.attached.iter().chain([(&request.id, &attached)]);
                holder_among(known, protocol, host, port)
            };
            match ports::take(wanted, &mut self.ephemeral, own) {
                Ok((published, reservation)) => {
                    attached.ports.push(published);
                    attached.reservations.push(reservation);
                    None
                }
                Err(error) => Some(error),
            }
        });
        if let Some(error) = failure {
            self.addresses.release(address);
            return Err(error);
        }
        let ports = attached.ports.clone();
        self.attached.insert(request.id.clone(), attached);
        Ok((address, ports))
    }

    fn address(&mut self, wanted: Option<IpAddr>, network: Cidr) -> Result<Ipv4Addr, Error> {
        let unavailable = |wanted: Option<IpAddr>| {
            move |why| match (why, wanted) {
                (Unavailable::Taken, Some(address)) => Error::AddressInUse(address),
                (Unavailable::Outside, Some(address)) => Error::AddressOutside { address, network },
                _ => Error::NoAddress(network.network()),
            }
        };
        match wanted {
            None => self.addresses.allocate().map_err(unavailable(None)),
            Some(IpAddr::V4(address)) => {
                self.addresses.claim(address).map_err(unavailable(wanted))?;
                Ok(address)
            }
            Some(address) => Err(Error::AddressOutside { address, network }),
        }
    }

    /// Takes over a container that has outlived a daemon.
    fn resume(&mut self, survivor: Survivor, notices: &mut Vec<Notice>) {
        let address = survivor.endpoint.as_ref().and_then(|endpoint| ipv4(endpoint.address).ok());
        if let Some(address) = address
            && self.addresses.claim(address).is_err()
        {
            let text =
                format!("container {} has address {address} of another", survivor.id.short());
            notices.push(Notice(text));
        }
        let mut reservations = Vec::new();
        for published in &survivor.ports {
            match ports::retake(published) {
                Ok(reservation) => reservations.push(reservation),
                Err(error) => notices.push(Notice(format!(
                    "container {} goes on, but its port is not safe from others: {error}",
                    survivor.id.short()
                ))),
            }
        }
        let attached = Attached { address, ports: survivor.ports, reservations };
        self.attached.insert(survivor.id, attached);
    }

    /// Everything that is published.
    fn publications(&self) -> Result<Vec<Publication>, Error> {
        let mut all = Vec::new();
        for attached in self.attached.values() {
            if let Some(address) = attached.address {
                all.extend(publications(address, &attached.ports)?);
            }
        }
        Ok(all)
    }
}

/// Which of the containers has this port.
fn holder_among<'a>(
    mut attached: impl Iterator<Item = (&'a ContainerId, &'a Attached)>,
    protocol: crate::Protocol,
    host: Ipv4Addr,
    port: u16,
) -> Option<Holder> {
    let conflicts = |published: &PublishedPort| {
        published.protocol == protocol
            && published.host_port == port
            && (host.is_unspecified()
                || published.host_ip.is_unspecified()
                || published.host_ip == IpAddr::V4(host))
    };
    let found = attached.find(|(_, attached)| attached.ports.iter().any(conflicts));
    found.map(|(id, _)| Holder::Container(id.clone()))
}

/// A container's ports as elements of the table.
fn publications(container: Ipv4Addr, ports: &[PublishedPort]) -> Result<Vec<Publication>, Error> {
    let publication = |port: &PublishedPort| {
        let host = ipv4(port.host_ip)?;
        Ok(Publication {
            transport: port.protocol.into(),
            host: (!host.is_unspecified()).then_some(host),
            host_port: port.host_port,
            container,
            container_port: port.container_port,
        })
    };
    ports.iter().map(publication).collect()
}

fn ipv4(address: IpAddr) -> Result<Ipv4Addr, Error> {
    match address {
        IpAddr::V4(address) => Ok(address),
        IpAddr::V6(_) => Err(Error::Ipv6(address)),
    }
}

/// Runs what waits for the kernel on a thread that may wait.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Error> + Send + 'static,
) -> Result<T> {
    let result = spawn_blocking(work).await.map_err(|_| Error::BrokeOff)?;
    Ok(result?)
}
