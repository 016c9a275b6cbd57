//! Credentials that clients send along, and `POST /auth`, which tries them.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use dhow_docker_wire::AuthConfig;
use dhow_docker_wire::auth::LoggedIn;
use dhow_error::{Error, Result};
use dhow_image::Credentials;

use crate::Services;
use crate::answer::{self, Answer};
use crate::request::Request;

/// What stands for Docker Hub where a registry's address is told.
const HUB: &str = "docker.io";

/// `POST /auth`: whether a registry knows who is told.
pub(crate) async fn log_in(services: &Services, request: Request) -> Result<Answer> {
    let auth: AuthConfig = request.json().await?;
    let host = host_of(&auth.serveraddress).to_owned();
    let Some(credentials) = credentials(auth)? else {
        return Err(Error::invalid("a user name is needed to log in"));
    };
    services.images.log_in(&host, credentials).await?;
    Ok(answer::ok(&LoggedIn { status: "Login Succeeded".to_owned(), ..LoggedIn::default() }))
}

/// What a client sent along, if anything.
pub(super) fn credentials(auth: AuthConfig) -> Result<Option<Credentials>> {
    if !auth.registrytoken.is_empty() {
        return plain(auth.registrytoken).map(Credentials::Registry).map(Some);
    }
    if !auth.identitytoken.is_empty() {
        return Ok(Some(Credentials::Identity(auth.identitytoken)));
    }
    if !auth.username.is_empty() {
        let (username, password) = (auth.username, auth.password);
        return Ok(Some(Credentials::Password { username, password }));
    }
    if auth.auth.is_empty() {
        return Ok(None);
    }
    // No details: they could repeat a part of a password.
    let invalid = || Error::invalid("the credentials cannot be read");
    let pair = STANDARD.decode(auth.auth.trim()).ok().and_then(|it| String::from_utf8(it).ok());
    let pair = pair.ok_or_else(invalid)?;
    let (username, password) = pair.trim_end_matches('\0').split_once(':').ok_or_else(invalid)?;
    let (username, password) = (username.to_owned(), password.to_owned());
    Ok(Some(Credentials::Password { username, password }))
}

/// A token that can stand in a header.
fn plain(token: String) -> Result<String> {
    if token.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Ok(token);
    }
    Err(Error::invalid("the registry token has characters that a header cannot have"))
}

/// The host and port of an address such as `https://index.docker.io/v1/`.
fn host_of(address: &str) -> &str {
    let bare = address.split_once("://").map_or(address, |(_, rest)| rest);
    match bare.split('/').next().unwrap_or_default() {
        "" | "index.docker.io" | "registry-1.docker.io" => HUB,
        host => host,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_is_told_in_any_form_is_understood() {
        assert!(credentials(AuthConfig::default()).unwrap().is_none());
        let token = AuthConfig { identitytoken: "x".into(), ..AuthConfig::default() };
        assert!(matches!(credentials(token), Ok(Some(Credentials::Identity(_)))));
        let pair = AuthConfig { auth: STANDARD.encode("me:p:w"), ..AuthConfig::default() };
        let Ok(Some(Credentials::Password { username, password })) = credentials(pair) else {
            panic!("not understood");
        };
        assert_eq!((username.as_str(), password.as_str()), ("me", "p:w"));
        let smuggled = AuthConfig { registrytoken: "a\r\nb".into(), ..AuthConfig::default() };
        assert!(credentials(smuggled).is_err());
    }

    #[test]
    fn hosts_are_found_in_addresses() {
        assert_eq!(host_of("https://index.docker.io/v1/"), "docker.io");
        assert_eq!(host_of("127.0.0.1:5000"), "127.0.0.1:5000");
        assert_eq!(host_of("https://a.org:444/v2/"), "a.org:444");
    }
}
