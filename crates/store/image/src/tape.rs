//! Reads a tar archive entry by entry, from hostile hands: every length is checked before it is believed.
//!
//! ```text
//!   archive = { [ 'g' pax ] [ 'x' pax | 'L' name | 'K' link ]* header content padding } zero zero
//! ```
//!
//! Knows ustar, GNU long names and pax (POSIX.1-2001) records. Sparse files and multi-volume archives are
//! refused. Names are given as they stand in the archive; [`clean`] says what they mean below a root.
//! Nothing is written anywhere, nothing is buffered but metadata of bounded size.

use std::io::{self, Read};

use tar::{EntryType, Header};

const BLOCK: usize = 512;
/// The most that long names and pax records of one entry may take.
const METADATA_MAX: u64 = 1 << 20;
/// The longest name: Linux's PATH_MAX.
const NAME_MAX: usize = 4096;

/// A tar archive being read.
pub struct Tape<R> {
    reader: R,
    /// Bytes of the current entry's content and padding that have not been read.
    content: u64,
    padding: u64,
    ended: bool,
}

/// What stands in front of an entry's content.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The name as it stands there.
    pub name: Vec<u8>,
    /// What it is.
    pub kind: EntryKind,
    /// Permission bits, with setuid, setgid and sticky.
    pub mode: u32,
    /// The owner.
    pub uid: u64,
    /// The group.
    pub gid: u64,
    /// Seconds since 1970.
    pub mtime: i64,
    /// Bytes of content.
    pub size: u64,
}

/// Kinds of entries.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EntryKind {
    /// A regular file.
    File,
    /// A folder.
    Folder,
    /// A symbolic link to this target.
    Symlink(Vec<u8>),
    /// Another name of the entry with this name.
    HardLink(Vec<u8>),
    /// A device, pipe or anything else.
    Other,
}

/// Metadata in front of an entry that overrules its header.
#[derive(Debug, Default)]
struct Overrides {
    name: Option<Vec<u8>>,
    link: Option<Vec<u8>>,
    size: Option<u64>,
    uid: Option<u64>,
    gid: Option<u64>,
    mtime: Option<i64>,
}

/// The parts of `name` below a root: `.` and empty parts are dropped; none if there is a `..`, a NUL or
/// a part that is too long for a file system.
pub fn clean(name: &[u8]) -> Option<Vec<Vec<u8>>> {
    let parts: Vec<_> = name
        .split(|byte| *byte == b'/')
        .filter(|part| !part.is_empty() && *part != b".")
        .map(<[u8]>::to_vec)
        .collect();
    let is_fine = |part: &Vec<u8>| part != b".." && part.len() <= 255 && !part.contains(&0);
    parts.iter().all(is_fine).then_some(parts)
}

impl<R: Read> Tape<R> {
    /// Begins to read an archive that is not compressed.
    pub fn new(reader: R) -> Self {
        Self { reader, content: 0, padding: 0, ended: false }
    }

    /// The next entry, whatever is left of the current one skipped; none at the end.
    pub fn next_entry(&mut self) -> io::Result<Option<Entry>> {
        let mut overrides = Overrides::default();
        let mut metadata = 0;
        loop {
            self.skip()?;
            let Some(header) = self.header()? else { return Ok(None) };
            let size = size_of(&header)?;
            match header.entry_type() {
                kind @ (EntryType::GNULongName
                | EntryType::GNULongLink
                | EntryType::XHeader
                | EntryType::XGlobalHeader) => {
                    metadata += size;
                    if metadata > METADATA_MAX {
                        return Err(invalid("an entry's metadata is longer than 1 MiB"));
                    }
                    let content = self.metadata(size)?;
                    overrides.take(kind, content)?;
                }
                EntryType::GNUSparse => return Err(invalid("sparse files are not supported")),
                _ => return self.entry(&header, overrides).map(Some),
            }
        }
    }

    /// The whole content of the current entry, if it is at most `limit` bytes.
    pub fn read_small(&mut self, limit: u64) -> io::Result<Vec<u8>> {
        if self.content > limit {
            return Err(invalid(&format!("it is larger than {limit} bytes")));
        }
        let mut content = Vec::with_capacity(self.content as usize);
        self.read_to_end(&mut content)?;
        Ok(content)
    }

    fn entry(&mut self, header: &Header, overrides: Overrides) -> io::Result<Entry> {
        let name = overrides.name.unwrap_or_else(|| header.path_bytes().into_owned());
        let link = || {
            let own = || header.link_name_bytes().map(std::borrow::Cow::into_owned);
            overrides.link.or_else(own).unwrap_or_default()
        };
        let size = overrides.size.map_or_else(|| size_of(header), Ok)?;
        let kind = match header.entry_type() {
            // Before POSIX, a folder was a file whose name ends in a slash.
            EntryType::Regular if name.ends_with(b"/") => EntryKind::Folder,
            EntryType::Regular | EntryType::Continuous => EntryKind::File,
            EntryType::Directory => EntryKind::Folder,
            EntryType::Symlink => EntryKind::Symlink(link()),
            EntryType::Link => EntryKind::HardLink(link()),
            _ => EntryKind::Other,
        };
        if name.len() > NAME_MAX {
            return Err(invalid("an entry's name is longer than 4096 bytes"));
        }
        self.begin_content(size)?;
        let mtime = || header.mtime().map(|time| time as i64);
        Ok(Entry {
            name,
            kind,
            mode: or_zero(&header.as_old().mode, || header.mode())? & 0o7777,
            uid: overrides
                .uid
                .map_or_else(|| or_zero(&header.as_old().uid, || header.uid()), Ok)?,
            gid: overrides
                .gid
                .map_or_else(|| or_zero(&header.as_old().gid, || header.gid()), Ok)?,
            mtime: overrides.mtime.map_or_else(|| or_zero(&header.as_old().mtime, mtime), Ok)?,
            size,
        })
    }

    fn begin_content(&mut self, size: u64) -> io::Result<()> {
        if size > i64::MAX as u64 {
            return Err(invalid("an entry's size is impossible"));
        }
        self.content = size;
        self.padding = size.next_multiple_of(BLOCK as u64) - size;
        Ok(())
    }

    /// The next header that is not zero; none at the end of the archive.
    fn header(&mut self) -> io::Result<Option<Header>> {
        if self.ended {
            return Ok(None);
        }
        let mut header = Header::new_old();
        let block = header.as_mut_bytes();
        let mut count = 0;
        while count < BLOCK {
            match self.reader.read(&mut block[count..])? {
                0 if count == 0 => {
                    self.ended = true;
                    return Ok(None);
                }
                0 => return Err(cut_off()),
                more => count += more,
            }
        }
        if block.iter().all(|byte| *byte == 0) {
            self.ended = true;
            // What follows is padding; it is read so that the sender can finish.
            io::copy(&mut self.reader, &mut io::sink())?;
            return Ok(None);
        }
        let sum: u32 = block[..148].iter().chain(&block[156..]).map(|b| u32::from(*b)).sum();
        if header.cksum().ok() != Some(sum + 8 * u32::from(b' ')) {
            return Err(invalid("it is not a tar archive, or it is damaged"));
        }
        Ok(Some(header))
    }

    fn metadata(&mut self, size: u64) -> io::Result<Vec<u8>> {
        self.begin_content(size)?;
        let mut content = Vec::new();
        self.read_to_end(&mut content)?;
        Ok(content)
    }

    fn skip(&mut self) -> io::Result<()> {
        let due = self.content + self.padding;
        self.content = 0;
        self.padding = 0;
        let skipped = io::copy(&mut self.reader.by_ref().take(due), &mut io::sink())?;
        if skipped < due { Err(cut_off()) } else { Ok(()) }
    }
}

/// The content of the current entry.
impl<R: Read> Read for Tape<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = usize::try_from(self.content).unwrap_or(usize::MAX).min(buffer.len());
        if count == 0 {
            return Ok(0);
        }
        let read = self.reader.read(&mut buffer[..count])?;
        if read == 0 {
            return Err(cut_off());
        }
        self.content -= read as u64;
        Ok(read)
    }
}

impl Overrides {
    fn take(&mut self, kind: EntryType, content: Vec<u8>) -> io::Result<()> {
        match kind {
            EntryType::GNULongName => self.name = Some(without_nul(content)),
            EntryType::GNULongLink => self.link = Some(without_nul(content)),
            EntryType::XHeader => self.pax(&content)?,
            // Global records are comments in practice (git archive).
            _ => {}
        }
        Ok(())
    }

    /// Records of the form `length key=value\n`.
    fn pax(&mut self, mut content: &[u8]) -> io::Result<()> {
        let malformed = || invalid("its pax records are malformed");
        while !content.is_empty() {
            let space = content.iter().position(|b| *b == b' ').ok_or_else(malformed)?;
            let length: usize = number(&content[..space]).ok_or_else(malformed)?;
            let record = content.get(space + 1..length).ok_or_else(malformed)?;
            content = &content[length..];
            let record = record.strip_suffix(b"\n").ok_or_else(malformed)?;
            let equals = record.iter().position(|b| *b == b'=').ok_or_else(malformed)?;
            let (key, value) = (&record[..equals], &record[equals + 1..]);
            match key {
                b"path" => self.name = Some(value.to_vec()),
                b"linkpath" => self.link = Some(value.to_vec()),
                b"size" => self.size = Some(number(value).ok_or_else(malformed)?),
                b"uid" => self.uid = Some(number(value).ok_or_else(malformed)?),
                b"gid" => self.gid = Some(number(value).ok_or_else(malformed)?),
                b"mtime" => {
                    let whole = value.split(|b| *b == b'.').next().unwrap_or_default();
                    self.mtime = Some(number(whole).ok_or_else(malformed)?);
                }
                _ if key.starts_with(b"GNU.sparse") => {
                    return Err(invalid("sparse files are not supported"));
                }
                _ => {}
            }
        }
        Ok(())
    }
}

fn size_of(header: &Header) -> io::Result<u64> {
    or_zero(&header.as_old().size, || header.entry_size())
}

/// A number of a header. Some writers leave a field blank when it has no meaning.
fn or_zero<T: Default>(field: &[u8], read: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
    let is_blank = field.iter().all(|byte| matches!(byte, 0 | b' '));
    if is_blank { Ok(T::default()) } else { read() }
}

fn number<T: std::str::FromStr>(text: &[u8]) -> Option<T> {
    std::str::from_utf8(text).ok()?.parse().ok()
}

fn without_nul(mut text: Vec<u8>) -> Vec<u8> {
    if let Some(end) = text.iter().position(|byte| *byte == 0) {
        text.truncate(end);
    }
    text
}

fn invalid(message: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, message)
}

fn cut_off() -> io::Error {
    io::Error::new(io::ErrorKind::UnexpectedEof, "the archive is cut off")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn archive(names: &[&str]) -> Vec<u8> {
        let mut builder = tar::Builder::new(Vec::new());
        for name in names {
            let mut header = Header::new_gnu();
            header.set_size(5);
            header.set_mode(0o644);
            builder.append_data(&mut header, name, &b"hello"[..]).unwrap();
        }
        builder.into_inner().unwrap()
    }

    #[test]
    fn reads_entries_with_short_and_long_names() {
        let long = "x/".repeat(150) + "end";
        let bytes = archive(&["a", &long, "b"]);
        let mut tape = Tape::new(bytes.as_slice());
        for name in ["a", &long, "b"] {
            let entry = tape.next_entry().unwrap().unwrap();
            assert_eq!((entry.name.as_slice(), entry.size), (name.as_bytes(), 5));
            if name != "b" {
                assert_eq!(tape.read_small(10).unwrap(), b"hello");
            }
        }
        assert_eq!(tape.next_entry().unwrap(), None);
        assert_eq!(tape.next_entry().unwrap(), None);
    }

    #[test]
    fn a_cut_archive_is_an_error() {
        let bytes = archive(&["a"]);
        let mut tape = Tape::new(&bytes[..514]);
        tape.next_entry().unwrap().unwrap();
        assert_eq!(tape.next_entry().unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
        assert!(Tape::new(&b"no archive".repeat(100)[..]).next_entry().is_err());
    }

    #[test]
    fn names_are_cleaned_or_refused() {
        assert_eq!(clean(b"./a//b/."), Some(vec![b"a".to_vec(), b"b".to_vec()]));
        assert_eq!(clean(b"/"), Some(vec![]));
        assert_eq!(clean(b"a/../b"), None);
        assert_eq!(clean(b"a\0"), None);
    }

    proptest! {
        #[test]
        fn never_panics(mut bytes in proptest::collection::vec(any::<u8>(), 0..3000), sum in any::<bool>()) {
            if sum && bytes.len() >= 512 {
                let total: u32 = bytes[..148].iter().chain(&bytes[156..512]).map(|b| u32::from(*b)).sum();
                bytes[148..156].copy_from_slice(format!("{:06o}\0 ", total + 256).as_bytes());
            }
            let mut tape = Tape::new(bytes.as_slice());
            while let Ok(Some(_)) = tape.next_entry() {}
        }

        #[test]
        fn pax_records_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = Overrides::default().pax(&bytes);
        }
    }
}
