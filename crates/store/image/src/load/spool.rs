//! An archive's files, taken in as they stream by.
//!
//! Small JSON is kept in memory; everything else goes straight to the content store, in batches, so that
//! thousands of small files wait for the disk a few times only. A file under `blobs/sha256/` is verified
//! against its name. Links are kept as names and resolved within the archive
//! only, so that no link can reach a file of the machine.

use std::collections::HashMap;
use std::io::Read;
use std::sync::Arc;

use dhow_content::Batch;
use dhow_error::{Error, Kind, Result};
use dhow_spec::Digest;

use crate::error::ImageError;
use crate::inflate::{Compression, inflate};
use crate::manifest::{CONFIG_MAX, OCI_LAYER};
use crate::store::{Blob, Session};
use crate::tape::{Entry, EntryKind, Tape, clean};

/// The most entries of an archive.
const ENTRIES_MAX: usize = 100_000;
/// The most that small files may take in memory together.
const SMALL_TOTAL_MAX: u64 = 64 << 20;
/// The longest chain of links.
const LINKS_MAX: usize = 8;
const BLOBS: &str = "blobs/sha256/";

/// What is kept while an archive streams by.
struct Incoming {
    /// Blobs that do not have their names yet.
    batch: Batch,
    /// What small files take in memory, in bytes.
    small_total: u64,
}

/// What was in an archive.
pub(super) struct Archive {
    session: Arc<Session>,
    files: HashMap<String, File>,
}

enum File {
    Small(Vec<u8>),
    Blob { digest: Digest, size: u64 },
    Link(String),
}

/// Reads the whole archive. Blocks.
pub(super) fn spool(session: &Arc<Session>, reader: Box<dyn Read + Send>) -> Result<Archive> {
    let unreadable = |source| Error::caused(Kind::Invalid, "cannot read the archive", source);
    let mut tape = Tape::new(inflate(reader).map_err(unreadable)?);
    let mut archive = Archive { session: Arc::clone(session), files: HashMap::new() };
    let mut incoming = Incoming { batch: session.store.content.batch(), small_total: 0 };
    while let Some(entry) = tape.next_entry().map_err(unreadable)? {
        let name = String::from_utf8_lossy(&entry.name).into_owned();
        archive
            .take(entry, &mut tape, &mut incoming)
            .map_err(|error| error.context(format!("cannot take {name:?} from the archive")))?;
    }
    session.finish_all(incoming.batch)?;
    Ok(archive)
}

impl Archive {
    /// Whether there is a file with this name.
    pub(super) fn has(&self, name: &str) -> bool {
        self.find(name).is_some()
    }

    /// The whole of a small file.
    pub(super) fn small(&self, name: &str, limit: u64) -> Result<Vec<u8>> {
        match self.find(name) {
            Some(File::Small(content)) if content.len() as u64 > limit => {
                let (what, size) = (name.to_owned(), content.len() as u64);
                Err(ImageError::TooLarge { what, size, limit }.into())
            }
            Some(File::Small(content)) => Ok(content.clone()),
            Some(File::Blob { digest, .. }) => {
                Ok(self.session.store.content.read(digest, limit)?)
            }
            _ => Err(missing(name)),
        }
    }

    /// A file that is a layer.
    pub(super) fn layer(&self, name: &str) -> Result<Blob> {
        let (digest, size) = match self.find(name) {
            Some(File::Blob { digest, size }) => (*digest, *size),
            // A layer can be small and have an odd name.
            Some(File::Small(content)) => (self.session.put(content)?, content.len() as u64),
            _ => return Err(missing(name)),
        };
        let mut start = Vec::with_capacity(4);
        let read = self.session.store.content.blob(&digest)?.take(4).read_to_end(&mut start);
        read.map_err(|source| ImageError::Io {
            operation: "read",
            path: self.session.store.content.path(&digest),
            source,
        })?;
        let media_type = match Compression::of(&start) {
            Compression::Plain => OCI_LAYER.to_owned(),
            Compression::Gzip => format!("{OCI_LAYER}+gzip"),
            Compression::Zstd => format!("{OCI_LAYER}+zstd"),
        };
        Ok(Blob { digest, size, media_type })
    }

    /// The content of the blob with this digest, which the archive must have.
    pub(super) fn blob(&self, digest: &Digest, limit: u64) -> Result<Vec<u8>> {
        self.small(&blob_name(digest), limit)
    }

    /// Keeps a document as a blob, beyond what the archive had.
    pub(super) fn keep(&self, content: &[u8]) -> Result<Digest> {
        self.session.put(content)
    }

    fn take(
        &mut self,
        entry: Entry,
        tape: &mut Tape<Box<dyn Read + Send>>,
        incoming: &mut Incoming,
    ) -> Result<()> {
        if self.files.len() >= ENTRIES_MAX {
            return Err(Error::invalid(format!("there are more than {ENTRIES_MAX} entries")));
        }
        let Some(name) = normal(&entry.name) else {
            return Err(Error::invalid("its name leads out of the archive"));
        };
        let file = match entry.kind {
            EntryKind::File if is_legacy(&name) => return Ok(()),
            EntryKind::File if is_document(&name) => {
                incoming.small_total += entry.size;
                if incoming.small_total > SMALL_TOTAL_MAX {
                    return Err(Error::invalid("the archive has more than 64 MiB of JSON"));
                }
                let content = tape.read_small(CONFIG_MAX).map_err(cannot_read)?;
                File::Small(content)
            }
            EntryKind::File => {
                if incoming.batch.len() >= Batch::FULL {
                    let full =
                        std::mem::replace(&mut incoming.batch, self.session.store.content.batch());
                    self.session.finish_all(full)?;
                }
                self.ingest(&name, entry.size, tape, &mut incoming.batch)?
            }
            EntryKind::Symlink(target) => match resolve(&name, &target) {
                Some(target) => File::Link(target),
                None => return Err(Error::invalid("it is a link that leads out of the archive")),
            },
            EntryKind::HardLink(target) => match normal(&target) {
                Some(target) => File::Link(target),
                None => return Err(Error::invalid("it is a link that leads out of the archive")),
            },
            EntryKind::Folder | EntryKind::Other => return Ok(()),
        };
        self.files.insert(name, file);
        Ok(())
    }

    fn ingest(
        &self,
        name: &str,
        size: u64,
        tape: &mut Tape<Box<dyn Read + Send>>,
        batch: &mut Batch,
    ) -> Result<File> {
        let mut ingest = self.session.store.content.ingest()?;
        crate::store::spool(tape, &mut ingest)?;
        let expected =
            name.strip_prefix(BLOBS).and_then(|hex| format!("sha256:{hex}").parse().ok());
        let digest = batch.add(ingest, expected.as_ref(), Some(size))?;
        Ok(File::Blob { digest, size })
    }

    fn find(&self, name: &str) -> Option<&File> {
        let mut name = normal(name.as_bytes())?;
        for _ in 0..LINKS_MAX {
            match self.files.get(&name)? {
                File::Link(target) => name.clone_from(target),
                file => return Some(file),
            }
        }
        None
    }
}

/// The name of a blob in an OCI layout.
pub(super) fn blob_name(digest: &Digest) -> String {
    format!("{BLOBS}{}", digest.hex())
}

fn missing(name: &str) -> Error {
    Error::invalid(format!("the archive has no {name:?}"))
}

fn cannot_read(source: std::io::Error) -> Error {
    Error::caused(Kind::Invalid, "cannot read it", source)
}

/// Whether a file is looked at as a whole. The names are the formats' own, so their case counts.
fn is_document(name: &str) -> bool {
    name == "oci-layout" || name.rsplit_once('.').is_some_and(|(_, ending)| ending == "json")
}

/// Files that only Docker before 1.10 looks at.
fn is_legacy(name: &str) -> bool {
    name == "repositories" || name.ends_with("/VERSION") || name.ends_with("/json")
}

fn normal(name: &[u8]) -> Option<String> {
    let parts = clean(name)?;
    let text = parts.into_iter().map(String::from_utf8).collect::<Result<Vec<_>, _>>().ok()?;
    Some(text.join("/"))
}

/// Where a symbolic link leads, within the archive.
fn resolve(link: &str, target: &[u8]) -> Option<String> {
    let target = std::str::from_utf8(target).ok().filter(|target| !target.starts_with('/'))?;
    let folder = link.rsplit_once('/').map_or("", |(folder, _)| folder);
    let mut parts: Vec<&str> = folder.split('/').filter(|part| !part.is_empty()).collect();
    for part in target.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop()?;
            }
            _ => parts.push(part),
        }
    }
    Some(parts.join("/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_stay_within_the_archive() {
        assert_eq!(resolve("a/layer.tar", b"../b/layer.tar").unwrap(), "b/layer.tar");
        assert_eq!(resolve("a", b"./b").unwrap(), "b");
        assert_eq!(resolve("a/layer.tar", b"../../etc/passwd"), None);
        assert_eq!(resolve("a", b"/etc/passwd"), None);
    }
}
