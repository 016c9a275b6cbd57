//! One container, as Docker tells all about it.

use dhow_docker_wire::container::{ContainerInspect, State as WireState};
use dhow_docker_wire::image::GraphDriver;
use dhow_engine::{State, Status, View};

use super::{config, mounts, network};
use crate::time;

/// All there is to tell of a container.
pub(crate) fn inspect(view: &View) -> ContainerInspect {
    let mut words = view.spec.arguments().into_iter();
    let mode = view.spec.network.mode.to_string();
    let networks = network::endpoints(
        &view.id,
        &mode,
        view.endpoint.as_ref(),
        view.spec.network.mac.as_deref(),
    );
    let ports = if view.state.status.is_live() {
        network::port_map(view.spec.expose.iter(), &view.ports)
    } else {
        network::port_map(std::iter::empty(), &[])
    };
    ContainerInspect {
        id: view.id.clone(),
        created: time::rfc3339(view.created_ns),
        path: words.next().unwrap_or_default(),
        args: words.collect(),
        state: state(&view.state, view.pid),
        image: view.image.to_string(),
        resolv_conf_path: view.paths.resolv_conf.display().to_string(),
        hostname_path: view.paths.hostname.display().to_string(),
        hosts_path: view.paths.hosts.display().to_string(),
        log_path: view
            .paths
            .log
            .as_ref()
            .map(|path| path.display().to_string())
            .unwrap_or_default(),
        name: format!("/{}", view.name),
        restart_count: view.state.restart_count,
        driver: "overlay2".to_owned(),
        platform: "linux".to_owned(),
        exec_ids: view.execs.clone(),
        host_config: config::host_config(&view.spec),
        graph_driver: graph_driver(view),
        mounts: view.mounts.iter().filter(|mount| !is_tmpfs(mount)).map(mounts::point).collect(),
        config: config::config(&view.spec, &view.id),
        network_settings: network::settings(networks, ports, view.pid),
        ..ContainerInspect::default()
    }
}

/// Docker lists a tmpfs among the mounts only if it came in the long form; here it is in `Tmpfs`.
fn is_tmpfs(mount: &dhow_engine::MountView) -> bool {
    matches!(mount.mount.kind, dhow_engine::spec::MountKind::Tmpfs { .. })
}

fn state(state: &State, pid: i32) -> WireState {
    WireState {
        status: state.status.as_str().to_owned(),
        running: state.status.is_live() || state.status == Status::Restarting,
        paused: state.status == Status::Paused,
        restarting: state.status == Status::Restarting,
        oom_killed: state.oom_killed,
        dead: state.status == Status::Dead,
        pid,
        exit_code: state.exit_code,
        error: state.error.clone(),
        started_at: time::rfc3339_or_never(state.started_at_ns),
        finished_at: time::rfc3339_or_never(state.finished_at_ns),
        health: None,
    }
}

fn graph_driver(view: &View) -> GraphDriver {
    let lower = view.lower_dirs.iter().map(|path| path.display().to_string());
    let data = [
        ("LowerDir", lower.collect::<Vec<_>>().join(":")),
        ("UpperDir", view.paths.upper.display().to_string()),
        ("WorkDir", view.paths.work.display().to_string()),
    ];
    let data = data.into_iter().map(|(name, value)| (name.to_owned(), value));
    GraphDriver { data: data.collect(), name: "overlay2".to_owned() }
}
