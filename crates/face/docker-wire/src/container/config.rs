//! What a container runs, independent of the host: the body of `POST /containers/create`.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::HostConfig;
use crate::network::EndpointSettings;
use crate::null::{Set, Words};

wire!("PascalCase" {
    /// What a container runs. Images carry the same as their defaults.
    pub struct Config {
        /// Host name; the short id if empty.
        pub hostname: String,
        /// Domain name.
        pub domainname: String,
        /// User, in the form `user[:group]`.
        pub user: String,
        /// `docker run` attaches input.
        pub attach_stdin: bool,
        /// `docker run` attaches standard output.
        pub attach_stdout: bool,
        /// `docker run` attaches standard error.
        pub attach_stderr: bool,
        /// Ports the image says it listens on: `80/tcp`.
        #[serde(skip_serializing_if = "Set::is_empty")]
        pub exposed_ports: Set,
        /// Give it a terminal.
        pub tty: bool,
        /// Keep input open.
        pub open_stdin: bool,
        /// Close input once the first client that had it attached is gone.
        pub stdin_once: bool,
        /// Environment, `NAME=value`.
        #[serde(serialize_with = "crate::null::when_empty")]
        pub env: Vec<String>,
        /// The command, or the arguments of the entrypoint. Absent means: the image's.
        pub cmd: Option<Words>,
        /// How its health is found out.
        #[serde(skip_serializing_if = "Option::is_none")]
        pub healthcheck: Option<Healthcheck>,
        /// Windows only.
        #[serde(skip_serializing_if = "crate::null::is_default")]
        pub args_escaped: bool,
        /// The image, as the user named it.
        pub image: String,
        /// Folders that get an anonymous volume.
        #[serde(serialize_with = "crate::null::when_empty")]
        pub volumes: Set,
        /// Working directory.
        pub working_dir: String,
        /// The program in front of the command. Absent means: the image's; one empty word: none.
        pub entrypoint: Option<Words>,
        /// No network at all (old clients).
        #[serde(skip_serializing_if = "crate::null::is_default")]
        pub network_disabled: bool,
        /// Ethernet address (old clients).
        #[serde(skip_serializing_if = "String::is_empty")]
        pub mac_address: String,
        /// Instructions for images built on this one.
        #[serde(serialize_with = "crate::null::when_empty")]
        pub on_build: Vec<String>,
        /// Labels.
        pub labels: BTreeMap<String, String>,
        /// Signal that asks it to end.
        #[serde(skip_serializing_if = "String::is_empty")]
        pub stop_signal: String,
        /// Seconds until it is killed after that.
        #[serde(skip_serializing_if = "Option::is_none")]
        pub stop_timeout: Option<i64>,
        /// Shell of the builder's instructions in shell form.
        #[serde(skip_serializing_if = "Vec::is_empty")]
        pub shell: Vec<String>,
    }

    /// How a container's health is found out.
    pub struct Healthcheck {
        /// `["NONE"]`, `["CMD", ...]` or `["CMD-SHELL", "..."]`; empty: the image's.
        #[serde(skip_serializing_if = "Vec::is_empty")]
        pub test: Vec<String>,
        /// Time between probes, in nanoseconds.
        #[serde(skip_serializing_if = "crate::null::is_default")]
        pub interval: i64,
        /// Time a probe may take, in nanoseconds.
        #[serde(skip_serializing_if = "crate::null::is_default")]
        pub timeout: i64,
        /// Time in which failures do not count, in nanoseconds.
        #[serde(skip_serializing_if = "crate::null::is_default")]
        pub start_period: i64,
        /// Time between probes until then, in nanoseconds.
        #[serde(skip_serializing_if = "crate::null::is_default")]
        pub start_interval: i64,
        /// Failures in a row that make it unhealthy.
        #[serde(skip_serializing_if = "crate::null::is_default")]
        pub retries: i64,
    }

    /// Which networks the container joins.
    pub struct NetworkingConfig {
        /// What it asks of each, by the network's name.
        pub endpoints_config: BTreeMap<String, Option<EndpointSettings>>,
    }
});

/// The body of `POST /containers/create`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct CreateRequest {
    /// What it runs; these fields stand beside the two others.
    #[serde(flatten)]
    pub config: Config,
    /// What it gets of the host.
    #[serde(default, deserialize_with = "crate::null::or_default")]
    pub host_config: HostConfig,
    /// Which networks it joins.
    #[serde(default, deserialize_with = "crate::null::or_default")]
    pub networking_config: NetworkingConfig,
}
