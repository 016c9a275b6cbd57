//! `system df`.

use dhow_docker_wire::container::ContainerSummary;
use dhow_docker_wire::image::ImageSummary;
use dhow_docker_wire::system::DiskUsage;
use serde_json::json;

use super::images::{created, lines};
use crate::arguments::Df;
use crate::client::Client;
use crate::failure::Failure;
use crate::show::{self, age, size, table::Table, template::Template};

/// A line of the summary.
struct Kind {
    name: &'static str,
    total: usize,
    active: usize,
    bytes: i64,
    reclaimable: i64,
}

/// Shows what takes room on the disk.
pub(super) async fn df(client: &Client, flags: &Df) -> Result<(), Failure> {
    let usage: DiskUsage = client.get("/system/df").await?;
    let kinds = kinds(&usage);
    if let Some(format) = flags.format.as_deref().filter(|it| *it != "table") {
        let template = Template::parse(if format == "json" { "{{json .}}" } else { format })?;
        return kinds.iter().try_for_each(|kind| show::line(&template.apply(&fields(kind))?));
    }
    if flags.verbose {
        return verbose(&usage);
    }
    let mut table = Table::new(&["TYPE", "TOTAL", "ACTIVE", "SIZE", "RECLAIMABLE"]);
    for kind in &kinds {
        let (total, active) = (kind.total.to_string(), kind.active.to_string());
        let cells = [kind.name.to_owned(), total, active, size::human(kind.bytes), share(kind)];
        table.row(cells.into());
    }
    table.print()
}

fn kinds(usage: &DiskUsage) -> [Kind; 4] {
    let is_used = |image: &&ImageSummary| image.containers > 0;
    let used = usage.images.iter().filter(is_used);
    let needed: i64 = used.clone().map(|image| image.size - image.shared_size.max(0)).sum();
    let written = |it: &ContainerSummary| it.size_rw.unwrap_or_default();
    let is_live =
        |it: &&ContainerSummary| ["running", "paused", "restarting"].contains(&it.state.as_str());
    let containers = usage.containers.iter();
    let written_live: i64 = containers.clone().filter(is_live).map(written).sum();
    let written_all: i64 = containers.clone().map(written).sum();
    let none = |name| Kind { name, total: 0, active: 0, bytes: 0, reclaimable: 0 };
    [
        Kind {
            name: "Images",
            total: usage.images.len(),
            active: used.count(),
            bytes: usage.layers_size,
            reclaimable: usage.layers_size - needed,
        },
        Kind {
            name: "Containers",
            total: usage.containers.len(),
            active: containers.filter(is_live).count(),
            bytes: written_all,
            reclaimable: written_all - written_live,
        },
        none("Local Volumes"),
        none("Build Cache"),
    ]
}

/// What a template sees.
fn fields(kind: &Kind) -> serde_json::Value {
    json!({
        "Type": kind.name,
        "TotalCount": kind.total.to_string(),
        "Active": kind.active.to_string(),
        "Size": size::human(kind.bytes),
        "Reclaimable": share(kind),
    })
}

/// What could be won, with its share.
fn share(kind: &Kind) -> String {
    let text = size::human(kind.reclaimable);
    match (kind.reclaimable * 100).checked_div(kind.bytes) {
        Some(percent) => format!("{text} ({percent}%)"),
        None => text,
    }
}

/// Each image and each container.
fn verbose(usage: &DiskUsage) -> Result<(), Failure> {
    show::line("Images space usage:\n")?;
    let mut table = Table::new(&[
        "REPOSITORY",
        "TAG",
        "IMAGE ID",
        "CREATED",
        "SIZE",
        "SHARED SIZE",
        "UNIQUE SIZE",
        "CONTAINERS",
    ]);
    for image in &usage.images {
        for line in lines(image) {
            table.row(vec![
                line.repository.to_owned(),
                line.tag.to_owned(),
                short(&image.id),
                created(image),
                size::human(image.size),
                size::human(image.shared_size.max(0)),
                size::human(image.size - image.shared_size.max(0)),
                image.containers.to_string(),
            ]);
        }
    }
    table.print()?;
    show::line("\nContainers space usage:\n")?;
    let mut table =
        Table::new(&["CONTAINER ID", "IMAGE", "COMMAND", "SIZE", "CREATED", "STATUS", "NAMES"]);
    for it in &usage.containers {
        let names: Vec<_> = it.names.iter().map(|name| name.trim_start_matches('/')).collect();
        table.row(vec![
            short(&it.id),
            it.image.clone(),
            format!("\"{}\"", it.command),
            size::human(it.size_rw.unwrap_or_default()),
            age::ago(it.created),
            it.status.clone(),
            names.join(","),
        ]);
    }
    table.print()
}

fn short(id: &str) -> String {
    id.trim_start_matches("sha256:").chars().take(12).collect()
}
