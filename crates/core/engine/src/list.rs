//! Listing and viewing containers.

use std::sync::Arc;

use dhow_error::Result;

use crate::clock::now_ns;
use crate::container::Container;
use crate::engine::Shared;
use crate::options::{Counts, Filters, ListOptions};
use crate::prepare::mount_views;
use crate::spec::MountKind;
use crate::state::Status;
use crate::view::{Paths, Summary, View, status_text};

impl Shared {
    /// See [`crate::Engine::list`].
    pub(crate) async fn list(&self, options: &ListOptions) -> Result<Vec<Summary>> {
        let filters = self.resolve_filters(&options.filters).await?;
        let mut containers = self.registry.all();
        containers.sort_by(|a, b| {
            b.fixed().created_ns.cmp(&a.fixed().created_ns).then_with(|| a.id.cmp(&b.id))
        });
        // As with Docker, asking for a state, an exit code or a number means all of them.
        let all = options.all
            || options.limit.is_some()
            || !options.filters.status.is_empty()
            || !options.filters.exited.is_empty();
        let now = now_ns();
        let matching = containers
            .iter()
            .map(|container| summary(container, now))
            .filter(|summary| all || summary.state.status.is_live())
            .filter(|summary| filters.matches(summary));
        Ok(matching.take(options.limit.unwrap_or(usize::MAX)).collect())
    }

    /// See [`crate::Engine::inspect`].
    pub(crate) fn view(&self, container: &Container) -> Result<View> {
        let record = container.record();
        let folders = &container.folders;
        let writable = self.snapshots.writable(&container.id)?;
        let lower_dirs = self.snapshots.lower_dirs(&record.chain).unwrap_or_default();
        let etc = self.etc_files(container).unwrap_or_default();
        let paths = Paths {
            directory: folders.root.clone(),
            log: container.log_path(),
            hosts: etc.hosts,
            hostname: etc.hostname,
            resolv_conf: etc.resolv_conf,
            upper: writable.upper,
            work: writable.work,
        };
        let mut spec = record.spec;
        if spec.hostname.is_empty() {
            spec.hostname = self.hostname(container).unwrap_or_default();
        }
        let execs = self.execs_of(&container.id);
        let live = container.live();
        Ok(View {
            id: record.id.to_string(),
            name: record.name,
            created_ns: record.created_ns,
            image: record.image,
            spec,
            state: live.state.clone(),
            pid: live.pid,
            endpoint: live.connection.endpoint.clone(),
            ports: live.connection.ports.clone(),
            execs,
            mounts: mount_views(container),
            paths,
            cgroup: folders.cgroup.clone(),
            lower_dirs,
        })
    }

    /// See [`crate::Engine::counts`].
    pub(crate) fn counts(&self) -> Counts {
        let mut counts = Counts::default();
        for container in self.registry.all() {
            counts.containers += 1;
            match container.status() {
                Status::Running | Status::Restarting => counts.running += 1,
                Status::Paused => counts.paused += 1,
                _ => counts.stopped += 1,
            }
        }
        counts
    }

    /// Looks up what filters name.
    async fn resolve_filters(&self, filters: &Filters) -> Result<Resolved> {
        let created = |name: &Option<String>| {
            let found = name.as_ref().map(|name| self.registry.find(name)).transpose()?;
            Ok::<_, dhow_error::Error>(found.map(|container| container.fixed().created_ns))
        };
        let mut ancestors = Vec::new();
        for name in &filters.ancestor {
            // An image that is not there has no containers.
            ancestors.extend(self.images.get(name).await.ok().map(|image| image.id));
        }
        Ok(Resolved {
            before_ns: created(&filters.before)?,
            since_ns: created(&filters.since)?,
            ancestors,
            filters: filters.clone(),
        })
    }
}

/// Filters with what they name looked up.
#[derive(Debug, Default)]
struct Resolved {
    filters: Filters,
    ancestors: Vec<dhow_spec::Digest>,
    before_ns: Option<u64>,
    since_ns: Option<u64>,
}

impl Resolved {
    fn matches(&self, summary: &Summary) -> bool {
        let filters = &self.filters;
        let any = |empty: bool, matches: bool| empty || matches;
        let (state, id) = (&summary.state, &summary.id);
        any(filters.id.is_empty(), filters.id.iter().any(|prefix| id.starts_with(prefix.as_str())))
            && any(filters.name.is_empty(), filters.name.iter().any(|p| fits(p, &summary.name)))
            && any(filters.status.is_empty(), filters.status.contains(&state.status))
            && filters.label.iter().all(|label| has_label(summary, label))
            && any(filters.ancestor.is_empty(), self.has_ancestor(summary))
            && any(
                filters.exited.is_empty(),
                state.status == Status::Exited && filters.exited.contains(&state.exit_code),
            )
            && any(filters.network.is_empty(), filters.network.iter().any(|n| is_in(summary, n)))
            && any(filters.volume.is_empty(), filters.volume.iter().any(|v| uses(summary, v)))
            && self.before_ns.is_none_or(|before| summary.created_ns < before)
            && self.since_ns.is_none_or(|since| summary.created_ns > since)
    }

    fn has_ancestor(&self, summary: &Summary) -> bool {
        self.ancestors.contains(&summary.image_id) || self.filters.ancestor.contains(&summary.image)
    }
}

/// Whether a name matches a pattern: a part of it, or from its beginning with `^`, to its end with `$`. A
/// leading slash is the one that Docker shows.
fn fits(pattern: &str, name: &str) -> bool {
    let (pattern, from_start) = match pattern.strip_prefix('^') {
        Some(rest) => (rest, true),
        None => (pattern, false),
    };
    let (pattern, to_end) = match pattern.strip_suffix('$') {
        Some(rest) => (rest, true),
        None => (pattern, false),
    };
    let (pattern, from_start) = match pattern.strip_prefix('/') {
        Some(rest) => (rest, true),
        None => (pattern, from_start),
    };
    match (from_start, to_end) {
        (true, true) => name == pattern,
        (true, false) => name.starts_with(pattern),
        (false, true) => name.ends_with(pattern),
        (false, false) => name.contains(pattern),
    }
}

fn has_label(summary: &Summary, label: &str) -> bool {
    match label.split_once('=') {
        Some((key, value)) => summary.labels.get(key).is_some_and(|own| own == value),
        None => summary.labels.contains_key(label),
    }
}

fn is_in(summary: &Summary, network: &str) -> bool {
    let own = match summary.network_mode.as_str() {
        "default" => "bridge",
        mode => mode,
    };
    own == network || summary.endpoint.as_ref().is_some_and(|endpoint| endpoint.network == network)
}

fn uses(summary: &Summary, volume: &str) -> bool {
    summary.mounts.iter().any(|view| {
        view.mount.target == volume
            || view.source.as_os_str() == volume
            || matches!(&view.mount.kind, MountKind::Volume { name, .. } if name == volume)
    })
}

/// One line of a list.
fn summary(container: &Arc<Container>, now_ns: u64) -> Summary {
    let (record, live) = (container.fixed(), container.live());
    let spec = &record.spec;
    Summary {
        id: record.id.to_string(),
        name: live.name.clone(),
        image: spec.image.clone(),
        image_id: record.image,
        command: command_line(&spec.arguments()),
        created_ns: record.created_ns,
        state: live.state.clone(),
        status_text: status_text(&live.state, now_ns),
        labels: spec.labels.clone(),
        exposed: spec.expose.iter().copied().collect(),
        ports: live.connection.ports.clone(),
        network_mode: spec.network.mode.to_string(),
        endpoint: live.connection.endpoint.clone(),
        mounts: mount_views(container),
    }
}

/// Arguments as a person would type them.
fn command_line(arguments: &[String]) -> String {
    let quoted = arguments.iter().map(|word| {
        let is_plain = !word.is_empty() && !word.contains(|c: char| c.is_whitespace() || c == '\'');
        if is_plain { word.clone() } else { format!("'{}'", word.replace('\'', r"'\''")) }
    });
    quoted.collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::State;
    use dhow_spec::Digest;

    fn line() -> Summary {
        Summary {
            id: "abc123".into(),
            name: "web-1".into(),
            image: "nginx".into(),
            image_id: Digest::of(b"image"),
            command: String::new(),
            created_ns: 100,
            state: State { status: Status::Exited, exit_code: 3, ..State::default() },
            status_text: String::new(),
            labels: [("app".into(), "shop".into())].into(),
            exposed: Vec::new(),
            ports: Vec::new(),
            network_mode: "default".into(),
            endpoint: None,
            mounts: Vec::new(),
        }
    }

    fn matches(change: impl FnOnce(&mut Filters)) -> bool {
        let mut filters = Filters::default();
        change(&mut filters);
        let ancestors = vec![Digest::of(b"image")];
        Resolved { filters, ancestors, ..Resolved::default() }.matches(&line())
    }

    #[test]
    fn filters_select() {
        assert!(matches(|_| {}));
        assert!(matches(|f| f.id = vec!["zzz".into(), "abc".into()]));
        assert!(!matches(|f| f.id = vec!["bc".into()]));
        assert!(matches(|f| f.status = vec![Status::Exited]));
        assert!(!matches(|f| f.status = vec![Status::Running]));
        assert!(matches(|f| f.label = vec!["app".into(), "app=shop".into()]));
        assert!(!matches(|f| f.label = vec!["app=shop".into(), "tier".into()]));
        assert!(matches(|f| f.exited = vec![0, 3]));
        assert!(!matches(|f| f.exited = vec![0]));
        assert!(matches(|f| f.network = vec!["bridge".into()]));
        assert!(matches(|f| f.ancestor = vec!["other".into()]));
    }

    #[test]
    fn names_match_in_part_or_anchored() {
        for (pattern, fits_it) in [
            ("web", true),
            ("eb-", true),
            ("^web", true),
            ("^eb", false),
            ("1$", true),
            ("^/web-1$", true),
            ("/web", true),
            ("/eb", false),
            ("^web-1$", true),
            ("^web$", false),
        ] {
            assert_eq!(fits(pattern, "web-1"), fits_it, "{pattern}");
        }
    }

    #[test]
    fn commands_are_quoted_where_needed() {
        let words = ["sh", "-c", "echo 'a b'", ""].map(str::to_owned);
        assert_eq!(command_line(&words), r"sh -c 'echo '\''a b'\''' ''");
    }
}
