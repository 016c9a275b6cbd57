//! Images that come in and go out: `pull`, `push`, `load`, `save`, `import`, `build`.

mod context;

use std::fs::File;
use std::io::{Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use dhow_spec::Reference;
use http_body_util::BodyExt;
use hyper::Method;
use hyper::body::Incoming;

use super::images::transfer_name;
use crate::arguments::{Build, Import, Load, Pull, Push, Save};
use crate::client::{Body, Client, query};
use crate::failure::Failure;
use crate::show::progress::{self, Output};
use crate::{credentials, show, terminal};

/// Where a pull shows its progress.
#[derive(Debug, Clone, Copy)]
pub(super) enum Shown {
    /// `pull`: on standard output.
    OnStdout,
    /// `run`: on standard error, since standard output is the container's; or not at all.
    OnStderr(bool),
}

/// `pull`.
pub(super) async fn pull(client: &Client, flags: &Pull) -> Result<(), Failure> {
    let shown = if flags.quiet { Shown::OnStderr(true) } else { Shown::OnStdout };
    pull_image(client, &flags.image, flags.platform.as_deref(), shown).await?;
    let (name, tag) = transfer_name(&flags.image);
    match tag {
        "" if !name.contains('@') => show::line(&format!("{name}:latest")),
        _ => show::line(&flags.image),
    }
}

/// Pulls an image. Without a tag, `latest` is meant.
pub(super) async fn pull_image(
    client: &Client,
    image: &str,
    platform: Option<&str>,
    shown: Shown,
) -> Result<(), Failure> {
    let (name, tag) = match image.split_once('@') {
        Some((name, digest)) => (transfer_name(name).0, digest),
        None => transfer_name(image),
    };
    let tag = if tag.is_empty() { "latest" } else { tag };
    let mut pairs = vec![("fromImage", name), ("tag", tag)];
    pairs.extend(platform.map(|platform| ("platform", platform)));
    let path = format!("/images/create{}", query(&pairs));
    let body = Body::empty().with_registry_auth(credentials::header_for(image));
    let response = client.send(Method::POST, &path, body).await?;
    let output = match shown {
        Shown::OnStdout => Output::Stdout,
        Shown::OnStderr(false) => Output::Stderr,
        Shown::OnStderr(true) => Output::Nowhere,
    };
    progress::follow(response.into_body(), output).await?;
    Ok(())
}

/// `push`.
pub(super) async fn push(client: &Client, flags: &Push) -> Result<(), Failure> {
    let reference: Reference = flags.image.parse()?;
    if reference.digest().is_some() {
        return Err(Failure::new("cannot push a digest reference")
            .with_hint("give the image a tag with `dhow tag` and push that"));
    }
    let name = reference.without_tag().familiar();
    let tag = match (flags.all_tags, reference.tag()) {
        (true, Some(_)) => return Err(Failure::new("tag can't be used with --all-tags/-a")),
        (true, None) => "",
        (false, Some(tag)) => tag,
        (false, None) => {
            if !flags.quiet {
                show::line("Using default tag: latest")?;
            }
            "latest"
        }
    };
    let pairs = [("tag", tag)];
    let query = query(if flags.all_tags { &[] } else { &pairs });
    let body = Body::empty().with_registry_auth(credentials::header_for(&flags.image));
    let response = client.send(Method::POST, &format!("/images/{name}/push{query}"), body).await?;
    let output = if flags.quiet { Output::Nowhere } else { Output::Stdout };
    progress::follow(response.into_body(), output).await?;
    match flags.quiet {
        true if flags.all_tags => show::line(&reference.repository()),
        true => show::line(&reference.with_default_tag().canonical()),
        false => Ok(()),
    }
}

/// `load`.
pub(super) async fn load(client: &Client, flags: &Load) -> Result<(), Failure> {
    let source: Box<dyn Read + Send> = match &flags.input {
        Some(path) => open(path)?,
        None if terminal::stdin_is_terminal() => {
            return Err(Failure::new("requested load from stdin, but stdin is empty")
                .with_hint("name the archive with -i FILE, or pipe it in"));
        }
        None => Box::new(std::io::stdin()),
    };
    let path = format!("/images/load{}", query(&[("quiet", if flags.quiet { "1" } else { "0" })]));
    let response = client.send(Method::POST, &path, Body::tar(source)).await?;
    progress::follow(response.into_body(), Output::Stdout).await?;
    Ok(())
}

/// `save`. A file gets its name when all of it is there.
pub(super) async fn save(client: &Client, flags: &Save) -> Result<(), Failure> {
    if flags.output.is_none() && terminal::stdout_is_terminal() {
        return Err(Failure::new("cowardly refusing to save to a terminal")
            .with_hint("use the -o flag or redirect"));
    }
    let format = flags.format.trim_end_matches("-archive");
    let mut pairs = vec![("format", format)];
    pairs.extend(flags.images.iter().map(|name| ("names", name.as_str())));
    let path = format!("/images/get{}", query(&pairs));
    let body = client.send(Method::GET, &path, Body::empty()).await?.into_body();
    let Some(output) = &flags.output else {
        return copy(body, &mut std::io::stdout().lock()).await;
    };
    let said =
        |error: std::io::Error| Failure::new(format!("cannot write {}: {error}", output.display()));
    // A device or a pipe is written to, not replaced.
    if std::fs::metadata(output).is_ok_and(|it| !it.is_file()) {
        return copy(body, &mut File::options().write(true).open(output).map_err(said)?).await;
    }
    let mut name = output.as_os_str().to_owned();
    name.push(format!(".{}.part", std::process::id()));
    let part = Path::new(&name);
    let mut options = File::options();
    let mut file = options.write(true).create_new(true).mode(0o600).open(part).map_err(said)?;
    let written = match copy(body, &mut file).await {
        Ok(()) => std::fs::rename(part, output).map_err(said),
        Err(failure) => Err(failure),
    };
    if written.is_err() {
        let _ = std::fs::remove_file(part);
    }
    written
}

/// Writes a body as it comes. One that ends early is a failure.
async fn copy(mut body: Incoming, writer: &mut impl Write) -> Result<(), Failure> {
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| {
            Failure::new(format!("the archive ended early: {error}"))
                .with_hint("the daemon's log says why")
        })?;
        if let Ok(piece) = frame.into_data() {
            writer.write_all(&piece)?;
        }
    }
    Ok(writer.flush()?)
}

/// `import`: prints the image's id.
pub(super) async fn import(client: &Client, flags: &Import) -> Result<(), Failure> {
    let source: Box<dyn Read + Send> = match flags.source.as_str() {
        "-" => Box::new(std::io::stdin()),
        path => open(Path::new(path))?,
    };
    let (name, tag) = transfer_name(flags.name.as_deref().unwrap_or_default());
    let mut pairs = vec![("fromSrc", "-"), ("repo", name), ("tag", tag)];
    pairs.extend(flags.message.as_deref().map(|message| ("message", message)));
    pairs.extend(flags.change.iter().map(|change| ("changes", change.as_str())));
    let path = format!("/images/create{}", query(&pairs));
    let response = client.send(Method::POST, &path, Body::tar(source)).await?;
    progress::follow(response.into_body(), Output::Stdout).await?;
    Ok(())
}

/// `build`.
pub(super) async fn build(client: &Client, flags: &Build) -> Result<(), Failure> {
    let (context, dockerfile) = match flags.context.as_str() {
        "-" => {
            let file = flags.file.as_ref().map(|path| path.to_string_lossy().into_owned());
            (Body::tar(std::io::stdin()), file.unwrap_or_else(|| "Dockerfile".to_owned()))
        }
        folder => {
            let context = context::Context::open(Path::new(folder), flags.file.as_deref())?;
            let dockerfile = context.dockerfile().to_owned();
            (Body::tar(context.into_reader()?), dockerfile)
        }
    };
    let arguments = serde_json::to_string(&pairs_as_map(&flags.build_arg))?;
    let labels = serde_json::to_string(&pairs_as_map(&flags.label))?;
    let mut pairs = vec![
        ("dockerfile", dockerfile.as_str()),
        ("buildargs", &arguments),
        ("labels", &labels),
        ("q", if flags.quiet { "1" } else { "0" }),
    ];
    pairs.extend(flags.tag.iter().map(|tag| ("t", tag.as_str())));
    pairs.extend(flags.target.as_deref().map(|target| ("target", target)));
    let path = format!("/build{}", query(&pairs));
    let response = client.send(Method::POST, &path, context).await?;
    let output = if flags.quiet { Output::Nowhere } else { Output::Stdout };
    let aux = progress::follow(response.into_body(), output).await?;
    let id = aux.as_ref().and_then(|aux| aux.get("ID")?.as_str());
    match id {
        Some(id) if flags.quiet => show::line(id),
        _ => Ok(()),
    }
}

/// `NAME=VALUE` flags as a map; a name alone takes our environment's value, or null.
fn pairs_as_map(flags: &[String]) -> serde_json::Value {
    let pair = |flag: &String| match flag.split_once('=') {
        Some((name, value)) => (name.to_owned(), value.into()),
        None => (flag.clone(), std::env::var(flag).ok().into()),
    };
    serde_json::Value::Object(flags.iter().map(pair).collect())
}

fn open(path: &Path) -> Result<Box<dyn Read + Send>, Failure> {
    match File::open(path) {
        Ok(file) => Ok(Box::new(file)),
        Err(error) => Err(Failure::new(format!("cannot open {}: {error}", path.display()))),
    }
}
