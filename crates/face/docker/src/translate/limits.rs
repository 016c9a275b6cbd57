//! What a container may use. On the wire 0 means that nothing was asked for.

use dhow_docker_wire::container::{HostConfig, Ulimit as WireUlimit};
use dhow_engine::spec::{Limits, Ulimit};
use dhow_error::{Error, Result};

/// Limits in the engine's words.
pub(super) fn read(host: &HostConfig) -> Result<Limits> {
    Ok(Limits {
        memory_bytes: asked(host.memory),
        memory_swap_bytes: asked(host.memory_swap),
        memory_reservation_bytes: asked(host.memory_reservation),
        // -1 is how older clients say that they do not care.
        memory_swappiness: host.memory_swappiness.filter(|swappiness| *swappiness != -1),
        oom_kill_disable: host.oom_kill_disable.unwrap_or(false),
        oom_score_adj: host.oom_score_adj,
        nano_cpus: asked(host.nano_cpus),
        cpu_shares: natural("CPU shares", host.cpu_shares)?,
        cpu_quota_us: asked(host.cpu_quota),
        cpu_period_us: natural("CPU period", host.cpu_period)?,
        cpuset_cpus: host.cpuset_cpus.clone(),
        cpuset_mems: host.cpuset_mems.clone(),
        pids: host.pids_limit.filter(|pids| *pids > 0),
        blkio_weight: if host.blkio_weight == 0 { None } else { Some(host.blkio_weight) },
        ulimits: host.ulimits.iter().map(ulimit).collect::<Result<_>>()?,
        shm_bytes: natural("size of /dev/shm", host.shm_size)?.map(|bytes| bytes as i64),
    })
}

fn asked(value: i64) -> Option<i64> {
    if value == 0 { None } else { Some(value) }
}

fn natural(what: &str, value: i64) -> Result<Option<u64>> {
    let natural = u64::try_from(value)
        .map_err(|_| Error::invalid(format!("invalid {what}: {value} is negative")))?;
    Ok(if natural == 0 { None } else { Some(natural) })
}

fn ulimit(wire: &WireUlimit) -> Result<Ulimit> {
    let limit = Ulimit { name: wire.name.clone(), soft: wire.soft, hard: wire.hard };
    limit.check()?;
    Ok(limit)
}

/// Limits as Docker tells them.
pub(super) fn write(limits: &Limits, host: &mut HostConfig) {
    host.memory = limits.memory_bytes.unwrap_or(0);
    host.memory_swap = limits.memory_swap_bytes.unwrap_or(0);
    host.memory_reservation = limits.memory_reservation_bytes.unwrap_or(0);
    host.memory_swappiness = limits.memory_swappiness;
    host.oom_kill_disable = limits.oom_kill_disable.then_some(true);
    host.oom_score_adj = limits.oom_score_adj;
    host.nano_cpus = limits.nano_cpus.unwrap_or(0);
    host.cpu_shares = limits.cpu_shares.unwrap_or(0) as i64;
    host.cpu_quota = limits.cpu_quota_us.unwrap_or(0);
    host.cpu_period = limits.cpu_period_us.unwrap_or(0) as i64;
    host.cpuset_cpus.clone_from(&limits.cpuset_cpus);
    host.cpuset_mems.clone_from(&limits.cpuset_mems);
    host.pids_limit = limits.pids;
    host.blkio_weight = limits.blkio_weight.unwrap_or(0);
    host.shm_size = limits.shm_bytes.unwrap_or(64 << 20);
    let ulimits = limits.ulimits.iter().map(|limit| WireUlimit {
        name: limit.name.clone(),
        hard: limit.hard,
        soft: limit.soft,
    });
    host.ulimits = ulimits.collect();
}
