//! What a container gets of its host: limits, mounts, ports, rights.

use std::collections::BTreeMap;

/// Published ports by container port (`80/tcp`). No value: exposed, but not published.
pub type PortMap = BTreeMap<String, Option<Vec<PortBinding>>>;

wire!("PascalCase" {
    /// What a container gets of its host.
    pub struct HostConfig {
        /// Bind mounts: `source:target[:options]`.
        #[serde(serialize_with = "crate::null::when_empty")]
        pub binds: Vec<String>,
        /// File that the client wrote the id to.
        #[serde(rename = "ContainerIDFile")]
        pub container_id_file: String,
        /// Where its output goes.
        pub log_config: LogConfig,
        /// `bridge`, `none`, `host`, `container:ID`, a network's name; `default` and empty are `bridge`.
        pub network_mode: String,
        /// Ports to publish.
        pub port_bindings: PortMap,
        /// What happens when it ends.
        pub restart_policy: RestartPolicy,
        /// Remove it when it ends.
        pub auto_remove: bool,
        /// Driver of its volumes.
        pub volume_driver: String,
        /// Containers whose volumes it gets.
        #[serde(serialize_with = "crate::null::when_empty")]
        pub volumes_from: Vec<String>,
        /// The terminal's size at its start: rows, columns.
        pub console_size: [u32; 2],
        /// Annotations for the OCI runtime.
        #[serde(skip_serializing_if = "BTreeMap::is_empty")]
        pub annotations: BTreeMap<String, String>,
        /// Capabilities on top of the default ones.
        #[serde(serialize_with = "crate::null::when_empty")]
        pub cap_add: Vec<String>,
        /// Capabilities to take away.
        #[serde(serialize_with = "crate::null::when_empty")]
        pub cap_drop: Vec<String>,
        /// `private` or `host`.
        pub cgroupns_mode: String,
        /// Resolvers.
        pub dns: Vec<String>,
        /// Resolver options.
        pub dns_options: Vec<String>,
        /// Domains to search.
        pub dns_search: Vec<String>,
        /// Lines of /etc/hosts: `name:address`.
        #[serde(serialize_with = "crate::null::when_empty")]
        pub extra_hosts: Vec<String>,
        /// Supplementary groups.
        #[serde(serialize_with = "crate::null::when_empty")]
        pub group_add: Vec<String>,
        /// `private`, `shareable`, `none`, `host`, `container:ID`.
        pub ipc_mode: String,
        /// Cgroup of another container (never offered).
        pub cgroup: String,
        /// Legacy links.
        #[serde(serialize_with = "crate::null::when_empty")]
        pub links: Vec<String>,
        /// What is added to its badness when memory is short.
        pub oom_score_adj: i32,
        /// Empty, `host`, `container:ID`.
        pub pid_mode: String,
        /// All rights over the host.
        pub privileged: bool,
        /// Publish every exposed port on a free one.
        pub publish_all_ports: bool,
        /// Its root filesystem is read-only.
        pub readonly_rootfs: bool,
        /// `seccomp=...`, `no-new-privileges`, `label=...`, `apparmor=...`.
        #[serde(serialize_with = "crate::null::when_empty")]
        pub security_opt: Vec<String>,
        /// Options of the storage driver.
        #[serde(skip_serializing_if = "BTreeMap::is_empty")]
        pub storage_opt: BTreeMap<String, String>,
        /// tmpfs mounts: options by target.
        #[serde(skip_serializing_if = "BTreeMap::is_empty")]
        pub tmpfs: BTreeMap<String, String>,
        /// Empty or `host`.
        #[serde(rename = "UTSMode")]
        pub uts_mode: String,
        /// Empty or `host`.
        pub userns_mode: String,
        /// Size of /dev/shm, in bytes; 0 means 64 MiB.
        pub shm_size: i64,
        /// Kernel parameters of its namespaces.
        #[serde(skip_serializing_if = "BTreeMap::is_empty")]
        pub sysctls: BTreeMap<String, String>,
        /// Runtime by name.
        pub runtime: String,
        /// Windows only.
        pub isolation: String,
        /// Weight among others for the CPU.
        pub cpu_shares: i64,
        /// Memory limit, in bytes; 0 is none.
        pub memory: i64,
        /// CPUs, in billionths.
        pub nano_cpus: i64,
        /// Cgroup below which its own is made.
        pub cgroup_parent: String,
        /// Weight for block devices.
        pub blkio_weight: u16,
        /// Weight for each of some block devices.
        #[serde(serialize_with = "crate::null::when_empty")]
        pub blkio_weight_device: Vec<BlkioWeight>,
        /// Bytes read a second, by device.
        #[serde(serialize_with = "crate::null::when_empty")]
        pub blkio_device_read_bps: Vec<BlkioRate>,
        /// Bytes written a second, by device.
        #[serde(serialize_with = "crate::null::when_empty")]
        pub blkio_device_write_bps: Vec<BlkioRate>,
        /// Reads a second, by device.
        #[serde(rename = "BlkioDeviceReadIOps", serialize_with = "crate::null::when_empty")]
        pub blkio_device_read_iops: Vec<BlkioRate>,
        /// Writes a second, by device.
        #[serde(rename = "BlkioDeviceWriteIOps", serialize_with = "crate::null::when_empty")]
        pub blkio_device_write_iops: Vec<BlkioRate>,
        /// Length of a CPU period, in microseconds.
        pub cpu_period: i64,
        /// CPU time in each period, in microseconds.
        pub cpu_quota: i64,
        /// Real-time period, in microseconds.
        pub cpu_realtime_period: i64,
        /// Real-time share of it, in microseconds.
        pub cpu_realtime_runtime: i64,
        /// CPUs it may run on: `0-2,7`.
        pub cpuset_cpus: String,
        /// Memory nodes it may use.
        pub cpuset_mems: String,
        /// Devices of the host.
        #[serde(serialize_with = "crate::null::when_empty")]
        pub devices: Vec<DeviceMapping>,
        /// Rules of the device cgroup: `c 42:* rmw`.
        #[serde(serialize_with = "crate::null::when_empty")]
        pub device_cgroup_rules: Vec<String>,
        /// GPUs and the like.
        #[serde(serialize_with = "crate::null::when_empty")]
        pub device_requests: Vec<DeviceRequest>,
        /// Memory that is left to it when memory is short, in bytes.
        pub memory_reservation: i64,
        /// Memory and swap together, in bytes; -1 is no limit.
        pub memory_swap: i64,
        /// 0 to 100.
        pub memory_swappiness: Option<i64>,
        /// Never kill it for lack of memory.
        pub oom_kill_disable: Option<bool>,
        /// Most processes; 0 and -1 are no limit.
        pub pids_limit: Option<i64>,
        /// Resource limits.
        pub ulimits: Vec<Ulimit>,
        /// Windows only.
        pub cpu_count: i64,
        /// Windows only.
        pub cpu_percent: i64,
        /// Windows only.
        #[serde(rename = "IOMaximumIOps")]
        pub io_maximum_iops: u64,
        /// Windows only.
        #[serde(rename = "IOMaximumBandwidth")]
        pub io_maximum_bandwidth: u64,
        /// Mounts in their long form.
        #[serde(skip_serializing_if = "Vec::is_empty")]
        pub mounts: Vec<Mount>,
        /// Paths that are hidden; absent means the default ones.
        pub masked_paths: Option<Vec<String>>,
        /// Paths that are read-only; absent means the default ones.
        pub readonly_paths: Option<Vec<String>>,
        /// Run a reaper as process 1.
        #[serde(skip_serializing_if = "Option::is_none")]
        pub init: Option<bool>,
    }

    /// Where output goes.
    pub struct LogConfig {
        /// `json-file`, `none`; empty is the daemon's default.
        #[serde(rename = "Type")]
        pub kind: String,
        /// Options: `max-size`, `max-file`.
        pub config: BTreeMap<String, String>,
    }

    /// One published port.
    pub struct PortBinding {
        /// Address of the host; empty is every one.
        #[serde(rename = "HostIp")]
        pub host_ip: String,
        /// Port of the host, a range of them, or empty for a free one.
        pub host_port: String,
    }

    /// What happens when a container ends.
    pub struct RestartPolicy {
        /// `no`, `always`, `unless-stopped`, `on-failure`; empty is `no`.
        pub name: String,
        /// How often at most (`on-failure`).
        pub maximum_retry_count: u32,
    }

    /// Weight for one block device.
    pub struct BlkioWeight {
        /// The device.
        pub path: String,
        /// The weight.
        pub weight: u16,
    }

    /// A rate for one block device.
    pub struct BlkioRate {
        /// The device.
        pub path: String,
        /// Bytes or operations a second.
        pub rate: u64,
    }

    /// A device of the host.
    pub struct DeviceMapping {
        /// Its path on the host.
        pub path_on_host: String,
        /// Its path in the container.
        pub path_in_container: String,
        /// `r`, `w` and `m`, any of them.
        pub cgroup_permissions: String,
    }

    /// GPUs and the like.
    pub struct DeviceRequest {
        /// Driver.
        pub driver: String,
        /// How many, -1 is all.
        pub count: i64,
        /// Which.
        #[serde(rename = "DeviceIDs", serialize_with = "crate::null::when_empty")]
        pub device_ids: Vec<String>,
        /// What they must be able to do.
        pub capabilities: Vec<Vec<String>>,
        /// Driver options.
        pub options: BTreeMap<String, String>,
    }

    /// A resource limit.
    pub struct Ulimit {
        /// `nofile`, `nproc`...
        pub name: String,
        /// The hard limit; -1 is none.
        pub hard: i64,
        /// The soft limit; -1 is none.
        pub soft: i64,
    }

    /// A mount in its long form.
    pub struct Mount {
        /// `bind`, `volume`, `tmpfs`, `npipe`, `cluster`, `image`.
        #[serde(rename = "Type", skip_serializing_if = "String::is_empty")]
        pub kind: String,
        /// Path on the host, or a volume's name.
        #[serde(skip_serializing_if = "String::is_empty")]
        pub source: String,
        /// Path in the container.
        #[serde(skip_serializing_if = "String::is_empty")]
        pub target: String,
        /// It cannot be written to.
        #[serde(skip_serializing_if = "crate::null::is_default")]
        pub read_only: bool,
        /// Mac and Windows only.
        #[serde(skip_serializing_if = "String::is_empty")]
        pub consistency: String,
        /// For bind mounts.
        #[serde(skip_serializing_if = "Option::is_none")]
        pub bind_options: Option<BindOptions>,
        /// For volumes.
        #[serde(skip_serializing_if = "Option::is_none")]
        pub volume_options: Option<VolumeOptions>,
        /// For tmpfs.
        #[serde(skip_serializing_if = "Option::is_none")]
        pub tmpfs_options: Option<TmpfsOptions>,
    }

    /// Options of a bind mount.
    pub struct BindOptions {
        /// `private`, `rprivate`, `shared`, `rshared`, `slave`, `rslave`.
        #[serde(skip_serializing_if = "String::is_empty")]
        pub propagation: String,
        /// Leave out what is mounted below the source.
        #[serde(skip_serializing_if = "crate::null::is_default")]
        pub non_recursive: bool,
        /// Make the source if it does not exist.
        #[serde(skip_serializing_if = "crate::null::is_default")]
        pub create_mountpoint: bool,
        /// Mounts below a read-only one stay writable.
        #[serde(skip_serializing_if = "crate::null::is_default")]
        pub read_only_non_recursive: bool,
        /// Fail if mounts below cannot be made read-only too.
        #[serde(skip_serializing_if = "crate::null::is_default")]
        pub read_only_force_recursive: bool,
    }

    /// Options of a volume mount.
    pub struct VolumeOptions {
        /// Do not fill an empty volume from the image.
        #[serde(skip_serializing_if = "crate::null::is_default")]
        pub no_copy: bool,
        /// Labels, if it is made now.
        #[serde(skip_serializing_if = "BTreeMap::is_empty")]
        pub labels: BTreeMap<String, String>,
        /// Folder within the volume.
        #[serde(skip_serializing_if = "String::is_empty")]
        pub subpath: String,
        /// Driver, if it is made now.
        #[serde(skip_serializing_if = "Option::is_none")]
        pub driver_config: Option<VolumeDriver>,
    }

    /// Driver of a volume.
    pub struct VolumeDriver {
        /// Its name.
        #[serde(skip_serializing_if = "String::is_empty")]
        pub name: String,
        /// Its options.
        #[serde(skip_serializing_if = "BTreeMap::is_empty")]
        pub options: BTreeMap<String, String>,
    }

    /// Options of a tmpfs mount.
    pub struct TmpfsOptions {
        /// Its size, in bytes; 0 is no limit.
        #[serde(skip_serializing_if = "crate::null::is_default")]
        pub size_bytes: i64,
        /// Mode of its root.
        #[serde(skip_serializing_if = "crate::null::is_default")]
        pub mode: u32,
        /// Further options, each one or two words.
        #[serde(skip_serializing_if = "Vec::is_empty")]
        pub options: Vec<Vec<String>>,
    }
});
