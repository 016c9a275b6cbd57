//! Lists, details and histories of images.

use std::collections::BTreeMap;

use dhow_docker_wire::system::Filters;
use dhow_error::{Error, Result};
use dhow_image::Image;

use crate::answer::{self, Answer};
use crate::query::quoted;
use crate::request::Request;
use crate::translate::{self, glob};
use crate::{Services, time};

/// Filters that clients may use.
const FILTERS: [&str; 6] = ["before", "dangling", "label", "reference", "since", "until"];

/// `GET /images/json`.
pub(crate) async fn list(services: &Services, request: Request) -> Result<Answer> {
    let mut filters = request.query.filters(&FILTERS)?;
    if let Some(name) = request.query.get("filter") {
        filters.0.entry("reference".to_owned()).or_default().push(name.to_owned());
    }
    let wanted = Wanted::read(services, &filters).await?;
    let users = services.engine.image_users();
    let images = services.images.list().await?;
    let summaries = images.iter().filter_map(|image| {
        let names = wanted.names(image)?;
        let containers = users.get(&image.id).map_or(0, Vec::len);
        Some(translate::image_summary(image, names, containers))
    });
    Ok(answer::ok(&summaries.collect::<Vec<_>>()))
}

/// `GET /images/{name}/json`.
pub(crate) async fn inspect(services: &Services, name: &str) -> Result<Answer> {
    Ok(answer::ok(&translate::image_inspect(&services.images.get(name).await?)))
}

/// `GET /images/{name}/history`.
pub(crate) async fn history(services: &Services, name: &str) -> Result<Answer> {
    Ok(answer::ok(&translate::image_history(&services.images.get(name).await?)))
}

/// Which images are wanted.
struct Wanted {
    dangling: Option<bool>,
    labels: Vec<String>,
    references: Vec<String>,
    before_seconds: Option<i64>,
    since_seconds: Option<i64>,
}

impl Wanted {
    async fn read(services: &Services, filters: &Filters) -> Result<Self> {
        let dangling = filters.values("dangling").first().map(|text| boolean(text)).transpose()?;
        let mut before = None;
        for text in filters.values("until") {
            before = Some((time::parse(text)? / 1_000_000_000) as i64);
        }
        for name in filters.values("before") {
            before = Some(services.images.get(name).await?.created_seconds);
        }
        let mut since = None;
        for name in filters.values("since") {
            since = Some(services.images.get(name).await?.created_seconds);
        }
        Ok(Self {
            dangling,
            labels: filters.values("label").to_vec(),
            references: filters.values("reference").to_vec(),
            before_seconds: before,
            since_seconds: since,
        })
    }

    /// The names under which an image is wanted; none if it is not.
    fn names(&self, image: &Image) -> Option<Vec<String>> {
        let dangling = image.references.is_empty();
        let fits = self.dangling.is_none_or(|wanted| wanted == dangling)
            && has_labels(&image.config.config.labels, &self.labels)
            && self.before_seconds.is_none_or(|before| image.created_seconds < before)
            && self.since_seconds.is_none_or(|since| image.created_seconds > since);
        if !fits {
            return None;
        }
        let names = image.references.iter();
        if self.references.is_empty() {
            return Some(names.map(dhow_spec::Reference::familiar).collect());
        }
        let fits = |name: &&dhow_spec::Reference| {
            self.references.iter().any(|pattern| {
                glob::matches(pattern, &name.familiar())
                    || glob::matches(pattern, &name.familiar_repository())
            })
        };
        let names: Vec<_> = names.filter(fits).map(dhow_spec::Reference::familiar).collect();
        if names.is_empty() { None } else { Some(names) }
    }
}

/// Whether every one of `wanted` (`name` or `name=value`) is there.
pub(super) fn has_labels(labels: &BTreeMap<String, String>, wanted: &[String]) -> bool {
    wanted.iter().all(|label| match label.split_once('=') {
        Some((name, value)) => labels.get(name).is_some_and(|found| found == value),
        None => labels.contains_key(label),
    })
}

/// A boolean of a filter.
pub(super) fn boolean(text: &str) -> Result<bool> {
    match text {
        "1" | "true" | "True" | "t" => Ok(true),
        "0" | "false" | "False" | "f" => Ok(false),
        other => Err(Error::invalid(format!("invalid filter 'dangling={}'", quoted(other)))),
    }
}
