//! `exec`: another process in a running container.
//!
//! What it is comes from a file (`--process`), or is the configuration's process with the arguments and flags
//! of the command line. It is confined as the container is.

use std::fs;
use std::io::Read;
use std::os::fd::AsFd;
use std::path::Path;
use std::str::FromStr;

use dhow_cgroup::Layout;
use dhow_error::{Error, Kind, Result};
use dhow_runtime::{Listener, Running, Target, Ties, exec_with};
use dhow_spec::oci_runtime::{Capabilities, Capability, LinuxCapabilities, Process, Spec};
use dhow_sys::event::{reap_blocking, send_signal};
use dhow_sys::process::SignalMask;

use super::Command;
use crate::birth::{self, Beginning};
use crate::bundle::LARGEST;
use crate::container::{Container, Status};
use crate::foreground;
use crate::globals::Globals;
use crate::handout;
use crate::turns;
use crate::words::{Flag, FlagsEnd, Words};

pub(super) const COMMAND: Command = Command {
    name: "exec",
    usage: "ID COMMAND [ARGUMENT...]",
    about: "run another process in a running container",
    flags: &[
        Flag::value("process", "a file with the whole process, as JSON").short("p"),
        Flag::switch("detach", "leave the process alone once it runs").short("d"),
        Flag::switch("tty", "give it a terminal").short("t"),
        Flag::value("cwd", "its working directory"),
        Flag::value("env", "an environment variable more, NAME=VALUE").short("e"),
        Flag::value("user", "its user, UID[:GID]").short("u"),
        Flag::value("additional-gids", "a group more").short("g"),
        Flag::value("cap", "a capability more").short("c"),
        Flag::switch("no-new-privs", "no_new_privs, whatever the configuration says"),
        Flag::value("apparmor", "its AppArmor profile"),
        Flag::value("process-label", "its SELinux label"),
        birth::PID_FILE,
        birth::CONSOLE_SOCKET,
        birth::PIDFD_SOCKET,
        birth::PRESERVE_FDS,
        Flag::value("cgroup", "a control group below the container's, [CONTROLLERS:]PATH"),
        Flag::switch("ignore-paused", "also in a paused container, where it waits"),
        Flag::switch("no-subreaper", "accepted and ignored"),
    ],
    flags_end: FlagsEnd::AtArgument,
    arguments: (1, usize::MAX),
    failure: 255,
    run: exec,
};

fn exec(globals: &Globals, words: &Words) -> Result<u8> {
    perform(globals, words).map_err(|error| error.context("exec failed"))
}

fn perform(globals: &Globals, words: &Words) -> Result<u8> {
    let container = Container::load(&globals.root, words.first()?)?;
    check_status(container.status()?, words.is_on("ignore-paused"))?;
    let spec = container.config()?;
    let process = process(&spec, words)?;
    let detached = words.is_on("detach");
    let beginning = if detached { Beginning::Detached } else { Beginning::Foreground };
    birth::check_terminal(&process, words, beginning)?;
    if !detached {
        SignalMask::block_all();
    }
    let running = start(globals, &container, &spec, &process, words)?;
    running.warnings.iter().for_each(|warning| globals.log.warning(warning));
    birth::hand_out(&running, words).inspect_err(|_| {
        // Nobody will hear of it.
        let _ = send_signal(running.pidfd.as_fd(), 9);
        let _ = reap_blocking(running.pidfd.as_fd());
    })?;
    if detached { Ok(0) } else { foreground::stay(running) }
}

fn start(
    globals: &Globals,
    container: &Container,
    spec: &Spec,
    process: &Process,
    words: &Words,
) -> Result<Running> {
    let stopped = || Error::conflict("cannot exec in a stopped container");
    let init = container.process()?.ok_or_else(stopped)?;
    let below: Vec<&str> = words.values("cgroup").collect();
    let cgroup = match below.as_slice() {
        [] => container.record.cgroup.clone(),
        below => Layout::known()?.below(&container.record.cgroup, below)?,
    };
    let linux = spec.linux().as_ref();
    let profile = linux.and_then(|linux| linux.seccomp().as_ref());
    let seccomp = profile.map(dhow_seccomp::compile).transpose()?;
    let told = turns::told(&container.record);
    let first = container.record.init.as_ref().map(|init| init.pid);
    let target = Target {
        pidfd: init.as_fd(),
        cgroup: &cgroup,
        seccomp: seccomp.as_ref(),
        linux,
        listener: profile.and_then(|profile| Listener::of(profile, &told, first)),
    };
    let ties = Ties {
        dies_with_us: false,
        shares_keyring: false,
        descriptors: handout::preserved(0, words.number("preserve-fds")?.unwrap_or(0))?,
        sealed: globals.sealed,
    };
    let stdio = birth::streams(process)?;
    let size = birth::console_size(process, !words.is_on("detach"));
    exec_with(&target, process, stdio, size, ties).map_err(|error| globals.not_started(error))
}

fn check_status(status: Status, ignore_paused: bool) -> Result<()> {
    match status {
        Status::Stopped => Err(Error::conflict("cannot exec in a stopped container")),
        Status::Paused if !ignore_paused => Err(Error::conflict(
            "cannot exec in a paused container (use --ignore-paused to override)",
        )),
        _ => Ok(()),
    }
}

/// What is to run.
fn process(spec: &Spec, words: &Words) -> Result<Process> {
    let process = match words.value("process").filter(|path| !path.is_empty()) {
        Some(path) => read(Path::new(path))?,
        None => merged(spec, words)?,
    };
    if process.args().as_ref().is_none_or(Vec::is_empty) {
        return Err(Error::invalid("args must not be empty"));
    }
    if !process.cwd().is_absolute() {
        return Err(Error::invalid("Cwd must be an absolute path"));
    }
    Ok(process)
}

fn read(path: &Path) -> Result<Process> {
    let shown = path.display();
    let failed = |error: std::io::Error| {
        Error::caused(Kind::NotFound, format!("cannot read {shown}"), error)
    };
    let mut text = Vec::new();
    fs::File::open(path).map_err(failed)?.take(LARGEST).read_to_end(&mut text).map_err(failed)?;
    serde_json::from_slice(&text)
        .map_err(|error| Error::caused(Kind::Invalid, format!("{shown} is malformed"), error))
}

/// The configuration's process with what the command line says.
fn merged(spec: &Spec, words: &Words) -> Result<Process> {
    let arguments = words.arguments.get(1..).unwrap_or_default();
    if arguments.is_empty() {
        return Err(Error::invalid("process args cannot be empty"));
    }
    let process = spec.process().as_ref();
    let mut process =
        process.cloned().ok_or_else(|| Error::invalid("config.json has no process"))?;
    process.set_args(Some(arguments.to_vec())).set_terminal(Some(words.is_on("tty")));
    if let Some(cwd) = words.value("cwd").filter(|cwd| !cwd.is_empty()) {
        process.set_cwd(cwd.into());
    }
    if let Some(profile) = words.value("apparmor").filter(|profile| !profile.is_empty()) {
        process.set_apparmor_profile(Some(profile.to_owned()));
    }
    if let Some(label) = words.value("process-label").filter(|label| !label.is_empty()) {
        process.set_selinux_label(Some(label.to_owned()));
    }
    if words.value("no-new-privs").is_some() {
        process.set_no_new_privileges(Some(words.is_on("no-new-privs")));
    }
    let mut environment = process.env().clone().unwrap_or_default();
    environment.extend(words.values("env").map(str::to_owned));
    process.set_env(Some(environment));
    add_capabilities(&mut process, words)?;
    set_user(&mut process, words)?;
    Ok(process)
}

/// To what the process is bounded by, may use and uses.
fn add_capabilities(process: &mut Process, words: &Words) -> Result<()> {
    for name in words.values("cap") {
        let upper = name.to_ascii_uppercase();
        let bare = upper.strip_prefix("CAP_").unwrap_or(&upper);
        let capability = Capability::from_str(bare)
            .map_err(|_| Error::invalid(format!("unknown capability {name:?}")))?;
        let mut sets = process.capabilities().clone().unwrap_or_else(none);
        let with = |set: &Option<Capabilities>| {
            Some(set.iter().flatten().copied().chain([capability]).collect())
        };
        let (bounding, effective) = (with(sets.bounding()), with(sets.effective()));
        let permitted = with(sets.permitted());
        sets.set_bounding(bounding).set_effective(effective).set_permitted(permitted);
        process.set_capabilities(Some(sets));
    }
    Ok(())
}

/// No capability at all, which is not the type's default.
fn none() -> LinuxCapabilities {
    let mut sets = LinuxCapabilities::default();
    sets.set_bounding(None).set_effective(None).set_permitted(None);
    sets.set_inheritable(None).set_ambient(None);
    sets
}

fn set_user(process: &mut Process, words: &Words) -> Result<()> {
    let number = |what: &str, text: &str| {
        text.parse::<u32>()
            .map_err(|_| Error::invalid(format!("parsing {text} as int for {what} failed")))
    };
    let user = process.user_mut();
    if let Some(given) = words.value("user").filter(|given| !given.is_empty()) {
        let (uid, gid) = given.split_once(':').map_or((given, None), |it| (it.0, Some(it.1)));
        if let Some(gid) = gid {
            user.set_gid(number("gid", gid)?);
        }
        user.set_uid(number("uid", uid)?);
    }
    let mut groups = user.additional_gids().clone().unwrap_or_default();
    for gid in words.values("additional-gids") {
        groups.push(number("additional-gids", gid)?);
    }
    user.set_additional_gids(Some(groups));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(line: &str) -> Words {
        let words: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
        COMMAND.read(&words).unwrap()
    }

    #[test]
    fn the_command_line_is_put_over_the_configuration() {
        let line = "-e A=b --cwd=/x -u 5:6 -g 7 --additional-gids 8 -c CAP_SYS_TIME -t it ls -l";
        let process = process(&Spec::default(), &words(line)).unwrap();
        assert_eq!(process.args().as_deref(), Some(&["ls".to_owned(), "-l".to_owned()][..]));
        assert_eq!(process.cwd(), Path::new("/x"));
        assert_eq!(process.terminal(), Some(true));
        assert_eq!(process.env().as_ref().and_then(|env| env.last()).unwrap(), "A=b");
        let user = process.user();
        assert_eq!((user.uid(), user.gid()), (5, 6));
        assert_eq!(user.additional_gids().as_deref(), Some(&[7, 8][..]));
        let sets = process.capabilities().as_ref().unwrap();
        for set in [sets.bounding(), sets.effective(), sets.permitted()] {
            assert!(set.as_ref().unwrap().contains(&Capability::SysTime));
        }
        assert!(!sets.inheritable().iter().flatten().any(|it| *it == Capability::SysTime));
    }

    #[test]
    fn what_makes_no_process_is_refused() {
        for line in
            ["it", "-u x it ls", "-u 1:x it ls", "-g -1 it ls", "-c nope it ls", "--cwd x it ls"]
        {
            assert!(process(&Spec::default(), &words(line)).is_err(), "{line}");
        }
    }
}
