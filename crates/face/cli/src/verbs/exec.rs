//! `exec`.

use dhow_docker_wire::exec::{ExecCreate, ExecCreated, ExecInspect, ExecStart};
use hyper::Method;

use crate::arguments::ExecArguments;
use crate::attach::{self, Ended, Joined};
use crate::client::{Body, Client, collect};
use crate::container::environment;
use crate::failure::Failure;
use crate::terminal;

/// Runs a command in a running container; its exit code.
pub(super) async fn exec(client: &Client, flags: &ExecArguments) -> Result<u8, Failure> {
    let Some((container, command)) = flags.words.split_first() else {
        return Err(Failure::new("exec needs a container and a command"));
    };
    if flags.tty && flags.interactive && !flags.detach && !terminal::stdin_is_terminal() {
        return Err(Failure::new("the input device is not a TTY").with_hint("leave -t out"));
    }
    let keys = attach::DetachKeys::parse(flags.detach_keys.as_deref())?;
    let console_size = terminal::size().filter(|_| flags.tty);
    let console_size = console_size.map(|(rows, columns)| [rows.into(), columns.into()]);
    let request = ExecCreate {
        user: flags.user.clone().unwrap_or_default(),
        privileged: flags.privileged,
        tty: flags.tty,
        console_size,
        attach_stdin: flags.interactive && !flags.detach,
        attach_stdout: !flags.detach,
        attach_stderr: !flags.detach,
        detach: flags.detach,
        detach_keys: flags.detach_keys.clone().unwrap_or_default(),
        env: environment(&flags.env_file, &flags.env)?,
        working_dir: flags.workdir.clone().unwrap_or_default(),
        cmd: command.to_vec(),
    };
    let created: ExecCreated =
        client.post(&format!("/containers/{container}/exec"), &request).await?;
    let start = ExecStart { detach: flags.detach, tty: flags.tty, console_size };
    let path = format!("/exec/{}/start", created.id);
    if flags.detach {
        let response = client.send(Method::POST, &path, Body::json(&start)?).await;
        collect(response.map_err(with_code)?.into_body()).await?;
        return Ok(0);
    }
    let stream = client.hijack(&path, Body::json(&start)?).await.map_err(with_code)?;
    let _size = match flags.tty {
        true => Some(attach::follow_size(client, &format!("/exec/{}/resize", created.id))?),
        false => None,
    };
    let joined = Joined { stdin: flags.interactive, tty: flags.tty, keys };
    if attach::join(stream, joined).await? == Ended::Detached {
        return Ok(0);
    }
    let inspected: ExecInspect = client.get(&format!("/exec/{}/json", created.id)).await?;
    Ok(inspected.exit_code.map_or(0, |code| u8::try_from(code & 0xff).unwrap_or(1)))
}

/// A command that cannot be found ends as it would in a shell; any other that cannot be started, for
/// want of its user or folder, with 126. An unknown or paused container is no matter of the command.
fn with_code(failure: Failure) -> Failure {
    let said = |words: &str| failure.message.contains(words);
    let about_folder = said("chdir to cwd");
    if !about_folder && (said("executable file not found") || said("no such file or directory")) {
        return failure.with_exit_code(127);
    }
    let words = ["unable to find user", "unable to find group", "permission denied", "exec: "];
    match about_folder || words.iter().any(|it| said(it)) {
        true => failure.with_exit_code(126),
        false => failure,
    }
}
