//! `/containers/{id}/exec` and `/exec/{id}/...`: further commands in running containers.

use std::sync::Arc;

use dhow_docker_wire::exec::{ExecCreate, ExecCreated, ExecInspect, ExecProcess, ExecStart};
use dhow_engine::spec::ConsoleSize;
use dhow_engine::{ExecSpec, ExecView, Streams};
use dhow_error::{Error, Kind, Result};
use hyper::StatusCode;

use crate::answer::{self, Answer};
use crate::detach::Detach;
use crate::request::Request;
use crate::{Services, errors, hijack, translate};

/// `POST /containers/{id}/exec`.
pub(crate) async fn create(
    services: &Arc<Services>,
    request: Request,
    name: &str,
) -> Result<Answer> {
    let spec = spec(request.json().await?)?;
    let id = services.engine.exec_create(name, spec).await?;
    Ok(answer::json(StatusCode::CREATED, &ExecCreated { id }))
}

/// What is asked for, in the engine's words.
fn spec(asked: ExecCreate) -> Result<ExecSpec> {
    if asked.cmd.first().is_none_or(String::is_empty) {
        return Err(Error::invalid("no exec command specified"));
    }
    // A wrong sequence is refused now rather than when nobody can be told any more.
    Detach::parse(Some(asked.detach_keys.as_str()).filter(|keys| !keys.is_empty()))?;
    Ok(ExecSpec {
        console_size: asked.console_size.and_then(translate::console_size),
        cmd: asked.cmd,
        env: asked.env,
        workdir: asked.working_dir,
        user: asked.user,
        tty: asked.tty,
        privileged: asked.privileged,
        attach: Streams {
            stdin: asked.attach_stdin,
            stdout: asked.attach_stdout,
            stderr: asked.attach_stderr,
        },
        detach_keys: asked.detach_keys,
    })
}

/// `POST /exec/{id}/start`. Joined to the command's streams, a command that cannot be executed is
/// told of on the stream: clients take its exit code from [`inspect`] then.
pub(crate) async fn start(
    services: &Arc<Services>,
    mut request: Request,
    id: &str,
) -> Result<Answer> {
    let view = services.engine.exec_inspect(id).await?;
    if view.running {
        return Err(Error::conflict(format!("exec {id} is already running")));
    }
    if view.exit_code.is_some() {
        return Err(Error::conflict(format!("exec {id} has already run")));
    }
    let connection = hijack::Connection::without_body(&mut request);
    let asked: ExecStart = request.json().await?;
    let size = asked.console_size.and_then(translate::console_size);
    let started = services.engine.exec_start(id, !asked.detach, size);
    if asked.detach {
        started.await?;
        return Ok(answer::done());
    }
    let tty = view.spec.tty;
    let keys = Some(view.spec.detach_keys.as_str()).filter(|keys| !keys.is_empty());
    let detach = if tty { Some(Detach::parse(keys)?) } else { None };
    let stdin = view.spec.attach.stdin;
    let outcome = match started.await {
        Err(error) if !is_commands_fault(&error) => return Err(error),
        outcome => outcome,
    };
    Ok(hijack::take_over(connection, tty, move |mut client| async move {
        match outcome {
            Ok(Some(attached)) => {
                hijack::copy(client, attached.stream.into_inner(), detach, stdin).await;
            }
            Ok(None) => {}
            Err(error) => {
                let _ = hijack::complain(&mut client, tty, &errors::message(&error)).await;
            }
        }
    }))
}

/// Whether the exec has run, as far as it got, and has an exit code.
fn is_commands_fault(error: &Error) -> bool {
    matches!(error.kind(), Kind::CommandNotFound | Kind::CommandNotExecutable)
}

/// `POST /exec/{id}/resize`.
pub(crate) async fn resize(services: &Services, request: Request, id: &str) -> Result<Answer> {
    services.engine.exec_resize(id, size(&request)?).await?;
    Ok(answer::status(StatusCode::CREATED))
}

/// `GET /exec/{id}/json`.
pub(crate) async fn inspect(services: &Services, id: &str) -> Result<Answer> {
    Ok(answer::ok(&describe(services.engine.exec_inspect(id).await?)))
}

/// The size of a terminal in a query: `h` rows, `w` columns.
pub(crate) fn size(request: &Request) -> Result<ConsoleSize> {
    let rows = request.query.number("h")?;
    let cols = request.query.number("w")?;
    match (rows, cols) {
        (Some(rows), Some(cols)) => Ok(ConsoleSize { rows, cols }),
        _ => Err(Error::invalid("the terminal's size needs both h and w")),
    }
}

fn describe(view: ExecView) -> ExecInspect {
    let mut words = view.spec.cmd.into_iter();
    ExecInspect {
        id: view.id,
        running: view.running,
        exit_code: view.exit_code.map(i64::from),
        process_config: ExecProcess {
            tty: view.spec.tty,
            entrypoint: words.next().unwrap_or_default(),
            arguments: words.collect(),
            privileged: Some(view.spec.privileged),
            user: view.spec.user,
        },
        open_stdin: view.spec.attach.stdin,
        open_stderr: view.spec.attach.stderr,
        open_stdout: view.spec.attach.stdout,
        can_remove: view.exit_code.is_some(),
        container_id: view.container,
        detach_keys: view.spec.detach_keys,
        pid: view.pid,
    }
}
