//! A whole create request: what the container runs here, what it gets of the host in the modules beside.

use dhow_docker_wire::container::{Config, CreateRequest, HostConfig};
use dhow_docker_wire::null;
use dhow_engine::ContainerSpec;
use dhow_engine::spec::ConsoleSize;
use dhow_error::{Error, Result};

use super::{host, limits, mounts, network};

/// What a client asks for, in the engine's words, and what it will have to do without.
///
/// Errors: invalid, or unsupported for what would isolate or limit less than was asked for.
pub(crate) fn container_spec(asked: CreateRequest) -> Result<(ContainerSpec, Vec<String>)> {
    let CreateRequest { config, host_config, networking_config } = asked;
    if config.image.is_empty() {
        return Err(Error::invalid("no image is given to create the container from"));
    }
    let mut warnings = host::refuse_what_is_not_offered(&host_config)?;
    if config.healthcheck.as_ref().is_some_and(|check| {
        check.test.first().is_some_and(|kind| kind != "NONE" && !kind.is_empty())
    }) {
        warnings.push("health checks are not run yet".to_owned());
    }
    if !config.on_build.is_empty() || !config.shell.is_empty() {
        warnings.push("OnBuild and Shell mean nothing to a container".to_owned());
    }
    let mut expose = network::ports(config.exposed_ports.keys())?;
    expose.extend(network::ports(host_config.port_bindings.keys())?);
    let spec = ContainerSpec {
        network: network::read(&config, &host_config, &networking_config)?,
        mounts: mounts::read(&host_config)?,
        limits: limits::read(&host_config)?,
        security: host::security(&host_config)?,
        log: host::log(&host_config.log_config, &mut warnings)?,
        restart: host::restart(&host_config)?,
        image: config.image,
        entrypoint: config.entrypoint.map(|words| words.0),
        cmd: config.cmd.map(|words| words.0),
        env: config.env,
        workdir: config.working_dir,
        user: config.user,
        group_add: host_config.group_add,
        hostname: config.hostname,
        domainname: config.domainname,
        labels: config.labels,
        expose,
        volumes: config.volumes.into_keys().collect(),
        tty: config.tty,
        open_stdin: config.open_stdin,
        stdin_once: config.stdin_once,
        attach_stdin: config.attach_stdin,
        attach_stdout: config.attach_stdout,
        attach_stderr: config.attach_stderr,
        stop_signal: config.stop_signal,
        stop_timeout_secs: config.stop_timeout,
        init: host_config.init.unwrap_or(false),
        auto_remove: host_config.auto_remove,
        console_size: console_size(host_config.console_size),
    };
    Ok((spec, warnings))
}

/// A terminal's size; none if either number is 0 or too large to be meant.
pub(crate) fn console_size([rows, cols]: [u32; 2]) -> Option<ConsoleSize> {
    let size = ConsoleSize { rows: u16::try_from(rows).ok()?, cols: u16::try_from(cols).ok()? };
    if size.rows == 0 || size.cols == 0 { None } else { Some(size) }
}

/// What a container runs, as Docker tells it.
pub(super) fn config(spec: &ContainerSpec, id: &str) -> Config {
    let hostname = if spec.hostname.is_empty() {
        id.chars().take(12).collect()
    } else {
        spec.hostname.clone()
    };
    Config {
        hostname,
        domainname: spec.domainname.clone(),
        user: spec.user.clone(),
        attach_stdin: spec.attach_stdin,
        attach_stdout: spec.attach_stdout,
        attach_stderr: spec.attach_stderr,
        exposed_ports: null::set(spec.expose.iter().map(ToString::to_string)),
        tty: spec.tty,
        open_stdin: spec.open_stdin,
        stdin_once: spec.stdin_once,
        env: spec.env.clone(),
        cmd: spec.cmd.clone().map(Into::into),
        image: spec.image.clone(),
        volumes: null::set(spec.volumes.iter().cloned()),
        working_dir: spec.workdir.clone(),
        entrypoint: spec.entrypoint.clone().map(Into::into),
        labels: spec.labels.clone(),
        stop_signal: spec.stop_signal.clone(),
        stop_timeout: spec.stop_timeout_secs,
        ..Config::default()
    }
}

/// What a container gets of the host, as Docker tells it.
pub(super) fn host_config(spec: &ContainerSpec) -> HostConfig {
    let mut config = HostConfig {
        group_add: spec.group_add.clone(),
        init: spec.init.then_some(true),
        auto_remove: spec.auto_remove,
        console_size: spec.console_size.map_or([0, 0], |size| [size.rows.into(), size.cols.into()]),
        runtime: "dhow".to_owned(),
        ..HostConfig::default()
    };
    network::write(&spec.network, &mut config);
    mounts::write(&spec.mounts, &mut config);
    limits::write(&spec.limits, &mut config);
    host::write(spec, &mut config);
    config
}

#[cfg(test)]
mod tests {
    use dhow_engine::spec::{MountKind, NetworkMode, RestartPolicy, SeccompChoice};
    use dhow_error::Kind;

    use super::*;

    fn read(json: &str) -> Result<(ContainerSpec, Vec<String>)> {
        container_spec(serde_json::from_str(json).unwrap())
    }

    const FULL: &str = r#"{
        "Image":"busybox","Cmd":["sleep","1"],"Entrypoint":["/bin/sh"],"Env":["A=b"],"User":"1:2","Tty":true,
        "OpenStdin":true,"StdinOnce":true,"AttachStdin":true,"Hostname":"h","Labels":{"a":"b"},
        "ExposedPorts":{"80/tcp":{}},"StopSignal":"SIGINT","StopTimeout":3,"WorkingDir":"/w",
        "HostConfig":{"Binds":["/srv:/srv:ro","cache:/cache"],"NetworkMode":"bridge","AutoRemove":true,
            "PortBindings":{"80/tcp":[{"HostIp":"127.0.0.1","HostPort":"8080"},{"HostPort":""}]},
            "CapAdd":["NET_ADMIN"],"CapDrop":["CHOWN"],"Dns":["1.1.1.1"],"DnsSearch":["x"],
            "ExtraHosts":["db:10.0.0.1"],"SecurityOpt":["no-new-privileges","seccomp=unconfined"],
            "Tmpfs":{"/tmp":"size=1m"},"Ulimits":[{"Name":"nofile","Soft":10,"Hard":20}],"Memory":4194304,
            "MemorySwap":-1,"NanoCpus":500000000,"PidsLimit":100,"ReadonlyRootfs":true,"Init":true,
            "Devices":[{"PathOnHost":"/dev/fuse","PathInContainer":"/dev/fuse","CgroupPermissions":"rwm"}],
            "LogConfig":{"Type":"json-file","Config":{"max-size":"10m","max-file":"3"}},
            "Sysctls":{"net.core.somaxconn":"128"},"ShmSize":1048576,"ConsoleSize":[24,80],
            "Mounts":[{"Type":"bind","Source":"/etc/hosts","Target":"/h","ReadOnly":true},
                      {"Type":"tmpfs","Target":"/t","TmpfsOptions":{"SizeBytes":4096,"Mode":448}}]}}"#;

    #[test]
    fn a_full_request_is_understood() {
        let (spec, warnings) = read(FULL).unwrap();
        assert_eq!(warnings, Vec::<String>::new());
        assert_eq!(spec.cmd.as_deref(), Some(["sleep".to_owned(), "1".to_owned()].as_slice()));
        assert_eq!(spec.network.mode, NetworkMode::Bridge);
        assert_eq!(spec.network.ports.len(), 2);
        assert_eq!(spec.network.ports[1].host_ports, None);
        assert_eq!(spec.mounts.len(), 5);
        assert!(spec.security.no_new_privileges && spec.security.read_only_rootfs);
        assert_eq!(spec.security.seccomp, SeccompChoice::Unconfined);
        assert_eq!(spec.limits.memory_swap_bytes, Some(-1));
        assert_eq!((spec.log.max_size_bytes, spec.log.max_files), (Some(10_000_000), Some(3)));
        assert_eq!(spec.console_size, Some(ConsoleSize { rows: 24, cols: 80 }));
        assert_eq!(spec.restart, RestartPolicy::No);
    }

    #[test]
    fn what_was_understood_is_told_again() {
        let (spec, _) = read(FULL).unwrap();
        let again = CreateRequest {
            config: config(&spec, "0123456789abcdef"),
            host_config: host_config(&spec),
            ..CreateRequest::default()
        };
        let (mut again, warnings) = container_spec(again).unwrap();
        assert_eq!(warnings, Vec::<String>::new());
        let order = |spec: &mut ContainerSpec| spec.mounts.sort_by(|a, b| a.target.cmp(&b.target));
        let mut spec = spec;
        order(&mut spec);
        order(&mut again);
        assert_eq!(again, spec);
    }

    #[test]
    fn a_minimal_request_is_all_defaults() {
        let (spec, _) = read(r#"{"Image":"x"}"#).unwrap();
        assert_eq!(spec, ContainerSpec { image: "x".into(), ..ContainerSpec::default() });
        assert!(read("{}").is_err());
    }

    #[test]
    fn less_isolation_than_asked_for_is_refused() {
        for host in [
            r#""UsernsMode":"private""#,
            r#""Runtime":"kata""#,
            r#""CgroupParent":"/x""#,
            r#""DeviceRequests":[{"Count":-1,"Capabilities":[["gpu"]]}]"#,
            r#""StorageOpt":{"size":"1G"}"#,
            r#""BlkioDeviceReadBps":[{"Path":"/dev/sda","Rate":1}]"#,
            r#""CpuRealtimeRuntime":1000"#,
            r#""VolumesFrom":["x"]"#,
            r#""Links":["x:y"]"#,
            r#""MaskedPaths":["/proc/kcore"]"#,
            r#""SecurityOpt":["label=type:x"]"#,
            r#""IpcMode":"none""#,
            r#""VolumeDriver":"nfs""#,
            r#""Mounts":[{"Type":"bind","Source":"/a","Target":"/b","BindOptions":{"ReadOnlyForceRecursive":true}}]"#,
        ] {
            let error = read(&format!(r#"{{"Image":"x","HostConfig":{{{host}}}}}"#)).unwrap_err();
            assert!(matches!(error.kind(), Kind::Unsupported | Kind::Invalid), "{host}");
        }
    }

    #[test]
    fn nonsense_is_refused() {
        for host in [
            r#""PortBindings":{"80/x":[{}]}"#,
            r#""PortBindings":{"80/tcp":[{"HostPort":"x"}]}"#,
            r#""PortBindings":{"80/tcp":[{"HostIp":"x"}]}"#,
            r#""Dns":["x"]"#,
            r#""CpuShares":-1"#,
            r#""RestartPolicy":{"Name":"sometimes"}"#,
            r#""LogConfig":{"Type":"syslog"}"#,
            r#""LogConfig":{"Type":"json-file","Config":{"max-size":"x"}}"#,
            r#""AutoRemove":true,"RestartPolicy":{"Name":"always"}"#,
            r#""NetworkMode":"container:""#,
            r#""Ulimits":[{"Name":"nofile","Soft":20,"Hard":10}]"#,
            r#""Binds":["a"]"#,
            r#""Mounts":[{"Type":"npipe","Source":"a","Target":"/b"}]"#,
        ] {
            assert!(
                read(&format!(r#"{{"Image":"x","HostConfig":{{{host}}}}}"#)).is_err(),
                "{host}"
            );
        }
    }

    #[test]
    fn restart_policies_read() {
        let (spec, _) = read(
            r#"{"Image":"x","HostConfig":{"RestartPolicy":{"Name":"on-failure","MaximumRetryCount":3}}}"#,
        )
        .unwrap();
        assert_eq!(spec.restart, RestartPolicy::OnFailure { max_retries: 3 });
    }

    #[test]
    fn unconfined_system_paths_come_as_empty_lists() {
        let (spec, _) =
            read(r#"{"Image":"x","HostConfig":{"MaskedPaths":[],"ReadonlyPaths":[]}}"#).unwrap();
        assert!(spec.security.unmask_paths);
        let (spec, _) = read(r#"{"Image":"x","HostConfig":{"MaskedPaths":null}}"#).unwrap();
        assert!(!spec.security.unmask_paths);
    }

    #[test]
    fn mounts_in_their_long_form_do_not_make_their_source() {
        let (spec, _) = read(
            r#"{"Image":"x","HostConfig":{"Mounts":[{"Type":"bind","Source":"/a","Target":"/b"}]}}"#,
        )
        .unwrap();
        assert!(matches!(spec.mounts[0].kind, MountKind::Bind { create: false, .. }));
    }
}
