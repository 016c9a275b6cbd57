//! What the daemon says about itself and its machine.

use std::collections::BTreeMap;

wire!("PascalCase" {
    /// `GET /version`.
    pub struct Version {
        /// The program and its distribution.
        pub platform: Platform,
        /// Its parts, with a version each.
        pub components: Vec<Component>,
        /// The daemon's version.
        pub version: String,
        /// Newest API version.
        pub api_version: String,
        /// Oldest API version.
        #[serde(rename = "MinAPIVersion")]
        pub min_api_version: String,
        /// Commit that it was built from.
        pub git_commit: String,
        /// Go's version in Docker; the compiler's here.
        pub go_version: String,
        /// `linux`.
        pub os: String,
        /// `amd64`.
        pub arch: String,
        /// The kernel's release.
        pub kernel_version: String,
        /// Experimental features are on.
        #[serde(skip_serializing_if = "crate::null::is_default")]
        pub experimental: bool,
        /// When it was built, RFC 3339.
        #[serde(skip_serializing_if = "String::is_empty")]
        pub build_time: String,
    }

    /// Name of the program as a whole.
    pub struct Platform {
        /// The name.
        pub name: String,
    }

    /// A part of the program.
    pub struct Component {
        /// Its name.
        pub name: String,
        /// Its version.
        pub version: String,
        /// Anything else.
        pub details: BTreeMap<String, String>,
    }

    /// `GET /info`.
    pub struct Info {
        /// Id of the daemon.
        #[serde(rename = "ID")]
        pub id: String,
        /// Containers in all.
        pub containers: u64,
        /// Those that run.
        pub containers_running: u64,
        /// Those that are frozen.
        pub containers_paused: u64,
        /// All others.
        pub containers_stopped: u64,
        /// Images.
        pub images: u64,
        /// How layers are kept: `overlay2`.
        pub driver: String,
        /// Details of that, in pairs.
        pub driver_status: Vec<[String; 2]>,
        /// Drivers by kind.
        pub plugins: Plugins,
        /// Memory can be limited.
        pub memory_limit: bool,
        /// Swap can be limited.
        pub swap_limit: bool,
        /// CPU quotas can be set.
        #[serde(rename = "CpuCfsPeriod")]
        pub cpu_cfs_period: bool,
        /// CPU quotas can be set.
        #[serde(rename = "CpuCfsQuota")]
        pub cpu_cfs_quota: bool,
        /// CPU shares can be set.
        #[serde(rename = "CPUShares")]
        pub cpu_shares: bool,
        /// CPUs can be chosen.
        #[serde(rename = "CPUSet")]
        pub cpu_set: bool,
        /// Processes can be limited.
        pub pids_limit: bool,
        /// The OOM killer can be turned off.
        pub oom_kill_disable: bool,
        /// The host forwards IPv4.
        #[serde(rename = "IPv4Forwarding")]
        pub ipv4_forwarding: bool,
        /// Debug logging is on.
        pub debug: bool,
        /// Descriptors that the daemon has open.
        #[serde(rename = "NFd")]
        pub n_fd: u64,
        /// Tasks of the daemon.
        pub n_goroutines: u64,
        /// Clients that follow events.
        pub n_events_listener: u64,
        /// The daemon's time, RFC 3339.
        pub system_time: String,
        /// Default log driver: `json-file`.
        pub logging_driver: String,
        /// `cgroupfs`.
        pub cgroup_driver: String,
        /// `1` or `2`.
        pub cgroup_version: String,
        /// The kernel's release.
        pub kernel_version: String,
        /// Name of the distribution.
        pub operating_system: String,
        /// Its version.
        #[serde(rename = "OSVersion")]
        pub os_version: String,
        /// `linux`.
        #[serde(rename = "OSType")]
        pub os_type: String,
        /// `x86_64`.
        pub architecture: String,
        /// Registry that login defaults to.
        pub index_server_address: String,
        /// Registry settings.
        pub registry_config: Option<RegistryConfig>,
        /// Processors.
        #[serde(rename = "NCPU")]
        pub n_cpu: u64,
        /// Memory, in bytes.
        pub mem_total: u64,
        /// Folder of everything that is kept.
        pub docker_root_dir: String,
        /// Proxy for HTTP.
        pub http_proxy: String,
        /// Proxy for HTTPS.
        pub https_proxy: String,
        /// Where no proxy is used.
        pub no_proxy: String,
        /// Host name.
        pub name: String,
        /// Labels of the daemon.
        pub labels: Vec<String>,
        /// Experimental features are on.
        pub experimental_build: bool,
        /// The daemon's version.
        pub server_version: String,
        /// Runtimes by name.
        pub runtimes: BTreeMap<String, Runtime>,
        /// Runtime used if none is asked for.
        pub default_runtime: String,
        /// Swarm's state.
        pub swarm: Swarm,
        /// Containers survive the daemon.
        pub live_restore_enabled: bool,
        /// `default`.
        pub isolation: String,
        /// Program that `--init` uses.
        pub init_binary: String,
        /// Version of containerd in Docker.
        pub containerd_commit: Commit,
        /// Version of runc in Docker.
        pub runc_commit: Commit,
        /// Version of the init in Docker.
        pub init_commit: Commit,
        /// `name=seccomp,profile=builtin`...
        pub security_options: Vec<String>,
        /// Address ranges that networks are taken from.
        #[serde(skip_serializing_if = "Vec::is_empty")]
        pub default_address_pools: Vec<AddressPool>,
        /// What the administrator ought to know.
        #[serde(serialize_with = "crate::null::when_empty")]
        pub warnings: Vec<String>,
        /// Folders with device descriptions.
        #[serde(rename = "CDISpecDirs", serialize_with = "crate::null::when_empty")]
        pub cdi_spec_dirs: Vec<String>,
    }

    /// Drivers by kind.
    pub struct Plugins {
        /// For volumes.
        pub volume: Vec<String>,
        /// For networks.
        pub network: Vec<String>,
        /// For authorization.
        #[serde(serialize_with = "crate::null::when_empty")]
        pub authorization: Vec<String>,
        /// For logs.
        pub log: Vec<String>,
    }

    /// Registry settings.
    pub struct RegistryConfig {
        /// Ranges in which registries speak plain HTTP.
        #[serde(rename = "InsecureRegistryCIDRs")]
        pub insecure_registry_cidrs: Vec<String>,
        /// Settings by registry.
        pub index_configs: BTreeMap<String, IndexConfig>,
        /// Mirrors.
        #[serde(serialize_with = "crate::null::when_empty")]
        pub mirrors: Vec<String>,
    }

    /// Settings of one registry.
    pub struct IndexConfig {
        /// Its name.
        pub name: String,
        /// Its mirrors.
        pub mirrors: Vec<String>,
        /// It speaks HTTPS.
        pub secure: bool,
        /// It is the default one.
        pub official: bool,
    }

    /// A runtime.
    pub struct Runtime {
        /// Path of its program.
        #[serde(rename = "path", skip_serializing_if = "String::is_empty")]
        pub path: String,
    }

    /// Swarm's state, which is always inactive here.
    pub struct Swarm {
        /// Id of the node.
        #[serde(rename = "NodeID")]
        pub node_id: String,
        /// Address of the node.
        pub node_addr: String,
        /// `inactive`.
        pub local_node_state: String,
        /// It steers others.
        pub control_available: bool,
        /// What is wrong.
        pub error: String,
        /// Those that steer.
        #[serde(serialize_with = "crate::null::when_empty")]
        pub remote_managers: Vec<serde_json::Value>,
    }

    /// Version of a program.
    pub struct Commit {
        /// Commit.
        #[serde(rename = "ID")]
        pub id: String,
        /// Commit that was expected.
        pub expected: String,
    }

    /// A range that networks are taken from.
    pub struct AddressPool {
        /// In CIDR form.
        pub base: String,
        /// Length of each network's prefix, in bits.
        pub size: u8,
    }

    /// `GET /system/df`.
    pub struct DiskUsage {
        /// Bytes of all layers.
        pub layers_size: i64,
        /// Images.
        pub images: Vec<crate::image::ImageSummary>,
        /// Containers.
        pub containers: Vec<crate::container::ContainerSummary>,
        /// Volumes.
        pub volumes: Vec<crate::volume::Volume>,
        /// Records of the build cache.
        pub build_cache: Vec<serde_json::Value>,
    }
});

/// The shape of filters in a query: `{"label": {"a=b": true}}`, or lists from old clients.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Filters(pub std::collections::BTreeMap<String, Vec<String>>);

impl Filters {
    /// The values of one filter; none if it is not used.
    pub fn values(&self, name: &str) -> &[String] {
        self.0.get(name).map_or(&[], Vec::as_slice)
    }
}

impl serde::Serialize for Filters {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().map(|(name, values)| {
            (name, values.iter().map(|value| (value, true)).collect::<BTreeMap<_, _>>())
        }))
    }
}

impl<'de> serde::Deserialize<'de> for Filters {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(serde::Deserialize)]
        #[serde(untagged)]
        enum Values {
            Map(BTreeMap<String, bool>),
            List(Vec<String>),
        }
        let filters = BTreeMap::<String, Values>::deserialize(deserializer)?;
        Ok(Self(
            filters
                .into_iter()
                .map(|(name, values)| match values {
                    Values::Map(map) => (
                        name,
                        map.into_iter().filter(|(_, on)| *on).map(|(value, _)| value).collect(),
                    ),
                    Values::List(list) => (name, list),
                })
                .collect(),
        ))
    }
}
