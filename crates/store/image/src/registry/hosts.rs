//! Mirrors: containerd's `hosts.toml`, one for each registry.
//!
//! ```text
//!   FOLDER/docker.io/hosts.toml        server = "https://registry-1.docker.io"     asked last
//!   FOLDER/a.org:5000/hosts.toml       [host."https://mirror.example"]             asked first, in order
//!   FOLDER/_default/hosts.toml           capabilities = ["pull", "resolve"]
//! ```
//!
//! A mirror is told by `?ns=` which registry is meant, and never gets the registry's credentials. The file is
//! read anew for each pull. What is in it and not known here is refused, not passed over: it could be what
//! keeps a secret.

use std::io::{self, Read};
use std::path::{Path, PathBuf};

use dhow_error::{Classify, Kind};
use toml::{Table, Value};

use super::origin::registry_url;
use super::request::parsed;

/// The longest file that is read.
const LONGEST: u64 = 1 << 20;
/// The most mirrors of one registry.
const HOSTS_MAX: usize = 32;
const DEFAULT: &str = "_default";

/// A server that is asked for the images of a registry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Endpoint {
    /// `https://mirror.example/v2`.
    pub(crate) root: String,
    /// Whether it is a mirror, not the registry.
    pub(crate) is_mirror: bool,
    /// Whether it may say which digest a tag means.
    pub(crate) resolves: bool,
}

/// Why a file cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum HostsError {
    #[error("cannot read {}", path.display())]
    Io { path: PathBuf, source: io::Error },
    #[error("cannot understand {}: {what}", path.display())]
    Content { path: PathBuf, what: String },
}

impl Classify for HostsError {
    fn kind(&self) -> Kind {
        Kind::Invalid
    }
}

/// The servers to ask for images of the registry `domain`, in order. Blocks.
pub(crate) fn endpoints(folder: &Path, domain: &str) -> Result<Vec<Endpoint>, HostsError> {
    // A colon cannot stand in every file system's names; containerd allows this form, too.
    let flat = domain.rsplit_once(':').map(|(host, port)| format!("{host}_{port}_"));
    let names = [Some(domain.to_owned()), flat, Some(DEFAULT.to_owned())];
    for name in names.into_iter().flatten() {
        let path = folder.join(name).join("hosts.toml");
        let mut text = String::new();
        let read = std::fs::File::open(&path)
            .and_then(|file| file.take(LONGEST).read_to_string(&mut text));
        match read {
            Ok(_) => {
                return parse(&text, domain).map_err(|what| HostsError::Content { path, what });
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(source) => return Err(HostsError::Io { path, source }),
        }
    }
    Ok(vec![registry(domain)])
}

/// The registry itself.
pub(crate) fn registry(domain: &str) -> Endpoint {
    Endpoint { root: registry_url(domain), is_mirror: false, resolves: true }
}

fn parse(text: &str, domain: &str) -> Result<Vec<Endpoint>, String> {
    let table: Table = text.parse().map_err(|error: toml::de::Error| error.message().to_owned())?;
    let mut endpoints = Vec::new();
    let mut server = registry(domain);
    for (key, value) in &table {
        match (key.as_str(), value) {
            ("server", Value::String(address)) => server.root = root(address, false)?,
            ("host", Value::Table(hosts)) => {
                if hosts.len() > HOSTS_MAX {
                    return Err(format!("there are more than {HOSTS_MAX} hosts"));
                }
                for (address, settings) in hosts {
                    endpoints.extend(mirror(address, settings)?);
                }
            }
            _ => return Err(format!("{key} is not supported")),
        }
    }
    endpoints.push(server);
    Ok(endpoints)
}

/// A mirror, if it may be pulled from.
fn mirror(address: &str, settings: &Value) -> Result<Option<Endpoint>, String> {
    let table = settings.as_table().ok_or_else(|| format!("host {address:?} is not a table"))?;
    let (mut pulls, mut resolves, mut is_whole) = (true, true, false);
    for (key, value) in table {
        match (key.as_str(), value) {
            ("capabilities", Value::Array(list)) => {
                let has = |name: &str| list.iter().any(|it| it.as_str() == Some(name));
                (pulls, resolves) = (has("pull"), has("resolve"));
            }
            ("override_path", Value::Boolean(value)) => is_whole = *value,
            _ => return Err(format!("{key} of host {address:?} is not supported")),
        }
    }
    let root = root(address, is_whole)?;
    Ok(pulls.then_some(Endpoint { root, is_mirror: true, resolves }))
}

/// Where the API begins: the address as it is if it is whole, else with `/v2` behind it.
fn root(address: &str, is_whole: bool) -> Result<String, String> {
    let address = if address.contains("://") {
        address.to_owned()
    } else {
        registry_url(address).trim_end_matches("/v2").to_owned()
    };
    let bare = address.trim_end_matches('/');
    let invalid = |_| format!("{address:?} is not an address that can be asked");
    let uri = parsed(bare).map_err(invalid)?;
    if uri.query().is_some() {
        return Err(format!("{address:?} has a query"));
    }
    Ok(if is_whole || bare.ends_with("/v2") { bare.to_owned() } else { format!("{bare}/v2") })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn mirrors_come_in_order_and_the_registry_last() {
        let text = r#"
            server = "https://registry-1.docker.io"
            [host."https://z.example"]
              capabilities = ["pull"]
            [host."https://push.example"]
              capabilities = ["push"]
            [host."http://127.0.0.1:5000/cache/"]
              override_path = true
        "#;
        let found = parse(text, "docker.io").unwrap();
        let told: Vec<_> =
            found.iter().map(|it| (it.root.as_str(), it.is_mirror, it.resolves)).collect();
        assert_eq!(
            told,
            [
                ("https://z.example/v2", true, false),
                ("http://127.0.0.1:5000/cache", true, true),
                ("https://registry-1.docker.io/v2", false, true),
            ]
        );
        assert_eq!(parse("", "a.org").unwrap(), [registry("a.org")]);
    }

    #[test]
    fn what_is_not_known_is_refused() {
        for bad in [
            "[host.\"https://a.org\"]\nskip_verify = true",
            "[host.\"https://a.org\"]\nca = \"x\"",
            "[host.\"ftp://a.org\"]",
            "server = 1",
            "server = \"https://a.org/?x\"",
            "x",
        ] {
            assert!(parse(bad, "a.org").is_err(), "{bad}");
        }
    }

    #[test]
    fn files_are_found_by_registry() {
        let folder = tempfile::tempdir().unwrap();
        let put = |name: &str, host: &str| {
            let folder = folder.path().join(name);
            std::fs::create_dir(&folder).unwrap();
            std::fs::write(folder.join("hosts.toml"), format!("[host.\"{host}\"]")).unwrap();
        };
        put("_default", "https://default");
        put("a.org_5000_", "https://flat");
        let first = |domain| endpoints(folder.path(), domain).unwrap()[0].root.clone();
        assert_eq!(first("a.org:5000"), "https://flat/v2");
        assert_eq!(first("b.org"), "https://default/v2");
        assert_eq!(endpoints(Path::new("/nonexistent"), "b.org").unwrap(), [registry("b.org")]);
    }

    proptest! {
        #[test]
        fn never_panics(text in "(server = |\\[host\\.\"https://a\"\\]\n)?.{0,80}") {
            let _ = parse(&text, "a.org");
        }
    }
}
