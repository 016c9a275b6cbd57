//! `images`, `rmi`, `tag`.

use dhow_docker_wire::image::{ImageDeleted, ImageSummary};
use serde_json::json;

use super::{each, ps::filters};
use crate::arguments::{Images, Rmi, Tag};
use crate::client::{Client, query};
use crate::failure::Failure;
use crate::show::{self, age, size, table::Table, template::Template};

/// Stands where there is no name.
const NONE: &str = "<none>";

/// A line of the list: an image by one of its names.
struct Line<'a> {
    image: &'a ImageSummary,
    repository: &'a str,
    tag: &'a str,
    digest: &'a str,
}

/// Lists images, a line for each name.
pub(super) async fn images(client: &Client, flags: &Images) -> Result<(), Failure> {
    let mut filters = filters(&flags.filter)?;
    if let Some(name) = &flags.name {
        filters.0.entry("reference".to_owned()).or_default().push(name.clone());
    }
    let filters = serde_json::to_string(&filters)?;
    let mut pairs = vec![("filters", filters.as_str())];
    if flags.all {
        pairs.push(("all", "1"));
    }
    let listed: Vec<ImageSummary> = client.get(&format!("/images/json{}", query(&pairs))).await?;
    if flags.quiet {
        return listed.iter().try_for_each(|it| show::line(&id(it, flags.no_trunc)));
    }
    let lines: Vec<Line> = listed.iter().flat_map(lines).collect();
    if let Some(format) = flags.format.as_deref().filter(|it| *it != "table") {
        let template = Template::parse(if format == "json" { "{{json .}}" } else { format })?;
        return lines
            .iter()
            .try_for_each(|it| show::line(&template.apply(&fields(it, flags.no_trunc))?));
    }
    let mut headings = vec!["REPOSITORY", "TAG", "IMAGE ID", "CREATED", "SIZE"];
    if flags.digests {
        headings.insert(2, "DIGEST");
    }
    let mut table = Table::new(&headings);
    for line in &lines {
        let mut row = vec![line.repository.to_owned(), line.tag.to_owned()];
        if flags.digests {
            row.push(line.digest.to_owned());
        }
        row.push(id(line.image, flags.no_trunc));
        row.push(created(line.image));
        row.push(size::human(line.image.size));
        table.row(row);
    }
    table.print()
}

/// The names of an image, or one line without a name.
fn lines(image: &ImageSummary) -> Vec<Line<'_>> {
    let named = image.repo_tags.iter().filter_map(|name| name.rsplit_once(':'));
    let lines: Vec<Line> = named
        .map(|(repository, tag)| {
            let digest = image.repo_digests.iter().filter_map(|it| it.split_once('@'));
            let digest = digest.into_iter().find(|(name, _)| *name == repository);
            Line { image, repository, tag, digest: digest.map_or(NONE, |it| it.1) }
        })
        .collect();
    if !lines.is_empty() {
        return lines;
    }
    let (repository, digest) =
        image.repo_digests.first().and_then(|it| it.split_once('@')).unwrap_or((NONE, NONE));
    vec![Line { image, repository, tag: NONE, digest }]
}

/// What a template sees.
fn fields(line: &Line, whole: bool) -> serde_json::Value {
    let created_at = jiff::Timestamp::from_second(line.image.created).unwrap_or_default();
    json!({
        "ID": id(line.image, whole),
        "Repository": line.repository,
        "Tag": line.tag,
        "Digest": line.digest,
        "CreatedSince": created(line.image),
        "CreatedAt": created_at.strftime("%Y-%m-%d %H:%M:%S +0000 UTC").to_string(),
        "Size": size::human(line.image.size),
    })
}

fn id(image: &ImageSummary, whole: bool) -> String {
    if whole {
        return image.id.clone();
    }
    image.id.trim_start_matches("sha256:").chars().take(12).collect()
}

/// Reproducible images say that they were made in 1970 or not at all.
fn created(image: &ImageSummary) -> String {
    if image.created <= 0 { "N/A".to_owned() } else { age::ago(image.created) }
}

/// Removes images.
pub(super) async fn rmi(client: &Client, flags: &Rmi) -> Result<u8, Failure> {
    let query = &query(&[("force", if flags.force { "1" } else { "0" })]);
    each(&flags.images, |name| async move {
        let answer = match client.delete(&format!("/images/{name}{query}")).await {
            Err(failure) if flags.force && failure.is_not_found() => {
                failure.print();
                return Ok(());
            }
            answer => answer?,
        };
        let gone: Vec<ImageDeleted> = serde_json::from_slice(&answer)?;
        for item in gone {
            if !item.untagged.is_empty() {
                show::line(&format!("Untagged: {}", item.untagged))?;
            }
            if !item.deleted.is_empty() {
                show::line(&format!("Deleted: {}", item.deleted))?;
            }
        }
        Ok(())
    })
    .await
}

/// Gives an image another name.
pub(super) async fn tag(client: &Client, flags: &Tag) -> Result<(), Failure> {
    let (name, tag) = transfer_name(&flags.name);
    let query = query(&[("repo", name), ("tag", tag)]);
    client.command(&format!("/images/{}/tag{query}", flags.image)).await
}

/// `name:tag` apart; a colon before a slash is that of a registry's port.
pub(super) fn transfer_name(name: &str) -> (&str, &str) {
    match name.rsplit_once(':') {
        Some((name, tag)) if !tag.contains('/') => (name, tag),
        _ => (name, ""),
    }
}
