//! The one binary: it looks at the name and the first word it was called by, and becomes that.
//!
//! ```text
//!   argv[0] = dhow-launcher     the launcher, which forks shims          no clap, no tracing,
//!   argv[0] = dhow-init         pid 1 of a container with --init         no tokio: these start
//!   argv[0] = runc, dhow-runtime, dhow-oci                               in microseconds and
//!   argv[1] = oci               the OCI runtime command line             stay small
//!   daemon ...                  the daemon: every service, wired here
//!   anything else               the command line, a client of the daemon
//! ```
//!
//! This is the only place that knows every service.

mod daemon;
mod defect;

use std::ffi::{OsStr, OsString};
use std::path::Path;
use std::process::ExitCode;

fn main() -> ExitCode {
    let mut arguments = std::env::args_os();
    let called = arguments.next().unwrap_or_default();
    let arguments: Vec<OsString> = arguments.collect();
    let name = Path::new(&called).file_name().and_then(OsStr::to_str).unwrap_or_default();
    match name {
        dhow_shim::LAUNCHER_ARGV0 => dhow_shim::launcher_main(),
        "dhow-init" => dhow_runtime::init_main(std::env::args_os().collect()),
        dhow_oci::SEALED_ARGV0 => return dhow_oci::sealed_main(arguments),
        "runc" | "dhow-runtime" => return dhow_oci::main(name, arguments),
        _ => {}
    }
    if arguments.first().is_some_and(|word| word == "oci") {
        return dhow_oci::main(name, arguments.into_iter().skip(1).collect());
    }
    defect::tell_in_a_line();
    dhow_cli::main(arguments, |flags| daemon::main(&flags))
}
