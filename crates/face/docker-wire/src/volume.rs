//! Volumes, as far as clients list them.

use std::collections::BTreeMap;

wire!("PascalCase" {
    /// `GET /volumes`.
    pub struct VolumeList {
        /// The volumes.
        pub volumes: Vec<Volume>,
        /// What could not be looked up.
        #[serde(serialize_with = "crate::null::when_empty")]
        pub warnings: Vec<String>,
    }

    /// One volume.
    pub struct Volume {
        /// When it was made, RFC 3339.
        #[serde(skip_serializing_if = "String::is_empty")]
        pub created_at: String,
        /// `local`.
        pub driver: String,
        /// Labels.
        #[serde(serialize_with = "crate::null::when_empty")]
        pub labels: BTreeMap<String, String>,
        /// Folder on the host.
        pub mountpoint: String,
        /// Its name.
        pub name: String,
        /// Driver options.
        #[serde(serialize_with = "crate::null::when_empty")]
        pub options: BTreeMap<String, String>,
        /// `local`.
        pub scope: String,
    }
});
