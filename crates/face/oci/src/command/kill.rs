//! `kill`: sends a signal to a container's first process.

use std::os::fd::AsFd;

use dhow_error::{Error, Kind, Result};
use dhow_spec::oci_runtime::{LinuxNamespaceType, Spec};
use dhow_sys::event::send_signal;
use dhow_sys::process::Reason;
use dhow_sys::rustix::io::Errno;

use super::{Command, PLAIN};
use crate::container::Container;
use crate::globals::Globals;
use crate::signal;
use crate::words::{Flag, Words};

pub(super) const COMMAND: Command = Command {
    name: "kill",
    usage: "ID [SIGNAL]",
    about: "send a signal (default: SIGTERM) to a container's first process",
    flags: &[Flag::switch("all", "obsolete: not an error if the container has ended").short("a")],
    arguments: (1, 2),
    run,
    ..PLAIN
};

fn run(globals: &Globals, words: &Words) -> Result<u8> {
    let container = Container::load(&globals.root, words.first()?)?;
    let number = words.arguments.get(1).map_or(Ok(signal::TERM), |text| signal::parse(text))?;
    let sent = send(&container, number)?;
    if sent || words.is_on("all") { Ok(0) } else { Err(Error::conflict("container not running")) }
}

/// Sends it; whether there was somebody to send it to.
fn send(container: &Container, number: i32) -> Result<bool> {
    let deadly = number == signal::KILL;
    if deadly && !has_own_processes(&container.config()?) {
        // The end of its first process would not be that of the others.
        let cgroup = container.cgroup()?;
        let any = !cgroup.procs()?.is_empty();
        cgroup.kill()?;
        return Ok(any);
    }
    let Some(process) = container.process()? else { return Ok(false) };
    match send_signal(process.as_fd(), number) {
        Ok(()) => {}
        Err(Errno::SRCH) => return Ok(false),
        Err(errno) => {
            let failed = "unable to signal the container's process";
            return Err(Error::caused(Kind::Internal, failed, Reason(errno)));
        }
    }
    let cgroup = container.cgroup()?;
    if deadly && cgroup.is_frozen()? {
        // On v1 a frozen process does not even die.
        cgroup.thaw()?;
    }
    Ok(true)
}

/// Whether the container has a pid namespace of its own, which ends with its first process.
fn has_own_processes(spec: &Spec) -> bool {
    let namespaces = spec.linux().as_ref().and_then(|linux| linux.namespaces().as_ref());
    namespaces.into_iter().flatten().any(|namespace| {
        let path = namespace.path().as_deref().map(|path| path.as_os_str().len());
        namespace.typ() == LinuxNamespaceType::Pid && path.unwrap_or(0) == 0
    })
}
