//! One layer from its archive to its folder.
//!
//! What an entry means is decided here, in the order of the archive; `create.rs` makes the things:
//!
//! ```text
//!   name                   what happens
//!   ./                     attributes of the root; without one, those of the topmost layer below
//!   a/.wh.b                a whiteout at a/b, unless the layer itself has a/b
//!   a/.wh..wh..opq         a hides the a below
//!   .wh..wh.*              ignored: AUFS's own books
//!   a/b/c, no entry a/b    a/b is made with the attributes of a/b in the layers below
//!   a hard link            to a file of this layer, or a copy of one below
//!   the same name again    replaces what is there; a folder only changes its attributes
//! ```
//!
//! The times of folders are set last, since every file made in them changes them.

use std::collections::HashMap;
use std::fs::DirBuilder;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::DirBuilderExt;
use std::path::PathBuf;
use std::rc::Rc;

use dhow_spec::Digest;
use dhow_sys::rustix::fs::{Timestamps, futimens};
use dhow_sys::rustix::io::Errno;

use crate::archive::{Archive, Entry, Type};
use crate::create::{Owner, dress, timestamps};
use crate::error::{Problem, Result, SnapshotError, at, shown};
use crate::layer::{FS, LayerInfo};
use crate::lower::Lower;
use crate::place::{Place, split_name};
use crate::staging::Staging;
use crate::stream::{SourceError, Stream, with_stream};

const WHITEOUT: &[u8] = b".wh.";
const WHITEOUT_META: &[u8] = b".wh..wh.";
const OPAQUE: &[u8] = b".wh..wh..opq";
/// Up to this many files and this many folders, each is fsynced by itself.
const SYNC_EACH_MAX: usize = 32;
/// The longest name of a file on Linux, in bytes.
const NAME_MAX: usize = 255;

/// What a layer may ask for at most. The defaults let every honest image pass.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Entries of the archive, with the folders that they imply: 2 million.
    pub entries: u64,
    /// Bytes of a name: 4,095, as much as the kernel takes.
    pub path_bytes: usize,
    /// Bytes of the uncompressed archive, and of what hard links copy from below: 128 GiB.
    pub size_bytes: u64,
    /// How many times larger than its compressed form it may be: 250.
    pub expansion: u64,
    /// Up to this size it may expand as it likes: 1 GiB.
    pub expansion_from_bytes: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            entries: 2_000_000,
            path_bytes: 4095,
            size_bytes: 128 << 30,
            expansion: 250,
            expansion_from_bytes: 1 << 30,
        }
    }
}

/// A layer to be unpacked.
pub(crate) struct Job<'a> {
    /// Where it grows.
    pub(crate) staging: Staging,
    /// The folders of the layers below, topmost first.
    pub(crate) lower: &'a [PathBuf],
    pub(crate) limits: &'a Limits,
    /// What its uncompressed archive must be, if somebody knows.
    pub(crate) diff_id: Option<&'a Digest>,
}

/// A complete layer that is not durable yet.
pub(crate) struct Unpacked {
    pub(crate) staging: Staging,
    pub(crate) info: LayerInfo,
    pub(crate) sync: Sync,
}

/// How a layer is made durable.
pub(crate) enum Sync {
    /// By fsync of each of these.
    Each(Vec<OwnedFd>),
    /// By syncfs.
    Filesystem,
}

/// Unpacks and verifies a layer. On any error its folder is removed.
pub(crate) fn run(job: Job<'_>, reader: impl io::Read + Send) -> Result<Unpacked> {
    let layer = job.diff_id.map_or_else(|| "<unknown>".to_owned(), Digest::to_string);
    let fs = job.staging.path().join(FS);
    DirBuilder::new().mode(0o755).create(&fs).map_err(at("create", &fs))?;
    let mut unpacker = Unpacker {
        place: Place::open(&fs).map_err(at("open", &fs))?,
        lower: Lower::open(job.lower).map_err(at("open the layers below", &fs))?,
        limits: job.limits,
        times: HashMap::new(),
        files: Vec::new(),
        file_count: 0,
        entries: 0,
        size_bytes: 0,
        copied_bytes: 0,
        inodes: 0,
        has_root: false,
    };
    let streamed = with_stream(reader, job.limits, |stream| unpacker.apply_all(stream, &layer));
    let (applied, digest) = streamed.map_err(|error| Failure::Stream(error).explain(&layer))?;
    // That a layer is damaged matters more than where that shows.
    if let (Some(&expected), Ok(found)) = (job.diff_id, &digest)
        && expected != *found
    {
        return Err(SnapshotError::DiffId { expected, found: *found });
    }
    applied.map_err(|failure| failure.explain(&layer))?;
    let diff_id = digest.map_err(|error| Failure::Stream(error).explain(&layer))?;
    let sync = unpacker.finish().map_err(at("finish", &fs))?;
    let Unpacker { size_bytes, inodes, .. } = unpacker;
    let info = LayerInfo { diff_id, size_bytes, inodes };
    Ok(Unpacked { staging: job.staging, info, sync })
}

/// Why unpacking stopped.
enum Failure {
    Stream(io::Error),
    Entry(SnapshotError),
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self::Stream(error)
    }
}

impl Failure {
    fn explain(self, layer: &str) -> SnapshotError {
        let layer = layer.to_owned();
        match self {
            Self::Entry(error) => error,
            Self::Stream(error) => match error.downcast::<SourceError>() {
                Ok(SourceError(source)) => SnapshotError::Read { layer, source },
                Err(source) => SnapshotError::Archive { layer, source },
            },
        }
    }
}

/// The state of unpacking one layer.
pub(crate) struct Unpacker<'a> {
    pub(crate) place: Place,
    pub(crate) lower: Lower,
    limits: &'a Limits,
    /// The times that folders are to have in the end, by path.
    pub(crate) times: HashMap<Vec<u8>, Timestamps>,
    /// The first files, open, as long as it looks as if each would be fsynced.
    files: Vec<OwnedFd>,
    file_count: usize,
    entries: u64,
    size_bytes: u64,
    copied_bytes: u64,
    pub(crate) inodes: u64,
    has_root: bool,
}

impl Unpacker<'_> {
    fn apply_all(&mut self, stream: &mut Stream<'_>, layer: &str) -> Result<(), Failure> {
        let mut archive = Archive::new(&mut *stream);
        while let Some(entry) = archive.next()? {
            let Err(problem) = self.apply(&mut archive, &entry) else { continue };
            return Err(match problem {
                Problem::Io { operation: crate::create::READ, source } => Failure::Stream(source),
                problem => {
                    // Neither a full disk nor a limit is a sign of damage to be looked for.
                    if matches!(problem, Problem::Io { .. } | Problem::Limit { .. }) {
                        stream.give_up();
                    }
                    let (layer, entry) = (layer.to_owned(), shown(&entry.name));
                    Failure::Entry(SnapshotError::Entry { layer, entry, problem })
                }
            });
        }
        Ok(())
    }

    fn apply(
        &mut self,
        archive: &mut Archive<&mut Stream<'_>>,
        entry: &Entry,
    ) -> Result<(), Problem> {
        self.count_entry()?;
        self.check_name(&entry.name)?;
        let parts = split_name(&entry.name)?;
        let Some((&name, above)) = parts.split_last() else {
            return self.apply_root(entry);
        };
        if parts.iter().any(|part| part.starts_with(WHITEOUT_META)) {
            return if name == OPAQUE { self.make_opaque(above) } else { Ok(()) };
        }
        if above.iter().any(|part| part.starts_with(WHITEOUT)) {
            return Err(Problem::Name);
        }
        if let Some(hidden) = name.strip_prefix(WHITEOUT) {
            // `.wh..` and `.wh...` would hide the folder itself and the one above it.
            if matches!(hidden, b"" | b"." | b"..") {
                return Err(Problem::Name);
            }
            let parent = self.make_way(above)?;
            return self.make_whiteout(&parent, hidden);
        }
        let parent = self.make_way(above)?;
        match entry.kind {
            Type::File => {
                let total = entry.size.saturating_add(self.copied_bytes);
                within("its size", total, self.limits.size_bytes)?;
                self.size_bytes += entry.size;
                self.make_file(&parent, name, entry, archive)
            }
            Type::Folder => self.make_folder(&parent, &parts, entry),
            Type::Symlink => self.make_symlink(&parent, name, entry),
            Type::HardLink => self.make_hard_link(&parent, &parts, &entry.link),
            Type::CharDevice | Type::BlockDevice | Type::Fifo => {
                self.make_node(&parent, name, entry)
            }
            Type::Other(kind) => Err(Problem::Kind(char::from(kind))),
        }
    }

    fn apply_root(&mut self, entry: &Entry) -> Result<(), Problem> {
        if entry.kind != Type::Folder {
            return Err(Problem::Name);
        }
        self.has_root = true;
        let root = self.place.root();
        dress(&root, b".", Owner::of(entry)?, Some(entry.mode), &entry.xattrs)?;
        self.times.insert(Vec::new(), timestamps(entry.mtime));
        Ok(())
    }

    /// The folder at the path of these parts; those that are not there are made as the layers below
    /// have them.
    pub(crate) fn make_way(&mut self, parts: &[&[u8]]) -> Result<Rc<OwnedFd>, Problem> {
        match self.place.enter(parts) {
            Ok(folder) => return Ok(folder),
            Err(Errno::NOENT | Errno::NOTDIR) => {}
            Err(error) => return Err(Problem::io("open the folder of")(error)),
        }
        let mut parent = self.place.root();
        for depth in 1..=parts.len() {
            let way = parts.get(..depth).unwrap_or(parts);
            parent = match self.place.step(&parent, way) {
                Ok(folder) => folder,
                Err(Errno::NOENT | Errno::NOTDIR) => {
                    self.count_entry()?;
                    self.make_implied(&parent, way)?;
                    self.place.step(&parent, way).map_err(Problem::io("open the folder of"))?
                }
                Err(error) => return Err(Problem::io("open the folder of")(error)),
            };
        }
        Ok(parent)
    }

    /// Remembers a new file for its fsync.
    pub(crate) fn keep(&mut self, file: OwnedFd) {
        self.file_count += 1;
        if self.file_count <= SYNC_EACH_MAX {
            self.files.push(file);
        } else {
            self.files.clear();
        }
    }

    /// Counts what is copied from below, which the archive's size does not tell.
    pub(crate) fn count_copied(&mut self, size: u64) -> Result<(), Problem> {
        self.copied_bytes = self.copied_bytes.saturating_add(size);
        within("the size of what its links copy", self.copied_bytes, self.limits.size_bytes)?;
        self.size_bytes += size;
        Ok(())
    }

    fn count_entry(&mut self) -> Result<(), Problem> {
        self.entries += 1;
        within("the number of entries", self.entries, self.limits.entries)
    }

    pub(crate) fn check_name(&self, name: &[u8]) -> Result<(), Problem> {
        within("its name", name.len() as u64, self.limits.path_bytes as u64)?;
        let longest = name.split(|&byte| byte == b'/').map(<[u8]>::len).max().unwrap_or(0);
        within("a part of its name", longest as u64, NAME_MAX as u64)
    }

    /// Sets what can only be set when all files are there, and says how to make all durable.
    fn finish(&mut self) -> io::Result<Sync> {
        if !self.has_root {
            self.dress_root_from_below()?;
        }
        let each = self.file_count <= SYNC_EACH_MAX && self.times.len() < SYNC_EACH_MAX;
        let mut kept = if each { std::mem::take(&mut self.files) } else { Vec::new() };
        self.place.forget();
        for (path, times) in &self.times {
            let folder = match self.place.find_path(path) {
                Ok(folder) => folder,
                // Replaced by something else, later in the archive.
                Err(Errno::NOENT | Errno::NOTDIR) => continue,
                Err(error) => return Err(error.into()),
            };
            futimens(&folder, times)?;
            if each {
                kept.push(folder.try_clone()?);
            }
        }
        if !each {
            return Ok(Sync::Filesystem);
        }
        kept.push(self.place.root().try_clone()?);
        Ok(Sync::Each(kept))
    }
}

fn within(what: &'static str, size: u64, limit: u64) -> Result<(), Problem> {
    if size > limit { Err(Problem::Limit { what, limit }) } else { Ok(()) }
}
