//! One line of a list of containers: `GET /containers/json`.

use std::collections::BTreeMap;

use super::MountPoint;
use crate::network::EndpointSettings;

wire!("PascalCase" {
    /// One line of a list of containers.
    pub struct ContainerSummary {
        /// Full id.
        pub id: String,
        /// Its names, each after a slash.
        pub names: Vec<String>,
        /// Its image, as the user named it.
        pub image: String,
        /// Digest of its image's config.
        #[serde(rename = "ImageID")]
        pub image_id: String,
        /// What it runs, on one line.
        pub command: String,
        /// When it was made, in seconds since 1970.
        pub created: i64,
        /// Its ports.
        pub ports: Vec<Port>,
        /// Bytes it wrote, if asked for.
        #[serde(skip_serializing_if = "Option::is_none")]
        pub size_rw: Option<i64>,
        /// Bytes of its whole root filesystem, if asked for.
        #[serde(skip_serializing_if = "Option::is_none")]
        pub size_root_fs: Option<i64>,
        /// Labels.
        pub labels: BTreeMap<String, String>,
        /// `running`, `exited`...
        pub state: String,
        /// The same for people: `Up 5 minutes`.
        pub status: String,
        /// What is told of its host settings.
        pub host_config: SummaryHostConfig,
        /// What it has on its networks.
        pub network_settings: SummaryNetworks,
        /// Its mounts.
        pub mounts: Vec<MountPoint>,
    }

    /// A port of a container.
    pub struct Port {
        /// Address of the host.
        #[serde(rename = "IP", skip_serializing_if = "String::is_empty")]
        pub ip: String,
        /// Port of the container.
        pub private_port: u16,
        /// Port of the host, if published.
        #[serde(skip_serializing_if = "crate::null::is_default")]
        pub public_port: u16,
        /// `tcp`, `udp`, `sctp`.
        #[serde(rename = "Type")]
        pub kind: String,
    }

    /// What a list tells of host settings.
    pub struct SummaryHostConfig {
        /// The network mode.
        #[serde(skip_serializing_if = "String::is_empty")]
        pub network_mode: String,
        /// Annotations.
        #[serde(skip_serializing_if = "BTreeMap::is_empty")]
        pub annotations: BTreeMap<String, String>,
    }

    /// What a list tells of networks.
    pub struct SummaryNetworks {
        /// What it has on each network, by name.
        pub networks: BTreeMap<String, EndpointSettings>,
    }
});
