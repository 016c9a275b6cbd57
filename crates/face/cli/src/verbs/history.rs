//! `history`.

use dhow_docker_wire::image::HistoryItem;
use serde_json::json;

use crate::arguments::History;
use crate::client::Client;
use crate::failure::Failure;
use crate::show::{self, age, size, table::Table, template::Template};

/// An instruction is cut at this length, as with docker.
const INSTRUCTION_LENGTH: usize = 45;

/// Shows an image's steps, the newest first.
pub(super) async fn history(client: &Client, flags: &History) -> Result<(), Failure> {
    let items: Vec<HistoryItem> = client.get(&format!("/images/{}/history", flags.image)).await?;
    if flags.quiet {
        return items.iter().try_for_each(|item| show::line(&id(item, flags)));
    }
    if let Some(format) = flags.format.as_deref().filter(|it| *it != "table") {
        let template = Template::parse(if format == "json" { "{{json .}}" } else { format })?;
        return items.iter().try_for_each(|it| show::line(&template.apply(&fields(it, flags))?));
    }
    let mut table = Table::new(&["IMAGE", "CREATED", "CREATED BY", "SIZE", "COMMENT"]);
    for item in &items {
        let (created, by) = (created(item, flags), created_by(item, flags));
        table.row(vec![id(item, flags), created, by, bytes(item, flags), item.comment.clone()]);
    }
    table.print()
}

/// What a template sees.
fn fields(item: &HistoryItem, flags: &History) -> serde_json::Value {
    json!({
        "ID": id(item, flags),
        "CreatedSince": created(item, flags),
        "CreatedAt": at(item),
        "CreatedBy": created_by(item, flags),
        "Size": bytes(item, flags),
        "Comment": item.comment,
    })
}

fn id(item: &HistoryItem, flags: &History) -> String {
    match item.id.strip_prefix("sha256:") {
        Some(hex) if !flags.no_trunc => hex.chars().take(12).collect(),
        _ => item.id.clone(),
    }
}

fn created(item: &HistoryItem, flags: &History) -> String {
    match flags.human {
        true if item.created <= 0 => "N/A".to_owned(),
        true => age::ago(item.created),
        false => at(item),
    }
}

fn at(item: &HistoryItem) -> String {
    jiff::Timestamp::from_second(item.created).unwrap_or_default().to_string()
}

fn created_by(item: &HistoryItem, flags: &History) -> String {
    let line = item.created_by.replace(['\t', '\n'], " ");
    if flags.no_trunc || line.chars().count() <= INSTRUCTION_LENGTH {
        return line;
    }
    line.chars().take(INSTRUCTION_LENGTH - 1).chain(['…']).collect()
}

fn bytes(item: &HistoryItem, flags: &History) -> String {
    if flags.human { size::human(item.size) } else { item.size.to_string() }
}
