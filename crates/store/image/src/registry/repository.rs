//! One repository of one registry: authorization, redirects, retries; manifests and blobs to read.

use bytes::Bytes;
use dhow_spec::{Digest, Reference};
use hyper::body::Incoming;
use hyper::header;
use hyper::{Method, Response, StatusCode, Uri};
use tokio::sync::Mutex;

use super::auth::{Challenge, Token, basic, refresh_form};
use super::backoff::Backoff;
use super::body::Chunks;
use super::error::RegistryError;
use super::origin::{is_private, is_same, registry_url};
use super::request::{Ask, Client, location, parsed, retry_after, said, text_of, wait};
use super::sending::Content;
use crate::Credentials;
use crate::manifest::{ACCEPT, MANIFEST_MAX};

const REDIRECTS_MAX: usize = 5;
/// What is read of an error's body, and of a token.
const SAID_MAX: u64 = 1 << 20;

/// One repository, for the length of a pull or a push.
pub(crate) struct Registry {
    client: Client,
    /// `https://registry-1.docker.io/v2`.
    root: String,
    /// `library/alpine`; empty for the registry as a whole.
    repository: String,
    /// The registry that a mirror is asked about.
    namespace: Option<String>,
    credentials: Option<Credentials>,
    /// What tokens shall allow: `repository:library/alpine:pull,push`. None means whatever the registry
    /// says is needed.
    scopes: Vec<String>,
    /// The header that the registry accepted last.
    authorization: Mutex<Option<String>>,
}

/// A manifest as it came.
#[derive(Debug)]
pub(crate) struct Received {
    pub(crate) content: Bytes,
    pub(crate) media_type: Option<String>,
}

/// A blob as it comes.
#[derive(Debug)]
pub(crate) struct Arriving {
    pub(crate) chunks: Chunks,
    /// At which byte of the blob it begins: what was asked for, or 0 if the registry does not do parts.
    pub(crate) from: u64,
}

impl Registry {
    /// The repository that `reference` names.
    pub(crate) fn new(
        client: &Client,
        reference: &Reference,
        credentials: Option<Credentials>,
    ) -> Self {
        Self {
            client: client.clone(),
            root: registry_url(reference.domain()),
            repository: reference.path().to_owned(),
            namespace: None,
            credentials,
            scopes: Vec::new(),
            authorization: Mutex::default(),
        }
    }

    /// The same, asked of the server whose API begins at `root`: a mirror, or the registry elsewhere.
    pub(super) fn served_by(mut self, root: String, mirror: bool, reference: &Reference) -> Self {
        self.root = root;
        self.namespace = mirror.then(|| reference.domain().to_owned());
        self
    }

    /// Where it is, for people.
    pub(super) fn address(&self) -> String {
        format!("{}/{}", self.root, self.repository)
    }

    /// The same for pushing, and for reading from other repositories of the registry.
    pub(crate) fn for_push<'a>(mut self, sources: impl Iterator<Item = &'a str>) -> Self {
        self.scopes = vec![format!("repository:{}:pull,push", self.repository)];
        self.scopes.extend(sources.map(|source| format!("repository:{source}:pull")));
        self
    }

    /// The registry as a whole, at this host.
    pub(crate) fn at(client: &Client, host: &str, credentials: Option<Credentials>) -> Self {
        Self {
            client: client.clone(),
            root: registry_url(host),
            repository: String::new(),
            namespace: None,
            credentials,
            scopes: Vec::new(),
            authorization: Mutex::default(),
        }
    }

    /// Whether the registry lets us in at all (`GET /v2/`).
    pub(crate) async fn greet(&self) -> Result<(), RegistryError> {
        let ask = Ask { accept: Some("*/*"), ..Ask::default() };
        self.exchange(&parsed(&format!("{}/", self.root))?, &ask).await.map(drop)
    }

    /// The manifest or index with this tag or digest.
    pub(crate) async fn manifest(&self, name: &str) -> Result<Received, RegistryError> {
        let url = self.url(&format!("manifests/{name}"))?;
        let mut backoff = Backoff::default();
        loop {
            let attempt = async {
                let ask = Ask { accept: Some(ACCEPT), ..Ask::default() };
                let (uri, answer) = self.exchange(&url, &ask).await?;
                let media_type = text_of(answer.headers(), header::CONTENT_TYPE);
                let body = Chunks::new(uri.to_string(), answer.into_body());
                let content = body.whole(MANIFEST_MAX).await?;
                Ok(Received { content, media_type })
            };
            match attempt.await {
                Err(error) => wait(&mut backoff, error).await?,
                Ok(received) => return Ok(received),
            }
        }
    }

    /// A blob's content from this byte on, one attempt: the caller knows what it has got already.
    pub(crate) async fn blob(&self, digest: &Digest, from: u64) -> Result<Arriving, RegistryError> {
        let url = self.url(&format!("blobs/{digest}"))?;
        let ask = Ask { accept: Some("*/*"), from, ..Ask::default() };
        let (uri, answer) = self.exchange(&url, &ask).await?;
        let from = match answer.status() {
            StatusCode::PARTIAL_CONTENT => {
                let range = text_of(answer.headers(), header::CONTENT_RANGE).unwrap_or_default();
                if !range.starts_with(&format!("bytes {from}-")) {
                    let (url, what) = (uri.to_string(), "another part than was asked for".into());
                    return Err(RegistryError::Answer { url, what });
                }
                from
            }
            _ => 0,
        };
        Ok(Arriving { chunks: Chunks::new(uri.to_string(), answer.into_body()), from })
    }

    /// An address below the repository.
    pub(super) fn url(&self, path: &str) -> Result<Uri, RegistryError> {
        let namespace = self.namespace.as_ref().map(|name| format!("?ns={name}"));
        let namespace = namespace.unwrap_or_default();
        parsed(&format!("{}/{}/{path}{namespace}", self.root, self.repository))
    }

    /// Asks, showing what authorization there is (to the registry itself and nobody else), and following
    /// redirects. A success is answered with the address that gave it.
    pub(super) async fn exchange(
        &self,
        first: &Uri,
        ask: &Ask<'_>,
    ) -> Result<(Uri, Response<Incoming>), RegistryError> {
        let own = parsed(&self.root)?;
        let mut uri = first.clone();
        let mut has_answered = false;
        let mut redirects = 0;
        loop {
            let is_own = is_same(&uri, &own);
            let shown = if is_own { self.authorization.lock().await.clone() } else { None };
            let answer = self.client.send(&uri, ask, shown.as_deref()).await?;
            let status = answer.status();
            if status.is_success() {
                return Ok((uri, answer));
            }
            if status == StatusCode::UNAUTHORIZED && is_own && !has_answered {
                has_answered = true;
                if let Some(challenge) = text_of(answer.headers(), header::WWW_AUTHENTICATE) {
                    self.answer(&uri, &challenge, shown).await?;
                    continue;
                }
            }
            let may_follow = is_reading(&ask.method) || [307, 308].contains(&status.as_u16());
            if status.is_redirection() && may_follow && redirects < REDIRECTS_MAX {
                redirects += 1;
                uri = location(&uri, answer.headers())?;
                continue;
            }
            return Err(self.refused(&uri, &ask.method, answer).await);
        }
    }

    /// Finds what a challenge asks for, unless another request has found it since `shown` was shown.
    async fn answer(
        &self,
        uri: &Uri,
        challenge: &str,
        shown: Option<String>,
    ) -> Result<(), RegistryError> {
        let mut authorization = self.authorization.lock().await;
        if *authorization != shown {
            return Ok(());
        }
        let unknown = || RegistryError::Challenge {
            url: uri.to_string(),
            challenge: challenge.chars().take(200).collect(),
        };
        if let Some(Credentials::Registry(token)) = &self.credentials {
            *authorization = Some(format!("Bearer {token}")).filter(|_| is_private(uri));
            return Ok(());
        }
        let challenge = Challenge::parse(challenge).ok_or_else(unknown)?;
        let secret = self.credentials.as_ref().and_then(basic);
        *authorization = match challenge {
            // Without credentials there is nothing to show, and the registry's refusal is the answer.
            Challenge::Basic => secret.filter(|_| is_private(uri)),
            Challenge::Bearer { .. } => Some(self.token(&challenge, secret).await?),
        };
        Ok(())
    }

    async fn token(
        &self,
        challenge: &Challenge,
        secret: Option<String>,
    ) -> Result<String, RegistryError> {
        let own = format!("repository:{}:pull", self.repository);
        let default = if self.repository.is_empty() { None } else { Some(own.as_str()) };
        let scopes = challenge.scopes(&self.scopes, default);
        let (url, ask) = match &self.credentials {
            Some(Credentials::Identity(token)) if is_private(&parsed(challenge.realm())?) => {
                let form = refresh_form(challenge, &scopes, token);
                let content_type = Some("application/x-www-form-urlencoded");
                let content = Content::Bytes(form.into());
                let method = Method::POST;
                let accept = Some("application/json");
                (
                    challenge.realm().to_owned(),
                    Ask { method, accept, content_type, content, ..Ask::default() },
                )
            }
            _ => {
                let ask = Ask { accept: Some("application/json"), ..Ask::default() };
                (challenge.token_url(&scopes), ask)
            }
        };
        let uri = parsed(&url)?;
        let secret = secret.filter(|_| is_private(&uri));
        let answer = self.client.send(&uri, &ask, secret.as_deref()).await?;
        if !answer.status().is_success() {
            return Err(self.refused(&uri, &ask.method, answer).await);
        }
        let body = Chunks::new(url.clone(), answer.into_body()).whole(SAID_MAX).await?;
        let token = serde_json::from_slice(&body).ok().and_then(Token::header);
        token.ok_or_else(|| RegistryError::Answer { url, what: "no token".to_owned() })
    }

    pub(super) async fn refused(
        &self,
        uri: &Uri,
        method: &Method,
        answer: Response<Incoming>,
    ) -> RegistryError {
        let (url, status) = (uri.to_string(), answer.status());
        let retry_after = retry_after(answer.headers());
        let body = Chunks::new(url.clone(), answer.into_body()).whole(SAID_MAX).await;
        let said = body.ok().and_then(|body| said(&body)).unwrap_or_default();
        // Whoever writes, or logs in, knows that the place is there.
        let is_secret = self.credentials.is_some()
            || !is_reading(method)
            || !self.scopes.is_empty()
            || self.repository.is_empty();
        RegistryError::Status { url, status, said, is_secret, retry_after }
    }
}

fn is_reading(method: &Method) -> bool {
    method == Method::GET || method == Method::HEAD
}
