//! The flags of verbs that are about images and registries.

use clap::Args;

/// Give an image to a registry
#[derive(Debug, Args)]
pub(crate) struct Push {
    /// Every tag of the repository
    #[arg(short, long)]
    pub(crate) all_tags: bool,
    /// Print the reference only
    #[arg(short, long)]
    pub(crate) quiet: bool,
    /// Accepted for docker's sake: nothing is signed
    #[arg(long, hide = true, num_args = 0..=1, default_missing_value = "true")]
    pub(crate) disable_content_trust: Option<bool>,
    /// name[:tag]
    #[arg(value_name = "NAME")]
    pub(crate) image: String,
}

/// Keep credentials for a registry
#[derive(Debug, Args)]
pub(crate) struct Login {
    /// User name
    #[arg(short, long, value_name = "NAME")]
    pub(crate) username: Option<String>,
    /// Password or token; everyone on this machine can see it
    #[arg(short, long, value_name = "PASSWORD", conflicts_with = "password_stdin")]
    pub(crate) password: Option<String>,
    /// Take the password from standard input
    #[arg(long)]
    pub(crate) password_stdin: bool,
    /// The registry, as host[:port] (default: Docker Hub)
    #[arg(value_name = "SERVER")]
    pub(crate) server: Option<String>,
}

/// Forget the credentials for a registry
#[derive(Debug, Args)]
pub(crate) struct Logout {
    /// The registry, as host[:port] (default: Docker Hub)
    #[arg(value_name = "SERVER")]
    pub(crate) server: Option<String>,
}
