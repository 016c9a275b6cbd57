//! Challenges (RFC 9110, 11.6.1) and what answers them: basic credentials, or a token from the realm
//! that a `Bearer` challenge names (distribution's `auth/token`).

use base64::Engine;
use serde::Deserialize;

use crate::Credentials;

/// The longest challenge that is read.
const CHALLENGE_MAX: usize = 8192;

/// What a server asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Challenge {
    Basic,
    Bearer { realm: String, service: Option<String>, scope: Option<String> },
}

/// A token server's answer.
#[derive(Deserialize)]
pub(crate) struct Token {
    #[serde(default)]
    token: Option<String>,
    #[serde(default)]
    access_token: Option<String>,
}

impl Challenge {
    /// Reads a `WWW-Authenticate` header; of several challenges the first that is known.
    pub(crate) fn parse(header: &str) -> Option<Self> {
        if header.len() > CHALLENGE_MAX {
            return None;
        }
        let (scheme, rest) = header.trim().split_once(' ').unwrap_or((header.trim(), ""));
        if scheme.eq_ignore_ascii_case("basic") {
            return Some(Self::Basic);
        }
        if !scheme.eq_ignore_ascii_case("bearer") {
            return None;
        }
        let parameters = parameters(rest);
        let get = |name: &str| {
            parameters
                .iter()
                .find(|(key, _)| key.eq_ignore_ascii_case(name))
                .map(|(_, v)| v.clone())
        };
        Some(Self::Bearer { realm: get("realm")?, service: get("service"), scope: get("scope") })
    }

    /// Where tokens come from; empty for basic authorization.
    pub(crate) fn realm(&self) -> &str {
        match self {
            Self::Basic => "",
            Self::Bearer { realm, .. } => realm,
        }
    }

    /// What a token shall allow: `wanted`, else what the challenge says, else `default`.
    pub(crate) fn scopes(&self, wanted: &[String], default: Option<&str>) -> Vec<String> {
        if !wanted.is_empty() {
            return wanted.to_vec();
        }
        let said = match self {
            Self::Bearer { scope: Some(scope), .. } => Some(scope.as_str()),
            _ => default,
        };
        said.map(str::to_owned).into_iter().collect()
    }

    /// The address to ask for a token.
    pub(crate) fn token_url(&self, scopes: &[String]) -> String {
        let mut url = self.realm().to_owned();
        let service = self.service().map(|service| ("service", service));
        let scopes = scopes.iter().map(|scope| ("scope", scope.as_str()));
        for (name, value) in service.into_iter().chain(scopes) {
            url.push(if url.contains('?') { '&' } else { '?' });
            url.push_str(name);
            url.push('=');
            url.push_str(&encoded(value));
        }
        url
    }

    fn service(&self) -> Option<&str> {
        match self {
            Self::Bearer { service, .. } => service.as_deref(),
            Self::Basic => None,
        }
    }
}

/// The form that turns an identity token into an access token (distribution, `auth/oauth`).
pub(crate) fn refresh_form(challenge: &Challenge, scopes: &[String], token: &str) -> String {
    let scope = scopes.join(" ");
    let pairs = [
        ("grant_type", "refresh_token"),
        ("service", challenge.service().unwrap_or_default()),
        ("client_id", "dhow"),
        ("scope", &scope),
        ("refresh_token", token),
    ];
    let pairs = pairs.map(|(name, value)| format!("{name}={}", encoded(value)));
    pairs.join("&")
}

impl Token {
    /// The header that shows the token; none if there is none or it cannot stand in a header.
    pub(crate) fn header(self) -> Option<String> {
        let token = self.token.or(self.access_token)?;
        let is_fine = !token.is_empty() && token.bytes().all(|byte| byte.is_ascii_graphic());
        is_fine.then(|| format!("Bearer {token}"))
    }
}

/// The header of basic authorization (RFC 7617); none if the credentials are a token.
pub(crate) fn basic(credentials: &Credentials) -> Option<String> {
    let Credentials::Password { username, password } = credentials else { return None };
    let pair = format!("{username}:{password}");
    Some(format!("Basic {}", base64::engine::general_purpose::STANDARD.encode(pair)))
}

/// `key="value", key=value …`; reads as far as it can be understood.
fn parameters(text: &str) -> Vec<(String, String)> {
    let mut found = Vec::new();
    let mut rest = text.trim_start();
    while let Some((key, after)) = rest.split_once('=') {
        let (value, left) = if let Some(quoted) = after.strip_prefix('"') {
            let Some(pair) = unquote(quoted) else { break };
            pair
        } else {
            let end = after.find(',').unwrap_or(after.len());
            (after[..end].trim().to_owned(), &after[end..])
        };
        found.push((key.trim().to_owned(), value));
        rest = left.trim_start().trim_start_matches(',').trim_start();
    }
    found
}

/// The text up to the closing quote, and what follows it.
fn unquote(text: &str) -> Option<(String, &str)> {
    let mut value = String::new();
    let mut letters = text.char_indices();
    while let Some((at, letter)) = letters.next() {
        match letter {
            '"' => return Some((value, &text[at + 1..])),
            '\\' => value.push(letters.next()?.1),
            _ => value.push(letter),
        }
    }
    None
}

/// Percent-encoding of everything that is not unreserved (RFC 3986, 2.3).
fn encoded(text: &str) -> String {
    use std::fmt::Write;
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            let _ = write!(out, "%{byte:02X}");
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn reads_the_hubs_challenge() {
        let header = r#"Bearer realm="https://auth.docker.io/token",service="registry.docker.io",scope="repository:library/alpine:pull,push""#;
        let challenge = Challenge::parse(header).unwrap();
        assert_eq!(
            challenge.token_url(&challenge.scopes(&[], None)),
            "https://auth.docker.io/token?service=registry.docker.io&\
             scope=repository%3Alibrary%2Falpine%3Apull%2Cpush"
        );
        let scopes = ["repository:a:pull,push".to_owned(), "repository:b:pull".to_owned()];
        assert_eq!(challenge.scopes(&scopes, Some("c")), scopes);
        assert!(
            challenge
                .token_url(&scopes)
                .ends_with("&scope=repository%3Aa%3Apull%2Cpush&scope=repository%3Ab%3Apull")
        );
        let form = refresh_form(&challenge, &scopes, "a+b");
        assert!(
            form.ends_with("pull%2Cpush%20repository%3Ab%3Apull&refresh_token=a%2Bb"),
            "{form}"
        );
        let bare = Challenge::parse("Bearer realm=\"https://a.org/t\"").unwrap();
        assert_eq!(bare.token_url(&bare.scopes(&[], Some("x"))), "https://a.org/t?scope=x");
        assert_eq!(bare.token_url(&bare.scopes(&[], None)), "https://a.org/t");
        assert_eq!(Challenge::parse("basic realm=x"), Some(Challenge::Basic));
        assert_eq!(Challenge::parse("Bearer service=x"), None);
        assert_eq!(Challenge::parse("Negotiate"), None);
    }

    #[test]
    fn tokens_cannot_smuggle_headers() {
        let header = |text: &str| serde_json::from_str::<Token>(text).unwrap().header();
        assert_eq!(header(r#"{"access_token":"a.b"}"#).unwrap(), "Bearer a.b");
        assert_eq!(header(r#"{"token":"a\r\nX: y"}"#), None);
        assert_eq!(header("{}"), None);
    }

    proptest! {
        #[test]
        fn never_panics(text in "(Bearer )?.{0,100}") {
            let _ = Challenge::parse(&text);
        }
    }
}
