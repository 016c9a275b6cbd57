//! Merging an image's configuration into what was asked for, as Docker merges it. Pure.
//!
//! - An entrypoint that was given resets the image's command too, unless a command was given with it.
//! - Environment, labels, ports and volumes are united; what was asked for wins.
//! - Working directory, user and stop signal are taken where nothing was asked for.

use dhow_error::{Error, Result};
use dhow_image::ExecutionConfig;

use crate::spec::{ContainerSpec, Mount, MountKind, Port};

/// Merges `image` into `spec`: afterwards `entrypoint`, `cmd`, `env`, `labels`, `expose`, `workdir`, `user`
/// and `stop_signal` are what will be. Paths that the image declares as volumes join `volumes`.
///
/// Errors: invalid if there is nothing to run.
pub(crate) fn merge(spec: &mut ContainerSpec, image: &ExecutionConfig) -> Result<()> {
    merge_command(spec, image)?;
    merge_environment(spec, image);
    for (key, value) in &image.labels {
        spec.labels.entry(key.clone()).or_insert_with(|| value.clone());
    }
    // What an image says badly is not the user's fault: such a port is not exposed.
    spec.expose.extend(image.exposed_ports.iter().filter_map(|port| port.parse::<Port>().ok()));
    spec.expose.extend(spec.network.ports.iter().map(|binding| binding.port));
    spec.volumes.extend(image.volumes.iter().cloned());
    for (field, value) in [(&mut spec.workdir, &image.working_dir), (&mut spec.user, &image.user)] {
        if field.is_empty() {
            field.clone_from(value);
        }
    }
    if spec.stop_signal.is_empty() {
        spec.stop_signal = image.stop_signal.clone().unwrap_or_default();
    }
    Ok(())
}

fn merge_command(spec: &mut ContainerSpec, image: &ExecutionConfig) -> Result<()> {
    if spec.entrypoint.as_ref().is_none_or(Vec::is_empty) {
        if spec.cmd.as_ref().is_none_or(Vec::is_empty) {
            spec.cmd.clone_from(&image.cmd);
        }
        if spec.entrypoint.is_none() {
            spec.entrypoint.clone_from(&image.entrypoint);
        }
    }
    // One empty string is how a client without null says "none".
    if spec.entrypoint.as_deref().is_some_and(|words| matches!(words, [word] if word.is_empty())) {
        spec.entrypoint = None;
    }
    if spec.arguments().is_empty() {
        return Err(Error::invalid("no command specified")
            .with_hint("name one behind the image, or give the image a CMD"));
    }
    Ok(())
}

fn merge_environment(spec: &mut ContainerSpec, image: &ExecutionConfig) {
    for entry in &image.env {
        let key = key_of(entry);
        if !spec.env.iter().any(|own| key_of(own) == key) {
            spec.env.push(entry.clone());
        }
    }
}

/// The environment of the container's process: `defaults` below the container's own entries. An entry
/// without `=` takes a variable away. The order is that of first appearance.
pub(crate) fn environment(defaults: Vec<String>, own: &[String]) -> Vec<String> {
    let mut merged = defaults;
    for entry in own {
        let key = key_of(entry).to_owned();
        let place = merged.iter().position(|known| key_of(known) == key);
        match (place, entry.contains('=')) {
            (Some(place), true) => merged[place].clone_from(entry),
            (Some(place), false) => {
                merged.remove(place);
            }
            (None, true) => merged.push(entry.clone()),
            (None, false) => {}
        }
    }
    merged
}

/// Turns the paths in `volumes` that nothing is mounted on into anonymous volumes.
pub(crate) fn add_anonymous_volumes(spec: &mut ContainerSpec) {
    for path in std::mem::take(&mut spec.volumes) {
        let Ok(target) = crate::spec::clean_target(&path) else { continue };
        if !spec.mounts.iter().any(|mount| mount.target == target) {
            let kind = MountKind::Volume { name: String::new(), no_copy: false, anonymous: true };
            spec.mounts.push(Mount { target: target.clone(), kind, read_only: false });
        }
        spec.volumes.insert(target);
    }
}

fn key_of(entry: &str) -> &str {
    entry.split_once('=').map_or(entry, |(key, _)| key)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &[&str]) -> Vec<String> {
        text.iter().map(ToString::to_string).collect()
    }

    fn image() -> ExecutionConfig {
        ExecutionConfig {
            entrypoint: Some(words(&["/entry"])),
            cmd: Some(words(&["serve"])),
            env: words(&["PATH=/bin", "MODE=prod"]),
            working_dir: "/srv".into(),
            user: "www".into(),
            labels: [("a".into(), "image".into()), ("b".into(), "image".into())].into(),
            exposed_ports: ["80/tcp".into(), "junk".into()].into(),
            stop_signal: Some("SIGQUIT".into()),
            ..ExecutionConfig::default()
        }
    }

    fn arguments(entrypoint: Option<&[&str]>, cmd: Option<&[&str]>) -> Result<Vec<String>> {
        let mut spec = ContainerSpec {
            entrypoint: entrypoint.map(words),
            cmd: cmd.map(words),
            ..ContainerSpec::default()
        };
        merge(&mut spec, &image())?;
        Ok(spec.arguments())
    }

    #[test]
    fn commands_merge_as_in_docker() {
        assert_eq!(arguments(None, None).unwrap(), ["/entry", "serve"]);
        assert_eq!(arguments(None, Some(&["debug"])).unwrap(), ["/entry", "debug"]);
        assert_eq!(arguments(Some(&["sh"]), None).unwrap(), ["sh"]);
        assert_eq!(arguments(Some(&["sh"]), Some(&["-c"])).unwrap(), ["sh", "-c"]);
        assert_eq!(arguments(Some(&[""]), Some(&["ls"])).unwrap(), ["ls"]);
        assert_eq!(arguments(Some(&[]), None).unwrap(), ["serve"]);
        let error = arguments(Some(&[""]), None).unwrap_err();
        assert_eq!(error.to_string(), "no command specified");
    }

    #[test]
    fn the_rest_merges() {
        let mut spec = ContainerSpec {
            env: words(&["MODE=test", "X=1"]),
            labels: [("a".into(), "mine".into())].into(),
            user: "me".into(),
            ..ContainerSpec::default()
        };
        merge(&mut spec, &image()).unwrap();
        assert_eq!(spec.env, ["MODE=test", "X=1", "PATH=/bin"]);
        assert_eq!(spec.labels["a"], "mine");
        assert_eq!(spec.labels["b"], "image");
        assert_eq!((&*spec.user, &*spec.workdir, &*spec.stop_signal), ("me", "/srv", "SIGQUIT"));
        assert_eq!(spec.expose.len(), 1);
    }

    #[test]
    fn environments_merge_and_unset() {
        let got = environment(
            words(&["PATH=/bin", "HOSTNAME=x", "TERM=xterm"]),
            &words(&["HOSTNAME=y", "TERM", "A=b=c", "NOTHING"]),
        );
        assert_eq!(got, ["PATH=/bin", "HOSTNAME=y", "A=b=c"]);
    }

    #[test]
    fn declared_volumes_become_mounts_once() {
        let mut spec = ContainerSpec {
            volumes: ["/data/".into(), "/own".into(), "bad".into()].into(),
            mounts: vec![Mount::from_bind("/host:/own").unwrap()],
            ..ContainerSpec::default()
        };
        add_anonymous_volumes(&mut spec);
        assert_eq!(spec.mounts.len(), 2);
        assert_eq!(spec.mounts[1].target, "/data");
    }
}
