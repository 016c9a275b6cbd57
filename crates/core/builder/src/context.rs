//! A build's context: an archive, spooled into one unnamed file, and an index of what is in it.
//!
//! Nothing of it is ever created by name, so no name and no link in it can do harm, and nothing is left
//! behind whatever happens. Later entries replace earlier ones, as unpacking would.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{File, OpenOptions};
use std::io::{self, BufWriter, Read, Write};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;

use dhow_error::{Error, Kind as ErrorKind, Result};
use dhow_image::inflate;
use dhow_image::tape::{Entry, EntryKind, Tape, clean};
use dhow_sys::rustix::fs::OFlags;

use crate::ignore::Ignore;
use crate::path;
use crate::tree::{Kind, Node, Tree};

/// The most files.
const ENTRIES_MAX: usize = 500_000;
/// The most bytes, uncompressed.
const BYTES_MAX: u64 = 64 << 30;

/// The context, or an archive that is added.
#[derive(Debug)]
pub(crate) struct Context {
    spool: File,
    index: BTreeMap<Vec<u8>, Indexed>,
    children: BTreeMap<Vec<u8>, BTreeSet<Vec<u8>>>,
}

#[derive(Debug, Clone)]
struct Indexed {
    node: Node,
    offset: u64,
}

impl Context {
    /// Reads an archive, plain or compressed. The spool is in the folder `scratch`. Blocks.
    pub(crate) fn read(reader: impl Read + Send, scratch: &Path) -> Result<Self> {
        let unreadable =
            |source| Error::caused(ErrorKind::Invalid, "cannot read the context", source);
        let unwritable = |source| {
            let text = format!("cannot write a temporary file in {}", scratch.display());
            Error::caused(ErrorKind::Internal, text, source)
        };
        let spool = unnamed(scratch).map_err(unwritable)?;
        let mut context = Self { spool, index: BTreeMap::new(), children: BTreeMap::new() };
        let mut tape = Tape::new(inflate(reader).map_err(unreadable)?);
        let mut offset = 0;
        let file = context.spool.try_clone().map_err(unwritable)?;
        let mut out = BufWriter::with_capacity(256 << 10, file);
        while let Some(entry) = tape.next_entry().map_err(unreadable)? {
            let start = offset;
            if entry.kind == EntryKind::File {
                offset += entry.size;
                if offset > BYTES_MAX {
                    return Err(Error::invalid("the context is larger than 64 GiB"));
                }
                copy(&mut tape, &mut out).map_err(|failed| match failed {
                    Failed::Read(source) => unreadable(source),
                    Failed::Write(source) => unwritable(source),
                })?;
            }
            let name = path::shown(&entry.name);
            context
                .take(entry, start)
                .map_err(|error| error.context(format!("context: {name:?}")))?;
        }
        out.flush().map_err(unwritable)?;
        Ok(context)
    }

    /// Takes away what `.dockerignore` excludes. Folders of what is kept stay.
    pub(crate) fn apply(&mut self, ignore: &Ignore) {
        if ignore.is_empty() {
            return;
        }
        let mut kept = BTreeSet::new();
        for path in self.index.keys().filter(|path| !ignore.excludes(path)) {
            kept.extend(path::prefixes(path).map(<[u8]>::to_vec));
        }
        self.index.retain(|path, _| kept.contains(path));
        self.children.clear();
        for path in kept {
            let folder = path::parent(&path).unwrap_or_default().to_vec();
            self.children.entry(folder).or_default().insert(path::name(&path).to_vec());
        }
    }

    /// The whole of a small file; none if it is not there or no file.
    pub(crate) fn small(&self, path: &[u8], limit: u64) -> Result<Option<Vec<u8>>> {
        let path = crate::tree::resolve(self, path, true)?;
        let Some(indexed) = self.index.get(&path).filter(|i| i.node.kind == Kind::File) else {
            return Ok(None);
        };
        if indexed.node.size > limit {
            let shown = path::shown(&path);
            return Err(Error::invalid(format!("{shown:?} is larger than {limit} bytes")));
        }
        let mut content = Vec::new();
        self.content(indexed).read_to_end(&mut content).map_err(|source| {
            Error::caused(ErrorKind::Internal, "cannot read the spooled context", source)
        })?;
        Ok(Some(content))
    }

    fn take(&mut self, entry: Entry, offset: u64) -> Result<()> {
        let parts = clean(&entry.name).ok_or_else(|| Error::invalid("its name leads out of it"))?;
        let path = parts.join(&b'/');
        let (kind, offset, size) = match entry.kind {
            EntryKind::File => (Kind::File, offset, entry.size),
            EntryKind::Folder => (Kind::Folder, 0, 0),
            EntryKind::Symlink(target) => (Kind::Symlink(target), 0, 0),
            EntryKind::HardLink(target) => {
                let target = clean(&target).map(|parts| parts.join(&b'/')).unwrap_or_default();
                let there = self.index.get(&target).cloned();
                let there = there.filter(|there| !there.node.is_folder());
                let there =
                    there.ok_or_else(|| Error::invalid("it is a link to what is not there"))?;
                return self.insert(path, there);
            }
            EntryKind::Other => (Kind::Other, 0, 0),
        };
        let (mode, mtime) = (entry.mode, entry.mtime);
        let node = Node { kind, mode, uid: entry.uid, gid: entry.gid, mtime, size };
        self.insert(path, Indexed { node, offset })
    }

    fn insert(&mut self, path: Vec<u8>, indexed: Indexed) -> Result<()> {
        if path.is_empty() {
            return Ok(());
        }
        if self.index.len() >= ENTRIES_MAX {
            return Err(Error::invalid(format!("there are more than {ENTRIES_MAX} files")));
        }
        for folder in path::prefixes(path::parent(&path).unwrap_or_default()) {
            match self.index.get(folder) {
                Some(there) if there.node.is_folder() => {}
                Some(_) => return Err(Error::invalid("its folder is not a folder")),
                None => self.place(folder.to_vec(), Indexed { node: Node::folder(), offset: 0 }),
            }
        }
        if !indexed.node.is_folder() {
            self.forget(&path);
        }
        self.place(path, indexed);
        Ok(())
    }

    fn place(&mut self, path: Vec<u8>, indexed: Indexed) {
        let folder = path::parent(&path).unwrap_or_default().to_vec();
        self.children.entry(folder).or_default().insert(path::name(&path).to_vec());
        self.index.insert(path, indexed);
    }

    /// Removes what is below `path`.
    fn forget(&mut self, path: &[u8]) {
        let mut due = vec![path.to_vec()];
        while let Some(folder) = due.pop() {
            for name in self.children.remove(&folder).unwrap_or_default() {
                let child = path::join(&folder, &name);
                self.index.remove(&child);
                due.push(child);
            }
        }
    }

    fn content(&self, indexed: &Indexed) -> Content<'_> {
        Content { spool: &self.spool, at: indexed.offset, left: indexed.node.size }
    }
}

impl Tree for Context {
    fn look(&self, path: &[u8]) -> Result<Option<Node>> {
        if path.is_empty() {
            return Ok(Some(Node::folder()));
        }
        Ok(self.index.get(path).map(|indexed| indexed.node.clone()))
    }

    fn names(&self, folder: &[u8]) -> Result<Vec<Vec<u8>>> {
        Ok(self.children.get(folder).into_iter().flatten().cloned().collect())
    }

    fn open(&self, path: &[u8]) -> Result<Box<dyn Read + Send + '_>> {
        let file = self.index.get(path).filter(|indexed| indexed.node.kind == Kind::File);
        let missing = || Error::not_found(format!("{:?} is no file", path::shown(path)));
        Ok(Box::new(self.content(file.ok_or_else(missing)?)))
    }
}

/// A file's part of the spool.
struct Content<'a> {
    spool: &'a File,
    at: u64,
    left: u64,
}

impl Read for Content<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = usize::try_from(self.left).unwrap_or(usize::MAX).min(buffer.len());
        let read = self.spool.read_at(&mut buffer[..count], self.at)?;
        self.at += read as u64;
        self.left -= read as u64;
        Ok(read)
    }
}

enum Failed {
    Read(io::Error),
    Write(io::Error),
}

fn copy(from: &mut impl Read, to: &mut impl Write) -> Result<(), Failed> {
    let mut buffer = vec![0; 64 << 10];
    loop {
        match from.read(&mut buffer) {
            Ok(0) => return Ok(()),
            Ok(count) => to.write_all(&buffer[..count]).map_err(Failed::Write)?,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(Failed::Read(error)),
        }
    }
}

/// A temporary file without a name.
pub(crate) fn unnamed(folder: &Path) -> io::Result<File> {
    let flags = OFlags::TMPFILE.bits().cast_signed();
    OpenOptions::new().read(true).write(true).mode(0o600).custom_flags(flags).open(folder)
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A context of files (`name`, content), folders (`name/`, "") and links (`name`, "-> target").
    pub(crate) fn context(files: &[(&str, &str)]) -> Context {
        let mut builder = tar::Builder::new(Vec::new());
        for (name, content) in files {
            let mut header = tar::Header::new_gnu();
            header.set_mode(0o644);
            header.set_mtime(7);
            header.set_uid(1000);
            if let Some(target) = content.strip_prefix("-> ") {
                header.set_entry_type(tar::EntryType::Symlink);
                header.set_size(0);
                builder.append_link(&mut header, name, target).unwrap();
            } else {
                if name.ends_with('/') {
                    header.set_entry_type(tar::EntryType::Directory);
                    header.set_mode(0o755);
                }
                header.set_size(content.len() as u64);
                builder.append_data(&mut header, name, content.as_bytes()).unwrap();
            }
        }
        let archive = builder.into_inner().unwrap();
        Context::read(archive.as_slice(), &std::env::temp_dir()).unwrap()
    }

    #[test]
    fn indexes_without_unpacking() {
        let context = context(&[("a/b", "one"), ("l", "-> a"), ("a/b", "two"), ("c/", "")]);
        assert_eq!(context.names(b"").unwrap(), [b"a".to_vec(), b"c".to_vec(), b"l".to_vec()]);
        assert_eq!(context.small(b"l/b", 10).unwrap().unwrap(), b"two");
        assert!(context.small(b"a/b", 2).is_err());
        assert_eq!(context.small(b"a", 10).unwrap(), None);
    }

    #[test]
    fn entries_through_links_are_refused() {
        let mut builder = tar::Builder::new(Vec::new());
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(tar::EntryType::Symlink);
        header.set_size(0);
        builder.append_link(&mut header, "l", "/etc").unwrap();
        let mut header = tar::Header::new_gnu();
        header.set_size(0);
        header.set_mode(0);
        builder.append_data(&mut header, "l/passwd", io::empty()).unwrap();
        let archive = builder.into_inner().unwrap();
        let error = Context::read(archive.as_slice(), &std::env::temp_dir()).unwrap_err();
        assert!(error.chain().contains("its folder is not a folder"), "{}", error.chain());
    }

    #[test]
    fn ignored_files_are_gone_but_not_the_folders_of_others() {
        let mut context = context(&[("a/x", "1"), ("a/y", "2"), ("b/z", "3")]);
        context.apply(&Ignore::parse(b"*\n!a/x").unwrap());
        assert_eq!(context.names(b"").unwrap(), [b"a".to_vec()]);
        assert_eq!(context.names(b"a").unwrap(), [b"x".to_vec()]);
        assert!(context.look(b"a").unwrap().is_some());
    }
}
