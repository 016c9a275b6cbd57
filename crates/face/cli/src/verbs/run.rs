//! `run`, `create`, `start`.

use std::path::Path;

use dhow_docker_wire::container::{
    ContainerCreated, ContainerInspect, CreateRequest, WaitResponse,
};
use hyper::Method;

use crate::arguments::{CreateArguments, RunArguments, Start};
use crate::attach::{self, Ended, Joined};
use crate::client::{Body, Client, json, query};
use crate::container::{Attached, attached, request};
use crate::failure::Failure;
use crate::show;

use super::trace::Trace;
use super::transfer;

/// Creates a container, starts it, and stays with it unless it is detached.
pub(super) async fn run(client: &Client, flags: &RunArguments) -> Result<u8, Failure> {
    let outcome = run_container(client, flags).await;
    // Whatever fails before the container's command runs is dhow's failure: 125, unless it is known
    // better.
    outcome.map_err(|failure| match failure.exit_code {
        1 => failure.with_exit_code(125),
        _ => failure,
    })
}

async fn run_container(client: &Client, flags: &RunArguments) -> Result<u8, Failure> {
    let mut trace = Trace::begin();
    if flags.detach && flags.create.rm && !flags.create.attach.is_empty() {
        return Err(Failure::new("--detach and --attach exclude each other"));
    }
    let attached = attached(&flags.create, flags.detach)?;
    let request = request(&flags.create, attached)?;
    let id = create_container(client, &flags.create, &request).await?;
    trace.step("created");
    if flags.detach {
        start_container(client, &id).await?;
        trace.print(client, &id).await?;
        show::line(&id)?;
        return Ok(0);
    }
    let session = Session {
        client,
        id: &id,
        tty: flags.create.tty,
        attached,
        detach_keys: flags.detach_keys.as_deref(),
        passes_signals: flags.sig_proxy && !flags.create.tty,
        until: if flags.create.rm { "removed" } else { "next-exit" },
    };
    session.start_and_stay(trace).await
}

/// `create`: creates and prints the id.
pub(super) async fn create(client: &Client, flags: &CreateArguments) -> Result<(), Failure> {
    let attached = attached(flags, false)?;
    let id = create_container(client, flags, &request(flags, attached)?).await?;
    show::line(&id)
}

/// `start`: starts containers; with `-a` or `-i` one, staying with it.
pub(super) async fn start(client: &Client, flags: &Start) -> Result<u8, Failure> {
    if !flags.attach && !flags.interactive {
        return super::each(&flags.containers, |name| async move {
            start_container(client, name).await?;
            show::line(name)
        })
        .await;
    }
    let [name] = &flags.containers[..] else {
        return Err(Failure::new("only one container can be started and attached"));
    };
    let inspected: ContainerInspect = client.get(&format!("/containers/{name}/json")).await?;
    let attached = Attached {
        stdin: flags.interactive && inspected.config.open_stdin,
        stdout: true,
        stderr: true,
    };
    let session = Session {
        client,
        id: &inspected.id,
        tty: inspected.config.tty,
        attached,
        detach_keys: flags.detach_keys.as_deref(),
        passes_signals: !inspected.config.tty,
        until: if inspected.host_config.auto_remove { "removed" } else { "next-exit" },
    };
    session.start_and_stay(Trace::begin()).await
}

/// Somebody's stay with a container, from before its start to its end.
struct Session<'a> {
    client: &'a Client,
    id: &'a str,
    tty: bool,
    attached: Attached,
    detach_keys: Option<&'a str>,
    passes_signals: bool,
    until: &'a str,
}

impl Session<'_> {
    /// Attaches and waits first, so that neither a byte nor the exit code is missed; then starts.
    async fn start_and_stay(&self, mut trace: Trace) -> Result<u8, Failure> {
        let keys = attach::DetachKeys::parse(self.detach_keys)?;
        let wait = format!("/containers/{}/wait?condition={}", self.id, self.until);
        let (stream, waiting) =
            tokio::join!(self.attach(), self.client.send(Method::POST, &wait, Body::empty()));
        let (stream, waiting) = (stream?, waiting?);
        trace.step("attached");
        let _signals = match self.passes_signals {
            true => Some(attach::pass_signals_on(self.client, self.id)?),
            false => None,
        };
        start_container(self.client, self.id).await?;
        trace.step("started");
        let _size = match self.tty {
            true => {
                let path = format!("/containers/{}/resize", self.id);
                Some(attach::follow_size(self.client, &path)?)
            }
            false => None,
        };
        let tracing = trace.fetch(self.client, self.id);
        if let Some(stream) = stream {
            let joined = Joined { stdin: self.attached.stdin, tty: self.tty, keys };
            if attach::join(stream, joined).await? == Ended::Detached {
                return Ok(0);
            }
        }
        trace.step("output ended");
        let answer: WaitResponse = json(waiting).await?;
        trace.step("exit code known");
        trace.print_fetched(tracing.await);
        match answer.error.filter(|error| !error.message.is_empty()) {
            Some(error) => Err(Failure::new(error.message)),
            None => Ok(u8::try_from(answer.status_code & 0xff).unwrap_or(125)),
        }
    }

    /// The stream of those of its streams that are wanted; `None` if none is.
    async fn attach(&self) -> Result<Option<crate::client::Hijacked>, Failure> {
        let Attached { stdin, stdout, stderr } = self.attached;
        if !stdin && !stdout && !stderr {
            return Ok(None);
        }
        let on = |it: bool| if it { "1" } else { "0" };
        let query = query(&[
            ("stream", "1"),
            ("stdin", on(stdin)),
            ("stdout", on(stdout)),
            ("stderr", on(stderr)),
            ("detachKeys", self.detach_keys.unwrap_or_default()),
        ]);
        let path = format!("/containers/{}/attach{query}", self.id);
        self.client.hijack(&path, Body::empty()).await.map(Some)
    }
}

/// Starts a container; failures of its command get the exit codes that shells give them.
async fn start_container(client: &Client, id: &str) -> Result<(), Failure> {
    client.command(&format!("/containers/{id}/start")).await.map_err(|failure| {
        let said = |words: &[&str]| words.iter().any(|it| failure.message.contains(it));
        let code = if said(&["executable file not found", "no such file or directory"]) {
            127
        } else if said(&[
            "permission denied",
            "not a directory",
            "is a directory",
            "exec format error",
        ]) {
            126
        } else {
            failure.exit_code
        };
        // An unknown container, a taken port: what is said there is not about a command.
        if failure.status == 400 { failure.with_exit_code(code) } else { failure }
    })
}

/// Creates a container, pulling its image as `--pull` says; prints warnings; its id.
async fn create_container(
    client: &Client,
    flags: &CreateArguments,
    request: &CreateRequest,
) -> Result<String, Failure> {
    if let Some(file) = flags.cidfile.as_deref().filter(|file| file.exists()) {
        let file = file.display();
        let message = format!(
            "container ID file found, make sure the other container isn't running or delete {file}"
        );
        return Err(Failure::new(message));
    }
    let image = &request.config.image;
    let pull = async || {
        eprintln!("Unable to find image '{image}' locally");
        transfer::pull_image(
            client,
            image,
            flags.platform.as_deref(),
            transfer::Shown::OnStderr(flags.quiet),
        )
        .await
    };
    if flags.pull == "always" {
        transfer::pull_image(
            client,
            image,
            flags.platform.as_deref(),
            transfer::Shown::OnStderr(flags.quiet),
        )
        .await?;
    }
    let mut pairs = Vec::new();
    pairs.extend(flags.name.as_deref().map(|name| ("name", name)));
    pairs.extend(flags.platform.as_deref().map(|platform| ("platform", platform)));
    let path = format!("/containers/create{}", query(&pairs));
    let created: Result<ContainerCreated, Failure> = client.post(&path, request).await;
    let created = match created {
        Err(failure)
            if failure.is_not_found() && flags.pull == "missing" && is_about_image(&failure) =>
        {
            pull().await?;
            client.post(&path, request).await?
        }
        created => created?,
    };
    for warning in &created.warnings {
        eprintln!("WARNING: {warning}");
    }
    if let Some(file) = &flags.cidfile {
        write_id(file, &created.id)?;
    }
    Ok(created.id)
}

/// A missing container of `--network container:X` is not found, too; no pull helps there.
fn is_about_image(failure: &Failure) -> bool {
    failure.message.to_ascii_lowercase().contains("no such image")
}

fn write_id(file: &Path, id: &str) -> Result<(), Failure> {
    std::fs::write(file, id).map_err(|error| {
        Failure::new(format!("cannot write the container's id to {}: {error}", file.display()))
    })
}
