//! `--volume`, `--mount`, `--tmpfs`, `--device`.

use std::collections::BTreeMap;

use dhow_docker_wire::container::{BindOptions, DeviceMapping, Mount, TmpfsOptions, VolumeOptions};
use dhow_docker_wire::null::{Set, set};

use super::bad;
use crate::failure::Failure;
use crate::show::size;

/// Bind mounts and named volumes, and the targets of anonymous volumes.
pub(super) fn binds(flags: &[String]) -> Result<(Vec<String>, Set), Failure> {
    let (mut binds, mut anonymous) = (Vec::new(), Vec::new());
    for flag in flags {
        match flag.split(':').collect::<Vec<_>>().as_slice() {
            [target] => anonymous.push((*target).to_owned()),
            [source, rest @ ..] if rest.len() <= 2 && !source.is_empty() => {
                binds.push(format!("{}:{}", absolute(source)?, rest.join(":")));
            }
            _ => return Err(bad(format!("invalid volume specification: '{flag}'"))),
        }
    }
    Ok((binds, set(anonymous)))
}

/// A relative path (`.`, `./x`, `~` is the shell's) from where we are; names of volumes stay.
fn absolute(source: &str) -> Result<String, Failure> {
    if source != "." && source != ".." && !source.starts_with("./") && !source.starts_with("../") {
        return Ok(source.to_owned());
    }
    match std::fs::canonicalize(source) {
        Ok(path) => Ok(path.to_string_lossy().into_owned()),
        Err(error) => Err(bad(format!("cannot mount {source}: {error}"))),
    }
}

/// `--tmpfs TARGET[:OPTIONS]`.
pub(super) fn tmpfs(flags: &[String]) -> BTreeMap<String, String> {
    let apart = |flag: &String| {
        let (target, options) = flag.split_once(':').unwrap_or((flag, ""));
        (target.to_owned(), options.to_owned())
    };
    flags.iter().map(apart).collect()
}

/// `--device SOURCE[:TARGET[:PERMISSIONS]]`.
pub(super) fn device(flag: &str) -> Result<DeviceMapping, Failure> {
    let is_mode = |text: &str| !text.is_empty() && text.chars().all(|it| "rwm".contains(it));
    let (source, target, mode) = match flag.split(':').collect::<Vec<_>>()[..] {
        [source] => (source, source, "rwm"),
        [source, mode] if is_mode(mode) => (source, source, mode),
        [source, target] => (source, target, "rwm"),
        [source, target, mode] if is_mode(mode) => (source, target, mode),
        _ => return Err(bad(format!("invalid device specification: {flag}"))),
    };
    Ok(DeviceMapping {
        path_on_host: source.to_owned(),
        path_in_container: target.to_owned(),
        cgroup_permissions: mode.to_owned(),
    })
}

/// `--mount type=…,src=…,dst=…`.
pub(super) fn mounts(flags: &[String]) -> Result<Vec<Mount>, Failure> {
    flags.iter().map(|flag| mount(flag)).collect()
}

fn mount(flag: &str) -> Result<Mount, Failure> {
    let mut mount = Mount { kind: "volume".to_owned(), ..Mount::default() };
    let (mut bind, mut volume, mut tmpfs) = (None, None, None);
    for field in flag.split(',') {
        let (name, value) = field.split_once('=').unwrap_or((field, ""));
        let is_on = || match value {
            "" | "1" | "true" => Ok(true),
            "0" | "false" => Ok(false),
            _ => Err(bad(format!("invalid value for {name} in --mount: {value}"))),
        };
        match name {
            "type" => value.clone_into(&mut mount.kind),
            "source" | "src" => mount.source = absolute(value)?,
            "target" | "dst" | "destination" => value.clone_into(&mut mount.target),
            "readonly" | "ro" => mount.read_only = is_on()?,
            "consistency" => value.clone_into(&mut mount.consistency),
            "bind-propagation" => {
                let bind = bind.get_or_insert_with(BindOptions::default);
                value.clone_into(&mut bind.propagation);
            }
            "bind-nonrecursive" => {
                bind.get_or_insert_with(BindOptions::default).non_recursive = is_on()?;
            }
            "volume-nocopy" => {
                volume.get_or_insert_with(VolumeOptions::default).no_copy = is_on()?;
            }
            "tmpfs-size" => {
                tmpfs.get_or_insert_with(TmpfsOptions::default).size_bytes = size::parse(value)?;
            }
            "tmpfs-mode" => {
                tmpfs.get_or_insert_with(TmpfsOptions::default).mode =
                    u32::from_str_radix(value, 8)
                        .map_err(|_| bad(format!("invalid tmpfs-mode: {value}")))?;
            }
            _ => return Err(bad(format!("unexpected key '{name}' in '{flag}'"))),
        }
    }
    if mount.target.is_empty() {
        return Err(bad(format!("--mount {flag}: a target is required")));
    }
    (mount.bind_options, mount.volume_options, mount.tmpfs_options) = (bind, volume, tmpfs);
    Ok(mount)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn volumes_are_of_three_kinds() -> Result<(), String> {
        let flags = ["/a:/b:ro", "/cache", "name:/data"].map(str::to_owned);
        let (binds, anonymous) = binds(&flags).map_err(|it| it.message)?;
        assert_eq!(binds, ["/a:/b:ro", "name:/data"]);
        assert!(anonymous.contains_key("/cache"));
        Ok(())
    }

    #[test]
    fn mounts_are_read() -> Result<(), String> {
        let read = mount("type=bind,src=/a,dst=/b,readonly,bind-propagation=rslave");
        let read = read.map_err(|it| it.message)?;
        assert_eq!((read.kind.as_str(), read.read_only), ("bind", true));
        assert_eq!(read.bind_options.map(|it| it.propagation).as_deref(), Some("rslave"));
        assert!(mount("type=bind,src=/a").is_err() && mount("what=1,dst=/x").is_err());
        Ok(())
    }

    #[test]
    fn devices_have_targets_and_modes() -> Result<(), String> {
        let read = |text: &str| {
            let it = device(text).map_err(|it| it.message)?;
            Ok::<_, String>((it.path_in_container, it.cgroup_permissions))
        };
        assert_eq!(read("/dev/x")?, ("/dev/x".to_owned(), "rwm".to_owned()));
        assert_eq!(read("/dev/x:r")?, ("/dev/x".to_owned(), "r".to_owned()));
        assert_eq!(read("/dev/x:/dev/y:rw")?, ("/dev/y".to_owned(), "rw".to_owned()));
        assert!(read("/a:/b:xyz").is_err());
        Ok(())
    }
}
