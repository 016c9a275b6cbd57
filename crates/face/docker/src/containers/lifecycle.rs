//! Verbs that change a container's state, and waiting for its end.

use std::ops::RangeInclusive;

use dhow_docker_wire::container::{WaitError, WaitResponse};
use dhow_docker_wire::dhow::{StartTrace, TraceStep};
use dhow_engine::{RemoveOptions, StopOptions, WaitCondition};
use dhow_error::{Error, Result};

use crate::Services;
use crate::answer::{self, Answer};
use crate::query::quoted;
use crate::request::Request;
use crate::version::ApiVersion;

/// Exit codes of containers that could not be started.
const START_FAILED: RangeInclusive<i32> = 125..=127;

/// `POST /containers/{id}/start`.
pub(crate) async fn start(services: &Services, request: Request, name: &str) -> Result<Answer> {
    if request.query.get("checkpoint").is_some() {
        return Err(Error::invalid("starting from a checkpoint is not offered"));
    }
    services.engine.start(name).await?;
    Ok(answer::done())
}

/// `POST /containers/{id}/stop`.
pub(crate) async fn stop(services: &Services, request: Request, name: &str) -> Result<Answer> {
    let options = stop_options(&request)?;
    services.engine.stop(name, options).await?;
    Ok(answer::done())
}

/// `POST /containers/{id}/restart`.
pub(crate) async fn restart(services: &Services, request: Request, name: &str) -> Result<Answer> {
    let options = stop_options(&request)?;
    services.engine.restart(name, options).await?;
    Ok(answer::done())
}

/// `POST /containers/{id}/kill`.
pub(crate) async fn kill(services: &Services, request: Request, name: &str) -> Result<Answer> {
    services.engine.kill(name, request.query.get("signal")).await?;
    Ok(answer::done())
}

/// `POST /containers/{id}/pause`.
pub(crate) async fn pause(services: &Services, name: &str) -> Result<Answer> {
    services.engine.pause(name).await?;
    Ok(answer::done())
}

/// `POST /containers/{id}/unpause`.
pub(crate) async fn unpause(services: &Services, name: &str) -> Result<Answer> {
    services.engine.unpause(name).await?;
    Ok(answer::done())
}

/// `POST /containers/{id}/rename`.
pub(crate) async fn rename(services: &Services, request: Request, name: &str) -> Result<Answer> {
    let new = request.query.text("name").trim_start_matches('/');
    if new.is_empty() {
        return Err(Error::invalid("neither old nor new names may be empty"));
    }
    services.engine.rename(name, new).await?;
    Ok(answer::done())
}

/// `DELETE /containers/{id}`.
pub(crate) async fn remove(services: &Services, request: Request, name: &str) -> Result<Answer> {
    if request.query.flag("link", false) {
        return Err(Error::invalid("legacy links are not offered"));
    }
    let force = request.query.flag("force", false);
    let options = RemoveOptions { force, volumes: request.query.flag("v", false) };
    services.engine.remove(name, options).await?;
    Ok(answer::done())
}

/// `POST /containers/{id}/wait`: the head of the answer comes at once, when waiting has begun, so that
/// a client can start the container and miss nothing.
pub(crate) async fn wait(services: &Services, request: Request, name: &str) -> Result<Answer> {
    let condition = match request.query.text("condition") {
        _ if request.version < ApiVersion::one(30) => WaitCondition::NotRunning,
        "" | "not-running" => WaitCondition::NotRunning,
        "next-exit" => WaitCondition::NextExit,
        "removed" => WaitCondition::Removed,
        other => return Err(Error::invalid(format!("invalid condition: {}", quoted(other)))),
    };
    let end = services.engine.wait(name, condition).await?;
    Ok(answer::stream("application/json", move |writer| async move {
        let status = end.await;
        // Why a start failed is told by the start: to wait for it was no failure.
        let error = status.error.filter(|_| !START_FAILED.contains(&status.code));
        let error = error.map(|message| WaitError { message });
        let response = WaitResponse { status_code: i64::from(status.code), error };
        let _ = writer.line(&response).await;
    }))
}

/// `GET /dhow/containers/{id}/trace`.
pub(crate) fn trace(services: &Services, name: &str) -> Result<Answer> {
    let id = services.engine.resolve(name)?;
    let trace = services.engine.start_trace(&id)?;
    let mut before = 0;
    let steps = trace.steps.into_iter().map(|(name, at_us)| {
        let micros = at_us.saturating_sub(std::mem::replace(&mut before, at_us));
        let at_ns = trace.begin_ns.saturating_add(at_us.saturating_mul(1000));
        TraceStep { name, at_ns, micros }
    });
    Ok(answer::ok(&StartTrace { id, steps: steps.collect() }))
}

fn stop_options(request: &Request) -> Result<StopOptions> {
    let signal = request.query.get("signal").filter(|_| request.version >= ApiVersion::one(42));
    Ok(StopOptions { timeout_secs: request.query.number("t")?, signal: signal.map(str::to_owned) })
}
