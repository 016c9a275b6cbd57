//! What the daemon says about itself: ping, version, info.

use std::collections::BTreeMap;
use std::path::PathBuf;

use dhow_docker_wire::system::{
    AddressPool, Commit, Component, Info, Platform, Plugins, RegistryConfig, Runtime, Swarm,
    Version,
};
use dhow_docker_wire::{API_VERSION, MIN_API_VERSION};
use dhow_error::{Error, Result};
use dhow_sys::rustix::system::uname;
use hyper::header::{CACHE_CONTROL, HeaderName, HeaderValue, PRAGMA};

use crate::answer::{self, Answer};
use crate::{Services, time};

/// What only the daemon's program knows about it.
#[derive(Debug, Clone, Default)]
pub struct About {
    /// An id that stays the same from one run of the daemon to the next.
    pub id: String,
    /// The program's version.
    pub version: String,
    /// The commit that it was built from, where known.
    pub commit: String,
    /// When it was built, RFC 3339, where known.
    pub built: String,
    /// The compiler's version, where known.
    pub compiler: String,
    /// The folder of everything that is kept.
    pub root: PathBuf,
    /// Which cgroups limit containers: 1 or 2.
    pub cgroup_version: u8,
    /// Address ranges that networks are taken from, with the length of each network's prefix.
    pub address_pools: Vec<(String, u8)>,
    /// What the administrator ought to know.
    pub warnings: Vec<String>,
}

/// `GET` or `HEAD /_ping`: what clients begin with.
pub(crate) fn ping(head: bool) -> Answer {
    let mut answer = if head { answer::status(hyper::StatusCode::OK) } else { answer::text("OK") };
    let headers = answer.headers_mut();
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache, no-store, must-revalidate"));
    headers.insert(PRAGMA, HeaderValue::from_static("no-cache"));
    headers.insert(HeaderName::from_static("swarm"), HeaderValue::from_static("inactive"));
    // Version 1 of the builder takes the context in the request; 2 would be BuildKit.
    headers.insert(HeaderName::from_static("builder-version"), HeaderValue::from_static("1"));
    answer
}

/// `GET /version`.
pub(crate) fn version(services: &Services) -> Answer {
    let about = &services.about;
    let system = uname();
    let kernel = system.release().to_string_lossy().into_owned();
    let details = [
        ("ApiVersion", API_VERSION.to_owned()),
        ("MinAPIVersion", MIN_API_VERSION.to_owned()),
        ("Os", "linux".to_owned()),
        ("Arch", architecture(&system.machine().to_string_lossy())),
        ("KernelVersion", kernel.clone()),
        ("GitCommit", about.commit.clone()),
        ("BuildTime", about.built.clone()),
        ("GoVersion", about.compiler.clone()),
        ("Experimental", "false".to_owned()),
    ];
    let details = details.into_iter().filter(|(_, value)| !value.is_empty());
    let component = Component {
        name: "Engine".to_owned(),
        version: about.version.clone(),
        details: details.map(|(name, value)| (name.to_owned(), value)).collect(),
    };
    answer::ok(&Version {
        platform: Platform { name: "dhow".to_owned() },
        components: vec![component],
        version: about.version.clone(),
        api_version: API_VERSION.to_owned(),
        min_api_version: MIN_API_VERSION.to_owned(),
        git_commit: about.commit.clone(),
        go_version: about.compiler.clone(),
        os: "linux".to_owned(),
        arch: architecture(&system.machine().to_string_lossy()),
        kernel_version: kernel,
        experimental: false,
        build_time: about.built.clone(),
    })
}

/// `GET /info`.
pub(crate) async fn info(services: &Services) -> Result<Answer> {
    let images = services.images.list().await?.len();
    let machine = tokio::task::spawn_blocking(Machine::read).await.map_err(|error| {
        Error::caused(dhow_error::Kind::Internal, "cannot look at the machine", error)
    })?;
    Ok(answer::ok(&describe(services, images, machine)))
}

fn describe(services: &Services, images: usize, machine: Machine) -> Info {
    let about = &services.about;
    let counts = services.engine.counts();
    let names = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect::<Vec<_>>();
    let pools = about.address_pools.iter().cloned();
    Info {
        id: about.id.clone(),
        containers: counts.containers as u64,
        containers_running: counts.running as u64,
        containers_paused: counts.paused as u64,
        containers_stopped: counts.stopped as u64,
        images: images as u64,
        driver: "overlay2".to_owned(),
        driver_status: vec![["Native Overlay Diff".to_owned(), "true".to_owned()]],
        plugins: Plugins {
            volume: names(&["local"]),
            network: names(&["bridge", "host", "null"]),
            authorization: Vec::new(),
            log: names(&["json-file", "none"]),
        },
        memory_limit: true,
        swap_limit: true,
        cpu_cfs_period: true,
        cpu_cfs_quota: true,
        cpu_shares: true,
        cpu_set: true,
        pids_limit: true,
        oom_kill_disable: about.cgroup_version == 1,
        ipv4_forwarding: machine.forwards_ipv4,
        n_fd: machine.descriptors,
        system_time: time::rfc3339(dhow_engine::now_ns()),
        logging_driver: "json-file".to_owned(),
        cgroup_driver: "cgroupfs".to_owned(),
        cgroup_version: about.cgroup_version.to_string(),
        kernel_version: machine.kernel,
        operating_system: machine.distribution,
        os_version: machine.distribution_version,
        os_type: "linux".to_owned(),
        architecture: machine.processor,
        index_server_address: "https://index.docker.io/v1/".to_owned(),
        registry_config: Some(RegistryConfig {
            insecure_registry_cidrs: names(&["::1/128", "127.0.0.0/8"]),
            ..RegistryConfig::default()
        }),
        n_cpu: machine.cpus,
        mem_total: machine.memory_bytes,
        docker_root_dir: about.root.display().to_string(),
        name: machine.name,
        server_version: about.version.clone(),
        runtimes: BTreeMap::from([("dhow".to_owned(), Runtime::default())]),
        default_runtime: "dhow".to_owned(),
        swarm: Swarm { local_node_state: "inactive".to_owned(), ..Swarm::default() },
        live_restore_enabled: true,
        init_binary: "dhow-init".to_owned(),
        runc_commit: Commit { id: about.commit.clone(), expected: about.commit.clone() },
        security_options: names(&["name=seccomp,profile=builtin", "name=cgroupns"]),
        default_address_pools: pools.map(|(base, size)| AddressPool { base, size }).collect(),
        warnings: about.warnings.clone(),
        ..Info::default()
    }
}

/// What is told of the machine.
struct Machine {
    name: String,
    kernel: String,
    processor: String,
    distribution: String,
    distribution_version: String,
    cpus: u64,
    memory_bytes: u64,
    descriptors: u64,
    forwards_ipv4: bool,
}

impl Machine {
    /// Reads files of /proc and /etc; blocks.
    fn read() -> Self {
        let system = uname();
        let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
        let release = read("/etc/os-release");
        let memory = read("/proc/meminfo");
        let total = memory.lines().find_map(|line| line.strip_prefix("MemTotal:"));
        let total = total.and_then(|text| text.trim().trim_end_matches(" kB").parse::<u64>().ok());
        Self {
            name: system.nodename().to_string_lossy().into_owned(),
            kernel: system.release().to_string_lossy().into_owned(),
            processor: system.machine().to_string_lossy().into_owned(),
            distribution: os_release(&release, "PRETTY_NAME").unwrap_or("Linux").to_owned(),
            distribution_version: os_release(&release, "VERSION_ID").unwrap_or_default().to_owned(),
            cpus: std::thread::available_parallelism().map_or(1, |count| count.get() as u64),
            memory_bytes: total.unwrap_or(0).saturating_mul(1024),
            descriptors: std::fs::read_dir("/proc/self/fd").map_or(0, |list| list.count() as u64),
            forwards_ipv4: read("/proc/sys/net/ipv4/ip_forward").trim() == "1",
        }
    }
}

/// A value of os-release(5).
fn os_release<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('='))?;
    Some(value.trim().trim_matches(['"', '\'']))
}

/// Go's name of a machine of uname(2).
fn architecture(machine: &str) -> String {
    match machine {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
    .to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn os_release_reads() {
        let text = "NAME=\"Debian\"\nPRETTY_NAME=\"Debian GNU/Linux 12\"\nVERSION_ID=12\n";
        assert_eq!(os_release(text, "PRETTY_NAME"), Some("Debian GNU/Linux 12"));
        assert_eq!(os_release(text, "VERSION_ID"), Some("12"));
        assert_eq!(os_release(text, "ID"), None);
    }
}
