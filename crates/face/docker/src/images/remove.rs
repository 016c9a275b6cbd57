//! Names that images get, and images that go.

use std::collections::BTreeMap;
use std::sync::Arc;

use dhow_docker_wire::image::{ImageDeleted, ImagesPruned};
use dhow_engine::Engine;
use dhow_error::{Error, Result};
use dhow_image::{ImageUser, Removed};
use dhow_spec::{Digest, Reference};
use hyper::StatusCode;

use super::look::{boolean, has_labels};
use crate::answer::{self, Answer};
use crate::request::Request;
use crate::{Services, time, to_the_end};

/// How many digits of a container's id people are shown.
const SHORT_ID: usize = 12;

/// `POST /images/{name}/tag`.
pub(crate) async fn tag(services: &Services, request: Request, name: &str) -> Result<Answer> {
    let reference: Reference = request.query.text("repo").parse()?;
    if reference.digest().is_some() {
        return Err(Error::invalid("refusing to create a tag with a digest reference"));
    }
    let reference = match request.query.get("tag") {
        Some(tag) => reference.with_tag(tag)?,
        None => reference.with_default_tag(),
    };
    let (images, name) = (services.images.clone(), name.to_owned());
    to_the_end(async move { images.tag(&name, &reference).await }).await?;
    Ok(answer::status(StatusCode::CREATED))
}

/// `DELETE /images/{name}`.
pub(crate) async fn remove(
    services: &Arc<Services>,
    request: Request,
    name: &str,
) -> Result<Answer> {
    let force = request.query.flag("force", false);
    let (services, name) = (Arc::clone(services), name.to_owned());
    let removed = to_the_end(async move {
        let users = users(&services.engine);
        services.images.remove(&name, force, &users).await
    });
    Ok(answer::ok(&lines(removed.await?)))
}

/// `POST /images/prune`: images that no container uses, and as a rule no name has.
pub(crate) async fn prune(services: &Arc<Services>, request: Request) -> Result<Answer> {
    let filters = request.query.filters(&["dangling", "label", "until"])?;
    let dangling = filters.values("dangling").first().map_or(Ok(true), |text| boolean(text))?;
    let labels = filters.values("label").to_vec();
    let until = filters.values("until").first().map(|text| time::parse(text)).transpose()?;
    let until = until.map(|ns| (ns / 1_000_000_000) as i64);
    let services = Arc::clone(services);
    let pruned = to_the_end(async move {
        let users = users(&services.engine);
        let mut pruned = ImagesPruned::default();
        for image in services.images.list().await? {
            let wanted = users(&image.id).is_empty()
                && (!dangling || image.references.is_empty())
                && has_labels(&image.config.config.labels, &labels)
                && until.is_none_or(|until| image.created_seconds < until);
            if !wanted {
                continue;
            }
            // By force, because an image may have several names.
            match services.images.remove(&image.id.to_string(), true, &users).await {
                Ok(removed) => {
                    // Layers that other images have stay.
                    let gone = image
                        .layers
                        .iter()
                        .filter(|layer| removed.contains(&Removed::Deleted(layer.chain_id)));
                    pruned.space_reclaimed += gone.map(|layer| layer.size_bytes).sum::<u64>();
                    pruned.images_deleted.extend(lines(removed));
                }
                // Someone else was faster, or has begun to use it.
                Err(error) => tracing::debug!(error = %error.chain(), "image was not pruned"),
            }
        }
        Ok(pruned)
    });
    Ok(answer::ok(&pruned.await?))
}

/// Tells which containers use an image.
fn users(engine: &Engine) -> impl Fn(&Digest) -> Vec<ImageUser> + Send + Sync + 'static {
    let users: BTreeMap<Digest, Vec<(String, bool)>> = engine.image_users();
    move |image| {
        let users = users.get(image).map(Vec::as_slice).unwrap_or_default();
        let users = users.iter().map(|(id, running)| ImageUser {
            container: id.chars().take(SHORT_ID).collect(),
            running: *running,
        });
        users.collect()
    }
}

fn lines(removed: Vec<Removed>) -> Vec<ImageDeleted> {
    let lines = removed.into_iter().map(|removed| match removed {
        Removed::Untagged(name) => ImageDeleted { untagged: name, ..ImageDeleted::default() },
        Removed::Deleted(id) => ImageDeleted { deleted: id.to_string(), ..ImageDeleted::default() },
    });
    lines.collect()
}
