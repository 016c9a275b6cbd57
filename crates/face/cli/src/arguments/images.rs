//! The flags of verbs that are about images and registries.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::{Format, Images, Import, Load, Pull, Rmi, Tag};

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

/// Write images to an archive
#[derive(Debug, Args)]
pub(crate) struct Save {
    /// The archive (default: standard output)
    #[arg(short, long, value_name = "FILE")]
    pub(crate) output: Option<PathBuf>,
    /// For whom: docker, podman and skopeo, or an OCI layout only
    #[arg(long, default_value = "docker", value_name = "FORMAT")]
    #[arg(value_parser = ["docker", "docker-archive", "oci", "oci-archive"])]
    pub(crate) format: String,
    /// Names or ids
    #[arg(required = true, value_name = "IMAGE")]
    pub(crate) images: Vec<String>,
}

/// Show how an image came about
#[derive(Debug, Args)]
pub(crate) struct History {
    /// Print by a Go template, or as `json`
    #[arg(long, value_name = "TEMPLATE")]
    pub(crate) format: Option<String>,
    /// Sizes in words, times as ages
    #[arg(long, value_name = "BOOL", default_value_t = true)]
    #[arg(num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    #[arg(action = clap::ArgAction::Set)]
    pub(crate) human: bool,
    /// Do not shorten ids and instructions
    #[arg(long)]
    pub(crate) no_trunc: bool,
    /// Only ids
    #[arg(short, long)]
    pub(crate) quiet: bool,
    /// Name or id
    #[arg(value_name = "IMAGE")]
    pub(crate) image: String,
}

/// Remove images that nothing uses
#[derive(Debug, Args)]
pub(crate) struct ImagePrune {
    /// Also those with a name
    #[arg(short, long)]
    pub(crate) all: bool,
    /// Only those that meet a condition, such as until=24h or label=KEY
    #[arg(long, value_name = "NAME=VALUE")]
    pub(crate) filter: Vec<String>,
    /// Do not ask first
    #[arg(short, long)]
    pub(crate) force: bool,
}

/// Show all that is known of images
#[derive(Debug, Args)]
pub(crate) struct ImageInspect {
    /// Print by a Go template, or as `json`
    #[arg(short, long, value_name = "TEMPLATE")]
    pub(crate) format: Option<String>,
    /// Names or ids
    #[arg(required = true, value_name = "IMAGE")]
    pub(crate) names: Vec<String>,
}

/// Work with images
#[derive(Debug, Subcommand)]
pub(crate) enum ImageVerb {
    /// List images
    #[command(visible_alias = "list")]
    Ls(Images),
    /// Fetch an image from a registry
    Pull(Pull),
    /// Give an image to a registry
    Push(Push),
    /// Write images to an archive
    Save(Save),
    /// Load images from an archive of `docker save` or an OCI layout
    Load(Load),
    /// Make an image of a tar of a root filesystem
    Import(Import),
    /// Give an image another name
    Tag(Tag),
    /// Remove images
    #[command(visible_alias = "remove")]
    Rm(Rmi),
    /// Show how an image came about
    History(History),
    /// Show all that is known of images
    Inspect(ImageInspect),
    /// Remove images that nothing uses
    Prune(ImagePrune),
}

/// Look after the whole
#[derive(Debug, Subcommand)]
pub(crate) enum SystemVerb {
    /// Show what takes room on the disk
    Df(Df),
    /// Show what the daemon knows of itself and the machine
    Info(Format),
}

/// Show what takes room on the disk
#[derive(Debug, Args)]
pub(crate) struct Df {
    /// Print by a Go template, or as `json`
    #[arg(long, value_name = "TEMPLATE")]
    pub(crate) format: Option<String>,
    /// Each image and container
    #[arg(short, long)]
    pub(crate) verbose: bool,
}
