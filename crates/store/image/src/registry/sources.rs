//! All servers of one repository: mirrors in their order, then the registry. The first that has what is
//! asked for gives it; if none has, the reason of each is told.

use dhow_spec::{Digest, Reference};

use super::error::RegistryError;
use super::hosts::Endpoint;
use super::repository::{Arriving, Received, Registry};
use super::request::Client;
use crate::Credentials;

/// Where a repository is read from.
pub(crate) struct Sources(Vec<Source>);

struct Source {
    registry: Registry,
    resolves: bool,
}

impl Sources {
    /// The repository that `reference` names, at these servers. Credentials are for the registry only.
    pub(crate) fn new(
        client: &Client,
        endpoints: Vec<Endpoint>,
        reference: &Reference,
        credentials: Option<&Credentials>,
    ) -> Self {
        let source = |endpoint: Endpoint| {
            let secret = credentials.filter(|_| !endpoint.is_mirror).cloned();
            let registry = Registry::new(client, reference, secret);
            let registry = registry.served_by(endpoint.root, endpoint.is_mirror, reference);
            Source { registry, resolves: endpoint.resolves }
        };
        Self(endpoints.into_iter().map(source).collect())
    }

    /// The manifest or index with this tag or digest.
    pub(crate) async fn manifest(&self, name: &str) -> Result<Received, RegistryError> {
        let digest: Option<Digest> = name.parse().ok();
        let mut reasons = Vec::new();
        for (number, source) in self.0.iter().enumerate() {
            if !source.resolves && digest.is_none() {
                continue;
            }
            match source.registry.manifest(name).await {
                Ok(received) => {
                    let is_it = digest.is_none_or(|digest| digest == Digest::of(&received.content));
                    // The last one's lie is told by whoever asked.
                    if is_it || number + 1 == self.0.len() {
                        return Ok(received);
                    }
                    let what = format!("something else than {name}");
                    reasons.push(RegistryError::Answer { url: source.registry.address(), what });
                }
                Err(error) => reasons.push(error),
            }
        }
        Err(all(reasons))
    }

    /// A blob's content from this byte on, one attempt at each server.
    pub(crate) async fn blob(&self, digest: &Digest, from: u64) -> Result<Arriving, RegistryError> {
        let mut reasons = Vec::new();
        for source in &self.0 {
            match source.registry.blob(digest, from).await {
                Ok(arriving) => return Ok(arriving),
                Err(error) => reasons.push(error),
            }
        }
        Err(all(reasons))
    }
}

/// The last reason, which is the registry's own, with those before it.
fn all(mut reasons: Vec<RegistryError>) -> RegistryError {
    let Some(last) = reasons.pop() else {
        let what = "nothing, because no server may be asked".to_owned();
        return RegistryError::Answer { url: "hosts.toml".to_owned(), what };
    };
    if reasons.is_empty() {
        return last;
    }
    let before: Vec<_> = reasons.iter().map(|reason| dhow_error::chain(reason)).collect();
    RegistryError::Mirrored { last: Box::new(last), before: before.join("; ") }
}
