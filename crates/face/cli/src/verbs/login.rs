//! `login`, `logout`.

use std::io::{BufRead, Read, Write};

use dhow_docker_wire::AuthConfig;
use dhow_docker_wire::auth::LoggedIn;

use crate::arguments::{Login, Logout};
use crate::client::Client;
use crate::credentials::{Credentials, Kept, key_of};
use crate::failure::Failure;
use crate::{show, terminal};

/// A password is not longer than this.
const LONGEST_PASSWORD: u64 = 1 << 20;

/// Tries credentials at the registry, and keeps them if it knows them.
pub(super) async fn login(client: &Client, flags: &Login) -> Result<(), Failure> {
    let server = key_of(flags.server.as_deref().unwrap_or_default());
    let mut credentials = Credentials::open()?;
    let is_asked = flags.username.is_none() && flags.password.is_none() && !flags.password_stdin;
    if is_asked && let Some(known) = credentials.get(&server)? {
        show::line("Authenticating with existing credentials...")?;
        match client.post::<LoggedIn>("/auth", &known).await {
            Ok(answer) => return show::line(&answer.status),
            Err(failure) if terminal::stdin_is_terminal() => failure.print(),
            Err(failure) => return Err(failure),
        }
    }
    let mut auth = asked(flags)?;
    auth.serveraddress = server;
    let answer: LoggedIn = client.post("/auth", &auth).await?;
    if !answer.identity_token.is_empty() {
        auth.identitytoken = answer.identity_token;
        auth.password.clear();
    }
    if let Kept::File(path) = credentials.put(&auth)? {
        eprintln!("WARNING! Your credentials are stored unencrypted in '{}'.", path.display());
        eprintln!("hint: name a credential helper in it to keep them elsewhere: credsStore");
    }
    show::line(&answer.status)
}

/// Forgets credentials.
pub(super) fn logout(flags: &Logout) -> Result<(), Failure> {
    let server = key_of(flags.server.as_deref().unwrap_or_default());
    if Credentials::open()?.forget(&server)? {
        return show::line(&format!("Removing login credentials for {server}"));
    }
    show::line(&format!("Not logged in to {server}"))
}

/// The user name and the password: from flags, standard input, or whoever types.
fn asked(flags: &Login) -> Result<AuthConfig, Failure> {
    let interactive = || {
        if terminal::stdin_is_terminal() {
            return Ok(());
        }
        Err(Failure::new("cannot ask for credentials: standard input is not a terminal")
            .with_hint("use --username and --password-stdin"))
    };
    let username = match &flags.username {
        Some(username) => username.clone(),
        None if flags.password_stdin => {
            return Err(Failure::new("--password-stdin needs --username"));
        }
        None => {
            interactive()?;
            typed("Username: ")?
        }
    };
    let password = if flags.password_stdin {
        let mut text = String::new();
        std::io::stdin().take(LONGEST_PASSWORD).read_to_string(&mut text)?;
        text.trim_end_matches(['\r', '\n']).to_owned()
    } else if let Some(password) = &flags.password {
        eprintln!("WARNING! Using --password via the CLI is insecure. Use --password-stdin.");
        password.clone()
    } else {
        interactive()?;
        let _hidden = terminal::hide_typing();
        let password = typed("Password: ")?;
        eprintln!();
        password
    };
    if username.is_empty() || password.is_empty() {
        return Err(Failure::new("a user name and a password are needed"));
    }
    Ok(AuthConfig { username, password, ..AuthConfig::default() })
}

/// A line that somebody types.
fn typed(prompt: &str) -> Result<String, Failure> {
    eprint!("{prompt}");
    std::io::stderr().flush()?;
    let mut line = String::new();
    std::io::stdin().lock().read_line(&mut line)?;
    Ok(line.trim_end_matches(['\r', '\n']).to_owned())
}
