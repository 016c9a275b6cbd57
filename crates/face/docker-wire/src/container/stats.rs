//! What a container uses: `GET /containers/{id}/stats`. These names are in snake case.

use std::collections::BTreeMap;

wire!("snake_case" {
    /// What a container uses, with the sample before for rates.
    pub struct Stats {
        /// When it was read, RFC 3339.
        pub read: String,
        /// When the sample before was read; year 1 if there is none.
        pub preread: String,
        /// Processes.
        pub pids_stats: PidsStats,
        /// Block devices.
        pub blkio_stats: BlkioStats,
        /// Windows only.
        pub num_procs: u32,
        /// CPU.
        pub cpu_stats: CpuStats,
        /// CPU in the sample before.
        pub precpu_stats: CpuStats,
        /// Memory.
        pub memory_stats: MemoryStats,
        /// The container's name, after a slash.
        pub name: String,
        /// Its full id.
        pub id: String,
        /// Traffic by interface.
        #[serde(skip_serializing_if = "BTreeMap::is_empty")]
        pub networks: BTreeMap<String, NetworkStats>,
    }

    /// Processes.
    pub struct PidsStats {
        /// Now.
        #[serde(skip_serializing_if = "crate::null::is_default")]
        pub current: u64,
        /// At most.
        #[serde(skip_serializing_if = "crate::null::is_default")]
        pub limit: u64,
    }

    /// Block devices.
    pub struct BlkioStats {
        /// Bytes by device and operation.
        #[serde(serialize_with = "crate::null::when_empty")]
        pub io_service_bytes_recursive: Vec<BlkioEntry>,
        /// Operations by device and operation.
        #[serde(serialize_with = "crate::null::when_empty")]
        pub io_serviced_recursive: Vec<BlkioEntry>,
    }

    /// A counter of a block device.
    pub struct BlkioEntry {
        /// Major number.
        pub major: u64,
        /// Minor number.
        pub minor: u64,
        /// `read`, `write`...
        pub op: String,
        /// The counter.
        pub value: u64,
    }

    /// CPU.
    pub struct CpuStats {
        /// By the container.
        pub cpu_usage: CpuUsage,
        /// By the whole machine, in nanoseconds.
        #[serde(skip_serializing_if = "crate::null::is_default")]
        pub system_cpu_usage: u64,
        /// Processors.
        #[serde(skip_serializing_if = "crate::null::is_default")]
        pub online_cpus: u32,
        /// How much it was held back.
        pub throttling_data: Throttling,
    }

    /// CPU time.
    pub struct CpuUsage {
        /// In all, in nanoseconds.
        pub total_usage: u64,
        /// By processor (cgroup v1).
        #[serde(skip_serializing_if = "Vec::is_empty")]
        pub percpu_usage: Vec<u64>,
        /// In the kernel, in nanoseconds.
        pub usage_in_kernelmode: u64,
        /// Outside the kernel, in nanoseconds.
        pub usage_in_usermode: u64,
    }

    /// How much a container was held back.
    pub struct Throttling {
        /// Periods.
        pub periods: u64,
        /// Those in which it was held back.
        pub throttled_periods: u64,
        /// For how long, in nanoseconds.
        pub throttled_time: u64,
    }

    /// Memory.
    pub struct MemoryStats {
        /// Now, in bytes.
        #[serde(skip_serializing_if = "crate::null::is_default")]
        pub usage: u64,
        /// At most so far, in bytes (cgroup v1).
        #[serde(skip_serializing_if = "crate::null::is_default")]
        pub max_usage: u64,
        /// The kernel's own counters.
        #[serde(skip_serializing_if = "BTreeMap::is_empty")]
        pub stats: BTreeMap<String, u64>,
        /// How often the limit was hit (cgroup v1).
        #[serde(skip_serializing_if = "crate::null::is_default")]
        pub failcnt: u64,
        /// The limit, in bytes; the machine's memory if there is none.
        #[serde(skip_serializing_if = "crate::null::is_default")]
        pub limit: u64,
    }

    /// Traffic of an interface.
    pub struct NetworkStats {
        /// Bytes received.
        pub rx_bytes: u64,
        /// Packets received.
        pub rx_packets: u64,
        /// Errors in receiving.
        pub rx_errors: u64,
        /// Packets not received.
        pub rx_dropped: u64,
        /// Bytes sent.
        pub tx_bytes: u64,
        /// Packets sent.
        pub tx_packets: u64,
        /// Errors in sending.
        pub tx_errors: u64,
        /// Packets not sent.
        pub tx_dropped: u64,
    }
});
