//! Who is to own a container's control group (OCI runtime specification, config-linux.md, "Cgroup ownership").

use dhow_cgroup::Mode;
use dhow_spec::oci_runtime::{Linux, LinuxIdMapping, LinuxNamespaceType, Mount, Spec};

/// The user on the host to whom the container's group is given: the one that the container's process is, if
/// the container sees its own groups only and may write to them. None if that is root, who owns it anyway.
pub(crate) fn cgroup_owner(spec: &Spec, mode: Mode) -> Option<u32> {
    let linux = spec.linux().as_ref()?;
    let is_visible = mode == Mode::V2
        && has_new_namespace(linux, LinuxNamespaceType::Cgroup)
        && spec.mounts().iter().flatten().any(is_writable_cgroup);
    let uid = spec.process().as_ref().filter(|_| is_visible)?.user().uid();
    let mappings = linux.uid_mappings().as_deref().unwrap_or_default();
    let on_host = if mappings.is_empty() { Some(uid) } else { outside(uid, mappings) };
    on_host.filter(|uid| *uid != 0)
}

fn has_new_namespace(linux: &Linux, typ: LinuxNamespaceType) -> bool {
    let is_unset = |path: &std::path::Path| path.as_os_str().is_empty();
    linux
        .namespaces()
        .iter()
        .flatten()
        .any(|namespace| namespace.typ() == typ && namespace.path().as_deref().is_none_or(is_unset))
}

fn is_writable_cgroup(mount: &Mount) -> bool {
    let is_read_only = || mount.options().iter().flatten().any(|option| option == "ro");
    mount.source().as_ref().is_some_and(|source| source.as_os_str() == "cgroup")
        && mount.destination().as_os_str() == "/sys/fs/cgroup"
        && !is_read_only()
}

/// The id that a container's id is outside. None if it is none.
fn outside(id: u32, mappings: &[LinuxIdMapping]) -> Option<u32> {
    mappings.iter().find_map(|map| {
        let offset = id.checked_sub(map.container_id()).filter(|it| *it < map.size())?;
        map.host_id().checked_add(offset)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(text: &str) -> Spec {
        serde_json::from_str(text).unwrap()
    }

    const GIVEN: &str = r#"{"ociVersion": "1.0.0",
        "process": {"user": {"uid": 5, "gid": 0}, "args": ["x"], "cwd": "/"},
        "mounts": [{"destination": "/sys/fs/cgroup", "source": "cgroup", "type": "cgroup",
            "options": ["nosuid", "rw"]}],
        "linux": {"namespaces": [{"type": "cgroup"}],
            "uidMappings": [{"containerID": 0, "hostID": 1000, "size": 10}]}}"#;

    #[test]
    fn the_process_owns_what_it_may_write() {
        assert_eq!(cgroup_owner(&spec(GIVEN), Mode::V2), Some(1005));
        for (from, to) in [
            ("\"rw\"", "\"ro\""),
            ("[{\"type\": \"cgroup\"}]", "[]"),
            ("\"cgroup\"}]", "\"cgroup\", \"path\": \"/x\"}]"),
            ("\"uid\": 5", "\"uid\": 50"),
            ("\"source\": \"cgroup\"", "\"source\": \"none\""),
        ] {
            let changed = GIVEN.replace(from, to);
            assert_ne!(changed, GIVEN);
            assert_eq!(cgroup_owner(&spec(&changed), Mode::V2), None, "{to}");
        }
        assert_eq!(cgroup_owner(&spec(GIVEN), Mode::Hybrid), None);
    }
}
