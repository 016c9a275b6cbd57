//! What clients see of containers: the full view of one and the summary of many.
//!
//! Faces turn these into their own JSON; nothing here is kept.

use std::collections::BTreeMap;
use std::path::PathBuf;

use dhow_spec::Digest;

use crate::networks::{Endpoint, PublishedPort};
use crate::spec::{ContainerSpec, Mount};
use crate::state::{State, Status};

/// Everything about one container.
#[derive(Debug, Clone)]
pub struct View {
    /// 64 hex digits.
    pub id: String,
    /// The name, without slash.
    pub name: String,
    /// When it was created, in nanoseconds since the UNIX epoch.
    pub created_ns: u64,
    /// The image it was made from.
    pub image: Digest,
    /// What was asked for, with the image's configuration merged in: `entrypoint`, `cmd`, `env`, `workdir`,
    /// `user`, `labels`, `expose`, `stop_signal` are what runs.
    pub spec: ContainerSpec,
    /// The state of the present or last run.
    pub state: State,
    /// Process id of the container's first process on the host; 0 when it does not run.
    pub pid: i32,
    /// Its place in the network while it runs.
    pub endpoint: Option<Endpoint>,
    /// Its published ports while it runs.
    pub ports: Vec<PublishedPort>,
    /// Exec ids that have not ended.
    pub execs: Vec<String>,
    /// Mounts with the host's paths filled in.
    pub mounts: Vec<MountView>,
    /// Paths of the files on the host that belong to it.
    pub paths: Paths,
    /// The cgroup's path below each hierarchy's root.
    pub cgroup: String,
    /// The image's layers with the container's own on top, as overlay has them; the topmost first.
    pub lower_dirs: Vec<PathBuf>,
}

/// A mount with the host's side filled in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MountView {
    /// What was asked for; a volume has its name.
    pub mount: Mount,
    /// The path on the host; empty for tmpfs.
    pub source: PathBuf,
}

/// The files of a container on the host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Paths {
    /// The folder with the others.
    pub directory: PathBuf,
    /// The log, if one is written.
    pub log: Option<PathBuf>,
    /// What is mounted on `/etc/hosts`.
    pub hosts: PathBuf,
    /// What is mounted on `/etc/hostname`.
    pub hostname: PathBuf,
    /// What is mounted on `/etc/resolv.conf`.
    pub resolv_conf: PathBuf,
    /// Where the container's writes go.
    pub upper: PathBuf,
    /// Overlay's scratch folder.
    pub work: PathBuf,
}

/// One line of a list.
#[derive(Debug, Clone)]
pub struct Summary {
    /// 64 hex digits.
    pub id: String,
    /// The name, without slash.
    pub name: String,
    /// The image as it was asked for.
    pub image: String,
    /// The image's id.
    pub image_id: Digest,
    /// What runs, in one line.
    pub command: String,
    /// When it was created, in nanoseconds since the UNIX epoch.
    pub created_ns: u64,
    /// The state of the present or last run.
    pub state: State,
    /// `Up 3 minutes`, `Exited (0) 2 hours ago`.
    pub status_text: String,
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// Ports that are exposed only, and published ones while it runs.
    pub exposed: Vec<crate::spec::Port>,
    /// Published ports while it runs.
    pub ports: Vec<PublishedPort>,
    /// Where it is connected.
    pub network_mode: String,
    /// Its place in the network while it runs.
    pub endpoint: Option<Endpoint>,
    /// Mounts with the host's paths filled in.
    pub mounts: Vec<MountView>,
}

/// `Up 3 minutes (Paused)`, `Exited (137) 2 hours ago`, `Created`: the words of `docker ps`.
pub fn status_text(state: &State, now_ns: u64) -> String {
    let since = |then: u64| human_duration(now_ns.saturating_sub(then) / 1_000_000_000);
    match state.status {
        Status::Created => "Created".into(),
        Status::Running => format!("Up {}", since(state.started_at_ns)),
        Status::Paused => format!("Up {} (Paused)", since(state.started_at_ns)),
        Status::Restarting => {
            format!("Restarting ({}) {} ago", state.exit_code, since(state.finished_at_ns))
        }
        Status::Exited => {
            format!("Exited ({}) {} ago", state.exit_code, since(state.finished_at_ns))
        }
        Status::Removing => "Removal In Progress".into(),
        Status::Dead => "Dead".into(),
    }
}

/// A length of time in words: `Less than a second`, `About a minute`, `5 weeks`.
pub fn human_duration(seconds: u64) -> String {
    let (minutes, hours) = (seconds / 60, (seconds + 1800) / 3600);
    match (seconds, minutes, hours) {
        (0, ..) => "Less than a second".into(),
        (1, ..) => "1 second".into(),
        (2..60, ..) => format!("{seconds} seconds"),
        (_, 1, _) => "About a minute".into(),
        (_, 2..60, _) => format!("{minutes} minutes"),
        (.., 1) => "About an hour".into(),
        (.., 2..48) => format!("{hours} hours"),
        (.., 48..336) => format!("{} days", hours / 24),
        (.., 336..1440) => format!("{} weeks", hours / 24 / 7),
        (.., 1440..17520) => format!("{} months", hours / 24 / 30),
        _ => format!("{} years", hours / 24 / 365),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_in_words() {
        let cases = [
            (0, "Less than a second"),
            (1, "1 second"),
            (59, "59 seconds"),
            (60, "About a minute"),
            (120, "2 minutes"),
            (3600, "About an hour"),
            (3 * 3600, "3 hours"),
            (3 * 86400, "3 days"),
            (15 * 86400, "2 weeks"),
            (90 * 86400, "3 months"),
            (3 * 365 * 86400, "3 years"),
        ];
        for (seconds, words) in cases {
            assert_eq!(human_duration(seconds), words, "{seconds}");
        }
    }

    #[test]
    fn status_reads_as_in_docker_ps() {
        let second = 1_000_000_000;
        let mut state =
            State { status: Status::Running, started_at_ns: second, ..State::default() };
        assert_eq!(status_text(&state, 6 * second), "Up 5 seconds");
        state.status = Status::Exited;
        state.exit_code = 137;
        state.finished_at_ns = second;
        assert_eq!(status_text(&state, 121 * second), "Exited (137) 2 minutes ago");
    }
}
