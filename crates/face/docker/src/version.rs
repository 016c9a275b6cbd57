//! Versions of the API: the prefix of a path, and what we accept.
//!
//! `/v1.40/containers/json` asks for the behaviour of 1.40; a path without a prefix for our newest.

use std::fmt;

use dhow_docker_wire::{API_VERSION, MIN_API_VERSION};
use dhow_error::{Error, Result};

/// A version of the API.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct ApiVersion {
    major: u16,
    minor: u16,
}

impl ApiVersion {
    /// Version 1.`minor`.
    pub(crate) const fn one(minor: u16) -> Self {
        Self { major: 1, minor }
    }

    /// Reads `1.47`.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let number = |digits: &str| {
            let plain = digits.bytes().all(|byte| byte.is_ascii_digit());
            if plain { digits.parse().ok() } else { None }
        };
        let (major, minor) = text.split_once('.')?;
        Some(Self { major: number(major)?, minor: number(minor)? })
    }
}

impl fmt::Display for ApiVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)
    }
}

/// Splits the version off a path.
///
/// Errors: invalid, in the words that Docker's clients know, if it is one that we do not speak.
pub(crate) fn split(path: &str) -> Result<(ApiVersion, &str)> {
    let newest = ApiVersion::parse(API_VERSION).unwrap_or(ApiVersion::one(0));
    let oldest = ApiVersion::parse(MIN_API_VERSION).unwrap_or(newest);
    let Some(rest) = path.strip_prefix("/v") else { return Ok((newest, path)) };
    let end = rest.find('/').unwrap_or(rest.len());
    let (prefix, rest) = rest.split_at(end);
    // `/volumes` begins with a v, too.
    let Some(version) = ApiVersion::parse(prefix) else { return Ok((newest, path)) };
    if version < oldest {
        return Err(Error::invalid(format!(
            "client version {version} is too old. Minimum supported API version is {oldest}, please \
             upgrade your client to a newer version"
        )));
    }
    if version > newest {
        return Err(Error::invalid(format!(
            "client version {version} is too new. Maximum supported API version is {newest}"
        )));
    }
    Ok((version, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prefixes_are_split_off() {
        assert_eq!(split("/v1.40/info").unwrap(), (ApiVersion::one(40), "/info"));
        assert_eq!(split("/info").unwrap(), (ApiVersion::one(47), "/info"));
        assert_eq!(split("/volumes").unwrap().1, "/volumes");
        assert_eq!(split("/version").unwrap().1, "/version");
        assert_eq!(split("/v1.47").unwrap().1, "");
        assert!(split("/v1.48/info").is_err() && split("/v1.23/info").is_err());
        assert!(split("/v2.0/info").is_err());
        assert_eq!(split("/v1.+7/info").unwrap().1, "/v1.+7/info");
        assert_eq!(split("/v1.99999999/info").unwrap().1, "/v1.99999999/info");
    }
}
