//! The command line: docker's verbs, names and flags.

mod images;
mod run;

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

pub(crate) use images::{
    Df, History, ImagePrune, ImageVerb, Login, Logout, Push, Save, SystemVerb,
};
pub(crate) use run::{CreateArguments, ExecArguments, RunArguments};

/// The whole container stack in one binary.
#[derive(Debug, Parser)]
#[command(name = "dhow", version, propagate_version = false, max_term_width = 100)]
pub(crate) struct Arguments {
    /// The daemon to talk to, as unix:///path (default: $DHOW_HOST, then /run/dhow/dhow.sock)
    #[arg(short = 'H', long, global = true, value_name = "ADDRESS")]
    pub(crate) host: Option<String>,
    #[command(subcommand)]
    pub(crate) verb: Verb,
}

/// What can be done. The flags of a verb are only put together when it is meant.
#[derive(Debug, Subcommand)]
#[command(defer = true)]
pub(crate) enum Verb {
    /// Create a container from an image and run it
    Run(Box<RunArguments>),
    /// Run a command in a running container
    Exec(Box<ExecArguments>),
    /// List containers
    #[command(visible_alias = "list")]
    Ps(Ps),
    /// Build an image from a Dockerfile
    Build(Build),
    /// Fetch an image from a registry
    Pull(Pull),
    /// Give an image to a registry
    Push(Push),
    /// List images
    Images(Images),
    /// Create a container without starting it
    Create(Box<CreateArguments>),
    /// Start containers
    Start(Start),
    /// Stop running containers
    Stop(Stop),
    /// Restart containers
    Restart(Stop),
    /// Send a signal to running containers
    Kill(Kill),
    /// Remove containers
    Rm(Rm),
    /// Freeze running containers
    Pause(Containers),
    /// Let frozen containers go on
    Unpause(Containers),
    /// Give a container another name
    Rename(Rename),
    /// Wait until containers end and print their exit codes
    Wait(Containers),
    /// Print what a container wrote
    Logs(Logs),
    /// List the published ports of a container
    Port(Port),
    /// Show all that is known of containers or images
    Inspect(Inspect),
    /// Remove images
    Rmi(Rmi),
    /// Give an image another name
    Tag(Tag),
    /// Load images from an archive of `docker save` or an OCI layout
    Load(Load),
    /// Write images to an archive
    Save(Save),
    /// Make an image of a tar of a root filesystem
    Import(Import),
    /// Show how an image came about
    History(History),
    /// Work with images
    #[command(subcommand)]
    Image(ImageVerb),
    /// Keep credentials for a registry
    Login(Login),
    /// Forget the credentials for a registry
    Logout(Logout),
    /// Show the versions of client and daemon
    Version(Format),
    /// Show what the daemon knows of itself and the machine
    Info(Format),
    /// Look after the whole
    #[command(subcommand)]
    System(SystemVerb),
    /// Run the daemon
    Daemon(DaemonArguments),
}

/// The flags of `dhow daemon`. Two daemons live side by side if these differ.
#[derive(Debug, Clone, Default, Args)]
pub struct DaemonArguments {
    /// Where images and containers are kept (default: /var/lib/dhow)
    #[arg(long, visible_alias = "data-root", value_name = "DIR")]
    pub root: Option<PathBuf>,
    /// Where the state of running containers is kept (default: /run/dhow)
    #[arg(long, visible_alias = "exec-root", value_name = "DIR")]
    pub run: Option<PathBuf>,
    /// Name of the bridge, and of the nftables table (default: dhow0)
    #[arg(long, value_name = "NAME")]
    pub bridge: Option<String>,
    /// Address of the bridge with its prefix (default: the first free one of the address pools)
    #[arg(long, value_name = "CIDR")]
    pub bip: Option<String>,
    /// Addresses for networks, as base=CIDR,size=BITS; may be repeated
    #[arg(long, value_name = "POOL")]
    pub default_address_pool: Vec<String>,
    /// The cgroup in which those of the containers are made (default: /dhow)
    #[arg(long, value_name = "PATH")]
    pub cgroup_parent: Option<String>,
    /// Where mirrors are told of, as REGISTRY/hosts.toml (default: /etc/dhow/hosts)
    #[arg(long, value_name = "DIR")]
    pub hosts_dir: Option<PathBuf>,
    /// Log more
    #[arg(short = 'D', long)]
    pub debug: bool,
    /// Leave the session of whoever started this
    #[arg(long, hide = true)]
    pub background: bool,
    /// The address to listen on, from the global flag.
    #[arg(skip)]
    pub host: Option<String>,
}

/// Containers by name or id.
#[derive(Debug, Args)]
pub(crate) struct Containers {
    /// Names or ids
    #[arg(required = true, value_name = "CONTAINER")]
    pub(crate) containers: Vec<String>,
}

/// List containers
#[derive(Debug, Args)]
pub(crate) struct Ps {
    /// Also those that do not run
    #[arg(short, long)]
    pub(crate) all: bool,
    /// Only those that meet a condition, such as status=exited or label=KEY
    #[arg(short, long, value_name = "NAME=VALUE")]
    pub(crate) filter: Vec<String>,
    /// Print by a Go template, or as `json`
    #[arg(long, value_name = "TEMPLATE")]
    pub(crate) format: Option<String>,
    /// The last N created, running or not
    #[arg(short = 'n', long, value_name = "N")]
    pub(crate) last: Option<i64>,
    /// The last one created, running or not
    #[arg(short, long)]
    pub(crate) latest: bool,
    /// Do not shorten ids and commands
    #[arg(long)]
    pub(crate) no_trunc: bool,
    /// Only ids
    #[arg(short, long)]
    pub(crate) quiet: bool,
}

/// Build an image from a Dockerfile
#[derive(Debug, Args)]
pub(crate) struct Build {
    /// Name of the image, as name:tag; may be repeated
    #[arg(short, long, value_name = "NAME")]
    pub(crate) tag: Vec<String>,
    /// Path of the Dockerfile (default: Dockerfile in the context)
    #[arg(short, long, value_name = "PATH")]
    pub(crate) file: Option<PathBuf>,
    /// Set a variable of an ARG instruction; may be repeated
    #[arg(long, value_name = "NAME=VALUE")]
    pub(crate) build_arg: Vec<String>,
    /// Set a label; may be repeated
    #[arg(long, value_name = "NAME=VALUE")]
    pub(crate) label: Vec<String>,
    /// Build up to this stage
    #[arg(long, value_name = "STAGE")]
    pub(crate) target: Option<String>,
    /// Print the image's id only
    #[arg(short, long)]
    pub(crate) quiet: bool,
    /// The folder whose files the Dockerfile may copy, or - for a tar on standard input
    #[arg(value_name = "CONTEXT")]
    pub(crate) context: String,
}

/// Fetch an image from a registry
#[derive(Debug, Args)]
pub(crate) struct Pull {
    /// Print the reference only
    #[arg(short, long)]
    pub(crate) quiet: bool,
    /// The platform to take of an image for several, as os/arch[/variant]
    #[arg(long, value_name = "PLATFORM")]
    pub(crate) platform: Option<String>,
    /// name[:tag] or name@digest
    #[arg(value_name = "IMAGE")]
    pub(crate) image: String,
}

/// List images
#[derive(Debug, Args)]
pub(crate) struct Images {
    /// Also those without a name
    #[arg(short, long)]
    pub(crate) all: bool,
    /// Show digests
    #[arg(long)]
    pub(crate) digests: bool,
    /// Only those that meet a condition, such as reference=busybox or dangling=true
    #[arg(short, long, value_name = "NAME=VALUE")]
    pub(crate) filter: Vec<String>,
    /// Print by a Go template, or as `json`
    #[arg(long, value_name = "TEMPLATE")]
    pub(crate) format: Option<String>,
    /// Do not shorten ids
    #[arg(long)]
    pub(crate) no_trunc: bool,
    /// Only ids
    #[arg(short, long)]
    pub(crate) quiet: bool,
    /// Only those of this name
    #[arg(value_name = "NAME")]
    pub(crate) name: Option<String>,
}

/// Start containers
#[derive(Debug, Args)]
pub(crate) struct Start {
    /// Attach standard output and error, and pass signals on
    #[arg(short, long)]
    pub(crate) attach: bool,
    /// Attach standard input
    #[arg(short, long)]
    pub(crate) interactive: bool,
    /// Keys that detach
    #[arg(long, value_name = "KEYS")]
    pub(crate) detach_keys: Option<String>,
    /// Names or ids
    #[arg(required = true, value_name = "CONTAINER")]
    pub(crate) containers: Vec<String>,
}

/// Stop running containers
#[derive(Debug, Args)]
pub(crate) struct Stop {
    /// The signal that asks them to end
    #[arg(short, long, value_name = "SIGNAL")]
    pub(crate) signal: Option<String>,
    /// Seconds until they are killed; -1 waits for ever
    #[arg(short, long, visible_alias = "timeout", value_name = "SECONDS")]
    #[arg(allow_negative_numbers = true)]
    pub(crate) time: Option<i64>,
    /// Names or ids
    #[arg(required = true, value_name = "CONTAINER")]
    pub(crate) containers: Vec<String>,
}

/// Send a signal to running containers
#[derive(Debug, Args)]
pub(crate) struct Kill {
    /// The signal, by name or number
    #[arg(short, long, default_value = "KILL", value_name = "SIGNAL")]
    pub(crate) signal: String,
    /// Names or ids
    #[arg(required = true, value_name = "CONTAINER")]
    pub(crate) containers: Vec<String>,
}

/// Remove containers
#[derive(Debug, Args)]
pub(crate) struct Rm {
    /// Also those that run: they are killed
    #[arg(short, long)]
    pub(crate) force: bool,
    /// Also their anonymous volumes
    #[arg(short, long)]
    pub(crate) volumes: bool,
    /// Names or ids
    #[arg(required = true, value_name = "CONTAINER")]
    pub(crate) containers: Vec<String>,
}

/// Give a container another name
#[derive(Debug, Args)]
pub(crate) struct Rename {
    /// Its name or id
    pub(crate) container: String,
    /// Its new name
    pub(crate) name: String,
}

/// Print what a container wrote
#[derive(Debug, Args)]
pub(crate) struct Logs {
    /// Go on printing as it writes
    #[arg(short, long)]
    pub(crate) follow: bool,
    /// Only what was written since a time (RFC 3339 or UNIX) or for a duration (10m)
    #[arg(long, value_name = "TIME")]
    pub(crate) since: Option<String>,
    /// Only what was written before a time or duration
    #[arg(long, value_name = "TIME")]
    pub(crate) until: Option<String>,
    /// Only the last N lines
    #[arg(short = 'n', long, default_value = "all", value_name = "N")]
    pub(crate) tail: String,
    /// Begin each line with its time
    #[arg(short, long)]
    pub(crate) timestamps: bool,
    /// Name or id
    #[arg(value_name = "CONTAINER")]
    pub(crate) container: String,
}

/// List the published ports of a container
#[derive(Debug, Args)]
pub(crate) struct Port {
    /// Name or id
    #[arg(value_name = "CONTAINER")]
    pub(crate) container: String,
    /// Only this one, as PORT[/PROTOCOL]
    #[arg(value_name = "PORT")]
    pub(crate) port: Option<String>,
}

/// Show all that is known of containers or images
#[derive(Debug, Args)]
pub(crate) struct Inspect {
    /// Print by a Go template, or as `json`
    #[arg(short, long, value_name = "TEMPLATE")]
    pub(crate) format: Option<String>,
    /// Also the sizes of containers
    #[arg(short, long)]
    pub(crate) size: bool,
    /// Only `container` or `image`
    #[arg(long = "type", value_name = "TYPE", value_parser = ["container", "image"])]
    pub(crate) kind: Option<String>,
    /// Names or ids
    #[arg(required = true, value_name = "NAME")]
    pub(crate) names: Vec<String>,
}

/// Remove images
#[derive(Debug, Args)]
pub(crate) struct Rmi {
    /// Also if stopped containers use them
    #[arg(short, long)]
    pub(crate) force: bool,
    /// Names or ids
    #[arg(required = true, value_name = "IMAGE")]
    pub(crate) images: Vec<String>,
}

/// Give an image another name
#[derive(Debug, Args)]
pub(crate) struct Tag {
    /// Name or id
    pub(crate) image: String,
    /// The new name, as name[:tag]
    pub(crate) name: String,
}

/// Load images from an archive of `docker save` or an OCI layout
#[derive(Debug, Args)]
pub(crate) struct Load {
    /// The archive (default: standard input)
    #[arg(short, long, value_name = "FILE")]
    pub(crate) input: Option<PathBuf>,
    /// Print nothing but what was loaded
    #[arg(short, long)]
    pub(crate) quiet: bool,
}

/// Make an image of a tar of a root filesystem
#[derive(Debug, Args)]
pub(crate) struct Import {
    /// Apply an instruction of a Dockerfile, such as `CMD sh`; may be repeated
    #[arg(short, long, value_name = "INSTRUCTION")]
    pub(crate) change: Vec<String>,
    /// A remark in the image's history
    #[arg(short, long, value_name = "TEXT")]
    pub(crate) message: Option<String>,
    /// The tar, or - for standard input
    #[arg(value_name = "FILE")]
    pub(crate) source: String,
    /// Name of the image, as name[:tag]
    #[arg(value_name = "NAME")]
    pub(crate) name: Option<String>,
}

/// How to print.
#[derive(Debug, Args)]
pub(crate) struct Format {
    /// Print by a Go template, or as `json`
    #[arg(short, long, value_name = "TEMPLATE")]
    pub(crate) format: Option<String>,
}
