//! How a failure is reported: one object with a message.

wire!("camelCase" {
    /// The body of every response with a status of 400 or above.
    pub struct ErrorResponse {
        /// What failed, on one line.
        pub message: String,
        /// What to do next. Docker has no such field; its clients ignore it.
        #[serde(skip_serializing_if = "Option::is_none")]
        pub hint: Option<String>,
    }
});
