//! Images that come in: pulled, imported, loaded.

use std::sync::Arc;

use dhow_error::{Error, Kind, Result};
use dhow_image::{Import, Loaded, Progress, Pull};
use dhow_spec::{Digest, Reference};

use super::credentials::credentials;
use crate::answer::Answer;
use crate::progress::{self, WAITING_LINES};
use crate::query::Query;
use crate::request::Request;
use crate::{Services, translate};

/// `POST /images/create`: pull, or import with `fromSrc`.
pub(crate) async fn create(services: &Arc<Services>, request: Request) -> Result<Answer> {
    match (request.query.get("fromImage"), request.query.get("fromSrc")) {
        (Some(_), None) => pull(services, request).await,
        (None, Some("-")) => import(services, request).await,
        (None, Some(_)) => {
            let error =
                Error::new(Kind::Unsupported, "importing from an address is not offered yet");
            Err(error.with_hint("fetch it and import it from standard input"))
        }
        _ => Err(Error::invalid("either fromImage or fromSrc is needed")),
    }
}

async fn pull(services: &Arc<Services>, request: Request) -> Result<Answer> {
    let reference = wanted(request.query.text("fromImage"), request.query.text("tag"))?;
    let platform = request.query.get("platform").map(translate::platform).transpose()?;
    let credentials = credentials(request.encoded_header("x-registry-auth")?)?;
    let (progress, lines) = Progress::channel(WAITING_LINES);
    let images = services.images.clone();
    let work = async move {
        // It tells of its result itself, as its last lines.
        images.pull(Pull { reference, platform, credentials, progress }).await?;
        Ok(Vec::new())
    };
    progress::show(work, lines).await
}

/// The image that is asked for: `tag` may be a tag or a digest.
pub(super) fn wanted(name: &str, tag: &str) -> Result<Reference> {
    let reference: Reference = name.parse()?;
    if tag.is_empty() {
        return Ok(reference.with_default_tag());
    }
    if tag.contains(':') {
        let digest: Digest = tag.parse()?;
        return Ok(reference.with_digest(digest));
    }
    Ok(reference.with_tag(tag)?)
}

async fn import(services: &Arc<Services>, request: Request) -> Result<Answer> {
    let asked = import_options(&request.query)?;
    let images = services.images.clone();
    let archive = request.archive();
    let (progress, lines) = Progress::channel(WAITING_LINES);
    let work = async move {
        let image = images.import(archive, asked).await?;
        drop(progress);
        Ok(vec![progress::status(image.id.to_string())])
    };
    progress::show(work, lines).await
}

fn import_options(query: &Query) -> Result<Import> {
    let repository = query.text("repo");
    let reference = if repository.is_empty() {
        None
    } else {
        let reference = wanted(repository, query.text("tag"))?;
        if reference.digest().is_some() {
            return Err(Error::invalid("cannot import digest reference"));
        }
        Some(reference)
    };
    Ok(Import {
        reference,
        message: query.get("message").map(str::to_owned),
        changes: query.all("changes").map(str::to_owned).collect(),
        platform: query.get("platform").map(translate::platform).transpose()?,
        ..Import::default()
    })
}

/// `POST /images/load`.
pub(crate) async fn load(services: &Arc<Services>, request: Request) -> Result<Answer> {
    let (progress, lines) = if request.query.flag("quiet", false) {
        (Progress::silent(), Progress::channel(1).1)
    } else {
        Progress::channel(WAITING_LINES)
    };
    let images = services.images.clone();
    let archive = request.archive();
    let work = async move {
        let loaded = images.load(archive, progress).await?;
        Ok(loaded.iter().flat_map(loaded_lines).collect())
    };
    progress::show(work, lines).await
}

fn loaded_lines(loaded: &Loaded) -> Vec<dhow_docker_wire::progress::Progress> {
    if loaded.references.is_empty() {
        return vec![progress::text(format!("Loaded image ID: {}\n", loaded.id))];
    }
    let lines = loaded
        .references
        .iter()
        .map(|reference| progress::text(format!("Loaded image: {}\n", reference.familiar())));
    lines.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_tags_join() {
        let familiar = |name, tag| wanted(name, tag).map(|reference| reference.familiar());
        assert_eq!(familiar("busybox", "").unwrap(), "busybox:latest");
        assert_eq!(familiar("busybox", "1.36").unwrap(), "busybox:1.36");
        assert_eq!(familiar("localhost:5000/a/b:2", "").unwrap(), "localhost:5000/a/b:2");
        let digest = Digest::of(b"x").to_string();
        assert_eq!(familiar("busybox", &digest).unwrap(), format!("busybox@{digest}"));
        assert!(familiar("Busybox", "").is_err() && familiar("busybox", "-").is_err());
    }
}
