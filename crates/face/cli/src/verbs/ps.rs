//! `ps`.

use std::collections::BTreeMap;

use dhow_docker_wire::container::{ContainerSummary, Port};
use dhow_docker_wire::system::Filters;
use serde_json::json;

use crate::arguments::Ps;
use crate::client::{Client, query};
use crate::failure::Failure;
use crate::show::{self, age, table::Table, template::Template};

/// Commands are shortened to this.
const COMMAND_WIDTH: usize = 20;

/// Lists containers.
pub(super) async fn ps(client: &Client, flags: &Ps) -> Result<(), Failure> {
    let filters = serde_json::to_string(&filters(&flags.filter)?)?;
    let last = if flags.latest { Some(1) } else { flags.last }.map(|it| it.to_string());
    let mut pairs = vec![("filters", filters.as_str())];
    if flags.all {
        pairs.push(("all", "1"));
    }
    pairs.extend(last.as_deref().map(|it| ("limit", it)));
    let listed: Vec<ContainerSummary> =
        client.get(&format!("/containers/json{}", query(&pairs))).await?;
    if flags.quiet {
        return listed.iter().try_for_each(|it| show::line(&id(it, flags.no_trunc)));
    }
    if let Some(format) = flags.format.as_deref().filter(|it| *it != "table") {
        let template = Template::parse(if format == "json" { "{{json .}}" } else { format })?;
        return listed
            .iter()
            .try_for_each(|it| show::line(&template.apply(&fields(it, flags.no_trunc))?));
    }
    let headings = ["CONTAINER ID", "IMAGE", "COMMAND", "CREATED", "STATUS", "PORTS", "NAMES"];
    let mut table = Table::new(&headings);
    for container in &listed {
        let image = shown_image(&container.image, flags.no_trunc);
        table.row(vec![
            id(container, flags.no_trunc),
            image,
            command(&container.command, flags.no_trunc),
            age::ago(container.created),
            container.status.clone(),
            ports(&container.ports),
            names(container),
        ]);
    }
    table.print()
}

/// `NAME=VALUE` filters as the API takes them.
pub(super) fn filters(flags: &[String]) -> Result<Filters, Failure> {
    let mut filters = BTreeMap::<String, Vec<String>>::new();
    for flag in flags {
        let (name, value) = flag
            .split_once('=')
            .ok_or_else(|| Failure::new(format!("invalid filter {flag:?}: expected NAME=VALUE")))?;
        filters.entry(name.trim().to_lowercase()).or_default().push(value.trim().to_owned());
    }
    Ok(Filters(filters))
}

/// What a template sees.
fn fields(it: &ContainerSummary, whole: bool) -> serde_json::Value {
    let labels: Vec<_> = it.labels.iter().map(|(name, value)| format!("{name}={value}")).collect();
    let networks: Vec<_> = it.network_settings.networks.keys().cloned().collect();
    let mounts: Vec<_> = it.mounts.iter().map(|it| it.source.clone()).collect();
    let created = jiff::Timestamp::from_second(it.created).unwrap_or_default();
    json!({
        "ID": id(it, whole),
        "Image": it.image,
        "Command": command(&it.command, whole),
        "CreatedAt": created.strftime("%Y-%m-%d %H:%M:%S +0000 UTC").to_string(),
        "RunningFor": age::ago(it.created),
        "Ports": ports(&it.ports),
        "State": it.state,
        "Status": it.status,
        "Names": names(it),
        "Labels": labels.join(","),
        "LocalVolumes": it.mounts.iter().filter(|it| it.kind == "volume").count().to_string(),
        "Mounts": mounts.join(","),
        "Networks": networks.join(","),
        "Size": "0B",
    })
}

fn id(container: &ContainerSummary, whole: bool) -> String {
    if whole { container.id.clone() } else { container.id.chars().take(12).collect() }
}

fn shown_image(image: &str, whole: bool) -> String {
    match image.strip_prefix("sha256:") {
        Some(hex) if !whole => hex.chars().take(12).collect(),
        _ => image.to_owned(),
    }
}

fn command(command: &str, whole: bool) -> String {
    if whole || command.chars().count() <= COMMAND_WIDTH {
        return format!("\"{command}\"");
    }
    format!("\"{}…\"", command.chars().take(COMMAND_WIDTH - 1).collect::<String>())
}

fn names(container: &ContainerSummary) -> String {
    let bare = container.names.iter().map(|name| name.trim_start_matches('/'));
    bare.collect::<Vec<_>>().join(",")
}

/// `0.0.0.0:8080->80/tcp, 81/udp`.
fn ports(ports: &[Port]) -> String {
    let mut ports: Vec<_> = ports.iter().collect();
    ports.sort_by_key(|it| (it.private_port, it.kind.clone(), it.ip.clone(), it.public_port));
    let one = |it: &Port| match (it.public_port, it.ip.contains(':')) {
        (0, _) => format!("{}/{}", it.private_port, it.kind),
        (public, true) => format!("[{}]:{public}->{}/{}", it.ip, it.private_port, it.kind),
        (public, false) => format!("{}:{public}->{}/{}", it.ip, it.private_port, it.kind),
    };
    ports.into_iter().map(one).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_dockers() {
        assert_eq!(command("sleep 1000", false), "\"sleep 1000\"");
        assert_eq!(command("sh -c 'while true; do'", false), "\"sh -c 'while true; …\"");
        let port = |ip: &str, public_port, private_port| Port {
            ip: ip.to_owned(),
            public_port,
            private_port,
            kind: "tcp".to_owned(),
        };
        let list = [port("", 0, 81), port("0.0.0.0", 8080, 80), port("::", 8080, 80)];
        assert_eq!(ports(&list), "0.0.0.0:8080->80/tcp, [::]:8080->80/tcp, 81/tcp");
        assert!(filters(&["x".to_owned()]).is_err());
    }
}
