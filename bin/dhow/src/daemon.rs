//! The daemon: its services, opened from the ground up, and closed the other way round.
//!
//! ```text
//!   kv ─► content, snapshots ─► images ─► network ─► engine ─► socket      opening
//!   socket ─► engine ─► network ─► cgroup parent, files in --run           closing
//! ```
//!
//! Containers outlive it: SIGTERM closes the services and leaves containers, their network and their
//! shims as they are. When none runs, nothing of it is left on the machine but its root folder.

mod lock;
mod networks;
mod plan;
mod socket;

use std::fs;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

use dhow_builder::Builder;
use dhow_cgroup::{Layout, Mode};
use dhow_cli::DaemonArguments;
use dhow_content::Content;
use dhow_docker::{About, Services};
use dhow_engine::{Deps, Engine};
use dhow_error::{Error, Kind, Result};
use dhow_image::Images;
use dhow_kv::{Embedded, Kv, Transaction};
use dhow_network::Network;
use dhow_shim::client::Launcher;
use dhow_snapshot::Snapshots;
use dhow_spec::ContainerId;
use tokio::signal::unix::{SignalKind, signal};

use networks::Bridged;
use plan::Plan;

/// Under this key the daemon keeps its id.
const ID_KEY: &str = "daemon/id";

/// Runs the daemon until SIGTERM or SIGINT.
pub(crate) fn main(flags: &DaemonArguments) -> ExitCode {
    let outcome = Plan::resolve(flags).and_then(|plan| {
        log_to_stderr(plan.debug);
        if plan.background {
            // It fails only for the leader of a group, who needs no other session.
            let _ = dhow_sys::rustix::process::setsid();
        }
        // Two workers serve thousands of containers, which run without us.
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .map_err(|error| Error::caused(Kind::Internal, "cannot start the runtime", error))?;
        runtime.block_on(run(&plan))
    });
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("dhow: {}", error.chain());
            if let Some(hint) = error.hint() {
                eprintln!("hint: {hint}");
            }
            ExitCode::FAILURE
        }
    }
}

/// Opens everything, serves, closes everything.
async fn run(plan: &Plan) -> Result<()> {
    let mut terminate = listen(SignalKind::terminate())?;
    let mut interrupt = listen(SignalKind::interrupt())?;
    folder(&plan.root, 0o700)?;
    // Clients reach the socket through this folder.
    folder(&plan.run, 0o711)?;
    let lock = lock::Lock::take(&plan.run)?;
    let layout = Layout::detect()?;
    let kv: Arc<dyn Kv> = Arc::new(Embedded::open(plan.root.join("dhow.redb"))?);
    let id = id(kv.as_ref()).await?;
    let content = Content::open(plan.root.join("content"))?;
    let snapshots = Snapshots::open(plan.root.join("snapshots"))?;
    let images = Images::open(Arc::clone(&kv), content, snapshots.clone()).await?;
    let images = images.with_hosts(&plan.hosts);
    let (network, notices) = Network::open(plan.network.clone()).await?;
    let scratch = plan.root.join("build");
    folder(&scratch, 0o700)?;
    let builder = Builder::new(images.clone(), scratch);
    let networks = Arc::new(Bridged::new(network.clone()));
    let launcher = Launcher::spawn(&plan.run)?;
    let deps = Deps { kv, images: images.clone(), snapshots, networks, launcher };
    let engine = Engine::open(plan.engine.clone(), deps).await?;
    let about = about(plan, id, &layout, notices.iter().map(ToString::to_string).collect());
    let services =
        Services { engine: engine.clone(), images, network: network.clone(), builder, about };
    let listener = socket::listen(&plan.socket).await?;
    // Whoever started us waits for this line.
    println!("dhow listens on unix://{}", plan.socket.display());
    let stop = async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        tracing::info!("stopping; containers run on");
    };
    // In a task: what is accepted on a worker needs no other thread to be woken.
    let served = tokio::spawn(dhow_docker::serve(listener, services, stop)).await;
    if let Err(error) = served {
        tracing::error!(%error, "serving broke off");
    }
    engine.shutdown().await;
    let runs_on = engine.running_count() > 0;
    network.close(runs_on).await?;
    leave(plan, &layout, runs_on);
    drop(lock);
    Ok(())
}

/// Removes what is not needed while no daemon runs.
fn leave(plan: &Plan, layout: &Layout, containers_run_on: bool) {
    socket::remove(&plan.socket);
    if containers_run_on {
        return;
    }
    if let Err(error) = layout.remove_parent(&plan.engine.cgroup_parent) {
        tracing::warn!(%error, "cannot remove the cgroup of the containers");
    }
    // These hold nothing while no container runs; another's file keeps the folder.
    let _ = fs::remove_dir(plan.run.join("containers"));
    lock::Lock::remove(&plan.run);
    let _ = fs::remove_dir(&plan.run);
}

/// Makes a folder that is ours, with this mode, if it is not there.
fn folder(path: &Path, mode: u32) -> Result<()> {
    let made = fs::DirBuilder::new().recursive(true).mode(mode).create(path);
    made.and_then(|()| fs::set_permissions(path, fs::Permissions::from_mode(mode))).map_err(
        |error| {
            let message = format!("cannot make the folder {}", path.display());
            Error::caused(Kind::Internal, message, error)
                .with_hint("run the daemon as root, or name others with --root and --run")
        },
    )
}

/// The daemon's id, made at its first start.
async fn id(kv: &dyn Kv) -> Result<String> {
    if let Some(id) = kv.get(ID_KEY).await? {
        return Ok(String::from_utf8_lossy(&id).into_owned());
    }
    let id = ContainerId::random()?.to_string();
    kv.commit(Transaction::new().put(ID_KEY, id.clone())).await?;
    Ok(id)
}

fn about(plan: &Plan, id: String, layout: &Layout, warnings: Vec<String>) -> About {
    let pools = &plan.network.pools;
    About {
        id,
        version: env!("CARGO_PKG_VERSION").to_owned(),
        root: plan.root.clone(),
        cgroup_version: if layout.mode() == Mode::V2 { 2 } else { 1 },
        address_pools: pools.iter().map(|it| (it.base.to_string(), it.prefix_len)).collect(),
        warnings,
        ..About::default()
    }
}

fn listen(kind: SignalKind) -> Result<tokio::signal::unix::Signal> {
    signal(kind).map_err(|error| Error::caused(Kind::Internal, "cannot wait for signals", error))
}

/// The log goes to standard error: whoever starts the daemon decides where that leads.
fn log_to_stderr(debug: bool) {
    use std::io::IsTerminal;
    use tracing_subscriber::EnvFilter;
    let default = if debug { "dhow=debug,info" } else { "info" };
    let filter = EnvFilter::try_from_env("DHOW_LOG").unwrap_or_else(|_| EnvFilter::new(default));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .init();
}
