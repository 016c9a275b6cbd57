//! The JSON lines that pull, load, import and build stream while they work.

wire!("camelCase" {
    /// One line of progress. Exactly one of status, stream, error and aux is set as a rule.
    pub struct Progress {
        /// Short id of the layer or image that the line is about.
        #[serde(skip_serializing_if = "String::is_empty")]
        pub id: String,
        /// What is being done: `Downloading`, `Pull complete`.
        #[serde(skip_serializing_if = "String::is_empty")]
        pub status: String,
        /// How far along it is.
        #[serde(skip_serializing_if = "Option::is_none")]
        pub progress_detail: Option<ProgressDetail>,
        /// The same as a bar that has been drawn, for clients that do not draw it themselves.
        #[serde(skip_serializing_if = "String::is_empty")]
        pub progress: String,
        /// Text to print as it is (build, load).
        #[serde(skip_serializing_if = "String::is_empty")]
        pub stream: String,
        /// The failure that ended the work; the HTTP status was sent long before.
        #[serde(skip_serializing_if = "Option::is_none")]
        pub error_detail: Option<ProgressError>,
        /// The failure's message once more, for old clients.
        #[serde(skip_serializing_if = "Option::is_none")]
        pub error: Option<String>,
        /// A result for programs: after a build `{"ID": "sha256:..."}`.
        #[serde(skip_serializing_if = "Option::is_none")]
        pub aux: Option<serde_json::Value>,
    }

    /// How far along a layer is. Nothing set means that there is nothing to measure.
    pub struct ProgressDetail {
        /// Bytes done.
        #[serde(skip_serializing_if = "Option::is_none")]
        pub current: Option<u64>,
        /// Bytes in all, where known.
        #[serde(skip_serializing_if = "Option::is_none")]
        pub total: Option<u64>,
    }

    /// What ended the work.
    pub struct ProgressError {
        /// An exit code, where a command failed.
        #[serde(skip_serializing_if = "Option::is_none")]
        pub code: Option<i64>,
        /// The message.
        pub message: String,
        /// What to do next. Docker has no such field; its clients ignore it.
        #[serde(skip_serializing_if = "Option::is_none")]
        pub hint: Option<String>,
    }
});

wire!("PascalCase" {
    /// The `aux` of a push, once for each tag.
    pub struct PushResult {
        /// The tag.
        pub tag: String,
        /// The manifest's digest.
        pub digest: String,
        /// The manifest's size in bytes.
        pub size: u64,
    }
});
