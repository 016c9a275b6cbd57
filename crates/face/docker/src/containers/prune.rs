//! `POST /containers/prune`: removes what does not run.

use std::sync::Arc;

use dhow_docker_wire::container::ContainersPruned;
use dhow_engine::{Filters, ListOptions, RemoveOptions, Status};
use dhow_error::Result;

use crate::answer::{self, Answer};
use crate::request::Request;
use crate::{Services, time, to_the_end};

/// Removes the containers that have ended or never started, and fit the filters.
pub(crate) async fn prune(services: &Arc<Services>, request: Request) -> Result<Answer> {
    let asked = request.query.filters(&["label", "until"])?;
    let until = asked.values("until").first().map(|text| time::parse(text)).transpose()?;
    let filters = Filters {
        status: vec![Status::Created, Status::Exited, Status::Dead],
        label: asked.values("label").to_vec(),
        ..Filters::default()
    };
    let options = ListOptions { all: true, limit: None, filters };
    let services = Arc::clone(services);
    let pruned = to_the_end(async move {
        let mut pruned = ContainersPruned::default();
        for summary in services.engine.list(&options).await? {
            if until.is_some_and(|until| summary.created_ns >= until) {
                continue;
            }
            let bytes = services.engine.writable_bytes(&summary.id).await.unwrap_or(0);
            match services.engine.remove(&summary.id, RemoveOptions::default()).await {
                Ok(()) => {
                    pruned.containers_deleted.push(summary.id);
                    pruned.space_reclaimed = pruned.space_reclaimed.saturating_add(bytes);
                }
                // It was started or removed by someone else meanwhile: not ours to complain about.
                Err(error) => tracing::debug!(error = %error.chain(), "container was not pruned"),
            }
        }
        Ok(pruned)
    });
    Ok(answer::ok(&pruned.await?))
}
