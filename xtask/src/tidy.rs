//! `cargo xtask tidy`: what the compiler does not check about the house.
//!
//! - Arrows between crates point down (docs/architecture.md, "The floors").
//! - Every file says in its first line what it is for.
//! - `unsafe` stands in base/sys only.
//! - Every dependency is in the workspace's table with a reason, big ones in one version.
//! - A file is about one thing: no more than [`LONGEST_FILE`] lines, tests not counted.
//! - The list of what of the OCI runtime specification is shown by which test is current.
//! - The binary is static.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

use crate::conformance;
use crate::run::{checkout, metadata};

/// From the ground up.
const FLOORS: &[&str] = &["base", "kernel", "store", "core", "face", "bin"];

/// The arrows within a floor: who may use whom.
const NEIGHBOURS: &[(&str, &[&str])] = &[
    ("dhow-spec", &["dhow-error"]),
    ("dhow-sys", &["dhow-error"]),
    ("dhow-runtime", &["dhow-cgroup", "dhow-seccomp", "dhow-rootfs"]),
    ("dhow-shim", &["dhow-cgroup", "dhow-seccomp", "dhow-rootfs", "dhow-runtime"]),
    ("dhow-image", &["dhow-kv", "dhow-content", "dhow-snapshot"]),
    ("dhow-docker", &["dhow-docker-wire"]),
    ("dhow-cli", &["dhow-docker-wire"]),
];

/// The floors below store/ are synchronous and speak no HTTP.
const NOT_BELOW_STORE: &[&str] = &["tokio", "hyper", "clap"];

/// Two versions of these would be two of everything.
const ONE_VERSION: &[&str] =
    &["clap", "http", "hyper", "ring", "rustls", "serde", "serde_json", "tar", "tokio"];

/// Lines of a file without its tests.
const LONGEST_FILE: usize = 600;

/// Checks all but the binary.
pub(crate) fn run() -> Result<()> {
    let mut faults = Vec::new();
    floors(&mut faults)?;
    for file in sources(&checkout()) {
        let text = fs::read_to_string(&file)?;
        let name = file.strip_prefix(checkout()).unwrap_or(&file).display().to_string();
        source(&name, &text, &mut faults);
    }
    dependencies(&mut faults)?;
    conformance::check(&mut faults)?;
    ensure!(faults.is_empty(), "not tidy:\n  {}", faults.join("\n  "));
    eprintln!("tidy");
    Ok(())
}

/// Checks that a binary has no interpreter: RUSTFLAGS in the environment silently drop `+crt-static`.
pub(crate) fn binary(path: &Path) -> Result<()> {
    const PROGRAM_INTERPRETER: u32 = 3;
    let elf = fs::read(path)?;
    let number = |at: usize, length: usize| -> Result<u64> {
        let bytes = elf.get(at..at + length).context("truncated ELF file")?;
        Ok(bytes.iter().rev().fold(0, |sum, byte| sum << 8 | u64::from(*byte)))
    };
    ensure!(elf.starts_with(b"\x7fELF"), "{} is no ELF file", path.display());
    // elf(5): e_phoff, e_phentsize and e_phnum of an Elf64_Ehdr.
    let (table, size, count) = (number(32, 8)?, number(54, 2)?, number(56, 2)?);
    for entry in 0..count {
        if number((table + entry * size) as usize, 4)? == u64::from(PROGRAM_INTERPRETER) {
            bail!("{} is not static: is RUSTFLAGS set?", path.display());
        }
    }
    Ok(())
}

/// Arrows point down, and every crate has the workspace's lints.
fn floors(faults: &mut Vec<String>) -> Result<()> {
    let metadata = metadata()?;
    let packages = metadata.get("packages").and_then(Value::as_array).context("no packages")?;
    let text = |value: &Value, key: &str| {
        value.get(key).and_then(Value::as_str).unwrap_or_default().to_owned()
    };
    let floor_of = |manifest: &str| {
        let below = Path::new(manifest).strip_prefix(checkout()).ok()?.to_owned();
        let mut parts = below.iter().filter_map(|part| part.to_str());
        let first = parts.next()?;
        let floor = if first == "crates" { parts.next()? } else { first };
        FLOORS.iter().position(|name| *name == floor)
    };
    let places: Vec<(String, Option<usize>)> = packages
        .iter()
        .map(|package| (text(package, "name"), floor_of(&text(package, "manifest_path"))))
        .collect();
    let place = |name: &str| places.iter().find(|place| place.0 == name).and_then(|it| it.1);
    for package in packages {
        let (name, manifest) = (text(package, "name"), text(package, "manifest_path"));
        let lints = fs::read_to_string(&manifest)?.contains("[lints]\nworkspace = true");
        if !lints && name != "dhow-sys" {
            faults.push(format!("{name} does not have the workspace's lints"));
        }
        let Some(floor) = place(&name) else { continue };
        let dependencies = package.get("dependencies").and_then(Value::as_array);
        for dependency in dependencies.into_iter().flatten() {
            if !dependency.get("kind").is_none_or(Value::is_null) {
                continue;
            }
            let used = text(dependency, "name");
            if floor < 2 && NOT_BELOW_STORE.contains(&used.as_str()) {
                faults.push(format!("{name} is below store/ and must not use {used}"));
            }
            let Some(below) = place(&used) else { continue };
            let neighbours = NEIGHBOURS.iter().find(|it| it.0 == name).map_or(&[][..], |it| it.1);
            if below > floor || below == floor && !neighbours.contains(&used.as_str()) {
                faults.push(format!("{name} must not use {used}: arrows point down"));
            }
        }
    }
    Ok(())
}

/// What a source file must be like.
fn source(name: &str, text: &str, faults: &mut Vec<String>) {
    if !text.starts_with("//!") {
        faults.push(format!("{name} does not open with //! and what it is for"));
    }
    let lines = text.lines().take_while(|line| line.trim() != "#[cfg(test)]").count();
    if lines > LONGEST_FILE && !text.contains("//! Data table.") {
        faults.push(format!("{name} has {lines} lines: is it about one thing?"));
    }
    if name.starts_with("crates/base/sys/") {
        return;
    }
    for (number, line) in text.lines().enumerate() {
        let code = line.split("//").next().unwrap_or_default();
        if ["unsafe {", "unsafe fn", "unsafe impl"].iter().any(|word| code.contains(word))
            && !name.starts_with("xtask/")
        {
            faults.push(format!("{name}:{} unsafe code outside base/sys", number + 1));
        }
    }
}

/// Every dependency has a reason and stands in the workspace's table only.
fn dependencies(faults: &mut Vec<String>) -> Result<()> {
    let root = fs::read_to_string(checkout().join("Cargo.toml"))?;
    let table = root.split("[workspace.dependencies]").nth(1).context("no dependency table")?;
    let entries = table.lines().take_while(|line| !line.starts_with('['));
    for line in entries.filter(|line| line.contains(" = ") && !line.starts_with("dhow-")) {
        if !line.contains("# ") {
            faults.push(format!("Cargo.toml: no reason given: {line}"));
        }
    }
    for manifest in manifests(&checkout()) {
        let text = fs::read_to_string(&manifest)?;
        let own = text.lines().filter(|line| line.contains("version = \""));
        for line in own {
            faults.push(format!("{}: not from the workspace's table: {line}", manifest.display()));
        }
    }
    let used = unused(faults)?;
    for line in root.lines().filter(|line| line.contains(" = ") && line.contains("# ")) {
        let name = line.split_whitespace().next().unwrap_or_default();
        if table.contains(line) && !used.contains(name) {
            faults.push(format!("Cargo.toml: nobody uses {name}"));
        }
    }
    let lock = fs::read_to_string(checkout().join("Cargo.lock"))?;
    for name in ONE_VERSION {
        let versions = lock.matches(&format!("\nname = \"{name}\"\n")).count();
        if versions > 1 {
            faults.push(format!("Cargo.lock has {versions} versions of {name}"));
        }
    }
    Ok(())
}

/// What the crates say they use; a crate that says so and does not is told.
fn unused(faults: &mut Vec<String>) -> Result<BTreeSet<String>> {
    let mut used = BTreeSet::new();
    for manifest in manifests(&checkout()) {
        let Some(folder) = manifest.parent() else { continue };
        let code: Vec<String> =
            sources(folder).iter().map(fs::read_to_string).collect::<Result<_, _>>()?;
        let text = fs::read_to_string(&manifest)?;
        let wanted = text.lines().filter_map(|line| line.strip_suffix(".workspace = true"));
        let fields = ["version", "edition", "rust-version", "license", "publish"];
        for name in wanted.filter(|name| !fields.contains(name)) {
            let word = name.replace('-', "_");
            if !code.iter().any(|code| code.contains(&word)) {
                faults.push(format!("{} does not use {name}", manifest.display()));
            }
            used.insert(name.to_owned());
        }
    }
    Ok(used)
}

/// All Rust files of the checkout.
fn sources(folder: &Path) -> Vec<PathBuf> {
    files(folder).into_iter().filter(|path| path.extension().is_some_and(|it| it == "rs")).collect()
}

/// All manifests but the root's.
fn manifests(folder: &Path) -> Vec<PathBuf> {
    let is_manifest =
        |path: &PathBuf| path.ends_with("Cargo.toml") && *path != folder.join("Cargo.toml");
    files(folder).into_iter().filter(is_manifest).collect()
}

/// All files below `folder`, without what cargo and git keep.
pub(crate) fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        let name = entry.file_name();
        if path.is_dir() && name != "target" && !name.to_string_lossy().starts_with('.') {
            found.extend(files(&path));
        } else if path.is_file() {
            found.push(path);
        }
    }
    found.sort();
    found
}
