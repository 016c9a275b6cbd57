//! What creating, waiting, updating and pruning answer.

use super::RestartPolicy;

wire!("PascalCase" {
    /// `POST /containers/create`.
    pub struct ContainerCreated {
        /// Full id.
        pub id: String,
        /// What was asked for and is not so.
        pub warnings: Vec<String>,
    }

    /// `POST /containers/{id}/wait`.
    pub struct WaitResponse {
        /// How it ended.
        pub status_code: i64,
        /// Why waiting failed.
        #[serde(skip_serializing_if = "Option::is_none")]
        pub error: Option<WaitError>,
    }

    /// Why waiting failed.
    pub struct WaitError {
        /// The message.
        pub message: String,
    }

    /// `POST /containers/prune`.
    pub struct ContainersPruned {
        /// Full ids of those that are gone.
        #[serde(serialize_with = "crate::null::when_empty")]
        pub containers_deleted: Vec<String>,
        /// Bytes won.
        pub space_reclaimed: u64,
    }

    /// `GET /containers/{id}/top`.
    pub struct Top {
        /// Headings.
        pub titles: Vec<String>,
        /// A row for each process.
        pub processes: Vec<Vec<String>>,
    }

    /// `POST /containers/{id}/update`: what is 0 or absent stays as it is.
    pub struct ContainerUpdate {
        /// Weight among others for the CPU.
        pub cpu_shares: i64,
        /// Memory limit, in bytes.
        pub memory: i64,
        /// CPUs, in billionths.
        pub nano_cpus: i64,
        /// Length of a CPU period, in microseconds.
        pub cpu_period: i64,
        /// CPU time in each period, in microseconds.
        pub cpu_quota: i64,
        /// CPUs it may run on.
        pub cpuset_cpus: String,
        /// Memory nodes it may use.
        pub cpuset_mems: String,
        /// Memory that is left to it when memory is short, in bytes.
        pub memory_reservation: i64,
        /// Memory and swap together, in bytes.
        pub memory_swap: i64,
        /// Most processes.
        pub pids_limit: Option<i64>,
        /// What happens when it ends.
        pub restart_policy: RestartPolicy,
    }

    /// What an update answers.
    pub struct ContainerUpdated {
        /// What was asked for and is not so.
        #[serde(serialize_with = "crate::null::when_empty")]
        pub warnings: Vec<String>,
    }
});
