//! `images`, `rmi`, `tag`, `image prune`.

use dhow_docker_wire::image::{ImageDeleted, ImageSummary, ImagesPruned};
use serde_json::json;

use super::{each, ps::filters};
use crate::arguments::{ImagePrune, Images, Rmi, Tag};
use crate::client::{Client, query};
use crate::failure::Failure;
use crate::show::{self, age, size, table::Table, template::Template};
use crate::terminal;

/// Stands where there is no name.
const NONE: &str = "<none>";

/// A line of the list: an image by one of its names.
pub(super) struct Line<'a> {
    image: &'a ImageSummary,
    pub(super) repository: &'a str,
    pub(super) tag: &'a str,
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
pub(super) fn lines(image: &ImageSummary) -> Vec<Line<'_>> {
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
pub(super) fn created(image: &ImageSummary) -> String {
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

/// Removes images that no container uses, and as a rule no name has.
pub(super) async fn prune(client: &Client, flags: &ImagePrune) -> Result<(), Failure> {
    let which = match flags.all {
        true => "all images without at least one container associated to them",
        false => "all dangling images",
    };
    let question =
        format!("WARNING! This will remove {which}.\nAre you sure you want to continue?");
    if !flags.force && !terminal::confirm(&question)? {
        return Ok(());
    }
    let mut filters = filters(&flags.filter)?;
    let dangling = if flags.all { "false" } else { "true" };
    filters.0.insert("dangling".to_owned(), vec![dangling.to_owned()]);
    let filters = serde_json::to_string(&filters)?;
    let path = format!("/images/prune{}", query(&[("filters", &filters)]));
    let pruned: ImagesPruned = client.post(&path, &json!({})).await?;
    if !pruned.images_deleted.is_empty() {
        show::line("Deleted Images:")?;
        for item in &pruned.images_deleted {
            match item.untagged.as_str() {
                "" => show::line(&format!("deleted: {}", item.deleted))?,
                name => show::line(&format!("untagged: {name}"))?,
            }
        }
        show::line("")?;
    }
    let won = i64::try_from(pruned.space_reclaimed).unwrap_or(i64::MAX);
    show::line(&format!("Total reclaimed space: {}", size::human(won)))
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
