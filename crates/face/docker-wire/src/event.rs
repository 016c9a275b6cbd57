//! What happened to which object: the lines of `GET /events`.

use std::collections::BTreeMap;

wire!("PascalCase" {
    /// One event.
    pub struct Event {
        /// The action once more, under its old name (containers and images).
        #[serde(rename = "status", skip_serializing_if = "String::is_empty")]
        pub status: String,
        /// The object's id once more, under its old name.
        #[serde(rename = "id", skip_serializing_if = "String::is_empty")]
        pub id: String,
        /// The image's name once more, under its old name.
        #[serde(rename = "from", skip_serializing_if = "String::is_empty")]
        pub from: String,
        /// `container`, `image`, `network`, `volume`, `daemon`.
        #[serde(rename = "Type")]
        pub kind: String,
        /// `create`, `start`, `die`, `destroy`, `pull`...
        pub action: String,
        /// What it happened to.
        pub actor: Actor,
        /// `local`, always on one machine.
        #[serde(rename = "scope")]
        pub scope: String,
        /// When, in seconds since 1970.
        #[serde(rename = "time")]
        pub time: i64,
        /// When, in nanoseconds since 1970.
        #[serde(rename = "timeNano")]
        pub time_nano: i64,
    }

    /// The object that an event happened to.
    pub struct Actor {
        /// Id of the container, image, network.
        #[serde(rename = "ID")]
        pub id: String,
        /// Name, image, labels, exit code...
        pub attributes: BTreeMap<String, String>,
    }
});
