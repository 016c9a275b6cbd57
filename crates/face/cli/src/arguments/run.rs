//! The flags of `run`, `create` and `exec`. What they mean is in [`crate::container`].

use std::path::PathBuf;

use clap::Args;

/// Create a container from an image and run it
#[derive(Debug, Args)]
#[command(disable_help_flag = true)]
pub(crate) struct RunArguments {
    /// Run in the background and print the id
    #[arg(short, long)]
    pub(crate) detach: bool,
    /// Keys that detach
    #[arg(long, value_name = "KEYS")]
    pub(crate) detach_keys: Option<String>,
    /// Do not pass signals on to the container
    #[arg(long = "sig-proxy", value_name = "BOOL", default_value = "true", num_args = 0..=1)]
    #[arg(require_equals = true, default_missing_value = "true", action = clap::ArgAction::Set)]
    pub(crate) sig_proxy: bool,
    #[command(flatten)]
    pub(crate) create: CreateArguments,
}

/// Create a container without starting it
#[derive(Debug, Default, Args)]
#[command(disable_help_flag = true)]
pub(crate) struct CreateArguments {
    /// Print help
    #[arg(long, action = clap::ArgAction::Help)]
    help: Option<bool>,
    /// Attach to stdin, stdout or stderr; may be repeated
    #[arg(short, long, value_name = "STREAM")]
    pub(crate) attach: Vec<String>,
    /// Keep standard input open
    #[arg(short, long)]
    pub(crate) interactive: bool,
    /// Give it a terminal
    #[arg(short, long)]
    pub(crate) tty: bool,
    /// Remove the container when it ends
    #[arg(long)]
    pub(crate) rm: bool,
    /// Name of the container
    #[arg(long, value_name = "NAME")]
    pub(crate) name: Option<String>,
    /// When to pull the image
    #[arg(long, default_value = "missing", value_parser = ["always", "missing", "never"])]
    pub(crate) pull: String,
    /// The platform of the image, as os/arch[/variant]
    #[arg(long, value_name = "PLATFORM")]
    pub(crate) platform: Option<String>,
    /// Say less while pulling
    #[arg(short, long)]
    pub(crate) quiet: bool,
    /// Write the container's id into a file
    #[arg(long, value_name = "FILE")]
    pub(crate) cidfile: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) process: ProcessArguments,
    #[command(flatten)]
    pub(crate) storage: StorageArguments,
    #[command(flatten)]
    pub(crate) network: NetworkArguments,
    #[command(flatten)]
    pub(crate) limits: LimitArguments,
    #[command(flatten)]
    pub(crate) security: SecurityArguments,
    // One list, so that whatever follows the image belongs to the command, flags included.
    /// The image, then the command and its arguments
    #[arg(trailing_var_arg = true, required = true, value_names = ["IMAGE", "COMMAND"])]
    #[arg(num_args = 1..)]
    pub(crate) words: Vec<String>,
}

impl CreateArguments {
    /// The image's name and the command.
    pub(crate) fn image_and_command(&self) -> (&str, &[String]) {
        self.words.split_first().map_or(("", &[]), |(image, command)| (image, command))
    }
}

/// What runs.
#[derive(Debug, Default, Args)]
pub(crate) struct ProcessArguments {
    /// Replace the image's entrypoint
    #[arg(long, value_name = "COMMAND")]
    pub(crate) entrypoint: Option<String>,
    /// Set a variable, or take it over from here; may be repeated
    #[arg(short, long, value_name = "NAME[=VALUE]")]
    pub(crate) env: Vec<String>,
    /// Read variables from a file; may be repeated
    #[arg(long, value_name = "FILE")]
    pub(crate) env_file: Vec<PathBuf>,
    /// Working directory
    #[arg(short, long, value_name = "DIR")]
    pub(crate) workdir: Option<String>,
    /// User, as name|uid[:group|gid]
    #[arg(short, long, value_name = "USER")]
    pub(crate) user: Option<String>,
    /// Add a group; may be repeated
    #[arg(long, value_name = "GROUP")]
    pub(crate) group_add: Vec<String>,
    /// Run an init that passes signals on and reaps processes
    #[arg(long)]
    pub(crate) init: bool,
    /// The signal that asks it to end
    #[arg(long, value_name = "SIGNAL")]
    pub(crate) stop_signal: Option<String>,
    /// Seconds until it is killed after that
    #[arg(long, value_name = "SECONDS", allow_negative_numbers = true)]
    pub(crate) stop_timeout: Option<i64>,
    /// What to do when it ends: no, always, unless-stopped, on-failure[:N]
    #[arg(long, value_name = "POLICY")]
    pub(crate) restart: Option<String>,
    /// Set a label; may be repeated
    #[arg(short, long, value_name = "NAME[=VALUE]")]
    pub(crate) label: Vec<String>,
    /// Read labels from a file; may be repeated
    #[arg(long, value_name = "FILE")]
    pub(crate) label_file: Vec<PathBuf>,
    /// Where its output goes: json-file or none
    #[arg(long, value_name = "DRIVER")]
    pub(crate) log_driver: Option<String>,
    /// An option of the log, such as max-size=10m; may be repeated
    #[arg(long, value_name = "NAME=VALUE")]
    pub(crate) log_opt: Vec<String>,
}

/// What it sees of files.
#[derive(Debug, Default, Args)]
pub(crate) struct StorageArguments {
    /// Show a folder or file of the host, as SOURCE:TARGET[:ro]; may be repeated
    #[arg(short, long, value_name = "VOLUME")]
    pub(crate) volume: Vec<String>,
    /// The same in words, as type=bind,src=…,dst=…[,readonly]; may be repeated
    #[arg(long, value_name = "MOUNT")]
    pub(crate) mount: Vec<String>,
    /// A folder in memory, as TARGET[:size=64m,…]; may be repeated
    #[arg(long, value_name = "TARGET")]
    pub(crate) tmpfs: Vec<String>,
    /// Nothing can be written but to volumes
    #[arg(long)]
    pub(crate) read_only: bool,
    /// Show a device of the host, as SOURCE[:TARGET[:rwm]]; may be repeated
    #[arg(long, value_name = "DEVICE")]
    pub(crate) device: Vec<String>,
    /// Size of /dev/shm
    #[arg(long, value_name = "BYTES")]
    pub(crate) shm_size: Option<String>,
}

/// What it sees of the network.
#[derive(Debug, Default, Args)]
pub(crate) struct NetworkArguments {
    /// bridge, none, host or container:NAME
    #[arg(long, visible_alias = "net", value_name = "NETWORK")]
    pub(crate) network: Option<String>,
    /// Publish a port, as [[ADDRESS:]HOSTPORT:]PORT[/PROTOCOL]; may be repeated
    #[arg(short, long, value_name = "PORTS")]
    pub(crate) publish: Vec<String>,
    /// Publish all ports that the image exposes
    #[arg(short = 'P', long)]
    pub(crate) publish_all: bool,
    /// Say that it listens on a port; may be repeated
    #[arg(long, value_name = "PORT")]
    pub(crate) expose: Vec<String>,
    /// Host name
    #[arg(short = 'h', long, value_name = "NAME")]
    pub(crate) hostname: Option<String>,
    /// Domain name
    #[arg(long, value_name = "NAME")]
    pub(crate) domainname: Option<String>,
    /// A line of /etc/hosts, as NAME:ADDRESS or NAME:host-gateway; may be repeated
    #[arg(long, value_name = "NAME:ADDRESS")]
    pub(crate) add_host: Vec<String>,
    /// A name server; may be repeated
    #[arg(long, value_name = "ADDRESS")]
    pub(crate) dns: Vec<String>,
    /// A domain to search names in; may be repeated
    #[arg(long, value_name = "DOMAIN")]
    pub(crate) dns_search: Vec<String>,
    /// An option of the resolver; may be repeated
    #[arg(long, visible_alias = "dns-opt", value_name = "OPTION")]
    pub(crate) dns_option: Vec<String>,
    /// Ethernet address
    #[arg(long, value_name = "ADDRESS")]
    pub(crate) mac_address: Option<String>,
}

/// How much it may use.
#[derive(Debug, Default, Args)]
pub(crate) struct LimitArguments {
    /// Memory, such as 64m
    #[arg(short, long, value_name = "BYTES")]
    pub(crate) memory: Option<String>,
    /// Memory that is left to it when memory is short
    #[arg(long, value_name = "BYTES")]
    pub(crate) memory_reservation: Option<String>,
    /// Memory and swap together; -1 for all the swap there is
    #[arg(long, value_name = "BYTES", allow_hyphen_values = true)]
    pub(crate) memory_swap: Option<String>,
    /// CPUs, such as 1.5
    #[arg(long, value_name = "NUMBER")]
    pub(crate) cpus: Option<String>,
    /// Weight among others for the CPU
    #[arg(short, long, value_name = "WEIGHT")]
    pub(crate) cpu_shares: Option<i64>,
    /// Length of a CPU period in microseconds
    #[arg(long, value_name = "MICROSECONDS")]
    pub(crate) cpu_period: Option<i64>,
    /// CPU time in each period in microseconds
    #[arg(long, value_name = "MICROSECONDS")]
    pub(crate) cpu_quota: Option<i64>,
    /// CPUs it may run on, such as 0-2,4
    #[arg(long, value_name = "LIST")]
    pub(crate) cpuset_cpus: Option<String>,
    /// Memory nodes it may use
    #[arg(long, value_name = "LIST")]
    pub(crate) cpuset_mems: Option<String>,
    /// Most processes; -1 for no limit
    #[arg(long, value_name = "NUMBER", allow_negative_numbers = true)]
    pub(crate) pids_limit: Option<i64>,
    /// A limit of each process, as NAME=SOFT[:HARD]; may be repeated
    #[arg(long, value_name = "LIMIT")]
    pub(crate) ulimit: Vec<String>,
    /// How soon the kernel kills it when memory is short, -1000 to 1000
    #[arg(long, value_name = "NUMBER", allow_negative_numbers = true)]
    pub(crate) oom_score_adj: Option<i32>,
    /// The cgroup in which its own is made
    #[arg(long, value_name = "PATH")]
    pub(crate) cgroup_parent: Option<String>,
}

/// What it may do.
#[derive(Debug, Default, Args)]
pub(crate) struct SecurityArguments {
    /// Add a capability, or ALL; may be repeated
    #[arg(long, value_name = "CAPABILITY")]
    pub(crate) cap_add: Vec<String>,
    /// Take a capability away, or ALL; may be repeated
    #[arg(long, value_name = "CAPABILITY")]
    pub(crate) cap_drop: Vec<String>,
    /// Give it all devices and capabilities
    #[arg(long)]
    pub(crate) privileged: bool,
    /// seccomp=FILE, seccomp=unconfined or no-new-privileges; may be repeated
    #[arg(long, value_name = "OPTION")]
    pub(crate) security_opt: Vec<String>,
    /// Set a kernel parameter of its namespaces; may be repeated
    #[arg(long, value_name = "NAME=VALUE")]
    pub(crate) sysctl: Vec<String>,
    /// private, host, shareable or container:NAME
    #[arg(long, value_name = "MODE")]
    pub(crate) ipc: Option<String>,
    /// host or container:NAME
    #[arg(long, value_name = "MODE")]
    pub(crate) pid: Option<String>,
    /// host
    #[arg(long, value_name = "MODE")]
    pub(crate) uts: Option<String>,
    /// private or host
    #[arg(long, value_name = "MODE")]
    pub(crate) cgroupns: Option<String>,
    /// host
    #[arg(long, value_name = "MODE")]
    pub(crate) userns: Option<String>,
}

/// Run a command in a running container
#[derive(Debug, Args)]
pub(crate) struct ExecArguments {
    /// Run in the background
    #[arg(short, long)]
    pub(crate) detach: bool,
    /// Keys that detach
    #[arg(long, value_name = "KEYS")]
    pub(crate) detach_keys: Option<String>,
    /// Set a variable, or take it over from here; may be repeated
    #[arg(short, long, value_name = "NAME[=VALUE]")]
    pub(crate) env: Vec<String>,
    /// Read variables from a file; may be repeated
    #[arg(long, value_name = "FILE")]
    pub(crate) env_file: Vec<PathBuf>,
    /// Keep standard input open
    #[arg(short, long)]
    pub(crate) interactive: bool,
    /// Give it all capabilities
    #[arg(long)]
    pub(crate) privileged: bool,
    /// Give it a terminal
    #[arg(short, long)]
    pub(crate) tty: bool,
    /// User, as name|uid[:group|gid]
    #[arg(short, long, value_name = "USER")]
    pub(crate) user: Option<String>,
    /// Working directory
    #[arg(short, long, value_name = "DIR")]
    pub(crate) workdir: Option<String>,
    /// Name or id, then the command and its arguments
    #[arg(trailing_var_arg = true, required = true, value_names = ["CONTAINER", "COMMAND"])]
    #[arg(num_args = 2..)]
    pub(crate) words: Vec<String>,
}
