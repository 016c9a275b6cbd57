//! What dhow says on the same socket beyond Docker's API, below `/dhow/`.

wire!("PascalCase" {
    /// Where the time of a container's last start went: `GET /dhow/containers/{id}/trace`.
    pub struct StartTrace {
        /// Full id of the container.
        pub id: String,
        /// The steps in their order.
        pub steps: Vec<TraceStep>,
    }

    /// A step of a start that was reached.
    pub struct TraceStep {
        /// What was done.
        pub name: String,
        /// When it was done, in nanoseconds of the monotonic clock.
        pub at_ns: u64,
        /// How long it took since the step before, in microseconds.
        pub micros: u64,
    }
});
