//! Containers: what they are made of, what is told of them, and what is done with them.

mod config;
mod host;
mod inspect;
mod lifecycle;
mod stats;
mod summary;

pub use config::{Config, CreateRequest, Healthcheck, NetworkingConfig};
pub use host::{
    BindOptions, BlkioRate, BlkioWeight, DeviceMapping, DeviceRequest, HostConfig, LogConfig,
    Mount, PortBinding, PortMap, RestartPolicy, TmpfsOptions, Ulimit, VolumeDriver, VolumeOptions,
};
pub use inspect::{ContainerInspect, Health, HealthProbe, MountPoint, NetworkSettings, State};
pub use lifecycle::{
    ContainerCreated, ContainerUpdate, ContainerUpdated, ContainersPruned, Top, WaitError,
    WaitResponse,
};
pub use stats::{
    BlkioEntry, BlkioStats, CpuStats, CpuUsage, MemoryStats, NetworkStats, PidsStats, Stats,
    Throttling,
};
pub use summary::{ContainerSummary, Port, SummaryHostConfig, SummaryNetworks};
