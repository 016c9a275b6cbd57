//! What attaching a container to each kind of network costs: `cargo run -p dhow-network --example
//! attachments`, as root. The "host" is a network namespace of its own, so the machine's network stays as
//! it is.

use std::error::Error;
use std::time::{Duration, Instant};

use dhow_netns::Namespace;
use dhow_network::{AttachRequest, Config, Mode, Network, PortRequest, Protocol};
use dhow_spec::ContainerId;
use dhow_sys::namespace::{Namespaces, join};

const ATTACHMENTS: usize = 50;

fn main() -> Result<(), Box<dyn Error>> {
    let host = Namespace::create()?;
    // The runtime's threads are started from here, so they are in it too.
    join(host.fd(), Namespaces::NETWORK)?;
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(measure())
}

async fn measure() -> Result<(), Box<dyn Error>> {
    let (network, _) = Network::open(Config::new("dhow-fig")).await?;
    let port = PortRequest {
        protocol: Protocol::Tcp,
        host_ip: None,
        host_ports: None,
        container_port: 80,
    };
    for (name, mode, ports) in [
        ("none", Mode::None, vec![]),
        ("bridge", Mode::Bridge, vec![]),
        ("bridge, one port", Mode::Bridge, vec![port]),
    ] {
        let mut times = Vec::new();
        for _ in 0..ATTACHMENTS {
            // As if people started them: the pool has time to refill.
            tokio::time::sleep(Duration::from_millis(10)).await;
            let request = AttachRequest {
                id: ContainerId::random()?,
                mode,
                ports: ports.clone(),
                address: None,
                mac: None,
            };
            let id = request.id.clone();
            let started = Instant::now();
            let attachment = network.attach(request).await?;
            times.push(started.elapsed());
            network.detach(&id).await?;
            drop(attachment);
        }
        times.sort();
        let at = |index: usize| times.get(index).copied().unwrap_or_default();
        let (min, median, max) = (at(0), at(ATTACHMENTS / 2), at(ATTACHMENTS - 1));
        println!("{name:<17} min {min:<12?} median {median:<12?} max {max:?}");
    }
    network.close(false).await?;
    Ok(())
}
