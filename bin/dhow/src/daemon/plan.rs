//! The daemon's flags, checked and completed: the rest sees only this.

use std::path::{Path, PathBuf};

use dhow_cli::DaemonArguments;
use dhow_error::{Error, Result};
use dhow_network::AddressPool;

/// Everything that can be chosen about a daemon.
#[derive(Debug, Clone)]
pub(crate) struct Plan {
    /// What outlives a restart of the machine.
    pub(crate) root: PathBuf,
    /// What does not.
    pub(crate) run: PathBuf,
    /// Where it listens.
    pub(crate) socket: PathBuf,
    /// The bridge and its addresses.
    pub(crate) network: dhow_network::Config,
    /// Containers.
    pub(crate) engine: dhow_engine::Config,
    /// Where mirrors of registries are told of.
    pub(crate) hosts: PathBuf,
    /// Log more.
    pub(crate) debug: bool,
    /// Leave the starter's session.
    pub(crate) background: bool,
}

impl Plan {
    /// Completes and checks the flags.
    pub(crate) fn resolve(flags: &DaemonArguments) -> Result<Self> {
        let root = absolute(flags.root.as_deref().unwrap_or(Path::new("/var/lib/dhow")))?;
        let run = absolute(flags.run.as_deref().unwrap_or(Path::new("/run/dhow")))?;
        let socket = match &flags.host {
            None => run.join("dhow.sock"),
            Some(host) => host.strip_prefix("unix://").map(PathBuf::from).ok_or_else(|| {
                Error::invalid(format!("cannot listen on {host}"))
                    .with_hint("give it as unix:///path/to/dhow.sock")
            })?,
        };
        let mut network = dhow_network::Config::new(flags.bridge.as_deref().unwrap_or("dhow0"));
        network.address = flags.bip.as_deref().map(str::parse).transpose()?;
        if !flags.default_address_pool.is_empty() {
            let pools = flags.default_address_pool.iter().map(|pool| address_pool(pool));
            network.pools = pools.collect::<Result<_>>()?;
        }
        let mut engine = dhow_engine::Config::new(&root, &run);
        if let Some(parent) = &flags.cgroup_parent {
            engine.cgroup_parent = format!("/{}", parent.trim_matches('/'));
        }
        let hosts = flags.hosts_dir.as_deref().unwrap_or(Path::new("/etc/dhow/hosts"));
        let hosts = absolute(hosts)?;
        let (debug, background) = (flags.debug, flags.background);
        Ok(Self { root, run, socket, network, engine, hosts, debug, background })
    }
}

/// `base=10.0.0.0/8,size=24`.
fn address_pool(text: &str) -> Result<AddressPool> {
    let invalid = || {
        Error::invalid(format!("invalid address pool {text:?}"))
            .with_hint("write base=10.0.0.0/8,size=24")
    };
    let (mut base, mut size) = (None, None);
    for field in text.split(',') {
        match field.split_once('=') {
            Some(("base", value)) => base = Some(value.parse()?),
            Some(("size", value)) => size = Some(value.parse().map_err(|_| invalid())?),
            _ => return Err(invalid()),
        }
    }
    let (base, prefix_len) = base.zip(size).ok_or_else(invalid)?;
    Ok(AddressPool { base, prefix_len })
}

/// A path that means the same wherever the daemon's working directory is.
fn absolute(path: &Path) -> Result<PathBuf> {
    std::path::absolute(path).map_err(|error| {
        Error::invalid(format!("cannot use the folder {}: {error}", path.display()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pools_are_read() {
        let pool = address_pool("base=10.0.0.0/8,size=24").unwrap();
        assert_eq!((pool.base.to_string().as_str(), pool.prefix_len), ("10.0.0.0/8", 24));
        for bad in ["", "base=10.0.0.0/8", "size=24", "base=x,size=24", "base=10.0.0.0/8,size=x"] {
            assert!(address_pool(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn flags_are_completed() {
        let flags = DaemonArguments {
            run: Some("/r".into()),
            cgroup_parent: Some("x/".into()),
            ..DaemonArguments::default()
        };
        let plan = Plan::resolve(&flags).unwrap();
        assert_eq!(plan.socket, Path::new("/r/dhow.sock"));
        assert_eq!(plan.engine.cgroup_parent, "/x");
        let flags = DaemonArguments { host: Some("tcp://x".into()), ..flags };
        assert!(Plan::resolve(&flags).is_err());
    }
}
