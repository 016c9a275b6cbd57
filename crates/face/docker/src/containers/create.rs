//! `POST /containers/create`.

use dhow_docker_wire::container::{ContainerCreated, CreateRequest};
use dhow_error::{Error, Result};
use hyper::StatusCode;

use crate::answer::{self, Answer};
use crate::request::Request;
use crate::version::ApiVersion;
use crate::{Services, translate};

/// Makes a container; the query has its name.
pub(crate) async fn create(services: &Services, request: Request) -> Result<Answer> {
    let name = request.query.get("name").map(|name| name.trim_start_matches('/').to_owned());
    let platform = request.query.get("platform").map(str::to_owned);
    let client_removes = request.version < ApiVersion::one(25);
    if !request.has_body() {
        return Err(Error::invalid("config cannot be empty in order to create a container"));
    }
    let mut asked: CreateRequest = request.json().await?;
    if client_removes {
        asked.host_config.auto_remove = false;
    }
    let (spec, mut warnings) = translate::container_spec(asked)?;
    if let Some(platform) = platform {
        let image = services.images.get(&spec.image).await?;
        translate::check_platform(&platform, &image)?;
    }
    let created = services.engine.create(name.as_deref(), spec).await?;
    warnings.extend(created.warnings);
    Ok(answer::json(StatusCode::CREATED, &ContainerCreated { id: created.id, warnings }))
}
