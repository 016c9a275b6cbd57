//! Images: lists, details, histories, and what removal answers.

use std::collections::BTreeMap;

use crate::container::Config;

wire!("PascalCase" {
    /// An element of `GET /images/json`.
    pub struct ImageSummary {
        /// Number of containers that use it, -1 if not counted.
        pub containers: i64,
        /// When it was made, in seconds since 1970.
        pub created: i64,
        /// Digest of its config, `sha256:...`.
        pub id: String,
        /// Its labels.
        #[serde(serialize_with = "crate::null::when_empty")]
        pub labels: BTreeMap<String, String>,
        /// Image that it was built on, where known.
        pub parent_id: String,
        /// `name@sha256:...` of each manifest that it was pulled by.
        pub repo_digests: Vec<String>,
        /// `name:tag` of each tag.
        pub repo_tags: Vec<String>,
        /// Bytes shared with other images, -1 if not counted.
        pub shared_size: i64,
        /// Bytes of all its layers, unpacked.
        pub size: i64,
    }

    /// `GET /images/{name}/json`.
    pub struct ImageInspect {
        /// Digest of its config, `sha256:...`.
        pub id: String,
        /// `name:tag` of each tag.
        pub repo_tags: Vec<String>,
        /// `name@sha256:...` of each manifest that it was pulled by.
        pub repo_digests: Vec<String>,
        /// Image that it was built on, where known.
        pub parent: String,
        /// Message of its last commit.
        pub comment: String,
        /// When it was made, RFC 3339.
        #[serde(skip_serializing_if = "String::is_empty")]
        pub created: String,
        /// Version of the engine that built it.
        pub docker_version: String,
        /// Who made it.
        pub author: String,
        /// What containers of it start with.
        pub config: Option<Config>,
        /// Processor: `amd64`.
        pub architecture: String,
        /// Processor variant: `v8`.
        #[serde(skip_serializing_if = "String::is_empty")]
        pub variant: String,
        /// Operating system: `linux`.
        pub os: String,
        /// Bytes of all its layers, unpacked.
        pub size: i64,
        /// The same, for old clients.
        pub virtual_size: i64,
        /// How its layers are kept.
        pub graph_driver: GraphDriver,
        /// Its layers.
        #[serde(rename = "RootFS")]
        pub root_fs: RootFs,
        /// What this machine knows of it beyond the image itself.
        pub metadata: ImageMetadata,
    }

    /// How layers are kept.
    pub struct GraphDriver {
        /// Folders, by role.
        #[serde(serialize_with = "crate::null::when_empty")]
        pub data: BTreeMap<String, String>,
        /// `overlay2`.
        pub name: String,
    }

    /// The layers of an image.
    pub struct RootFs {
        /// `layers`.
        #[serde(rename = "Type")]
        pub kind: String,
        /// Digest of each layer's tar archive, bottom first.
        #[serde(skip_serializing_if = "Vec::is_empty")]
        pub layers: Vec<String>,
    }

    /// What this machine knows of an image.
    pub struct ImageMetadata {
        /// When it last got a tag here, RFC 3339.
        pub last_tag_time: String,
    }

    /// An element of `GET /images/{name}/history`, newest first.
    pub struct HistoryItem {
        /// Digest of the image after this step, or `<missing>`.
        pub id: String,
        /// When, in seconds since 1970.
        pub created: i64,
        /// The instruction.
        pub created_by: String,
        /// Tags of the image after this step.
        #[serde(serialize_with = "crate::null::when_empty")]
        pub tags: Vec<String>,
        /// Bytes that this step added.
        pub size: i64,
        /// A remark.
        pub comment: String,
    }

    /// An element of what `DELETE /images/{name}` answers: one of the two is set.
    pub struct ImageDeleted {
        /// Reference that is gone.
        #[serde(skip_serializing_if = "String::is_empty")]
        pub untagged: String,
        /// Digest of an image or layer that is gone.
        #[serde(skip_serializing_if = "String::is_empty")]
        pub deleted: String,
    }

    /// `POST /images/prune`.
    pub struct ImagesPruned {
        /// What is gone.
        #[serde(serialize_with = "crate::null::when_empty")]
        pub images_deleted: Vec<ImageDeleted>,
        /// Bytes won.
        pub space_reclaimed: u64,
    }

    /// The `aux` of a build's last line.
    pub struct BuildResult {
        /// Digest of the image's config.
        #[serde(rename = "ID")]
        pub id: String,
    }
});
