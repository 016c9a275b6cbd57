//! `update`: other limits for a container that is there.
//!
//! Flags or a file name what is to change; everything else stays as the kernel has it. All of it is
//! changed or nothing ([`dhow_cgroup::Cgroup::update`]).

use std::fs;
use std::io::Read;

use dhow_error::{Error, Kind, Result};
use dhow_spec::oci_runtime::{LinuxBlockIo, LinuxCpu, LinuxMemory, LinuxPids, LinuxResources};
use serde_json::Value;

use super::{Command, PLAIN};
use crate::container::{Container, Status};
use crate::globals::Globals;
use crate::words::{Flag, Words};

/// No file of resources is larger.
const LARGEST: u64 = 16 << 20;

pub(super) const COMMAND: Command = Command {
    name: "update",
    about: "change the limits of a container",
    flags: &[
        Flag::value("resources", "a file of the OCI's resources, or - for standard input")
            .short("r"),
        Flag::value("blkio-weight", "weight of block I/O, 10 to 1000"),
        Flag::value("cpu-period", "period of the CPU quota, in microseconds"),
        Flag::value("cpu-quota", "CPU time in a period, in microseconds"),
        Flag::value("cpu-burst", "CPU time that may be saved up, in microseconds"),
        Flag::value("cpu-share", "CPU shares, against other containers'"),
        Flag::value("cpu-rt-period", "period of real-time CPU time, in microseconds"),
        Flag::value("cpu-rt-runtime", "real-time CPU time in a period, in microseconds"),
        Flag::value("cpuset-cpus", "the CPUs to run on"),
        Flag::value("cpuset-mems", "the memory nodes to use"),
        Flag::value("kernel-memory", "(obsolete; ignored)"),
        Flag::value("kernel-memory-tcp", "(obsolete; ignored)"),
        Flag::value("memory", "memory limit in bytes, or with k, m, g; -1 for none"),
        Flag::value("cpu-idle", "1: run only when nothing else wants to; 0: as usual"),
        Flag::value("memory-reservation", "memory to keep under pressure, in bytes"),
        Flag::value("memory-swap", "limit of memory plus swap, in bytes; -1 for none"),
        Flag::value("pids-limit", "the most processes; -1 for no limit"),
        Flag::value("l3-cache-schema", "(Intel RDT; not there)"),
        Flag::value("mem-bw-schema", "(Intel RDT; not there)"),
    ],
    run,
    ..PLAIN
};

fn run(globals: &Globals, words: &Words) -> Result<u8> {
    let container = Container::load(&globals.root, words.first()?)?;
    let resources = match words.value("resources").filter(|path| !path.is_empty()) {
        Some(path) => from_json(path, &read(path)?)?,
        None => from_flags(words)?,
    };
    for flag in ["kernel-memory", "kernel-memory-tcp"] {
        if words.value(flag).is_some_and(|value| !value.is_empty()) {
            globals.log.warning(&format!("setting --{flag} is ignored: the kernel has it no more"));
        }
    }
    for (flag, what) in [("l3-cache-schema", "L3 cache"), ("mem-bw-schema", "memory bandwidth")] {
        if words.value(flag).is_some_and(|value| !value.is_empty()) {
            let message = format!("cannot set the {what} schema: Intel RDT is not supported");
            return Err(Error::new(Kind::Unsupported, message));
        }
    }
    if container.status()? == Status::Stopped {
        return Err(Error::conflict("container not running"));
    }
    container.cgroup()?.update(&resources)?;
    Ok(0)
}

fn read(path: &str) -> Result<Vec<u8>> {
    let mut text = Vec::new();
    let read = match path {
        "-" => std::io::stdin().lock().take(LARGEST).read_to_end(&mut text),
        path => fs::File::open(path).and_then(|file| file.take(LARGEST).read_to_end(&mut text)),
    };
    let shown = shown(path);
    read.map_err(|error| {
        Error::caused(Kind::NotFound, format!("cannot read resources from {shown}"), error)
    })?;
    Ok(text)
}

fn shown(path: &str) -> &str {
    if path == "-" { "standard input" } else { path }
}

/// The first JSON value of `text`; what comes behind it is not looked at.
fn from_json(path: &str, text: &[u8]) -> Result<LinuxResources> {
    let malformed = |error| {
        let message = format!("the resources from {} are malformed", shown(path));
        Error::caused(Kind::Invalid, message, error)
    };
    let mut values = serde_json::Deserializer::from_slice(text).into_iter::<Value>();
    let Some(value) = values.next() else {
        return Err(Error::invalid(format!("there are no resources in {}", shown(path))));
    };
    let value = value.map_err(malformed)?;
    if !value.is_object() {
        return Err(Error::invalid(format!("the resources from {} are no object", shown(path))));
    }
    let pids = value.pointer("/pids/limit").and_then(Value::as_i64);
    let mut resources: LinuxResources = serde_json::from_value(value).map_err(malformed)?;
    resources.set_pids(pids.map(pids_limit));
    Ok(resources)
}

/// No processes at all is as good as one: whoever is there stays.
fn pids_limit(limit: i64) -> LinuxPids {
    let mut pids = LinuxPids::default();
    pids.set_limit(if limit == 0 { 1 } else { limit });
    pids
}

fn from_flags(words: &Words) -> Result<LinuxResources> {
    let mut memory = LinuxMemory::default();
    memory.set_limit(size(words, "memory")?);
    memory.set_swap(size(words, "memory-swap")?);
    memory.set_reservation(size(words, "memory-reservation")?);
    let mut cpu = LinuxCpu::default();
    let list = |name| words.value(name).filter(|list| !list.is_empty()).map(str::to_owned);
    cpu.set_cpus(list("cpuset-cpus"));
    cpu.set_mems(list("cpuset-mems"));
    cpu.set_idle(number(words, "cpu-idle")?);
    cpu.set_burst(number(words, "cpu-burst")?);
    cpu.set_period(number(words, "cpu-period")?);
    cpu.set_shares(number(words, "cpu-share")?);
    cpu.set_quota(number(words, "cpu-quota")?);
    cpu.set_realtime_period(number(words, "cpu-rt-period")?);
    cpu.set_realtime_runtime(number(words, "cpu-rt-runtime")?);
    let mut io = LinuxBlockIo::default();
    io.set_weight(number(words, "blkio-weight")?);
    let mut resources = LinuxResources::default();
    resources.set_memory((memory != LinuxMemory::default()).then_some(memory));
    resources.set_cpu((cpu != LinuxCpu::default()).then_some(cpu));
    resources.set_block_io((io != LinuxBlockIo::default()).then_some(io));
    resources.set_pids(number(words, "pids-limit")?.map(pids_limit));
    Ok(resources)
}

/// A flag's number; one without a value is as good as absent.
fn number<T: std::str::FromStr>(words: &Words, name: &str) -> Result<Option<T>> {
    if words.value(name) == Some("") { Ok(None) } else { words.number(name) }
}

fn size(words: &Words, name: &str) -> Result<Option<i64>> {
    let Some(text) = words.value(name).filter(|text| !text.is_empty()) else { return Ok(None) };
    let invalid = || {
        Error::invalid(format!("invalid value {text:?} for --{name}"))
            .with_hint("give bytes, or a number with k, m, g or t behind it")
    };
    bytes(text).map(Some).ok_or_else(invalid)
}

/// `-1`, or a size such as `64m`, `1.5GiB`, `512 kB`, whose units are powers of 1024.
fn bytes(text: &str) -> Option<i64> {
    if text == "-1" {
        return Some(-1);
    }
    let end = text.rfind(|letter: char| letter.is_ascii_digit() || letter == '.')? + 1;
    let (number, unit) = text.split_at_checked(end)?;
    let unit = unit.strip_prefix(' ').unwrap_or(unit).to_ascii_lowercase();
    let shift = match unit.as_str() {
        "" | "b" => 0,
        "k" | "kb" | "kib" => 10,
        "m" | "mb" | "mib" => 20,
        "g" | "gb" | "gib" => 30,
        "t" | "tb" | "tib" => 40,
        "p" | "pb" | "pib" => 50,
        _ => return None,
    };
    if let Ok(whole) = number.parse::<i64>() {
        return whole.checked_mul(1 << shift).filter(|bytes| *bytes >= 0);
    }
    let part = number.parse::<f64>().ok()? * (1_u64 << shift) as f64;
    (0.0..9.2e18).contains(&part).then_some(part as i64)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(line: &str) -> Words {
        let words: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
        COMMAND.read(&words).unwrap()
    }

    #[test]
    fn sizes_have_units_of_1024() {
        for (text, expected) in [
            ("-1", Some(-1)),
            ("0", Some(0)),
            ("4096", Some(4096)),
            ("64m", Some(64 << 20)),
            ("64 MiB", Some(64 << 20)),
            ("1.5g", Some(3 << 29)),
            ("7b", Some(7)),
            ("2kB", Some(2048)),
            ("-2", None),
            ("m", None),
            ("64x", None),
            ("64mm", None),
            ("", None),
            ("9999999p", None),
            ("1 2", None),
        ] {
            assert_eq!(bytes(text), expected, "{text}");
        }
    }

    #[test]
    fn flags_name_what_changes() {
        let resources =
            from_flags(&words("--memory 64m --memory-swap -1 --cpu-quota=-1 it")).unwrap();
        let memory = resources.memory().as_ref().unwrap();
        assert_eq!((memory.limit(), memory.swap()), (Some(64 << 20), Some(-1)));
        assert_eq!(resources.cpu().as_ref().unwrap().quota(), Some(-1));
        assert!(resources.pids().is_none() && resources.block_io().is_none());
        let resources =
            from_flags(&words("--pids-limit 0 --cpu-idle 1 --blkio-weight 500 it")).unwrap();
        assert_eq!(resources.pids().as_ref().unwrap().limit(), 1);
        assert_eq!(resources.cpu().as_ref().unwrap().idle(), Some(1));
        assert_eq!(resources.block_io().as_ref().unwrap().weight(), Some(500));
        for line in ["--cpu-share x it", "--memory 1x it", "--blkio-weight 70000 it"] {
            assert_eq!(from_flags(&words(line)).unwrap_err().kind(), Kind::Invalid, "{line}");
        }
        assert_eq!(from_flags(&words("--cpu-share= it")).unwrap(), LinuxResources::default());
    }

    #[test]
    fn a_file_says_the_same() {
        let text = br#"{"memory": {"limit": 7}, "pids": {"limit": 0}, "new": 1} more"#;
        let resources = from_json("-", text).unwrap();
        assert_eq!(resources.memory().as_ref().unwrap().limit(), Some(7));
        assert_eq!(resources.pids().as_ref().unwrap().limit(), 1);
        assert!(from_json("-", br#"{"pids": {}}"#).unwrap().pids().is_none());
        for bad in ["", "{", "[]", r#"{"memory": {"limit": "x"}}"#] {
            assert_eq!(from_json("-", bad.as_bytes()).unwrap_err().kind(), Kind::Invalid, "{bad}");
        }
    }
}
