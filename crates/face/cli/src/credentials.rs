//! Credentials for registries: docker's `config.json`, and the programs it names that keep secrets.
//!
//! ```text
//!   $DOCKER_CONFIG or ~/.docker, config.json
//!     credHelpers: { host: NAME } ─┐
//!     credsStore:  NAME ───────────┴─► docker-credential-NAME get|store|erase   (see helper)
//!     auths: { host: { auth: base64 of user:password } }                        where there is no helper
//! ```
//!
//! Everything else in the file belongs to others and stays as it is. The file is replaced as a whole, so
//! that nobody ever reads half of it, and only its owner can read it.

mod helper;

use std::fs;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE};
use dhow_docker_wire::AuthConfig;
use dhow_spec::Reference;
use serde_json::{Map, Value, json};

use crate::failure::Failure;
use helper::Helper;

/// Under this name Docker Hub's credentials are kept.
const HUB: &str = "https://index.docker.io/v1/";

/// The user name that says that the secret is an identity token.
const TOKEN_USER: &str = "<token>";

/// The file and what is in it.
#[derive(Debug)]
pub(crate) struct Credentials {
    path: PathBuf,
    content: Map<String, Value>,
}

/// Where credentials were put.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Kept {
    /// In the file, readable by whoever gets hold of it.
    File(PathBuf),
    /// By this helper.
    Helper,
}

impl Credentials {
    /// Reads the file; none is as good as an empty one.
    pub(crate) fn open() -> Result<Self, Failure> {
        let folder = match std::env::var_os("DOCKER_CONFIG").filter(|it| !it.is_empty()) {
            Some(folder) => PathBuf::from(folder),
            None => Path::new(&std::env::var_os("HOME").unwrap_or_default()).join(".docker"),
        };
        Self::read(folder.join("config.json"))
    }

    fn read(path: PathBuf) -> Result<Self, Failure> {
        let said = |error: &dyn std::fmt::Display| {
            Failure::new(format!("cannot read {}: {error}", path.display()))
        };
        let content = match fs::read(&path) {
            Ok(text) => serde_json::from_slice(&text).map_err(|error| said(&error))?,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Map::new(),
            Err(error) => return Err(said(&error)),
        };
        Ok(Self { path, content })
    }

    /// What is known for the registry at `host`.
    pub(crate) fn get(&self, host: &str) -> Result<Option<AuthConfig>, Failure> {
        let key = key_of(host);
        if let Some(helper) = self.helper(&key)? {
            let found = helper.get(&key)?;
            return Ok(found.map(|(username, secret)| match username.as_str() {
                TOKEN_USER => AuthConfig {
                    identitytoken: secret,
                    serveraddress: key,
                    ..AuthConfig::default()
                },
                _ => AuthConfig {
                    username,
                    password: secret,
                    serveraddress: key,
                    ..AuthConfig::default()
                },
            }));
        }
        let auths = self.content.get("auths").and_then(Value::as_object);
        let same = |other: &&String| host_of(other) == host_of(&key);
        let found = auths.and_then(|auths| {
            let other = || auths.keys().find(same).and_then(|name| auths.get(name));
            auths.get(&key).or_else(other)
        });
        let Some(found) = found else { return Ok(None) };
        let mut auth: AuthConfig = serde_json::from_value(found.clone()).map_err(|_| {
            Failure::new(format!("the credentials for {key} in {} are broken", self.path.display()))
        })?;
        if let Some((username, password)) = pair(&auth.auth) {
            (auth.username, auth.password, auth.auth) = (username, password, String::new());
        }
        auth.serveraddress = key;
        let is_empty = auth.username.is_empty()
            && auth.identitytoken.is_empty()
            && auth.registrytoken.is_empty();
        Ok((!is_empty).then_some(auth))
    }

    /// Keeps credentials; says where.
    pub(crate) fn put(&mut self, auth: &AuthConfig) -> Result<Kept, Failure> {
        let key = key_of(&auth.serveraddress);
        if let Some(helper) = self.helper(&key)? {
            let (username, secret) = match auth.identitytoken.as_str() {
                "" => (auth.username.as_str(), auth.password.as_str()),
                token => (TOKEN_USER, token),
            };
            helper.store(&key, username, secret)?;
            // Where others look for who is logged in.
            self.auths()?.insert(key, json!({}));
            self.write()?;
            return Ok(Kept::Helper);
        }
        let pair = STANDARD.encode(format!("{}:{}", auth.username, auth.password));
        let mut entry = Map::from_iter([("auth".to_owned(), Value::String(pair))]);
        if !auth.identitytoken.is_empty() {
            entry.insert("identitytoken".to_owned(), auth.identitytoken.clone().into());
        }
        self.auths()?.insert(key, Value::Object(entry));
        self.write()?;
        Ok(Kept::File(self.path.clone()))
    }

    /// Forgets the credentials for the registry at `host`; says whether there were some.
    pub(crate) fn forget(&mut self, host: &str) -> Result<bool, Failure> {
        let key = key_of(host);
        let mut found = false;
        if let Some(helper) = self.helper(&key)? {
            found = helper.get(&key)?.is_some();
            helper.erase(&key)?;
        }
        let auths = self.auths()?;
        let before = auths.len();
        auths.retain(|name, _| *name != key && host_of(name) != host_of(&key));
        if auths.len() < before {
            found = true;
            self.write()?;
        }
        Ok(found)
    }

    /// What keeps the secrets of a registry, if it is not this file.
    fn helper(&self, key: &str) -> Result<Option<Helper>, Failure> {
        let own = self.content.get("credHelpers").and_then(Value::as_object);
        let own = own.and_then(|helpers| helpers.get(key).or_else(|| helpers.get(host_of(key))));
        let name = own.or_else(|| self.content.get("credsStore")).and_then(Value::as_str);
        name.filter(|name| !name.is_empty()).map(Helper::find).transpose()
    }

    fn auths(&mut self) -> Result<&mut Map<String, Value>, Failure> {
        let path = self.path.display().to_string();
        let auths = self.content.entry("auths").or_insert_with(|| json!({}));
        auths
            .as_object_mut()
            .ok_or_else(|| Failure::new(format!("auths in {path} is not an object")))
    }

    fn write(&self) -> Result<(), Failure> {
        // A link stays one: people keep this file elsewhere.
        let path = fs::canonicalize(&self.path).unwrap_or_else(|_| self.path.clone());
        let said = |error: std::io::Error| {
            Failure::new(format!("cannot write {}: {error}", path.display()))
        };
        let folder = path.parent().unwrap_or(Path::new("."));
        fs::create_dir_all(folder).map_err(said)?;
        let mut text = Vec::new();
        let formatter = serde_json::ser::PrettyFormatter::with_indent(b"\t");
        let mut serializer = serde_json::Serializer::with_formatter(&mut text, formatter);
        serde::Serialize::serialize(&self.content, &mut serializer)?;
        let new = folder.join(format!(".config.json.{}", std::process::id()));
        let written = fs::OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&new)
            .and_then(|mut file| file.write_all(&text).and_then(|()| file.sync_all()))
            .and_then(|()| fs::rename(&new, &path));
        if written.is_err() {
            let _ = fs::remove_file(&new);
        }
        written.map_err(said)
    }
}

/// The header `X-Registry-Auth` for an image's registry. A pull may do without: what is wrong with the
/// credentials is told, and nothing is sent.
pub(crate) fn header_for(image: &str) -> Option<String> {
    let reference: Reference = image.parse().ok()?;
    match Credentials::open().and_then(|credentials| credentials.get(reference.domain())) {
        Ok(auth) => auth.and_then(|auth| header(&auth)),
        Err(failure) => {
            failure.print();
            None
        }
    }
}

/// The header `X-Registry-Auth` with these credentials.
fn header(auth: &AuthConfig) -> Option<String> {
    serde_json::to_vec(auth).ok().map(|text| URL_SAFE.encode(text))
}

/// Under which name a registry's credentials are kept.
pub(crate) fn key_of(address: &str) -> String {
    match host_of(address) {
        "" | "docker.io" | "index.docker.io" | "registry-1.docker.io" => HUB.to_owned(),
        host => host.to_owned(),
    }
}

/// The host and port of an address, with or without scheme and path.
fn host_of(address: &str) -> &str {
    let bare = address.split_once("://").map_or(address, |(_, rest)| rest);
    bare.split('/').next().unwrap_or_default()
}

/// `user:password` in base64.
fn pair(text: &str) -> Option<(String, String)> {
    let pair = String::from_utf8(STANDARD.decode(text.trim()).ok()?).ok()?;
    let (username, password) = pair.trim_end_matches('\0').split_once(':')?;
    (!username.is_empty()).then(|| (username.to_owned(), password.to_owned()))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn what_is_put_is_found_and_forgotten_and_the_rest_stays() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("config.json");
        fs::write(&path, r#"{"auths":{"https://a.org/v1/":{"auth":"bWU6cHc="}},"mine":{"x":[1]}}"#)
            .unwrap();
        let mut credentials = Credentials::read(path.clone()).unwrap();
        let found = credentials.get("a.org").unwrap().unwrap();
        assert_eq!((found.username.as_str(), found.password.as_str()), ("me", "pw"));
        assert!(credentials.get("b.org").unwrap().is_none());
        let auth = AuthConfig {
            username: "you".into(),
            password: "a:b".into(),
            serveraddress: "docker.io".into(),
            ..AuthConfig::default()
        };
        assert_eq!(credentials.put(&auth).unwrap(), Kept::File(path.clone()));
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        let mut again = Credentials::read(path.clone()).unwrap();
        assert_eq!(again.content["mine"]["x"][0], 1);
        assert_eq!(again.get("docker.io").unwrap().unwrap().password, "a:b");
        assert!(again.content["auths"].get(HUB).is_some());
        assert!(again.forget("docker.io").unwrap());
        assert!(!again.forget("docker.io").unwrap());
        assert!(Credentials::read(path).unwrap().get("docker.io").unwrap().is_none());
    }

    #[test]
    fn registries_have_one_key() {
        for hub in ["", "docker.io", "https://index.docker.io/v1/"] {
            assert_eq!(key_of(hub), HUB);
        }
        assert_eq!(key_of("https://127.0.0.1:5000/v2/"), "127.0.0.1:5000");
    }
}
