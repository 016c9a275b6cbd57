//! `COPY`, `ADD` and `WORKDIR`: what they add to an image, by Docker's rules.
//!
//! - a folder's contents are copied, not the folder itself;
//! - a file goes into the destination if that ends in `/` or is a folder, and becomes it otherwise;
//! - several sources need a destination that ends in `/`;
//! - folders on the way that are missing are made, those that are there stay as they are;
//! - links named as sources are followed, those within copied folders are copied;
//! - `ADD` unpacks a local archive into the destination.
//!
//! [`plan`] looks at both trees and writes nothing; [`write`] makes the layer of a plan.

use std::collections::BTreeMap;
use std::io::{self, Read, Write};

use dhow_error::{Error, Kind as ErrorKind, Result};
use dhow_image::inflate;
use dhow_image::tape::{EntryKind, Tape, clean};

use crate::layer::LayerWriter;
use crate::path;
use crate::pattern::{Pattern, is_pattern};
use crate::tree::{Kind, Node, Tree, resolve};

/// The first bytes of what cannot be unpacked here.
const BZIP2: &[u8] = b"BZh";
const XZ: &[u8] = b"\xfd7zXZ\0";

/// What to copy.
#[derive(Debug, Clone, Default)]
pub(crate) struct Copy {
    /// Paths and patterns below the source's root.
    pub(crate) sources: Vec<String>,
    /// Below the target's root.
    pub(crate) to: Vec<u8>,
    /// Whether the destination was written with a `/` at its end.
    pub(crate) into: bool,
    /// Who shall own it.
    pub(crate) owner: Option<(u64, u64)>,
    /// Which mode it shall have.
    pub(crate) mode: Option<u32>,
    /// Whether owners are kept where none is given (another stage's files), or become root (the context's).
    pub(crate) keep_owner: bool,
    /// Whether archives are unpacked.
    pub(crate) extract: bool,
}

/// What a layer will have.
#[derive(Debug, Default)]
pub(crate) struct Plan {
    /// By path; a file's content comes from this path of the source.
    entries: BTreeMap<Vec<u8>, (Node, Option<Vec<u8>>)>,
    /// Archives of the source and where they are unpacked.
    archives: Vec<(Vec<u8>, Vec<u8>)>,
    owner: Option<(u64, u64)>,
}

impl Plan {
    /// Whether there is nothing to add.
    pub(crate) fn is_empty(&self) -> bool {
        self.entries.is_empty() && self.archives.is_empty()
    }

    /// The folder `path`, with what is missing on the way, if it is not there.
    pub(crate) fn folder(target: &dyn Tree, path: &[u8]) -> Result<Self> {
        let path = resolve(target, path, true)?;
        let mut plan = Self::default();
        if !target.look(&path)?.is_some_and(|node| node.is_folder()) {
            plan.way_to(target, &path, true)?;
        }
        Ok(plan)
    }

    /// Adds the folders on the way to `path`, and `path` itself if `whole`.
    fn way_to(&mut self, target: &dyn Tree, path: &[u8], whole: bool) -> Result<()> {
        for folder in path::prefixes(path) {
            if self.entries.contains_key(folder) || (!whole && folder == path) {
                continue;
            }
            let node = match target.look(folder)? {
                Some(node) if node.is_folder() => node,
                Some(_) => {
                    let shown = path::shown(folder);
                    return Err(Error::invalid(format!(
                        "/{shown} is in the image and not a folder"
                    )));
                }
                None => {
                    let (uid, gid) = self.owner.unwrap_or((0, 0));
                    Node { uid, gid, ..Node::folder() }
                }
            };
            self.entries.insert(folder.to_vec(), (node, None));
        }
        Ok(())
    }
}

/// Finds out what `copy` adds to `target`.
pub(crate) fn plan(source: &dyn Tree, target: &dyn Tree, copy: &Copy) -> Result<Plan> {
    let mut found = Vec::new();
    for pattern in &copy.sources {
        found.extend(expand(source, pattern)?);
    }
    if (found.len() > 1 || copy.sources.len() > 1) && !copy.into {
        return Err(Error::invalid(
            "with more than one source, the destination must be a folder and end with a /",
        ));
    }
    let to = resolve(target, &copy.to, true)?;
    let is_folder = copy.into || target.look(&to)?.is_some_and(|node| node.is_folder());
    let mut plan = Plan { owner: copy.owner, ..Plan::default() };
    for named in found {
        let real = resolve(source, &named, true)?;
        let node = source.look(&real)?.ok_or_else(|| missing(&named))?;
        if node.is_folder() {
            plan.way_to(target, &to, true)?;
            tree(&mut plan, source, target, copy, &real, &to)?;
        } else if copy.extract && is_archive(source, &real)? {
            plan.way_to(target, &to, true)?;
            plan.archives.push((real, to.clone()));
        } else {
            let path = if is_folder { path::join(&to, path::name(&named)) } else { to.clone() };
            if path.is_empty() {
                return Err(Error::invalid("the destination of a file cannot be the root"));
            }
            plan.way_to(target, &path, false)?;
            plan.entries.insert(path, (owned(node, copy), Some(real)));
        }
    }
    Ok(plan)
}

/// Writes the layer of a plan. Blocks.
pub(crate) fn write<W: Write>(plan: &Plan, source: &dyn Tree, out: W) -> Result<W> {
    let mut layer = LayerWriter::new(out);
    for (path, (node, from)) in &plan.entries {
        let mut content: Box<dyn Read + Send + '_> = match (&node.kind, from) {
            (Kind::File, Some(from)) => source.open(from)?,
            _ => Box::new(io::empty()),
        };
        layer.put(path, node, &mut content).map_err(|source| failed(path, source))?;
    }
    for (archive, to) in &plan.archives {
        let content = inflate(source.open(archive)?).map_err(|error| failed(archive, error))?;
        unpack(&mut layer, content, to, plan.owner).map_err(|error| failed(archive, error))?;
    }
    layer.finish().map_err(|source| failed(b"", source))
}

/// The contents of the folder `from` as contents of `to`.
fn tree(
    plan: &mut Plan,
    source: &dyn Tree,
    target: &dyn Tree,
    copy: &Copy,
    from: &[u8],
    to: &[u8],
) -> Result<()> {
    let mut due = vec![(from.to_vec(), to.to_vec())];
    while let Some((from, to)) = due.pop() {
        for name in source.names(&from)? {
            let (from, to) = (path::join(&from, &name), path::join(&to, &name));
            let Some(node) = source.look(&from)? else { continue };
            let is_folder = node.is_folder();
            let mut node = owned(node, copy);
            if is_folder {
                // A folder that is there keeps its owner and mode.
                node = target.look(&to)?.filter(Node::is_folder).unwrap_or(node);
                due.push((from.clone(), to.clone()));
            }
            plan.entries.insert(to, (node, Some(from)));
        }
    }
    Ok(())
}

/// The paths that a source means: one, or all that match.
fn expand(source: &dyn Tree, text: &str) -> Result<Vec<Vec<u8>>> {
    let cleaned = path::clean_text(text);
    if !is_pattern(&cleaned) {
        let real = resolve(source, cleaned.as_bytes(), true)?;
        return match source.look(&real)? {
            Some(_) => Ok(vec![cleaned.into_bytes()]),
            None => Err(missing(text.as_bytes())),
        };
    }
    let mut found = vec![Vec::new()];
    for part in cleaned.split('/') {
        let pattern = Pattern::parse(part).map_err(|error| Error::invalid(error.to_string()))?;
        let mut next = Vec::new();
        for folder in found {
            let names = source.names(&resolve(source, &folder, true)?)?;
            let matching = names.iter().filter(|name| pattern.matches(name));
            next.extend(matching.map(|name| path::join(&folder, name)));
        }
        found = next;
    }
    if found.is_empty() { Err(missing(text.as_bytes())) } else { Ok(found) }
}

fn owned(node: Node, copy: &Copy) -> Node {
    let kept = if copy.keep_owner { (node.uid, node.gid) } else { (0, 0) };
    let (uid, gid) = copy.owner.unwrap_or(kept);
    // A link has no mode of its own.
    let mode = match node.kind {
        Kind::Symlink(_) => 0o777,
        _ => copy.mode.unwrap_or(node.mode),
    };
    Node { mode, uid, gid, ..node }
}

/// Whether a file is an archive, by its content, perhaps compressed.
fn is_archive(source: &dyn Tree, file: &[u8]) -> Result<bool> {
    if source.look(file)?.is_none_or(|node| node.kind != Kind::File) {
        return Ok(false);
    }
    let mut start = Vec::with_capacity(6);
    source.open(file)?.take(6).read_to_end(&mut start).map_err(|error| failed(file, error))?;
    if start.starts_with(XZ) || start.starts_with(BZIP2) {
        let message =
            format!("cannot unpack {}: bzip2 and xz are not built yet", path::shown(file));
        return Err(Error::new(ErrorKind::Unsupported, message)
            .with_hint("use COPY to take the file as it is, or compress it by gzip or zstd"));
    }
    let Ok(content) = inflate(source.open(file)?) else { return Ok(false) };
    Ok(matches!(Tape::new(content).next_entry(), Ok(Some(_))))
}

/// Writes an archive's entries below `to`, in their order.
fn unpack<W: Write>(
    layer: &mut LayerWriter<W>,
    content: impl Read,
    to: &[u8],
    owner: Option<(u64, u64)>,
) -> io::Result<()> {
    let invalid = |message: &str| io::Error::new(io::ErrorKind::InvalidData, message);
    let below = |name: &[u8]| {
        clean(name)
            .map(|parts| path::join(to, &parts.join(&b'/')))
            .ok_or_else(|| invalid("one of its names leads out of it"))
    };
    let mut tape = Tape::new(content);
    while let Some(entry) = tape.next_entry()? {
        let path = below(&entry.name)?;
        if path == to {
            continue;
        }
        let (uid, gid) = owner.unwrap_or((entry.uid, entry.gid));
        let (mode, mtime, size) = (entry.mode, entry.mtime, entry.size);
        let node = |kind| Node { kind, mode, uid, gid, mtime, size };
        match entry.kind {
            EntryKind::File => layer.put(&path, &node(Kind::File), &mut tape)?,
            EntryKind::Folder => layer.put(&path, &node(Kind::Folder), &mut io::empty())?,
            EntryKind::Symlink(target) => {
                layer.put(&path, &node(Kind::Symlink(target)), &mut io::empty())?;
            }
            EntryKind::HardLink(target) => {
                layer.link(&path, &node(Kind::File), &below(&target)?)?;
            }
            EntryKind::Other => return Err(invalid("devices and pipes cannot be unpacked")),
        }
    }
    Ok(())
}

fn missing(path: &[u8]) -> Error {
    let shown = path::shown(path);
    Error::not_found(format!(
        "file not found in build context or excluded by .dockerignore: {shown}"
    ))
}

fn failed(path: &[u8], source: io::Error) -> Error {
    let kind = match source.kind() {
        io::ErrorKind::Unsupported => ErrorKind::Unsupported,
        io::ErrorKind::StorageFull => ErrorKind::Exhausted,
        _ => ErrorKind::Invalid,
    };
    Error::caused(kind, format!("cannot copy {:?}", path::shown(path)), source)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::context::Context;
    use crate::context::tests::context;

    fn listing(target: &[(&str, &str)], copy: Copy) -> Result<Vec<String>> {
        let source = source();
        let target = context(target);
        let plan = plan(&source, &target, &copy)?;
        let layer = write(&plan, &source, Vec::new())?;
        let mut tape = Tape::new(layer.as_slice());
        let mut lines = Vec::new();
        while let Some(entry) = tape.next_entry().unwrap() {
            let name = path::shown(&entry.name);
            let content = String::from_utf8(tape.read_small(100).unwrap()).unwrap();
            lines.push(format!("{name} {:o} {}:{} {content}", entry.mode, entry.uid, entry.gid));
        }
        Ok(lines)
    }

    fn source() -> Context {
        context(&[
            ("hello", "hi"),
            ("d/a.txt", "A"),
            ("d/b.txt", "B"),
            ("d/sub/c", "C"),
            ("link", "-> d/a.txt"),
        ])
    }

    fn copy(sources: &[&str], to: &str) -> Copy {
        Copy {
            sources: sources.iter().map(|s| (*s).to_owned()).collect(),
            to: path::clean(to.as_bytes()),
            into: to.ends_with('/'),
            ..Copy::default()
        }
    }

    #[test]
    fn files_go_to_or_into() {
        assert_eq!(listing(&[], copy(&["hello"], "/x")).unwrap(), ["x 644 0:0 hi"]);
        let expected = ["x/ 755 0:0 ", "x/hello 644 0:0 hi"];
        assert_eq!(listing(&[], copy(&["hello"], "/x/")).unwrap(), expected);
        // The folder is there: it stays as it is.
        let expected = ["x/ 755 1000:0 ", "x/hello 644 0:0 hi"];
        assert_eq!(listing(&[("x/", "")], copy(&["/hello"], "/x")).unwrap(), expected);
        assert_eq!(listing(&[], copy(&["link"], "/x")).unwrap(), ["x 644 0:0 A"]);
    }

    #[test]
    fn folders_give_their_contents_and_links_lead_on() {
        let expected = ["usr/ 755 0:0 ", "usr/lib/ 755 1000:0 ", "usr/lib/c 644 0:0 C"];
        let target = [("usr/lib/", ""), ("lib", "-> usr/lib")];
        assert_eq!(listing(&target, copy(&["d/sub"], "/lib")).unwrap(), expected);
        let all = listing(&[], copy(&["."], "/")).unwrap();
        assert_eq!(all.len(), 7);
        assert!(all.contains(&"link 777 0:0 ".to_owned()), "{all:?}");
    }

    #[test]
    fn patterns_owners_and_modes() {
        let mut copy = copy(&["d/*.txt", "hello"], "/y/");
        copy.owner = Some((5, 6));
        copy.mode = Some(0o700);
        let expected =
            ["y/ 755 5:6 ", "y/a.txt 700 5:6 A", "y/b.txt 700 5:6 B", "y/hello 700 5:6 hi"];
        assert_eq!(listing(&[], copy).unwrap(), expected);
    }

    #[test]
    fn refusals_say_why() {
        let error = |copy| listing(&[("f", "")], copy).unwrap_err().to_string();
        assert!(error(copy(&["nosuch"], "/x")).contains("file not found in build context"));
        assert!(error(copy(&["d/*.nosuch"], "/x")).contains("file not found"));
        assert!(error(copy(&["hello", "link"], "/x")).contains("end with a /"));
        assert!(error(copy(&["hello"], "/f/")).contains("not a folder"));
    }

    #[test]
    fn archives_are_unpacked_by_add_only() {
        let mut inner = tar::Builder::new(Vec::new());
        let mut header = tar::Header::new_gnu();
        header.set_size(2);
        header.set_mode(0o600);
        inner.append_data(&mut header, "in/side", &b"ok"[..]).unwrap();
        let inner = inner.into_inner().unwrap();
        let text = String::from_utf8(inner).unwrap();
        let source = context(&[("a.tar", &text)]);
        let target = context(&[]);
        let mut add = copy(&["a.tar"], "/x");
        add.extract = true;
        let layer = write(&plan(&source, &target, &add).unwrap(), &source, Vec::new()).unwrap();
        let mut tape = Tape::new(layer.as_slice());
        let mut names = Vec::new();
        while let Some(entry) = tape.next_entry().unwrap() {
            names.push(path::shown(&entry.name));
        }
        assert_eq!(names, ["x/", "x/in/side"]);
    }

    #[test]
    fn a_missing_working_folder_is_made() {
        let target = context(&[("a/", "")]);
        let plan = Plan::folder(&target, b"a/b").unwrap();
        assert_eq!(plan.entries.len(), 2);
        assert!(Plan::folder(&target, b"a").unwrap().is_empty());
    }
}
