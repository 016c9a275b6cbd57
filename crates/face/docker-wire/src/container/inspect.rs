//! All there is to tell of one container: `GET /containers/{id}/json`.

use std::collections::BTreeMap;

use super::{Config, HostConfig, PortMap};
use crate::image::GraphDriver;
use crate::network::EndpointSettings;

wire!("PascalCase" {
    /// All there is to tell of one container.
    pub struct ContainerInspect {
        /// Full id.
        pub id: String,
        /// When it was made, RFC 3339.
        pub created: String,
        /// Its program.
        pub path: String,
        /// The program's arguments.
        pub args: Vec<String>,
        /// How it is now.
        pub state: State,
        /// Digest of its image's config.
        pub image: String,
        /// Path of its resolver settings on the host.
        pub resolv_conf_path: String,
        /// Path of its host name file on the host.
        pub hostname_path: String,
        /// Path of its hosts file on the host.
        pub hosts_path: String,
        /// Path of its log on the host.
        pub log_path: String,
        /// Its name, after a slash.
        pub name: String,
        /// How often it was restarted by its policy.
        pub restart_count: u32,
        /// `overlay2`.
        pub driver: String,
        /// `linux`.
        pub platform: String,
        /// SELinux label of its mounts.
        pub mount_label: String,
        /// SELinux label of its processes.
        pub process_label: String,
        /// AppArmor profile.
        pub app_armor_profile: String,
        /// Execs that are there.
        #[serde(rename = "ExecIDs", serialize_with = "crate::null::when_empty")]
        pub exec_ids: Vec<String>,
        /// What it gets of the host.
        pub host_config: HostConfig,
        /// How its layers are kept.
        pub graph_driver: GraphDriver,
        /// Bytes it wrote, if asked for.
        #[serde(skip_serializing_if = "Option::is_none")]
        pub size_rw: Option<i64>,
        /// Bytes of its whole root filesystem, if asked for.
        #[serde(skip_serializing_if = "Option::is_none")]
        pub size_root_fs: Option<i64>,
        /// Its mounts.
        pub mounts: Vec<MountPoint>,
        /// What it runs.
        pub config: Config,
        /// Its networks.
        pub network_settings: NetworkSettings,
    }

    /// How a container is now.
    pub struct State {
        /// `created`, `running`, `paused`, `restarting`, `removing`, `exited`, `dead`.
        pub status: String,
        /// It runs (also while paused).
        pub running: bool,
        /// It is frozen.
        pub paused: bool,
        /// Its policy is starting it again.
        pub restarting: bool,
        /// It was ended for lack of memory.
        #[serde(rename = "OOMKilled")]
        pub oom_killed: bool,
        /// It could not be removed.
        pub dead: bool,
        /// Process id of its init, 0 unless it runs.
        pub pid: i32,
        /// How it ended, or 0.
        pub exit_code: i32,
        /// Why it could not start.
        pub error: String,
        /// When it started, RFC 3339; year 1 if never.
        pub started_at: String,
        /// When it ended, RFC 3339; year 1 if never.
        pub finished_at: String,
        /// Its health, if that is looked at.
        #[serde(skip_serializing_if = "Option::is_none")]
        pub health: Option<Health>,
    }

    /// A container's health.
    pub struct Health {
        /// `starting`, `healthy`, `unhealthy`.
        pub status: String,
        /// Failures in a row.
        pub failing_streak: u32,
        /// The last probes.
        pub log: Vec<HealthProbe>,
    }

    /// A probe of a container's health.
    pub struct HealthProbe {
        /// When it began, RFC 3339.
        pub start: String,
        /// When it ended, RFC 3339.
        pub end: String,
        /// 0 is healthy.
        pub exit_code: i32,
        /// What it printed.
        pub output: String,
    }

    /// A mount of a container.
    pub struct MountPoint {
        /// `bind`, `volume`, `tmpfs`.
        #[serde(rename = "Type", skip_serializing_if = "String::is_empty")]
        pub kind: String,
        /// The volume's name.
        #[serde(skip_serializing_if = "String::is_empty")]
        pub name: String,
        /// Path on the host.
        pub source: String,
        /// Path in the container.
        pub destination: String,
        /// The volume's driver.
        #[serde(skip_serializing_if = "String::is_empty")]
        pub driver: String,
        /// Options as the user gave them.
        pub mode: String,
        /// It can be written to.
        #[serde(rename = "RW")]
        pub rw: bool,
        /// How mounts below it travel: `rprivate`.
        pub propagation: String,
    }

    /// A container's networks. The single-network fields repeat what it has on the bridge.
    pub struct NetworkSettings {
        /// Name of the bridge.
        pub bridge: String,
        /// Id of its network namespace.
        #[serde(rename = "SandboxID")]
        pub sandbox_id: String,
        /// Path of its network namespace.
        pub sandbox_key: String,
        /// Ports, published or only exposed.
        pub ports: PortMap,
        /// Never used.
        #[serde(rename = "HairpinMode")]
        pub hairpin_mode: bool,
        /// Never used.
        #[serde(rename = "LinkLocalIPv6Address")]
        pub link_local_ipv6_address: String,
        /// Never used.
        #[serde(rename = "LinkLocalIPv6PrefixLen")]
        pub link_local_ipv6_prefix_len: u8,
        /// Never used.
        #[serde(rename = "SecondaryIPAddresses", serialize_with = "crate::null::when_empty")]
        pub secondary_ip_addresses: Vec<serde_json::Value>,
        /// Never used.
        #[serde(rename = "SecondaryIPv6Addresses", serialize_with = "crate::null::when_empty")]
        pub secondary_ipv6_addresses: Vec<serde_json::Value>,
        /// Id of its endpoint on the bridge.
        #[serde(rename = "EndpointID")]
        pub endpoint_id: String,
        /// The way out.
        pub gateway: String,
        /// IPv6 address.
        #[serde(rename = "GlobalIPv6Address")]
        pub global_ipv6_address: String,
        /// Length of the IPv6 prefix, in bits.
        #[serde(rename = "GlobalIPv6PrefixLen")]
        pub global_ipv6_prefix_len: u8,
        /// Address.
        #[serde(rename = "IPAddress")]
        pub ip_address: String,
        /// Length of the prefix, in bits.
        #[serde(rename = "IPPrefixLen")]
        pub ip_prefix_len: u8,
        /// The IPv6 way out.
        #[serde(rename = "IPv6Gateway")]
        pub ipv6_gateway: String,
        /// Ethernet address.
        pub mac_address: String,
        /// What it has on each network, by name.
        pub networks: BTreeMap<String, EndpointSettings>,
    }
});
