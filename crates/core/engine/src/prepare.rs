//! What a start needs ready: the OCI specification, the filter, the files below `/etc`, the network.

use std::fmt::Write as _;
use std::fs;
use std::io;
use std::net::IpAddr;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use dhow_error::{Error, Kind, Result};
use dhow_spec::oci_runtime::Spec;
use dhow_sys::rustix::fs::{Mode, OFlags, open};
use dhow_sys::rustix::system::uname;

use crate::capabilities;
use crate::container::{Connection, Container};
use crate::engine::Shared;
use crate::networks::{AttachRequest, Endpoint, PublishedPort, Resolver};
use crate::oci::{self, EtcFiles, Joined, Plan};
use crate::spec::{ContainerSpec, Mount, MountKind, NamespaceMode, NetworkMode};
use crate::view::MountView;
use crate::{groups, volumes};

/// What is ready for the launcher.
pub(crate) struct Prepared {
    /// The specification.
    pub(crate) oci: Spec,
    /// The compiled filter; empty for none.
    pub(crate) filter: Arc<[u8]>,
    /// The files below `/etc`.
    pub(crate) etc: EtcFiles,
    /// The host name.
    pub(crate) hostname: String,
}

/// What the container's network is.
#[derive(Debug, Default)]
pub(crate) struct Network {
    pub(crate) netns: Option<OwnedFd>,
    pub(crate) endpoint: Option<Endpoint>,
    pub(crate) ports: Vec<PublishedPort>,
    /// Whether the network service gave it.
    pub(crate) attached: bool,
}

impl Shared {
    /// The capabilities of a container.
    pub(crate) fn capabilities(
        &self,
        spec: &ContainerSpec,
    ) -> Result<std::collections::BTreeSet<String>> {
        capabilities::resolve(&spec.security, self.machine.capabilities)
    }

    /// Gets the container its network namespace.
    pub(crate) async fn connect(&self, container: &Container) -> Result<Network> {
        let spec = container.spec();
        let network = match &spec.network.mode {
            NetworkMode::Host => return Ok(Network::default()),
            NetworkMode::Container(id) => return self.join_network(id),
            NetworkMode::None => None,
            NetworkMode::Default | NetworkMode::Bridge => Some(String::new()),
            NetworkMode::Named(name) => Some(name.clone()),
        };
        let ports = if network.is_some() { ports_to_publish(spec) } else { Vec::new() };
        let attachment = self
            .networks
            .attach(AttachRequest {
                id: container.id.to_string(),
                name: container.name(),
                network,
                ports,
                mac: spec.network.mac.clone(),
                ip: spec.network.ip,
            })
            .await?;
        // From here on a failure must take it back, which is the connection's word.
        container.live().connection.attached = true;
        Ok(Network {
            netns: Some(attachment.netns),
            endpoint: attachment.endpoint,
            ports: attachment.ports,
            attached: true,
        })
    }

    /// Takes back what [`Shared::connect`] got.
    pub(crate) async fn detach(&self, container: &Container) {
        let was = std::mem::take(&mut container.live().connection);
        if !was.attached {
            return;
        }
        if let Err(error) = self.networks.detach(container.id.as_str()).await {
            tracing::warn!(container = %container.id, error = %error.chain(), "cannot disconnect");
        }
    }

    /// The network namespace of another container.
    fn join_network(&self, id: &str) -> Result<Network> {
        let pid = self.pid_of(id, "network")?;
        let path = format!("/proc/{pid}/ns/net");
        let netns = open(&path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
            .map_err(|errno| Error::caused(Kind::Internal, format!("cannot open {path}"), errno))?;
        Ok(Network { netns: Some(netns), ..Network::default() })
    }

    /// The first process of another container that must run.
    fn pid_of(&self, id: &str, namespace: &str) -> Result<i32> {
        let other = self.registry.find(id)?;
        let live = other.live();
        if live.state.status.is_live() {
            Ok(live.pid)
        } else {
            let message = format!("cannot join {namespace} of a non running container: {id}");
            Err(Error::conflict(message).with_hint("start that one first"))
        }
    }

    /// Everything that does not depend on the network.
    pub(crate) fn prepare(&self, container: &Container) -> Result<Prepared> {
        let spec = container.spec();
        let hostname = self.hostname(container)?;
        let etc = self.etc_files(container)?;
        let capabilities = self.capabilities(spec)?;
        let mounts = mount_views(container);
        for view in &mounts {
            make_bind_source(view)?;
        }
        let joined = self.joined(spec)?;
        let groups = self.groups(container)?;
        let oci = oci::build(&Plan {
            spec,
            machine: &self.machine,
            hostname: &hostname,
            capabilities: &capabilities,
            ulimits: &self.config.ulimits,
            mounts: &mounts,
            etc: &etc,
            groups: &groups,
            joined: &joined,
            cgroup: &container.folders.cgroup,
        })?;
        let filter = self.profiles.filter(&spec.security, &capabilities)?;
        if !matches!(spec.network.mode, NetworkMode::Container(_)) {
            write(&etc.hostname, &format!("{hostname}\n"))?;
            write(&etc.resolv_conf, &self.resolv_conf(spec))?;
        }
        container.live().hostname.clone_from(&hostname);
        Ok(Prepared { oci, filter, etc, hostname })
    }

    /// Writes `/etc/hosts`, once the address is known.
    pub(crate) fn write_hosts(
        &self,
        container: &Container,
        plan: &Prepared,
        connection: &Connection,
    ) -> Result<()> {
        if matches!(container.spec().network.mode, NetworkMode::Container(_)) {
            return Ok(());
        }
        let endpoint = connection.endpoint.as_ref();
        let gateway: Option<IpAddr> =
            self.networks.host_gateway().or_else(|| endpoint.and_then(|endpoint| endpoint.gateway));
        let text = oci::hosts_file(container.spec(), &plan.hostname, endpoint, gateway)?;
        write(&plan.etc.hosts, &text)
    }

    /// The numbers of the container's further groups.
    pub(crate) fn groups(&self, container: &Container) -> Result<Vec<u32>> {
        let wished = &container.spec().group_add;
        if wished.is_empty() {
            return Ok(Vec::new());
        }
        let mut layers = vec![self.snapshots.writable(&container.id)?.upper];
        layers.extend(self.snapshots.lower_dirs(&container.fixed().chain)?);
        groups::resolve(wished, &layers)
    }

    /// The processes of other containers whose namespaces are shared.
    pub(crate) fn joined(&self, spec: &ContainerSpec) -> Result<Joined> {
        let pid = |mode: &NamespaceMode, name: &str| match mode {
            NamespaceMode::Container(id) => self.pid_of(id, name).map(Some),
            _ => Ok(None),
        };
        Ok(Joined { pid: pid(&spec.security.pid, "PID")?, ipc: pid(&spec.security.ipc, "IPC")? })
    }

    /// What the container is called inside.
    pub(crate) fn hostname(&self, container: &Container) -> Result<String> {
        let spec = container.spec();
        if !spec.hostname.is_empty() {
            return Ok(spec.hostname.clone());
        }
        match &spec.network.mode {
            NetworkMode::Host => Ok(uname().nodename().to_string_lossy().into_owned()),
            NetworkMode::Container(id) => {
                let other = self.registry.find(id)?;
                let known = other.live().hostname.clone();
                Ok(if known.is_empty() { other.id.short().to_owned() } else { known })
            }
            _ => Ok(container.id.short().to_owned()),
        }
    }

    /// Where the files below `/etc` lie: a container in another's network has the other's.
    pub(crate) fn etc_files(&self, container: &Container) -> Result<EtcFiles> {
        let owner = match &container.spec().network.mode {
            NetworkMode::Container(id) => self.registry.find(id)?.folders.root.clone(),
            _ => container.folders.root.clone(),
        };
        Ok(EtcFiles {
            resolv_conf: owner.join("resolv.conf"),
            hostname: owner.join("hostname"),
            hosts: owner.join("hosts"),
        })
    }

    fn resolv_conf(&self, spec: &ContainerSpec) -> String {
        let host = self.networks.resolver();
        let (config, own) = (&self.config, &spec.network);
        resolv_conf(&Resolver {
            servers: first_given([&own.dns, &config.dns, &host.servers]),
            search: first_given([&own.dns_search, &config.dns_search, &host.search]),
            options: first_given([&own.dns_options, &config.dns_options, &host.options]),
        })
    }
}

/// The ports to publish: those asked for and, with `-P`, every other exposed one.
fn ports_to_publish(spec: &ContainerSpec) -> Vec<crate::spec::PortBinding> {
    let mut ports = spec.network.ports.clone();
    if spec.network.publish_all {
        for port in &spec.expose {
            if !ports.iter().any(|binding| binding.port == *port) {
                let port = *port;
                ports.push(crate::spec::PortBinding { port, host_ip: None, host_ports: None });
            }
        }
    }
    ports
}

/// The mounts with the host's paths filled in.
pub(crate) fn mount_views(container: &Container) -> Vec<MountView> {
    let source = |mount: &Mount| match &mount.kind {
        MountKind::Bind { source, .. } => source.clone(),
        MountKind::Volume { name, .. } => volumes::path(&container.folders.root, name),
        MountKind::Tmpfs { .. } => PathBuf::new(),
    };
    let mounts = &container.spec().mounts;
    mounts.iter().map(|mount| MountView { source: source(mount), mount: mount.clone() }).collect()
}

/// A missing source of `-v` becomes a folder, as with Docker.
fn make_bind_source(view: &MountView) -> Result<()> {
    let MountKind::Bind { source, create, .. } = &view.mount.kind else { return Ok(()) };
    match source.try_exists() {
        Ok(true) => Ok(()),
        Ok(false) if *create => fs::create_dir_all(source).map_err(|error| {
            let message = format!("error while creating mount source path '{}'", source.display());
            Error::caused(Kind::Invalid, message, error)
        }),
        Ok(false) => {
            let message = format!("bind source path does not exist: {}", source.display());
            Err(Error::invalid(message))
        }
        Err(error) => {
            let message = format!("cannot look at bind source path {}", source.display());
            Err(Error::caused(Kind::Invalid, message, error))
        }
    }
}

fn first_given<T: Clone>(choices: [&Vec<T>; 3]) -> Vec<T> {
    choices.into_iter().find(|list| !list.is_empty()).cloned().unwrap_or_default()
}

/// `/etc/resolv.conf` (`resolv.conf(5)`).
fn resolv_conf(resolver: &Resolver) -> String {
    let mut text = String::new();
    for server in &resolver.servers {
        let _ = writeln!(text, "nameserver {server}");
    }
    // A single dot asks for no search domain at all.
    if !resolver.search.is_empty() && resolver.search != ["."] {
        let _ = writeln!(text, "search {}", resolver.search.join(" "));
    }
    if !resolver.options.is_empty() {
        let _ = writeln!(text, "options {}", resolver.options.join(" "));
    }
    text
}

/// An empty folder for a new run's shim, only for root.
pub(crate) fn make_state_folder(folder: &Path) -> Result<()> {
    let failed = |error: io::Error| {
        Error::caused(Kind::Internal, format!("cannot make {}", folder.display()), error)
    };
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed(error)),
        _ => {}
    }
    fs::DirBuilder::new().mode(0o700).create(folder).map_err(failed)
}

/// Keeps the connection beside the shim, for the next daemon. It lives as long as the machine runs, so
/// it is not synced.
pub(crate) fn write_connection(path: &Path, connection: &Connection) -> Result<()> {
    let failed = |error: io::Error| {
        Error::caused(Kind::Internal, format!("cannot write {}", path.display()), error)
    };
    let text = serde_json::to_vec(connection).map_err(|error| failed(error.into()))?;
    let part = path.with_extension("part");
    fs::write(&part, text).and_then(|()| fs::rename(&part, path)).map_err(failed)
}

/// Writes a file that is mounted into the container. In place, so that a container that shares it keeps
/// seeing it.
fn write(path: &Path, text: &str) -> Result<()> {
    use io::Write;
    fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o644)
        .open(path)
        .and_then(|mut file| file.write_all(text.as_bytes()))
        .map_err(|error| {
            Error::caused(Kind::Internal, format!("cannot write {}", path.display()), error)
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn resolv_conf_reads_as_the_manual_says() {
        let resolver = Resolver {
            servers: vec![[10, 0, 0, 1].into()],
            search: vec!["a.example".into(), "b.example".into()],
            options: vec!["ndots:2".into()],
        };
        let text = "nameserver 10.0.0.1\nsearch a.example b.example\noptions ndots:2\n";
        assert_eq!(resolv_conf(&resolver), text);
        let none = Resolver { search: vec![".".into()], ..Resolver::default() };
        assert_eq!(resolv_conf(&none), "");
    }

    #[test]
    fn publish_all_adds_what_is_exposed() {
        let mut spec = ContainerSpec::default();
        spec.expose
            .extend(["80/tcp".parse().unwrap(), "53/udp".parse::<crate::spec::Port>().unwrap()]);
        let port = "80".parse().unwrap();
        let host_ports = Some(8080..=8080);
        spec.network.ports.push(crate::spec::PortBinding { port, host_ip: None, host_ports });
        assert_eq!(ports_to_publish(&spec).len(), 1);
        spec.network.publish_all = true;
        assert_eq!(ports_to_publish(&spec).len(), 2);
    }
}
