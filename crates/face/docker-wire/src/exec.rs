//! Commands started within a running container.

wire!("PascalCase" {
    /// `POST /containers/{id}/exec`: what to run.
    pub struct ExecCreate {
        /// User, in the form `user[:group]`.
        pub user: String,
        /// All capabilities.
        pub privileged: bool,
        /// Give it a terminal.
        pub tty: bool,
        /// The terminal's size at its start: rows, columns.
        #[serde(skip_serializing_if = "Option::is_none")]
        pub console_size: Option<[u32; 2]>,
        /// The client will send input.
        pub attach_stdin: bool,
        /// The client wants standard error.
        pub attach_stderr: bool,
        /// The client wants standard output.
        pub attach_stdout: bool,
        /// Sent by old clients; `Detach` of the start is what counts.
        pub detach: bool,
        /// Keys that end the attachment: `ctrl-p,ctrl-q`.
        pub detach_keys: String,
        /// Environment, `NAME=value`, on top of the container's.
        #[serde(serialize_with = "crate::null::when_empty")]
        pub env: Vec<String>,
        /// Working directory.
        pub working_dir: String,
        /// The command and its arguments.
        #[serde(serialize_with = "crate::null::when_empty")]
        pub cmd: Vec<String>,
    }

    /// The id under which the command can be started.
    pub struct ExecCreated {
        /// Id of the exec.
        pub id: String,
    }

    /// `POST /exec/{id}/start`.
    pub struct ExecStart {
        /// Start it and come back at once.
        pub detach: bool,
        /// Whether the client treats the stream as a terminal's.
        pub tty: bool,
        /// The terminal's size at its start: rows, columns.
        #[serde(skip_serializing_if = "Option::is_none")]
        pub console_size: Option<[u32; 2]>,
    }

    /// `GET /exec/{id}/json`.
    pub struct ExecInspect {
        /// Id of the exec.
        #[serde(rename = "ID")]
        pub id: String,
        /// Whether it runs now.
        pub running: bool,
        /// How it ended, once it has.
        pub exit_code: Option<i64>,
        /// What it runs.
        pub process_config: ExecProcess,
        /// Input is open.
        pub open_stdin: bool,
        /// Standard error is attached.
        pub open_stderr: bool,
        /// Standard output is attached.
        pub open_stdout: bool,
        /// It can no longer be started.
        pub can_remove: bool,
        /// Full id of the container.
        #[serde(rename = "ContainerID")]
        pub container_id: String,
        /// Keys that end the attachment.
        pub detach_keys: String,
        /// Its process id as the host sees it, 0 unless it runs.
        pub pid: i32,
    }

    /// What an exec runs. The API names these fields in lower case.
    pub struct ExecProcess {
        /// It has a terminal.
        #[serde(rename = "tty")]
        pub tty: bool,
        /// The command.
        #[serde(rename = "entrypoint")]
        pub entrypoint: String,
        /// Its arguments.
        #[serde(rename = "arguments")]
        pub arguments: Vec<String>,
        /// All capabilities.
        #[serde(rename = "privileged", skip_serializing_if = "Option::is_none")]
        pub privileged: Option<bool>,
        /// User it runs as.
        #[serde(rename = "user", skip_serializing_if = "String::is_empty")]
        pub user: String,
    }
});
