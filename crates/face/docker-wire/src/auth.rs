//! Credentials for a registry, as the header `X-Registry-Auth` carries them (base64url of this JSON).

use std::fmt;

use serde::{Deserialize, Serialize};

/// Credentials for one registry. `Debug` never shows secrets.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub struct AuthConfig {
    /// Account name.
    #[serde(default, deserialize_with = "crate::null::or_default")]
    #[serde(skip_serializing_if = "String::is_empty")]
    pub username: String,
    /// Password or access token.
    #[serde(default, deserialize_with = "crate::null::or_default")]
    #[serde(skip_serializing_if = "String::is_empty")]
    pub password: String,
    /// `username:password` in base64, where a client sends that instead.
    #[serde(default, deserialize_with = "crate::null::or_default")]
    #[serde(skip_serializing_if = "String::is_empty")]
    pub auth: String,
    /// The registry that these are for.
    #[serde(default, deserialize_with = "crate::null::or_default")]
    #[serde(skip_serializing_if = "String::is_empty")]
    pub serveraddress: String,
    /// OAuth2 refresh token, in place of a password.
    #[serde(default, deserialize_with = "crate::null::or_default")]
    #[serde(skip_serializing_if = "String::is_empty")]
    pub identitytoken: String,
    /// Bearer token that is sent to the registry as it is.
    #[serde(default, deserialize_with = "crate::null::or_default")]
    #[serde(skip_serializing_if = "String::is_empty")]
    pub registrytoken: String,
}

impl fmt::Debug for AuthConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AuthConfig")
            .field("username", &self.username)
            .field("serveraddress", &self.serveraddress)
            .finish_non_exhaustive()
    }
}

wire!("PascalCase" {
    /// What `POST /auth` answers.
    pub struct LoggedIn {
        /// `Login Succeeded`.
        pub status: String,
        /// A token to keep in the password's place, if the registry gave one.
        pub identity_token: String,
    }
});
