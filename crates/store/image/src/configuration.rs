//! The image configuration: the JSON blob whose digest is the image's id (OCI image-spec, `config.md`).
//!
//! Own types instead of the OCI crate's, because Docker keeps more in it (`Healthcheck`, `OnBuild`,
//! `Shell`) which must survive building upon an image, and because equal configurations must give equal
//! bytes: maps are ordered, and fields unknown here are carried along in `other`.

use std::collections::{BTreeMap, BTreeSet};

use dhow_spec::Digest;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;

/// The whole configuration blob.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct ImageConfiguration {
    /// When the image was made, RFC 3339.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created: Option<String>,
    /// Who made it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub author: Option<String>,
    /// The CPU architecture in Go's words: `amd64`.
    #[serde(default)]
    pub architecture: String,
    /// The variant of the architecture, such as `v8`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub variant: Option<String>,
    /// The operating system in Go's words: `linux`.
    #[serde(default)]
    pub os: String,
    /// Defaults for containers of this image.
    #[serde(default, deserialize_with = "null_is_default")]
    pub config: ExecutionConfig,
    /// The layers.
    pub rootfs: RootFs,
    /// How it came about, oldest first.
    #[serde(default, deserialize_with = "null_is_default")]
    pub history: Vec<History>,
    /// Fields that only others know.
    #[serde(flatten)]
    pub other: BTreeMap<String, Value>,
}

/// Defaults for the containers of an image. Ports, volumes and labels are ordered.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct ExecutionConfig {
    /// `user`, `uid`, `user:group`, `uid:gid`; empty is root.
    #[serde(
        default,
        deserialize_with = "null_is_default",
        skip_serializing_if = "String::is_empty"
    )]
    pub user: String,
    /// `80/tcp`, `53/udp`.
    #[serde(default, with = "go_set", skip_serializing_if = "BTreeSet::is_empty")]
    pub exposed_ports: BTreeSet<String>,
    /// `NAME=value`, in order.
    #[serde(default, deserialize_with = "null_is_default", skip_serializing_if = "Vec::is_empty")]
    pub env: Vec<String>,
    /// What is executed; `Cmd` is appended to it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub entrypoint: Option<Vec<String>>,
    /// What is executed, or the arguments of the entrypoint.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cmd: Option<Vec<String>>,
    /// Paths at which containers get anonymous volumes.
    #[serde(default, with = "go_set", skip_serializing_if = "BTreeSet::is_empty")]
    pub volumes: BTreeSet<String>,
    /// The working directory; empty is `/`.
    #[serde(
        default,
        deserialize_with = "null_is_default",
        skip_serializing_if = "String::is_empty"
    )]
    pub working_dir: String,
    /// Labels.
    #[serde(
        default,
        deserialize_with = "null_is_default",
        skip_serializing_if = "BTreeMap::is_empty"
    )]
    pub labels: BTreeMap<String, String>,
    /// The signal that asks a container to stop, `SIGTERM` when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stop_signal: Option<String>,
    /// Instructions for builds upon this image.
    #[serde(default, deserialize_with = "null_is_default", skip_serializing_if = "Vec::is_empty")]
    pub on_build: Vec<String>,
    /// The shell of shell-form instructions, `/bin/sh -c` when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shell: Option<Vec<String>>,
    /// Docker's health check, as it stands there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub healthcheck: Option<Value>,
    /// Fields that only others know.
    #[serde(flatten)]
    pub other: BTreeMap<String, Value>,
}

/// The layers of an image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RootFs {
    /// Always `layers`.
    #[serde(rename = "type", default = "layers")]
    pub kind: String,
    /// The digests of the uncompressed layer tars, bottom first.
    #[serde(default, deserialize_with = "null_is_default")]
    pub diff_ids: Vec<Digest>,
}

/// One step of an image's making.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct History {
    /// When, RFC 3339.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created: Option<String>,
    /// Who.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub author: Option<String>,
    /// By which command.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created_by: Option<String>,
    /// A remark.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub comment: Option<String>,
    /// Whether the step made no layer.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub empty_layer: bool,
}

impl Default for RootFs {
    fn default() -> Self {
        Self { kind: layers(), diff_ids: Vec::new() }
    }
}

impl ImageConfiguration {
    /// An empty configuration for `linux` on this machine's architecture.
    pub fn scratch() -> Self {
        Self { architecture: "amd64".to_owned(), os: "linux".to_owned(), ..Self::default() }
    }

    /// The bytes of the configuration blob; equal configurations give equal bytes.
    pub fn to_bytes(&self) -> Result<Vec<u8>, serde_json::Error> {
        serde_json::to_vec(self)
    }
}

fn layers() -> String {
    "layers".to_owned()
}

/// Go writes an absent list or map as `null`.
fn null_is_default<'de, D: Deserializer<'de>, T: Default + Deserialize<'de>>(
    deserializer: D,
) -> Result<T, D::Error> {
    Ok(Option::<T>::deserialize(deserializer)?.unwrap_or_default())
}

/// Go's `map[string]struct{}`: `{"80/tcp": {}}`.
mod go_set {
    use std::collections::{BTreeMap, BTreeSet};

    use serde::{Deserialize, Deserializer, Serializer};
    use serde_json::Value;

    pub(super) fn serialize<S: Serializer>(
        set: &BTreeSet<String>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.collect_map(set.iter().map(|key| (key, BTreeMap::<String, Value>::new())))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<BTreeSet<String>, D::Error> {
        let map = Option::<BTreeMap<String, Value>>::deserialize(deserializer)?;
        Ok(map.unwrap_or_default().into_keys().collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_docker_writes() {
        let text = r#"{"architecture":"amd64","os":"linux","created":"2024-01-01T00:00:00Z",
            "docker_version":"20.10","container":"abc",
            "config":{"Hostname":"","Env":["A=b"],"Cmd":["sh"],"Entrypoint":null,"Labels":null,
                      "Volumes":null,"ExposedPorts":{"80/tcp":{}},"OnBuild":null,"WorkingDir":"",
                      "Healthcheck":{"Test":["NONE"]}},
            "rootfs":{"type":"layers","diff_ids":null},"history":null}"#;
        let config: ImageConfiguration = serde_json::from_str(text).unwrap();
        assert_eq!(config.config.env, ["A=b"]);
        assert!(config.config.exposed_ports.contains("80/tcp"));
        let again: ImageConfiguration =
            serde_json::from_slice(&config.to_bytes().unwrap()).unwrap();
        assert_eq!(again, config);
        assert!(again.other.contains_key("docker_version"));
        assert!(again.config.healthcheck.is_some());
    }

    #[test]
    fn null_config_is_an_empty_one() {
        let text =
            r#"{"architecture":"amd64","os":"linux","config":null,"rootfs":{"diff_ids":[]}}"#;
        let config: ImageConfiguration = serde_json::from_str(text).unwrap();
        assert_eq!(config.config, ExecutionConfig::default());
    }
}
