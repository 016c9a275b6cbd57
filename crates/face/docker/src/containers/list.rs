//! Lists and details of containers.

use dhow_docker_wire::container::ContainerSummary;
use dhow_docker_wire::system::Filters as WireFilters;
use dhow_engine::{Filters, ListOptions, Status};
use dhow_error::{Error, Result};

use crate::answer::{self, Answer};
use crate::query::quoted;
use crate::request::Request;
use crate::{Services, translate};

/// Filters that clients may use.
const FILTERS: [&str; 10] =
    ["ancestor", "before", "exited", "id", "label", "name", "network", "since", "status", "volume"];

/// `GET /containers/json`.
pub(crate) async fn list(services: &Services, request: Request) -> Result<Answer> {
    let asked = request.query.filters(&FILTERS)?;
    let limit = request.query.number::<i64>("limit")?.and_then(|limit| usize::try_from(limit).ok());
    let limit = limit.filter(|limit| *limit > 0);
    let options = ListOptions {
        // Who asks for a state means containers in that state.
        all: request.query.flag("all", false)
            || limit.is_some()
            || !asked.values("status").is_empty(),
        limit,
        filters: filters(&asked)?,
    };
    let sizes = request.query.flag("size", false);
    Ok(answer::ok(&summaries(services, &options, sizes).await?))
}

/// Lines of a list, perhaps with how much room each container takes.
pub(crate) async fn summaries(
    services: &Services,
    options: &ListOptions,
    sizes: bool,
) -> Result<Vec<ContainerSummary>> {
    let mut list = Vec::new();
    for summary in services.engine.list(options).await? {
        let mut line = translate::container_summary(&summary);
        if sizes {
            let (rw, root) = sizes_of(services, &summary.id).await?;
            line.size_rw = Some(rw);
            line.size_root_fs = Some(root);
        }
        list.push(line);
    }
    Ok(list)
}

/// `GET /containers/{id}/json`.
pub(crate) async fn inspect(services: &Services, request: Request, name: &str) -> Result<Answer> {
    let view = services.engine.inspect(name).await?;
    let mut details = translate::container_inspect(&view);
    if request.query.flag("size", false) {
        let (rw, root) = sizes_of(services, &view.id).await?;
        details.size_rw = Some(rw);
        details.size_root_fs = Some(root);
    }
    Ok(answer::ok(&details))
}

/// Bytes that a container wrote, and those together with its image's.
async fn sizes_of(services: &Services, id: &str) -> Result<(i64, i64)> {
    let written = services.engine.writable_bytes(id).await?;
    let view = services.engine.inspect(id).await?;
    let image = services.images.get(&view.image.to_string()).await;
    // The image may have been removed by force.
    let below = image.map_or(0, |image| image.size_bytes);
    Ok((written as i64, written.saturating_add(below) as i64))
}

/// Docker's filters in the engine's words.
pub(super) fn filters(asked: &WireFilters) -> Result<Filters> {
    let values = |name: &str| asked.values(name).to_vec();
    let one = |name: &str| match asked.values(name) {
        [] => Ok(None),
        [value] => Ok(Some(value.clone())),
        _ => Err(Error::invalid(format!("filter {name} takes one container"))),
    };
    let statuses = asked.values("status").iter().map(|text| status(text));
    let codes = asked.values("exited").iter().map(|text| {
        text.parse().map_err(|_| Error::invalid(format!("invalid filter 'exited={text}'")))
    });
    Ok(Filters {
        id: values("id"),
        name: values("name"),
        status: statuses.collect::<Result<_>>()?,
        label: values("label"),
        ancestor: values("ancestor"),
        exited: codes.collect::<Result<_>>()?,
        network: values("network"),
        volume: values("volume"),
        before: one("before")?,
        since: one("since")?,
    })
}

fn status(text: &str) -> Result<Status> {
    use Status::{Created, Dead, Exited, Paused, Removing, Restarting, Running};
    [Created, Running, Paused, Restarting, Exited, Removing, Dead]
        .into_iter()
        .find(|status| status.as_str() == text)
        .ok_or_else(|| Error::invalid(format!("invalid filter 'status={}'", quoted(text))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filters_are_checked() {
        let read = |json: &str| filters(&serde_json::from_str(json).unwrap());
        let good = read(r#"{"status":["running"],"exited":["137"],"before":["x"]}"#).unwrap();
        assert_eq!((good.status, good.exited), (vec![Status::Running], vec![137]));
        assert_eq!(good.before.as_deref(), Some("x"));
        assert!(read(r#"{"status":["up"]}"#).is_err());
        assert!(read(r#"{"exited":["x"]}"#).is_err());
        assert!(read(r#"{"since":["x","y"]}"#).is_err());
    }
}
