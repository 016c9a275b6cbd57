//! What the flags of `run` and `create` mean: [`request`] turns them into the body that creates a
//! container. All of it is pure but for the files that flags name (environment, labels, seccomp).

mod lists;
mod mounts;
mod ports;
mod security;

use dhow_docker_wire::container::{Config, CreateRequest, HostConfig, LogConfig, RestartPolicy};

use crate::arguments::CreateArguments;
use crate::failure::Failure;
use crate::show::size;
use crate::terminal;

pub(crate) use lists::environment;

/// Which streams of the container are ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Attached {
    pub(crate) stdin: bool,
    pub(crate) stdout: bool,
    pub(crate) stderr: bool,
}

/// Which streams to attach: those named by `-a`, else all outputs, and input with `-i`.
pub(crate) fn attached(flags: &CreateArguments, detach: bool) -> Result<Attached, Failure> {
    if detach {
        return Ok(Attached { stdin: false, stdout: false, stderr: false });
    }
    if flags.attach.is_empty() {
        return Ok(Attached { stdin: flags.interactive, stdout: true, stderr: true });
    }
    let mut attached = Attached { stdin: false, stdout: false, stderr: false };
    for stream in &flags.attach {
        match stream.to_ascii_lowercase().as_str() {
            "stdin" => attached.stdin = true,
            "stdout" => attached.stdout = true,
            "stderr" => attached.stderr = true,
            _ => {
                let message = format!("cannot attach {stream}: stdin, stdout and stderr can be");
                return Err(bad(message));
            }
        }
    }
    Ok(attached)
}

/// The body of `POST /containers/create`.
pub(crate) fn request(
    flags: &CreateArguments,
    attached: Attached,
) -> Result<CreateRequest, Failure> {
    let (image, command) = flags.image_and_command();
    let process = &flags.process;
    let mut labels = lists::pairs_of_files(&process.label_file)?;
    labels.extend(process.label.iter().cloned());
    if let Some(unnamed) = labels.iter().find(|it| it.starts_with('=') || it.is_empty()) {
        return Err(bad(format!("invalid label {unnamed:?}: it has no name")));
    }
    let (exposed_ports, port_bindings) =
        ports::published(&flags.network.publish, &flags.network.expose)?;
    let (binds, volumes) = mounts::binds(&flags.storage.volume)?;
    let config = Config {
        hostname: flags.network.hostname.clone().unwrap_or_default(),
        domainname: flags.network.domainname.clone().unwrap_or_default(),
        user: process.user.clone().unwrap_or_default(),
        attach_stdin: attached.stdin,
        attach_stdout: attached.stdout,
        attach_stderr: attached.stderr,
        exposed_ports,
        tty: flags.tty,
        open_stdin: flags.interactive,
        stdin_once: flags.interactive && attached.stdin,
        env: environment(&process.env_file, &process.env)?,
        cmd: (!command.is_empty()).then(|| command.to_vec().into()),
        entrypoint: process.entrypoint.clone().map(|word| vec![word].into()),
        image: image.to_owned(),
        volumes,
        working_dir: process.workdir.clone().unwrap_or_default(),
        labels: labels.iter().map(|label| lists::pair(label)).collect(),
        stop_signal: process.stop_signal.clone().unwrap_or_default(),
        stop_timeout: process.stop_timeout,
        mac_address: flags.network.mac_address.clone().unwrap_or_default(),
        ..Config::default()
    };
    let mut host_config = HostConfig {
        binds,
        port_bindings,
        mounts: mounts::mounts(&flags.storage.mount)?,
        ..host_config(flags)?
    };
    limits(flags, &mut host_config)?;
    Ok(CreateRequest { config, host_config, ..CreateRequest::default() })
}

/// What it gets of the host, but for mounts, ports and limits.
fn host_config(flags: &CreateArguments) -> Result<HostConfig, Failure> {
    let (network, security, process) = (&flags.network, &flags.security, &flags.process);
    let text = |value: &Option<String>| value.clone().unwrap_or_default();
    let console_size = if flags.tty { terminal::size() } else { None };
    Ok(HostConfig {
        container_id_file: flags
            .cidfile
            .as_ref()
            .map(|it| it.display().to_string())
            .unwrap_or_default(),
        log_config: LogConfig {
            kind: text(&process.log_driver),
            config: lists::map(&process.log_opt, "--log-opt")?,
        },
        network_mode: network.network.clone().unwrap_or_else(|| "default".to_owned()),
        restart_policy: restart_policy(process.restart.as_deref())?,
        auto_remove: flags.rm,
        console_size: console_size.map_or([0, 0], |(rows, columns)| [rows.into(), columns.into()]),
        cap_add: security.cap_add.clone(),
        cap_drop: security.cap_drop.clone(),
        cgroupns_mode: text(&security.cgroupns),
        dns: network.dns.clone(),
        dns_options: network.dns_option.clone(),
        dns_search: network.dns_search.clone(),
        extra_hosts: network
            .add_host
            .iter()
            .map(|line| ports::extra_host(line))
            .collect::<Result<_, _>>()?,
        group_add: process.group_add.clone(),
        ipc_mode: text(&security.ipc),
        oom_score_adj: flags.limits.oom_score_adj.unwrap_or_default(),
        pid_mode: text(&security.pid),
        privileged: security.privileged,
        publish_all_ports: network.publish_all,
        readonly_rootfs: flags.storage.read_only,
        security_opt: security::options(&security.security_opt)?,
        tmpfs: mounts::tmpfs(&flags.storage.tmpfs),
        uts_mode: text(&security.uts),
        userns_mode: text(&security.userns),
        shm_size: optional_size(flags.storage.shm_size.as_deref())?,
        sysctls: lists::map(&security.sysctl, "--sysctl")?,
        cgroup_parent: text(&flags.limits.cgroup_parent),
        devices: flags
            .storage
            .device
            .iter()
            .map(|it| mounts::device(it))
            .collect::<Result<_, _>>()?,
        init: process.init.then_some(true),
        ..HostConfig::default()
    })
}

/// Limits of memory, CPU and processes.
fn limits(flags: &CreateArguments, host: &mut HostConfig) -> Result<(), Failure> {
    let limits = &flags.limits;
    host.memory = optional_size(limits.memory.as_deref())?;
    host.memory_reservation = optional_size(limits.memory_reservation.as_deref())?;
    host.memory_swap = match limits.memory_swap.as_deref() {
        Some("-1") => -1,
        other => optional_size(other)?,
    };
    host.nano_cpus = limits.cpus.as_deref().map(nano_cpus).transpose()?.unwrap_or_default();
    host.cpu_shares = limits.cpu_shares.unwrap_or_default();
    host.cpu_period = limits.cpu_period.unwrap_or_default();
    host.cpu_quota = limits.cpu_quota.unwrap_or_default();
    host.cpuset_cpus = limits.cpuset_cpus.clone().unwrap_or_default();
    host.cpuset_mems = limits.cpuset_mems.clone().unwrap_or_default();
    host.pids_limit = limits.pids_limit;
    host.ulimits = limits.ulimit.iter().map(|it| security::ulimit(it)).collect::<Result<_, _>>()?;
    Ok(())
}

fn optional_size(text: Option<&str>) -> Result<i64, Failure> {
    text.map_or(Ok(0), size::parse)
}

/// `1.5` CPUs in billionths.
fn nano_cpus(text: &str) -> Result<i64, Failure> {
    let invalid = || bad(format!("invalid value for --cpus: {text:?}"));
    let cpus: f64 = text.parse().map_err(|_| invalid())?;
    if cpus.is_finite() && (0.0..1e6).contains(&cpus) {
        Ok((cpus * 1e9).round() as i64)
    } else {
        Err(invalid())
    }
}

/// `on-failure:3` and the like.
fn restart_policy(text: Option<&str>) -> Result<RestartPolicy, Failure> {
    let Some(text) = text else {
        return Ok(RestartPolicy { name: "no".to_owned(), maximum_retry_count: 0 });
    };
    let (name, count) = text.split_once(':').unwrap_or((text, "0"));
    let maximum_retry_count =
        count.parse().map_err(|_| bad(format!("invalid restart policy: {text:?}")))?;
    Ok(RestartPolicy { name: name.to_owned(), maximum_retry_count })
}

/// A failure of the command line: exit code 125.
fn bad(message: impl Into<String>) -> Failure {
    Failure::new(message).with_exit_code(125)
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::arguments::{Arguments, Verb};

    fn parsed(line: &[&str]) -> Result<CreateRequest, String> {
        let line = [&["dhow", "run"], line].concat();
        let arguments = Arguments::try_parse_from(line).map_err(|error| error.to_string())?;
        let Verb::Run(run) = arguments.verb else { return Err("not run".to_owned()) };
        let attached = attached(&run.create, run.detach).map_err(|it| it.message)?;
        request(&run.create, attached).map_err(|it| it.message)
    }

    #[test]
    fn flags_behind_the_image_belong_to_the_command() -> Result<(), String> {
        let request = parsed(&["--rm", "-it", "busybox", "--version", "-m", "--rm"])?;
        let words = request.config.cmd.map(|words| words.0).unwrap_or_default();
        assert_eq!(words, ["--version", "-m", "--rm"]);
        assert_eq!(request.config.image, "busybox");
        assert!(request.config.tty && request.config.open_stdin && request.config.stdin_once);
        assert!(request.host_config.auto_remove);
        Ok(())
    }

    #[test]
    fn limits_have_units() -> Result<(), String> {
        let request = parsed(&[
            "-m",
            "64m",
            "--memory-swap",
            "-1",
            "--cpus=1.5",
            "--pids-limit",
            "-1",
            "--ulimit",
            "nofile=100:200",
            "-h",
            "name",
            "x",
        ])?;
        let host = request.host_config;
        assert_eq!((host.memory, host.memory_swap, host.nano_cpus), (64 << 20, -1, 1_500_000_000));
        assert_eq!(host.pids_limit, Some(-1));
        assert_eq!(host.ulimits.first().map(|it| (it.soft, it.hard)), Some((100, 200)));
        assert_eq!(request.config.hostname, "name");
        Ok(())
    }

    #[test]
    fn bad_values_are_refused() {
        for line in [
            &["-m", "x", "i"][..],
            &["--cpus", "many", "i"],
            &["--restart", "on-failure:x", "i"],
            &["-a", "stdall", "i"],
            &["-p", "1:2:3:4:5", "i"],
            &["--ulimit", "nofile", "i"],
            &["--no-such-flag", "i"],
            &["--rm"],
        ] {
            assert!(parsed(line).is_err(), "{line:?}");
        }
    }
}
