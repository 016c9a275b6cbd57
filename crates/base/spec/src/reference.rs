//! Image references (`busybox`, `localhost:5000/team/app:1.2@sha256:…`) with Docker's normalisation.
//!
//! ```text
//! reference  = name [ ":" tag ] [ "@" digest ]
//! name       = [ domain "/" ] path
//! domain     = ( host | "[" ipv6 "]" ) [ ":" port ]       host = component *( "." component )
//! path       = part *( "/" part )                         part = [a-z0-9]+ ( [._] | "__" | "-"+ …)*
//! tag        = [A-Za-z0-9_] [A-Za-z0-9_.-]{0,127}
//! digest     = "sha256:" 64 lower-case hex digits
//! ```
//!
//! The first part of a name is a domain only if it could not be part of a path: it has a dot, a colon
//! or an upper-case letter, or is `localhost`. Everything else lives on `docker.io`, and there below
//! `library/` if it has one part. Invariant: a [`Reference`] is always in normal form, and parsing
//! what [`familiar`](Reference::familiar) or [`canonical`](Reference::canonical) prints gives it back.
//! Parsing is pure, linear and bounded; nothing here asks a registry.

use std::fmt;
use std::str::FromStr;

use dhow_error::{Classify, Kind};
use serde::{Deserialize, Serialize};

use crate::digest::{Digest, DigestError};

/// The registry that a name without a domain means.
pub const DEFAULT_DOMAIN: &str = "docker.io";
/// The tag that a reference without tag and digest means.
pub const DEFAULT_TAG: &str = "latest";

const LEGACY_DOMAIN: &str = "index.docker.io";
const OFFICIAL_PREFIX: &str = "library/";
const LOCALHOST: &str = "localhost";
/// The longest path and the longest domain, in bytes; the first is Docker's, the second is DNS's.
const NAME_MAX: usize = 255;
const TAG_MAX: usize = 128;
/// `@sha256:` and 64 digits, and what else surrounds the names.
const REFERENCE_MAX: usize = NAME_MAX * 2 + TAG_MAX + 80;

/// A name of an image in a registry, in normal form: domain and path, perhaps a tag, perhaps a digest.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Reference {
    domain: String,
    path: String,
    tag: Option<String>,
    digest: Option<Digest>,
}

/// Why a text is not a reference. The words are Docker's, as scripts look for them.
#[derive(Debug, Clone, thiserror::Error, PartialEq, Eq)]
pub enum ReferenceError {
    /// Nothing was given.
    #[error("invalid reference format: repository name must have at least one component")]
    Empty,
    /// The text does not follow the grammar.
    #[error("invalid reference format")]
    Malformed {
        /// What was given, cut to 100 characters.
        text: String,
    },
    /// The repository name has upper-case letters.
    #[error("invalid reference format: repository name must be lowercase")]
    Uppercase,
    /// The name is 64 hex digits, which is an image id.
    #[error(
        "invalid repository name ({0}), cannot specify 64-byte hexadecimal strings as a repository name"
    )]
    LooksLikeId(String),
    /// The path or the domain is longer than 255 characters.
    #[error("invalid reference format: repository name must not be more than 255 characters")]
    TooLong,
    /// What follows `@` is not a digest.
    #[error("invalid reference format")]
    Digest(#[from] DigestError),
}

impl Classify for ReferenceError {
    fn kind(&self) -> Kind {
        Kind::Invalid
    }

    fn hint(&self) -> Option<String> {
        match self {
            Self::Malformed { text } => {
                Some(format!("{text:?} is not of the form [host[:port]/]name[:tag][@digest]"))
            }
            _ => None,
        }
    }
}

impl Reference {
    /// The registry's host, perhaps with a port: `docker.io`, `localhost:5000`, `[::1]:5000`.
    pub fn domain(&self) -> &str {
        &self.domain
    }

    /// The repository's path on its registry: `library/busybox`.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// Domain and path: `docker.io/library/busybox`.
    pub fn repository(&self) -> String {
        format!("{}/{}", self.domain, self.path)
    }

    /// Domain and path as people write and Docker prints them: `busybox`, `localhost:5000/x`.
    pub fn familiar_repository(&self) -> String {
        if self.domain != DEFAULT_DOMAIN {
            return self.repository();
        }
        let short = self
            .path
            .strip_prefix(OFFICIAL_PREFIX)
            .filter(|rest| !rest.contains('/') && !is_id(rest))
            .unwrap_or(&self.path);
        // A path such as `docker.io/localhost/x` would come back as another host's without its domain.
        match split_domain(short) {
            (domain, path) if domain == DEFAULT_DOMAIN && path == self.path => short.to_owned(),
            _ => self.repository(),
        }
    }

    /// The tag, if one was given.
    pub fn tag(&self) -> Option<&str> {
        self.tag.as_deref()
    }

    /// The digest, if one was given.
    pub fn digest(&self) -> Option<&Digest> {
        self.digest.as_ref()
    }

    /// Whether neither a tag nor a digest was given.
    pub fn is_name_only(&self) -> bool {
        self.tag.is_none() && self.digest.is_none()
    }

    /// The same reference, with the tag `latest` if it has neither tag nor digest.
    #[must_use]
    pub fn with_default_tag(mut self) -> Self {
        if self.is_name_only() {
            self.tag = Some(DEFAULT_TAG.to_owned());
        }
        self
    }

    /// The same repository with `tag` and no digest; [`ReferenceError::Malformed`] if `tag` cannot be one.
    pub fn with_tag(&self, tag: &str) -> Result<Self, ReferenceError> {
        if !is_tag(tag) {
            return Err(malformed(tag));
        }
        Ok(Self { tag: Some(tag.to_owned()), digest: None, ..self.clone() })
    }

    /// The same repository with `digest` and no tag.
    #[must_use]
    pub fn with_digest(&self, digest: Digest) -> Self {
        Self { tag: None, digest: Some(digest), ..self.clone() }
    }

    /// The same repository, with neither tag nor digest.
    #[must_use]
    pub fn without_tag(&self) -> Self {
        Self { tag: None, digest: None, ..self.clone() }
    }

    /// As Docker prints it: `busybox:latest`, `localhost:5000/x:1`.
    pub fn familiar(&self) -> String {
        self.decorate(self.familiar_repository())
    }

    /// With everything said: `docker.io/library/busybox:latest`.
    pub fn canonical(&self) -> String {
        self.decorate(self.repository())
    }

    /// `name` with this reference's tag and digest.
    fn decorate(&self, mut name: String) -> String {
        if let Some(tag) = &self.tag {
            name.push(':');
            name.push_str(tag);
        }
        if let Some(digest) = &self.digest {
            name.push('@');
            name.push_str(&digest.to_string());
        }
        name
    }
}

impl FromStr for Reference {
    type Err = ReferenceError;

    fn from_str(text: &str) -> Result<Self, ReferenceError> {
        if text.is_empty() {
            return Err(ReferenceError::Empty);
        }
        if is_id(text) {
            return Err(ReferenceError::LooksLikeId(text.to_owned()));
        }
        if text.len() > REFERENCE_MAX {
            return Err(ReferenceError::TooLong);
        }
        let (tagged, digest) = match text.split_once('@') {
            Some((tagged, digest)) => (tagged, Some(digest)),
            None => (text, None),
        };
        let (domain, rest) = split_domain(tagged);
        let (path, tag) = match rest.split_once(':') {
            Some((path, tag)) => (path.to_owned(), Some(tag)),
            None => (rest, None),
        };
        if path.bytes().any(|byte| byte.is_ascii_uppercase()) {
            return Err(ReferenceError::Uppercase);
        }
        if !is_domain(&domain) || !path.split('/').all(is_part) || !tag.is_none_or(is_tag) {
            return Err(malformed(text));
        }
        if path.len() > NAME_MAX || domain.len() > NAME_MAX {
            return Err(ReferenceError::TooLong);
        }
        let digest = digest.map(str::parse).transpose()?;
        Ok(Self { domain, path, tag: tag.map(str::to_owned), digest })
    }
}

impl TryFrom<String> for Reference {
    type Error = ReferenceError;

    fn try_from(text: String) -> Result<Self, ReferenceError> {
        text.parse()
    }
}

impl From<Reference> for String {
    /// The canonical form, which is what is stored.
    fn from(reference: Reference) -> Self {
        reference.canonical()
    }
}

/// The familiar form, which is what people see.
impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.familiar())
    }
}

impl fmt::Debug for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.canonical())
    }
}

fn malformed(text: &str) -> ReferenceError {
    ReferenceError::Malformed { text: text.chars().take(100).collect() }
}

/// Domain and remainder (path, perhaps with a tag) of a name without its digest, in normal form.
fn split_domain(name: &str) -> (String, String) {
    let (domain, rest) = match name.split_once('/') {
        Some((first, rest)) if could_be_domain(first) => (first, rest),
        // `name:5000` without a slash is a tag, never a port.
        _ => (DEFAULT_DOMAIN, name),
    };
    let domain = if domain == LEGACY_DOMAIN { DEFAULT_DOMAIN } else { domain };
    let rest = if domain == DEFAULT_DOMAIN && !rest.contains('/') {
        format!("{OFFICIAL_PREFIX}{rest}")
    } else {
        rest.to_owned()
    };
    (domain.to_owned(), rest)
}

/// Whether the first part of a name, which something follows, is meant as a domain.
fn could_be_domain(first: &str) -> bool {
    first == LOCALHOST
        || first.contains(['.', ':'])
        || first.bytes().any(|byte| byte.is_ascii_uppercase())
}

/// Whether `domain` follows the grammar's `domain`.
fn is_domain(domain: &str) -> bool {
    if let Some(bracketed) = domain.strip_prefix('[') {
        let Some((address, port)) = bracketed.split_once(']') else { return false };
        let is_address =
            !address.is_empty() && address.bytes().all(|b| b.is_ascii_hexdigit() || b == b':');
        return is_address && (port.is_empty() || port.strip_prefix(':').is_some_and(is_port));
    }
    let (host, port) = match domain.split_once(':') {
        Some((host, port)) => (host, Some(port)),
        None => (domain, None),
    };
    host.split('.').all(is_host_component) && port.is_none_or(is_port)
}

fn is_port(port: &str) -> bool {
    !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit())
}

fn is_host_component(component: &str) -> bool {
    !component.is_empty()
        && !component.starts_with('-')
        && !component.ends_with('-')
        && component.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
}

/// Whether `part` is one part of a path: runs of `[a-z0-9]` with `.`, `_`, `__` or any number of `-`
/// between them.
fn is_part(part: &str) -> bool {
    let is_word = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let edges = [part.bytes().next(), part.bytes().next_back()];
    if !edges.into_iter().all(|edge| edge.is_some_and(is_word)) {
        return false;
    }
    part.split(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit()).all(|separator| {
        matches!(separator, "" | "." | "_" | "__") || separator.bytes().all(|byte| byte == b'-')
    })
}

fn is_tag(tag: &str) -> bool {
    let is_word = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    tag.len() <= TAG_MAX
        && tag.bytes().next().is_some_and(is_word)
        && tag.bytes().all(|byte| is_word(byte) || byte == b'.' || byte == b'-')
}

/// Whether `text` is a full image id.
fn is_id(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn parse(text: &str) -> Reference {
        text.parse().unwrap()
    }

    #[test]
    fn normalises_as_docker_does() {
        let digest = Digest::of(b"");
        let pinned = format!("busybox:1@{digest}");
        let pinned_full = format!("docker.io/library/busybox:1@{digest}");
        for (given, familiar, canonical) in [
            ("busybox", "busybox", "docker.io/library/busybox"),
            ("busybox:1.36", "busybox:1.36", "docker.io/library/busybox:1.36"),
            ("docker.io/busybox", "busybox", "docker.io/library/busybox"),
            ("index.docker.io/busybox", "busybox", "docker.io/library/busybox"),
            ("library/busybox", "busybox", "docker.io/library/busybox"),
            ("docker.io/library/busybox:x", "busybox:x", "docker.io/library/busybox:x"),
            ("team/app", "team/app", "docker.io/team/app"),
            ("library/a/b", "library/a/b", "docker.io/library/a/b"),
            ("localhost/app", "localhost/app", "localhost/app"),
            ("localhost:5000/x:1", "localhost:5000/x:1", "localhost:5000/x:1"),
            ("docker.io/localhost/x", "docker.io/localhost/x", "docker.io/localhost/x"),
            ("docker.io/a.b/x", "docker.io/a.b/x", "docker.io/a.b/x"),
            ("Host/app", "Host/app", "Host/app"),
            ("quay.io/a/b/c", "quay.io/a/b/c", "quay.io/a/b/c"),
            ("[::1]:5000/x", "[::1]:5000/x", "[::1]:5000/x"),
            ("[fe80::1]/x:y", "[fe80::1]/x:y", "[fe80::1]/x:y"),
            ("foo:5000", "foo:5000", "docker.io/library/foo:5000"),
            (&pinned, &pinned, &pinned_full),
        ] {
            assert_eq!(parse(given).familiar(), familiar, "{given}");
            assert_eq!(parse(given).canonical(), canonical, "{given}");
        }
    }

    #[test]
    fn default_tag_only_without_tag_and_digest() {
        assert_eq!(parse("a").with_default_tag().familiar(), "a:latest");
        assert_eq!(parse("a:1").with_default_tag().familiar(), "a:1");
        let pinned = parse("a").with_digest(Digest::of(b"x"));
        assert_eq!(pinned.clone().with_default_tag(), pinned);
    }

    #[test]
    fn refuses_in_dockers_words() {
        let id = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        for (bad, words) in [
            ("Busybox", "invalid reference format: repository name must be lowercase"),
            ("team/App:1", "invalid reference format: repository name must be lowercase"),
            (id, "cannot specify 64-byte hexadecimal strings as a repository name"),
            (&"a".repeat(256), "must not be more than 255 characters"),
            ("", "invalid reference format"),
        ] {
            let error = bad.parse::<Reference>().unwrap_err().to_string();
            assert!(error.contains(words), "{bad}: {error}");
        }
    }

    #[test]
    fn refuses_what_the_grammar_does_not_have() {
        for bad in [
            ":tag",
            "a:",
            "a:.x",
            "a@",
            "a@sha256:00",
            "a//b",
            "/a",
            "a/",
            "-a",
            "a-",
            "a..b",
            "a___b",
            "a._b",
            "a b",
            "a\n",
            "é",
            "https://x/y",
            "host:port/a",
            "[::1/x",
            "[]/x",
            "[::g]/x",
            "a.-b/c",
            "-a.b/c",
            "..",
            "../a",
            "a:b:c",
            "a@sha512:00",
            "a:t@x@y",
        ] {
            assert!(bad.parse::<Reference>().is_err(), "{bad}");
        }
        assert!(format!("a:{}", "t".repeat(129)).parse::<Reference>().is_err());
        assert!(format!("a:{}", "t".repeat(128)).parse::<Reference>().is_ok());
    }

    #[test]
    fn is_stored_in_canonical_form() {
        let json = serde_json::to_string(&parse("busybox:1")).unwrap();
        assert_eq!(json, "\"docker.io/library/busybox:1\"");
        assert_eq!(serde_json::from_str::<Reference>(&json).unwrap(), parse("busybox:1"));
        assert!(serde_json::from_str::<Reference>("\"A B\"").is_err());
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..Default::default() })]

        #[test]
        fn never_panics(text in "\\PC{0,80}") {
            let _ = text.parse::<Reference>();
        }

        #[test]
        fn what_is_printed_parses_to_the_same(
            domain in "((localhost|docker\\.io|index\\.docker\\.io|[A-Z][a-z]{1,4}|[a-z]{1,4}\\.[a-z]{2}|\\[[0-9a-f]{1,2}:[0-9a-f:]{0,4}\\])(:[0-9]{1,4})?/)?",
            path in "(library/|localhost/|a\\.b/)?[a-z0-9]{1,4}((\\.|_|__|-{1,3}|/)[a-z0-9]{1,3}){0,3}",
            tag in "(:[A-Za-z0-9_][A-Za-z0-9_.-]{0,8})?",
            pin in any::<bool>(),
        ) {
            let digest = if pin { format!("@{}", Digest::of(path.as_bytes())) } else { String::new() };
            // A few of these are rightly refused: `0.0_a/0` would be on the host `0.0_a`.
            let parsed = format!("{domain}{path}{tag}{digest}").parse::<Reference>();
            prop_assume!(parsed.is_ok());
            let reference = parsed.unwrap();
            prop_assert_eq!(&parse(&reference.familiar()), &reference);
            prop_assert_eq!(&parse(&reference.canonical()), &reference);
        }
    }
}
