//! Which handler answers which method and path.
//!
//! The path comes in pieces, so that names of images may have slashes in them: `name @ ..` takes as many
//! pieces as there are. What Docker has and dhow does not is said so, rather than `page not found`.

use std::sync::Arc;

use dhow_error::{Error, Kind, Result};

use crate::answer::Answer;
use crate::request::Request;
use crate::{Services, build, containers, disk, events, exec, images, networks, system};

/// Answers a request.
pub(crate) async fn route(services: &Arc<Services>, mut request: Request) -> Result<Answer> {
    let path = std::mem::take(&mut request.path);
    let path: Vec<&str> = path.iter().map(String::as_str).collect();
    let method = request.method.clone();
    match (method.as_str(), path.as_slice()) {
        ("GET" | "HEAD", ["_ping"]) => Ok(system::ping(method == hyper::Method::HEAD)),
        ("GET", ["version"]) => Ok(system::version(services)),
        ("GET", ["info"]) => system::info(services).await,
        ("POST", ["auth"]) => images::log_in(services, request).await,
        ("GET", ["system", "df"]) => disk::usage(services).await,
        ("GET", ["events"]) => events::follow(services, request),
        ("POST", ["build"]) => build::build(services, request).await,
        ("GET", ["networks"]) => networks::list(services, &request),
        ("GET", ["networks", name]) => networks::inspect(services, name).await,
        (_, ["containers", rest @ ..]) => container(services, request, rest).await,
        (_, ["exec", id, verb]) => exec(services, request, id, verb).await,
        (_, ["images", rest @ ..]) => image(services, request, rest).await,
        ("GET", ["dhow", "containers", name, "trace"]) => containers::trace(services, name),
        _ => Err(unknown(&path)),
    }
}

async fn container(services: &Arc<Services>, request: Request, path: &[&str]) -> Result<Answer> {
    let method = request.method.clone();
    match (method.as_str(), path) {
        ("GET", ["json"]) => containers::list(services, request).await,
        ("POST", ["create"]) => containers::create(services, request).await,
        ("POST", ["prune"]) => containers::prune(services, request).await,
        ("DELETE", [name]) => containers::remove(services, request, name).await,
        ("GET", [name, "json"]) => containers::inspect(services, request, name).await,
        ("POST", [name, "start"]) => containers::start(services, request, name).await,
        ("POST", [name, "stop"]) => containers::stop(services, request, name).await,
        ("POST", [name, "restart"]) => containers::restart(services, request, name).await,
        ("POST", [name, "kill"]) => containers::kill(services, request, name).await,
        ("POST", [name, "pause"]) => containers::pause(services, name).await,
        ("POST", [name, "unpause"]) => containers::unpause(services, name).await,
        ("POST", [name, "rename"]) => containers::rename(services, request, name).await,
        ("POST", [name, "resize"]) => containers::resize(services, request, name).await,
        ("POST", [name, "wait"]) => containers::wait(services, request, name).await,
        ("GET", [name, "logs"]) => containers::logs(services, request, name).await,
        ("POST", [name, "attach"]) => containers::attach(services, request, name).await,
        ("GET", [name, "stats"]) => containers::stats(services, request, name).await,
        ("GET", [name, "top"]) => containers::top(services, request, name).await,
        ("POST", [name, "exec"]) => exec::create(services, request, name).await,
        ("POST", [_, "update"]) => unsupported("changing the limits of a container"),
        ("GET", [_, "export"]) => unsupported("exporting a container"),
        ("GET", [_, "changes"]) => unsupported("telling what a container changed"),
        ("GET" | "HEAD" | "PUT", [_, "archive"]) => unsupported("copying files of a container"),
        ("GET", [_, "attach", "ws"]) => unsupported("attaching by WebSocket"),
        _ => Err(page_not_found()),
    }
}

async fn exec(services: &Arc<Services>, request: Request, id: &str, verb: &str) -> Result<Answer> {
    match (request.method.as_str(), verb) {
        ("POST", "start") => exec::start(services, request, id).await,
        ("POST", "resize") => exec::resize(services, request, id).await,
        ("GET", "json") => exec::inspect(services, id).await,
        _ => Err(page_not_found()),
    }
}

async fn image(services: &Arc<Services>, request: Request, path: &[&str]) -> Result<Answer> {
    let method = request.method.clone();
    match (method.as_str(), path) {
        ("GET", ["json"]) => images::list(services, request).await,
        ("POST", ["create"]) => images::create(services, request).await,
        ("POST", ["load"]) => images::load(services, request).await,
        ("POST", ["prune"]) => images::prune(services, request).await,
        ("GET", ["get"]) => {
            let names = request.query.all("names").map(str::to_owned).collect();
            images::save(services, &request, names).await
        }
        ("GET", [name @ .., "get"]) => images::save(services, &request, vec![name.join("/")]).await,
        ("GET", ["search"]) => unsupported("searching a registry"),
        ("GET", [name @ .., "json"]) => images::inspect(services, &name.join("/")).await,
        ("GET", [name @ .., "history"]) => images::history(services, &name.join("/")).await,
        ("POST", [name @ .., "tag"]) => images::tag(services, request, &name.join("/")).await,
        ("POST", [name @ .., "push"]) => images::push(services, request, &name.join("/")).await,
        ("DELETE", name @ [_, ..]) => images::remove(services, request, &name.join("/")).await,
        _ => Err(page_not_found()),
    }
}

/// What Docker has at a path that is not served, as far as it is known.
fn unknown(path: &[&str]) -> Error {
    // `docker inspect NAME` asks for one object of each kind in turn, and goes on after a 404 only.
    let what = match path {
        ["volumes", name] if !["create", "prune"].contains(name) => {
            return Error::not_found(format!("get {name}: no such volume"));
        }
        ["plugins", name, "json"] => {
            return Error::not_found(format!("plugin {name:?} not found"));
        }
        ["volumes", ..] => "managing volumes",
        ["networks", ..] => "managing networks",
        ["commit"] => "making an image of a container",
        ["build", "prune"] => "pruning the cache of builds",
        ["session" | "grpc"] => "BuildKit",
        ["distribution", ..] => "asking a registry about an image",
        ["plugins", ..] => "plugins",
        ["swarm" | "nodes" | "services" | "tasks" | "secrets" | "configs", ..] => "swarm mode",
        _ => return page_not_found(),
    };
    Error::new(Kind::Unsupported, format!("{what} is not offered yet"))
}

fn unsupported(what: &str) -> Result<Answer> {
    Err(Error::new(Kind::Unsupported, format!("{what} is not offered yet")))
}

fn page_not_found() -> Error {
    Error::not_found("page not found")
}
