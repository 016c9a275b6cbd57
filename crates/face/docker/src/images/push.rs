//! Images that go out to a registry.

use std::sync::Arc;

use dhow_docker_wire::progress::{Progress as Line, ProgressDetail, PushResult};
use dhow_error::{Error, Result};
use dhow_image::{Progress, Push, Pushed};
use dhow_spec::Reference;

use super::credentials::credentials;
use super::fetch::wanted;
use crate::Services;
use crate::answer::Answer;
use crate::progress::{self, WAITING_LINES};
use crate::request::Request;

/// `POST /images/{name}/push`: the tag that is told, or every one of the repository.
pub(crate) async fn push(services: &Arc<Services>, request: Request, name: &str) -> Result<Answer> {
    let tag = request.query.text("tag");
    let named: Reference = name.parse()?;
    // Clients put the tag into the query; by hand it may stand in the name.
    let all_tags = tag.is_empty() && named.is_name_only();
    let reference = if all_tags { named } else { wanted(name, tag)? };
    let credentials = credentials(request.encoded_header("x-registry-auth")?)?;
    let (progress, lines) = Progress::channel(WAITING_LINES);
    let images = services.images.clone();
    let work = async move {
        let pushed = images.push(Push { reference, all_tags, credentials, progress }).await?;
        pushed.iter().map(result).collect()
    };
    progress::show(work, lines).await
}

/// What was pushed, for programs.
fn result(pushed: &Pushed) -> Result<Line> {
    let result = PushResult {
        tag: pushed.tag.clone(),
        digest: pushed.digest.to_string(),
        size: pushed.size_bytes,
    };
    let aux = serde_json::to_value(result)
        .map_err(|error| Error::internal(format!("cannot write what was pushed: {error}")))?;
    let progress_detail = Some(ProgressDetail::default());
    Ok(Line { progress_detail, aux: Some(aux), ..Line::default() })
}
