//! Security, logs and restarts; and what of the host's settings is refused or only noted.

use dhow_docker_wire::container::{
    DeviceMapping as WireDevice, HostConfig, LogConfig as WireLog, RestartPolicy as WireRestart,
};
use dhow_engine::ContainerSpec;
use dhow_engine::spec::{
    DeviceMapping, LogConfig, LogDriver, NamespaceMode, RestartPolicy, Security,
};
use dhow_error::{Error, Result};

use super::not_offered;
use crate::query::quoted;

/// Names under which clients may ask for the one runtime there is.
const RUNTIMES: [&str; 4] = ["", "dhow", "runc", "io.containerd.runc.v2"];

/// Refuses what would isolate, limit or keep less than was asked for; tells of the rest.
pub(super) fn refuse_what_is_not_offered(host: &HostConfig) -> Result<Vec<String>> {
    if !RUNTIMES.contains(&host.runtime.as_str()) {
        return Err(Error::invalid(format!(
            "unknown or invalid runtime name: {}",
            quoted(&host.runtime)
        )));
    }
    if let Some(request) = host.device_requests.first() {
        return Err(not_offered(format!(
            "a device driver {} with capabilities {:?}",
            quoted(&request.driver),
            request.capabilities
        )));
    }
    let blkio = !host.blkio_weight_device.is_empty()
        || !host.blkio_device_read_bps.is_empty()
        || !host.blkio_device_write_bps.is_empty()
        || !host.blkio_device_read_iops.is_empty()
        || !host.blkio_device_write_iops.is_empty();
    let refused = [
        (!matches!(host.userns_mode.as_str(), "" | "host"), "a user namespace of its own"),
        (!host.cgroup_parent.is_empty(), "a cgroup parent for a container"),
        (!host.cgroup.is_empty(), "another container's cgroup"),
        (!matches!(host.isolation.as_str(), "" | "default"), "another isolation technology"),
        (!host.storage_opt.is_empty(), "a storage option (a limit on the root filesystem)"),
        (blkio, "a limit on single block devices"),
        (
            host.cpu_realtime_period != 0 || host.cpu_realtime_runtime != 0,
            "real-time scheduling of the CPU",
        ),
        (!host.volumes_from.is_empty(), "taking volumes from other containers"),
        (!host.links.is_empty(), "a legacy link"),
        (!matches!(host.volume_driver.as_str(), "" | "local"), "a volume driver"),
    ];
    if let Some((_, what)) = refused.iter().find(|(asked, _)| *asked) {
        return Err(not_offered(what));
    }
    let mut warnings = Vec::new();
    if !host.annotations.is_empty() {
        warnings.push("annotations are not kept".to_owned());
    }
    Ok(warnings)
}

/// What the container may do.
pub(super) fn security(host: &HostConfig) -> Result<Security> {
    let mut security = Security {
        privileged: host.privileged,
        cap_add: host.cap_add.clone(),
        cap_drop: host.cap_drop.clone(),
        unmask_paths: unmask_paths(host)?,
        read_only_rootfs: host.readonly_rootfs,
        devices: host.devices.iter().map(device).collect::<Result<_>>()?,
        device_cgroup_rules: host.device_cgroup_rules.clone(),
        sysctls: host.sysctls.clone(),
        ipc: NamespaceMode::parse("IPC", &host.ipc_mode)?,
        pid: NamespaceMode::parse("PID", &host.pid_mode)?,
        uts: NamespaceMode::parse("UTS", &host.uts_mode)?,
        cgroupns: NamespaceMode::parse("cgroup namespace", &host.cgroupns_mode)?,
        ..Security::default()
    };
    for option in &host.security_opt {
        security.apply_option(option)?;
    }
    Ok(security)
}

/// Whether paths of /proc and /sys are shown that usually are not. Only all or none can be chosen.
fn unmask_paths(host: &HostConfig) -> Result<bool> {
    match (host.masked_paths.as_deref(), host.readonly_paths.as_deref()) {
        (None, None) => Ok(false),
        (Some([]), Some([])) => Ok(true),
        _ => Err(not_offered("a choice of masked or read-only paths")),
    }
}

fn device(wire: &WireDevice) -> Result<DeviceMapping> {
    let or = |text: &str, default: &str| {
        if text.is_empty() { default.to_owned() } else { text.to_owned() }
    };
    let inside = or(&wire.path_in_container, &wire.path_on_host);
    let permissions = or(&wire.cgroup_permissions, "rwm");
    if wire.path_on_host.contains(':') || inside.contains(':') {
        return Err(Error::invalid(format!("invalid device {}", quoted(&wire.path_on_host))));
    }
    Ok(format!("{}:{inside}:{permissions}", wire.path_on_host).parse()?)
}

/// Where output is kept.
pub(super) fn log(wire: &WireLog, warnings: &mut Vec<String>) -> Result<LogConfig> {
    let mut log = LogConfig { options: wire.config.clone(), ..LogConfig::default() };
    log.driver = match wire.kind.as_str() {
        "" | "json-file" => LogDriver::JsonFile,
        "none" => LogDriver::None,
        other => {
            let message = format!("logger: no log driver named {} is registered", quoted(other));
            return Err(Error::invalid(message).with_hint("use json-file or none"));
        }
    };
    for (name, value) in &wire.config {
        let invalid =
            || Error::invalid(format!("invalid value for log option {name}: {}", quoted(value)));
        match name.as_str() {
            "max-size" if value == "-1" => {}
            "max-size" => log.max_size_bytes = Some(size(value).ok_or_else(invalid)?),
            "max-file" => {
                let files = value.parse().ok().filter(|files| *files > 0);
                log.max_files = Some(files.ok_or_else(invalid)?);
            }
            "mode" if value == "blocking" => {}
            "compress" | "env" | "env-regex" | "labels" | "labels-regex" | "mode"
            | "max-buffer-size" | "tag" => {
                warnings.push(format!("the log option {name} has no effect yet"));
            }
            other => {
                let message = format!("unknown log opt {} for json-file log driver", quoted(other));
                return Err(Error::invalid(message));
            }
        }
    }
    if log.max_files.is_some_and(|files| files > 1) && log.max_size_bytes.is_none() {
        return Err(Error::invalid("max-file must be 1 if max-size is not set"));
    }
    Ok(log)
}

/// Bytes in decimal units: `10m`, `1.5kb`.
fn size(text: &str) -> Option<u64> {
    let text = text.trim().to_ascii_lowercase();
    let digits = text.trim_end_matches(|sign: char| sign.is_ascii_alphabetic() || sign == ' ');
    let factor = match text.get(digits.len()..)?.trim().trim_end_matches('b').trim_end_matches('i')
    {
        "" => 1.0,
        "k" => 1e3,
        "m" => 1e6,
        "g" => 1e9,
        "t" => 1e12,
        _ => return None,
    };
    let plain = digits.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
    let bytes = digits.parse::<f64>().ok().filter(|_| plain)? * factor;
    if (1.0..1e18).contains(&bytes) { Some(bytes as u64) } else { None }
}

/// Whether the container starts again by itself.
pub(super) fn restart(host: &HostConfig) -> Result<RestartPolicy> {
    let WireRestart { name, maximum_retry_count } = &host.restart_policy;
    let policy = match name.as_str() {
        "" | "no" => RestartPolicy::No,
        "always" => RestartPolicy::Always,
        "unless-stopped" => RestartPolicy::UnlessStopped,
        "on-failure" => RestartPolicy::OnFailure { max_retries: *maximum_retry_count },
        other => {
            return Err(Error::invalid(format!(
                "invalid restart policy: unknown policy {}; use one of 'no', 'always', 'on-failure', \
                 or 'unless-stopped'",
                quoted(other)
            )));
        }
    };
    if *maximum_retry_count != 0 && !matches!(policy, RestartPolicy::OnFailure { .. }) {
        let message =
            "invalid restart policy: maximum retry count can only be used with 'on-failure'";
        return Err(Error::invalid(message));
    }
    if host.auto_remove && policy != RestartPolicy::No {
        return Err(Error::conflict("can't create 'AutoRemove' container with restart policy"));
    }
    Ok(policy)
}

/// Security, logs and restarts, as Docker tells them.
pub(super) fn write(spec: &ContainerSpec, host: &mut HostConfig) {
    let security = &spec.security;
    let namespace = |mode: &NamespaceMode, own: &str| match mode {
        NamespaceMode::Private => own.to_owned(),
        NamespaceMode::Host => "host".to_owned(),
        NamespaceMode::Container(id) => format!("container:{id}"),
    };
    host.privileged = security.privileged;
    host.cap_add.clone_from(&security.cap_add);
    host.cap_drop.clone_from(&security.cap_drop);
    host.readonly_rootfs = security.read_only_rootfs;
    host.device_cgroup_rules.clone_from(&security.device_cgroup_rules);
    host.sysctls.clone_from(&security.sysctls);
    host.ipc_mode = namespace(&security.ipc, "private");
    host.pid_mode = namespace(&security.pid, "");
    host.uts_mode = namespace(&security.uts, "");
    host.cgroupns_mode = namespace(&security.cgroupns, "private");
    host.security_opt.clone_from(&security.options);
    if security.unmask_paths {
        host.masked_paths = Some(Vec::new());
        host.readonly_paths = Some(Vec::new());
    }
    let devices = security.devices.iter().map(|device| WireDevice {
        path_on_host: device.host.display().to_string(),
        path_in_container: device.container.display().to_string(),
        cgroup_permissions: device.permissions.clone(),
    });
    host.devices = devices.collect();
    let driver = match spec.log.driver {
        LogDriver::JsonFile => "json-file",
        LogDriver::None => "none",
    };
    host.log_config = WireLog { kind: driver.to_owned(), config: spec.log.options.clone() };
    let (name, maximum_retry_count) = match spec.restart {
        RestartPolicy::No => ("no", 0),
        RestartPolicy::Always => ("always", 0),
        RestartPolicy::UnlessStopped => ("unless-stopped", 0),
        RestartPolicy::OnFailure { max_retries } => ("on-failure", max_retries),
    };
    host.restart_policy = WireRestart { name: name.to_owned(), maximum_retry_count };
}

#[cfg(test)]
mod tests {
    use super::size;

    #[test]
    fn sizes_read() {
        assert_eq!(size("10m"), Some(10_000_000));
        assert_eq!(size("1.5kb"), Some(1500));
        assert_eq!(size("7"), Some(7));
        assert_eq!(size("1 GiB"), Some(1_000_000_000));
        for bad in ["", "m", "-1m", "1x", "inf", "nan", "1e3", "99999999999999999999g", "0"] {
            assert_eq!(size(bad), None, "{bad}");
        }
    }
}
