//! What is done to containers that are there: stop, kill, remove, rename, wait.

use dhow_docker_wire::container::{ContainerInspect, WaitResponse};
use hyper::Method;

use super::each;
use crate::arguments::{Kill, Port, Rename, Rm, Stop};
use crate::client::{Body, Client, json, query};
use crate::failure::Failure;
use crate::show;

/// `stop` and `restart`.
pub(super) async fn stop(client: &Client, verb: &str, flags: &Stop) -> Result<u8, Failure> {
    let time = flags.time.map(|it| it.to_string());
    let mut pairs = Vec::new();
    pairs.extend(time.as_deref().map(|time| ("t", time)));
    pairs.extend(flags.signal.as_deref().map(|signal| ("signal", signal)));
    let query = &query(&pairs);
    each(&flags.containers, |name| async move {
        client.command(&format!("/containers/{name}/{verb}{query}")).await?;
        show::line(name)
    })
    .await
}

/// `kill`.
pub(super) async fn kill(client: &Client, flags: &Kill) -> Result<u8, Failure> {
    let query = &query(&[("signal", &flags.signal)]);
    each(&flags.containers, |name| async move {
        client.command(&format!("/containers/{name}/kill{query}")).await?;
        show::line(name)
    })
    .await
}

/// `rm`.
pub(super) async fn rm(client: &Client, flags: &Rm) -> Result<u8, Failure> {
    let on = |it: bool| if it { "1" } else { "0" };
    let query = &query(&[("force", on(flags.force)), ("v", on(flags.volumes))]);
    each(&flags.containers, |name| async move {
        match client.delete(&format!("/containers/{name}{query}")).await {
            // With --force, what is already gone is as it should be; it is told all the same.
            Err(failure) if flags.force && failure.is_not_found() => {
                failure.print();
                Ok(())
            }
            Err(failure) => Err(failure),
            Ok(_) => show::line(name),
        }
    })
    .await
}

/// `pause` and `unpause`.
pub(super) async fn simple(client: &Client, verb: &str, names: &[String]) -> Result<u8, Failure> {
    each(names, |name| async move {
        client.command(&format!("/containers/{name}/{verb}")).await?;
        show::line(name)
    })
    .await
}

/// `wait`: prints exit codes.
pub(super) async fn wait(client: &Client, names: &[String]) -> Result<u8, Failure> {
    each(names, |name| async move {
        let path = format!("/containers/{name}/wait");
        let answer: WaitResponse =
            json(client.send(Method::POST, &path, Body::empty()).await?).await?;
        show::line(&answer.status_code.to_string())
    })
    .await
}

/// `rename`.
pub(super) async fn rename(client: &Client, flags: &Rename) -> Result<(), Failure> {
    let query = query(&[("name", &flags.name)]);
    client.command(&format!("/containers/{}/rename{query}", flags.container)).await
}

/// `port`: `80/tcp -> 0.0.0.0:8080`, or only the address if a port is named.
pub(super) async fn port(client: &Client, flags: &Port) -> Result<(), Failure> {
    let inspected: ContainerInspect =
        client.get(&format!("/containers/{}/json", flags.container)).await?;
    let wanted = flags.port.as_ref().map(|port| match port.contains('/') {
        true => port.clone(),
        false => format!("{port}/tcp"),
    });
    let mut found = false;
    for (port, bindings) in inspected.network_settings.ports {
        if wanted.as_ref().is_some_and(|wanted| *wanted != port) {
            continue;
        }
        for binding in bindings.unwrap_or_default() {
            found = true;
            let address = match binding.host_ip.contains(':') {
                true => format!("[{}]:{}", binding.host_ip, binding.host_port),
                false => format!("{}:{}", binding.host_ip, binding.host_port),
            };
            match wanted {
                Some(_) => show::line(&address)?,
                None => show::line(&format!("{port} -> {address}"))?,
            }
        }
    }
    match wanted {
        Some(port) if !found => {
            Err(Failure::new(format!("no public port '{port}' published for {}", flags.container)))
        }
        _ => Ok(()),
    }
}
