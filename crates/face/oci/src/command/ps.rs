//! `ps`: the processes of a container.
//!
//! The table is that of `ps -ef`, read from /proc by ourselves: no program is started. Times are UTC.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use dhow_error::{Error, Kind, Result};

use super::{Command, PLAIN};
use crate::container::Container;
use crate::globals::Globals;
use crate::words::{Flag, FlagsEnd, Words};
use crate::{owner, table, time};

/// Clock ticks a second in /proc, on every machine (USER_HZ).
const TICKS: u64 = 100;
const SECONDS_A_DAY: u64 = 86_400;

pub(super) const COMMAND: Command = Command {
    name: "ps",
    usage: "ID [-ef]",
    about: "list the processes of a container",
    flags: &[Flag::value("format", "table or json (default: table)").short("f")],
    flags_end: FlagsEnd::AtArgument,
    arguments: (1, usize::MAX),
    run,
    ..PLAIN
};

fn run(globals: &Globals, words: &Words) -> Result<u8> {
    let container = Container::load(&globals.root, words.first()?)?;
    let pids = container.cgroup()?.procs()?;
    let text = match words.value("format").unwrap_or("table") {
        "json" => serde_json::to_string(&pids)
            .map_err(|error| Error::caused(Kind::Internal, "cannot write the list", error))?,
        "" | "table" => {
            let options = words.arguments.get(1..).unwrap_or_default();
            if options.iter().any(|option| option != "-ef") {
                let message = format!("the options {} of ps are not offered", options.join(" "));
                return Err(Error::new(Kind::Unsupported, message)
                    .with_hint("--format json tells the pids, for ps --pid"));
            }
            table_of(&pids)
        }
        _ => return Err(Error::invalid("invalid format option")),
    };
    crate::say(&text)?;
    Ok(0)
}

fn table_of(pids: &[i32]) -> String {
    let boot = boot_time(&fs::read_to_string("/proc/stat").unwrap_or_default());
    let users = fs::read_to_string("/etc/passwd").unwrap_or_default();
    let heading = ["UID", "PID", "PPID", "C", "STIME", "TTY", "TIME", "CMD"];
    let rows = pids.iter().filter_map(|pid| row(*pid, boot, &users));
    let rows: Vec<_> = std::iter::once(heading.map(str::to_owned).to_vec()).chain(rows).collect();
    table::aligned(&rows)
}

/// A process's line; `None` if it has ended meanwhile.
fn row(pid: i32, boot: u64, users: &str) -> Option<Vec<String>> {
    let folder = format!("/proc/{pid}");
    let uid = fs::metadata(&folder).ok()?.uid();
    let line = fs::read_to_string(format!("{folder}/stat")).ok()?;
    let stat = Stat::parse(&line)?;
    let arguments = fs::read(format!("{folder}/cmdline")).ok()?;
    let (now, started) = (since_epoch(SystemTime::now()), boot + stat.start / TICKS);
    let lived = now.saturating_sub(started).max(1);
    Some(vec![
        owner::name(users, uid).map_or_else(|| uid.to_string(), str::to_owned),
        pid.to_string(),
        stat.parent.to_string(),
        (stat.used / TICKS * 100 / lived).min(99).to_string(),
        start_shown(started, now),
        terminal_shown(stat.terminal),
        time_shown(stat.used / TICKS),
        command_shown(&arguments, stat.name),
    ])
}

/// What a line of /proc/PID/stat says (proc_pid_stat(5)).
#[derive(Debug, PartialEq, Eq)]
struct Stat<'a> {
    name: &'a str,
    parent: i32,
    terminal: u64,
    /// Processor time, in ticks.
    used: u64,
    /// Ticks from the machine's start to the process's.
    start: u64,
}

impl<'a> Stat<'a> {
    fn parse(line: &'a str) -> Option<Self> {
        let (before, after) = line.rsplit_once(')')?;
        let (_, name) = before.split_once('(')?;
        let fields: Vec<&str> = after.split_ascii_whitespace().collect();
        // The first of these is field 3.
        let number = |field: usize| fields.get(field - 3)?.parse::<u64>().ok();
        Some(Self {
            name,
            parent: fields.get(1)?.parse().ok()?,
            terminal: number(7).unwrap_or(0),
            used: number(14)? + number(15)?,
            start: number(22)?,
        })
    }
}

fn boot_time(stat: &str) -> u64 {
    let line = stat.lines().find_map(|line| line.strip_prefix("btime "));
    line.and_then(|seconds| seconds.trim().parse().ok()).unwrap_or(0)
}

fn since_epoch(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}

/// The time of today, or the day.
fn start_shown(started: u64, now: u64) -> String {
    let text = time::seconds(UNIX_EPOCH + Duration::from_secs(started));
    let range = if now.saturating_sub(started) < SECONDS_A_DAY { 11..16 } else { 5..10 };
    text.get(range).unwrap_or_default().to_owned()
}

/// A terminal's device number, as /dev names it.
fn terminal_shown(device: u64) -> String {
    let (major, minor) = ((device >> 8) & 0xfff, (device & 0xff) | ((device >> 12) & 0xfff00));
    match major {
        136..=143 => format!("pts/{}", minor + (major - 136) * 256),
        4 => format!("tty{minor}"),
        _ => "?".to_owned(),
    }
}

fn time_shown(seconds: u64) -> String {
    format!("{:02}:{:02}:{:02}", seconds / 3600, seconds / 60 % 60, seconds % 60)
}

/// Arguments on one line, with nothing in them that a terminal would obey.
fn command_shown(arguments: &[u8], name: &str) -> String {
    let text = String::from_utf8_lossy(arguments);
    let text = text.trim_end_matches('\0').replace('\0', " ");
    let text = if text.is_empty() { format!("[{name}]") } else { text };
    text.chars().map(|letter| if letter.is_control() { '?' } else { letter }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_proc_are_read() {
        let line = "7 (a) b) S 1 7 7 34817 7 0 0 0 0 0 250 50 0 0 20 0 1 0 4200 0";
        let expected = Stat { name: "a) b", parent: 1, terminal: 34817, used: 300, start: 4200 };
        assert_eq!(Stat::parse(line), Some(expected));
        assert_eq!(Stat::parse("7 (a"), None);
        assert_eq!(boot_time("cpu 1\nbtime 77\n"), 77);
    }

    #[test]
    fn cells_are_as_ps_shows_them() {
        assert_eq!(terminal_shown(34817), "pts/1");
        assert_eq!(terminal_shown(0), "?");
        assert_eq!(time_shown(3_723), "01:02:03");
        assert_eq!(command_shown(b"sh\0-c\0a\x1bb\0", "sh"), "sh -c a?b");
        assert_eq!(command_shown(b"", "kworker"), "[kworker]");
        assert_eq!(start_shown(1_767_323_045, 1_767_323_046), "03:04");
        assert_eq!(start_shown(1_767_323_045, 1_768_323_046), "01-02");
    }

    #[test]
    fn we_are_seen() {
        let pid = std::process::id().cast_signed();
        let row = row(pid, 0, "").unwrap();
        assert_eq!(row[1], pid.to_string());
    }
}
