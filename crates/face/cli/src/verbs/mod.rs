//! What each verb does: a few requests, and what is printed of the answers.

mod disk;
mod exec;
mod history;
mod images;
mod inspect;
mod life;
mod login;
mod logs;
mod ps;
mod run;
mod system;
mod trace;
mod transfer;

use crate::arguments::{ImageVerb, Inspect, SystemVerb, Verb};
use crate::client::Client;
use crate::failure::Failure;

/// Runs a verb; its exit code.
pub(crate) async fn run(client: Client, verb: Verb) -> Result<u8, Failure> {
    if needs_daemon(&verb) {
        client.start_daemon().await?;
    }
    match verb {
        Verb::Run(flags) => return run::run(&client, &flags).await,
        Verb::Start(flags) => return run::start(&client, &flags).await,
        Verb::Exec(flags) => return exec::exec(&client, &flags).await,
        Verb::Create(flags) => run::create(&client, &flags).await?,
        Verb::Ps(flags) => ps::ps(&client, &flags).await?,
        Verb::Build(flags) => transfer::build(&client, &flags).await?,
        Verb::Pull(flags) => transfer::pull(&client, &flags).await?,
        Verb::Push(flags) => transfer::push(&client, &flags).await?,
        Verb::Login(flags) => login::login(&client, &flags).await?,
        Verb::Logout(flags) => login::logout(&flags)?,
        Verb::Save(flags) => transfer::save(&client, &flags).await?,
        Verb::History(flags) => history::history(&client, &flags).await?,
        Verb::Image(verb) => return image(&client, verb).await,
        Verb::System(SystemVerb::Df(flags)) => disk::df(&client, &flags).await?,
        Verb::Load(flags) => transfer::load(&client, &flags).await?,
        Verb::Import(flags) => transfer::import(&client, &flags).await?,
        Verb::Images(flags) => images::images(&client, &flags).await?,
        Verb::Tag(flags) => images::tag(&client, &flags).await?,
        Verb::Rmi(flags) => return images::rmi(&client, &flags).await,
        Verb::Stop(flags) => return life::stop(&client, "stop", &flags).await,
        Verb::Restart(flags) => return life::stop(&client, "restart", &flags).await,
        Verb::Kill(flags) => return life::kill(&client, &flags).await,
        Verb::Rm(flags) => return life::rm(&client, &flags).await,
        Verb::Pause(flags) => return life::simple(&client, "pause", &flags.containers).await,
        Verb::Unpause(flags) => return life::simple(&client, "unpause", &flags.containers).await,
        Verb::Wait(flags) => return life::wait(&client, &flags.containers).await,
        Verb::Rename(flags) => life::rename(&client, &flags).await?,
        Verb::Logs(flags) => logs::logs(&client, &flags).await?,
        Verb::Port(flags) => life::port(&client, &flags).await?,
        Verb::Inspect(flags) => return inspect::inspect(&client, &flags).await,
        Verb::Version(flags) => system::version(&client, &flags).await?,
        Verb::Info(flags) | Verb::System(SystemVerb::Info(flags)) => {
            system::info(&client, &flags).await?;
        }
        Verb::Daemon(_) => return Err(Failure::new("the daemon is not run by the client")),
    }
    Ok(0)
}

/// The same verbs as `docker image` has them.
async fn image(client: &Client, verb: ImageVerb) -> Result<u8, Failure> {
    match verb {
        ImageVerb::Ls(flags) => images::images(client, &flags).await?,
        ImageVerb::Pull(flags) => transfer::pull(client, &flags).await?,
        ImageVerb::Push(flags) => transfer::push(client, &flags).await?,
        ImageVerb::Save(flags) => transfer::save(client, &flags).await?,
        ImageVerb::Load(flags) => transfer::load(client, &flags).await?,
        ImageVerb::Import(flags) => transfer::import(client, &flags).await?,
        ImageVerb::Tag(flags) => images::tag(client, &flags).await?,
        ImageVerb::History(flags) => history::history(client, &flags).await?,
        ImageVerb::Prune(flags) => images::prune(client, &flags).await?,
        ImageVerb::Rm(flags) => return images::rmi(client, &flags).await,
        ImageVerb::Inspect(flags) => {
            let (format, names) = (flags.format, flags.names);
            let flags = Inspect { format, size: false, kind: Some("image".to_owned()), names };
            return inspect::inspect(client, &flags).await;
        }
    }
    Ok(0)
}

/// Whether a verb makes something, so that a daemon is started for it where none runs.
fn needs_daemon(verb: &Verb) -> bool {
    matches!(
        verb,
        Verb::Run(_)
            | Verb::Create(_)
            | Verb::Start(_)
            | Verb::Build(_)
            | Verb::Pull(_)
            | Verb::Login(_)
            | Verb::Load(_)
            | Verb::Import(_)
            | Verb::Image(ImageVerb::Pull(_) | ImageVerb::Load(_) | ImageVerb::Import(_))
    )
}

/// Does something to each of several names, goes on after failures, and ends with 1 if there was one.
async fn each<'a, F>(names: &'a [String], mut work: impl FnMut(&'a str) -> F) -> Result<u8, Failure>
where
    F: Future<Output = Result<(), Failure>>,
{
    let mut code = 0;
    for name in names {
        if let Err(failure) = work(name).await {
            failure.print();
            code = 1;
        }
    }
    Ok(code)
}
