//! `version`, `info`.

use dhow_docker_wire::API_VERSION;
use dhow_docker_wire::system::{Info, Version};
use serde_json::json;

use crate::arguments::Format;
use crate::client::Client;
use crate::failure::Failure;
use crate::show::{self, size, template::Template};

/// Shows both versions; the client's also if no daemon answers.
pub(super) async fn version(client: &Client, flags: &Format) -> Result<(), Failure> {
    let server: Result<Version, Failure> = client.get("/version").await;
    let own = json!({
        "Version": env!("CARGO_PKG_VERSION"),
        "ApiVersion": API_VERSION,
        "Os": "linux",
        "Arch": std::env::consts::ARCH.replace("x86_64", "amd64"),
    });
    if let Some(format) = &flags.format {
        let template = Template::parse(format)?;
        let (server, failure) = match server {
            Ok(server) => (serde_json::to_value(server)?, None),
            Err(failure) => (serde_json::Value::Null, Some(failure)),
        };
        show::line(&template.apply(&json!({"Client": own, "Server": server}))?)?;
        return failure.map_or(Ok(()), Err);
    }
    show::line("Client: dhow")?;
    show::line(&format!(" Version:           {}", env!("CARGO_PKG_VERSION")))?;
    show::line(&format!(" API version:       {API_VERSION}"))?;
    show::line(&format!(" OS/Arch:           linux/{}", own["Arch"].as_str().unwrap_or_default()))?;
    show::line(&format!(" Daemon:            {}", client.host()))?;
    let server = server?;
    show::line("\nServer: dhow")?;
    show::line(&format!(" Version:           {}", server.version))?;
    show::line(&format!(
        " API version:       {} (minimum version {})",
        server.api_version, server.min_api_version
    ))?;
    show::line(&format!(" OS/Arch:           {}/{}", server.os, server.arch))?;
    show::line(&format!(" Kernel:            {}", server.kernel_version))
}

/// Shows what the daemon knows of itself and the machine.
pub(super) async fn info(client: &Client, flags: &Format) -> Result<(), Failure> {
    let info: Info = client.get("/info").await?;
    if let Some(format) = &flags.format {
        let template = Template::parse(format)?;
        return show::line(&template.apply(&serde_json::to_value(info)?)?);
    }
    let memory = size::human(i64::try_from(info.mem_total).unwrap_or(i64::MAX));
    let lines = [
        ("Daemon", client.host()),
        ("Server version", info.server_version),
        ("Containers", info.containers.to_string()),
        (" Running", info.containers_running.to_string()),
        (" Paused", info.containers_paused.to_string()),
        (" Stopped", info.containers_stopped.to_string()),
        ("Images", info.images.to_string()),
        ("Storage driver", info.driver),
        ("Logging driver", info.logging_driver),
        ("Cgroup driver", info.cgroup_driver),
        ("Cgroup version", info.cgroup_version),
        ("Security options", info.security_options.join(", ")),
        ("Kernel version", info.kernel_version),
        ("Operating system", info.operating_system),
        ("Architecture", info.architecture),
        ("CPUs", info.n_cpu.to_string()),
        ("Total memory", memory),
        ("Name", info.name),
        ("Root folder", info.docker_root_dir),
        ("Live restore", info.live_restore_enabled.to_string()),
    ];
    for (name, value) in lines {
        show::line(&format!("{name}: {value}"))?;
    }
    for warning in info.warnings {
        eprintln!("WARNING: {warning}");
    }
    Ok(())
}
