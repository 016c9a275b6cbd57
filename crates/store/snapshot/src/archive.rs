//! Tar archives, entry by entry, from a stream: v7, ustar, PAX and GNU (long names, sparse files).
//!
//! ```text
//!   (extended header | long name | long link)* header data padding  …  512 zero bytes
//! ```
//!
//! The fields of a header are read by the `tar` crate. Entries are put together here, since that crate
//! splits extended headers at newlines, which file capabilities contain, and reads headers of any size
//! into memory. An entry that two readers could understand differently (two extended headers, a name
//! said in two ways) is refused. At most [`HEADER_MAX`] bytes are kept in memory.

use std::io::{self, BufRead};

use tar::{EntryType, GnuExtSparseHeader, GnuSparseHeader, Header};

use crate::pax::Pax;

const BLOCK: usize = 512;
/// The longest extended header or name that is read: more than a file's attributes can take on Linux.
const HEADER_MAX: u64 = 1 << 20;
/// The most pieces of a sparse file.
const SPARSE_MAX: usize = 1 << 16;

/// What an entry is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Type {
    File,
    Folder,
    Symlink,
    HardLink,
    CharDevice,
    BlockDevice,
    Fifo,
    /// Something that layers do not have, by its type byte.
    Other(u8),
}

/// One entry, without its data.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) kind: Type,
    pub(crate) name: Vec<u8>,
    /// The target of a link.
    pub(crate) link: Vec<u8>,
    /// Permission bits with setuid, setgid and sticky.
    pub(crate) mode: u32,
    pub(crate) uid: u64,
    pub(crate) gid: u64,
    /// Seconds and nanoseconds since 1970.
    pub(crate) mtime: (i64, u32),
    /// Major and minor number.
    pub(crate) device: (u32, u32),
    pub(crate) xattrs: Vec<(Vec<u8>, Vec<u8>)>,
    /// The size of the file once it is unpacked.
    pub(crate) size: u64,
    /// Where the data belongs, as (offset, length), if the file has holes.
    pub(crate) sparse: Option<Vec<(u64, u64)>>,
}

/// An archive being read.
#[derive(Debug)]
pub(crate) struct Archive<R> {
    reader: R,
    /// Bytes of the current entry's data that were not read yet.
    data: u64,
    /// Bytes that fill its last block.
    padding: u64,
}

impl<R: BufRead> Archive<R> {
    pub(crate) fn new(reader: R) -> Self {
        Self { reader, data: 0, padding: 0 }
    }

    /// The next entry; what is left of the last one's data is skipped. `None` at the end.
    pub(crate) fn next(&mut self) -> io::Result<Option<Entry>> {
        let (mut pax, mut name, mut link) = (None, None, None);
        loop {
            self.skip()?;
            let Some(header) = self.read_header()? else {
                return if pax.is_some() || name.is_some() || link.is_some() {
                    Err(invalid("the archive ends before the entry that a header announces"))
                } else {
                    Ok(None)
                };
            };
            match header.entry_type() {
                EntryType::XHeader => set_once(&mut pax, Pax::parse(&self.read_long(&header)?)?)?,
                EntryType::GNULongName => set_once(&mut name, self.read_name(&header)?)?,
                EntryType::GNULongLink => set_once(&mut link, self.read_name(&header)?)?,
                // Says something about the archive as a whole, such as the commit it was made from.
                EntryType::XGlobalHeader => drop(self.read_long(&header)?),
                _ => {
                    let mut pax = pax.unwrap_or_default();
                    for (long, said) in [(name, &mut pax.path), (link, &mut pax.link)] {
                        if let Some(long) = long {
                            set_once(said, long)?;
                        }
                    }
                    return self.begin_entry(&header, pax).map(Some);
                }
            }
        }
    }

    /// The next piece of the current entry's data; empty at its end. [`consume`](Self::consume) what was
    /// used of it.
    pub(crate) fn data(&mut self) -> io::Result<&[u8]> {
        if self.data == 0 {
            return Ok(&[]);
        }
        let piece = self.reader.fill_buf()?;
        if piece.is_empty() {
            return Err(truncated());
        }
        let length = piece.len().min(usize::try_from(self.data).unwrap_or(usize::MAX));
        Ok(piece.get(..length).unwrap_or(piece))
    }

    /// Says that `length` bytes of the last piece were used.
    pub(crate) fn consume(&mut self, length: usize) {
        self.reader.consume(length);
        self.data -= length as u64;
    }

    fn begin_entry(&mut self, header: &Header, pax: Pax) -> io::Result<Entry> {
        if pax.sparse {
            return Err(invalid("sparse files in PAX format are not supported"));
        }
        let stored = match pax.size {
            Some(size) => size,
            None => number(&header.as_old().size, header.entry_size())?,
        };
        let name = pax.path.unwrap_or_else(|| header.path_bytes().into_owned());
        let kind = kind_of(header.entry_type(), &name);
        self.expect_data(stored)?;
        let sparse = if header.entry_type().is_gnu_sparse() {
            Some(self.read_sparse(header, stored)?)
        } else {
            None
        };
        let size = match (&sparse, header.as_gnu()) {
            (Some(_), Some(gnu)) => gnu.real_size()?,
            _ => stored,
        };
        let link = pax.link.or_else(|| header.link_name_bytes().map(std::borrow::Cow::into_owned));
        let old = header.as_old();
        let mtime = || number(&old.mtime, header.mtime()).map(|seconds| (seconds as i64, 0));
        let device = match kind {
            Type::CharDevice | Type::BlockDevice => {
                (header.device_major()?.unwrap_or(0), header.device_minor()?.unwrap_or(0))
            }
            _ => (0, 0),
        };
        Ok(Entry {
            kind,
            name,
            link: link.unwrap_or_default(),
            mode: number(&old.mode, header.mode())? & 0o7777,
            uid: pax.uid.map_or_else(|| number(&old.uid, header.uid()), Ok)?,
            gid: pax.gid.map_or_else(|| number(&old.gid, header.gid()), Ok)?,
            mtime: pax.mtime.map_or_else(mtime, Ok)?,
            device,
            xattrs: pax.xattrs,
            size,
            sparse,
        })
    }

    fn expect_data(&mut self, size: u64) -> io::Result<()> {
        let padded = size.checked_next_multiple_of(BLOCK as u64);
        let padded = padded.ok_or_else(|| invalid("an entry has an impossible size"))?;
        (self.data, self.padding) = (size, padded - size);
        Ok(())
    }

    /// The next header, with its checksum verified; `None` at the end of the archive.
    fn read_header(&mut self) -> io::Result<Option<Header>> {
        let mut header = Header::new_old();
        let block = header.as_mut_bytes();
        if !self.read_block(block)? || block.iter().all(|&byte| byte == 0) {
            return Ok(None);
        }
        // The checksum's own field counts as spaces.
        let sum: u32 = block
            .iter()
            .enumerate()
            .map(|(at, &byte)| u32::from(if (148..156).contains(&at) { b' ' } else { byte }))
            .sum();
        if header.cksum().ok() != Some(sum) {
            return Err(invalid("a header of the archive has a wrong checksum"));
        }
        Ok(Some(header))
    }

    /// Fills `block`, or returns `false` at the end of the stream.
    fn read_block(&mut self, block: &mut [u8; BLOCK]) -> io::Result<bool> {
        let mut filled = 0;
        while let Some(rest) = block.get_mut(filled..).filter(|rest| !rest.is_empty()) {
            match self.reader.read(rest)? {
                0 if filled == 0 => return Ok(false),
                0 => return Err(truncated()),
                length => filled += length,
            }
        }
        Ok(true)
    }

    /// The data of a header that describes the next entry.
    fn read_long(&mut self, header: &Header) -> io::Result<Vec<u8>> {
        let size = header.entry_size()?;
        if size > HEADER_MAX {
            return Err(invalid("an extended header of the archive is too long"));
        }
        self.expect_data(size)?;
        let mut content = Vec::with_capacity(size as usize);
        loop {
            let piece = self.data()?;
            if piece.is_empty() {
                return Ok(content);
            }
            content.extend_from_slice(piece);
            let length = piece.len();
            self.consume(length);
        }
    }

    /// A GNU long name, without the zero byte at its end.
    fn read_name(&mut self, header: &Header) -> io::Result<Vec<u8>> {
        let mut name = self.read_long(header)?;
        if name.last() == Some(&0) {
            name.pop();
        }
        Ok(name)
    }

    /// The map of a GNU sparse file, checked: in order, within the file, as much data as is stored.
    fn read_sparse(&mut self, header: &Header, stored: u64) -> io::Result<Vec<(u64, u64)>> {
        let wrong = || invalid("a sparse file of the archive has a wrong map");
        let gnu = header.as_gnu().ok_or_else(wrong)?;
        let mut map = Vec::new();
        collect_sparse(&gnu.sparse, &mut map)?;
        let mut extended = gnu.is_extended();
        while extended {
            if map.len() > SPARSE_MAX {
                return Err(wrong());
            }
            let mut more = GnuExtSparseHeader::new();
            if !self.read_block(more.as_mut_bytes())? {
                return Err(truncated());
            }
            collect_sparse(&more.sparse, &mut map)?;
            extended = more.is_extended();
        }
        let (mut end, mut total) = (0_u64, 0_u64);
        for &(offset, length) in &map {
            if offset < end {
                return Err(wrong());
            }
            end = offset.checked_add(length).ok_or_else(wrong)?;
            total = total.checked_add(length).ok_or_else(wrong)?;
        }
        if total != stored || end > gnu.real_size()? { Err(wrong()) } else { Ok(map) }
    }

    /// Skips to the next header.
    fn skip(&mut self) -> io::Result<()> {
        // Cannot overflow: both come from one multiple of a block.
        let mut rest = self.data + self.padding;
        (self.data, self.padding) = (0, 0);
        while rest > 0 {
            let piece = self.reader.fill_buf()?;
            if piece.is_empty() {
                return Err(truncated());
            }
            let length = piece.len().min(usize::try_from(rest).unwrap_or(usize::MAX));
            self.reader.consume(length);
            rest -= length as u64;
        }
        Ok(())
    }
}

fn kind_of(kind: EntryType, name: &[u8]) -> Type {
    match kind {
        // Archives from before folders had a type.
        EntryType::Regular if name.ends_with(b"/") => Type::Folder,
        EntryType::Regular | EntryType::Continuous | EntryType::GNUSparse => Type::File,
        EntryType::Directory => Type::Folder,
        EntryType::Symlink => Type::Symlink,
        EntryType::Link => Type::HardLink,
        EntryType::Char => Type::CharDevice,
        EntryType::Block => Type::BlockDevice,
        EntryType::Fifo => Type::Fifo,
        other => Type::Other(other.as_byte()),
    }
}

/// The number in a field of a header. An empty one means zero, as some writers have it.
fn number<T: Default>(field: &[u8], read: io::Result<T>) -> io::Result<T> {
    if field.iter().all(|byte| matches!(byte, 0 | b' ')) { Ok(T::default()) } else { read }
}

fn collect_sparse(pieces: &[GnuSparseHeader], map: &mut Vec<(u64, u64)>) -> io::Result<()> {
    for piece in pieces.iter().filter(|piece| !piece.is_empty()) {
        map.push((piece.offset()?, piece.length()?));
    }
    Ok(())
}

fn set_once<T>(slot: &mut Option<T>, value: T) -> io::Result<()> {
    if slot.replace(value).is_some() {
        return Err(invalid("the archive describes one entry in two ways"));
    }
    Ok(())
}

fn invalid(message: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, message)
}

fn truncated() -> io::Error {
    io::Error::new(io::ErrorKind::UnexpectedEof, "the archive is cut off")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// All entries of an archive, with their data.
    fn read_all(bytes: &[u8]) -> io::Result<Vec<(Entry, Vec<u8>)>> {
        let mut archive = Archive::new(bytes);
        let mut entries = Vec::new();
        while let Some(entry) = archive.next()? {
            let mut content = Vec::new();
            loop {
                let piece = archive.data()?;
                if piece.is_empty() {
                    break;
                }
                content.extend_from_slice(piece);
                let length = piece.len();
                archive.consume(length);
            }
            entries.push((entry, content));
        }
        Ok(entries)
    }

    #[test]
    fn reads_long_names_of_gnu() {
        let mut builder = tar::Builder::new(Vec::new());
        let name = format!("{}/file", "folder".repeat(40));
        let mut header = Header::new_gnu();
        header.set_size(5);
        header.set_mode(0o4755);
        builder.append_data(&mut header, &name, &b"hello"[..]).unwrap();
        let entries = read_all(&builder.into_inner().unwrap()).unwrap();
        assert_eq!(entries.len(), 1);
        assert_eq!(entries[0].0.name, name.as_bytes());
        assert_eq!((entries[0].0.mode, entries[0].1.as_slice()), (0o4755, &b"hello"[..]));
    }

    #[test]
    fn a_cut_off_archive_is_an_error() {
        let mut builder = tar::Builder::new(Vec::new());
        let mut header = Header::new_gnu();
        header.set_size(2000);
        builder.append_data(&mut header, "file", &[7_u8; 2000][..]).unwrap();
        let bytes = builder.into_inner().unwrap();
        for length in [100, 513, 1500] {
            let error = read_all(&bytes[..length]).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof, "{length}");
        }
    }

    #[test]
    fn a_huge_extended_header_is_refused_before_it_is_read() {
        let mut header = Header::new_ustar();
        header.set_entry_type(EntryType::XHeader);
        header.set_size(1 << 40);
        header.set_cksum();
        assert!(read_all(header.as_bytes()).unwrap_err().to_string().contains("too long"));
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..Default::default() })]

        #[test]
        fn never_panics(
            mut block in proptest::collection::vec(any::<u8>(), BLOCK..3 * BLOCK),
            kind in proptest::sample::select(&b"\x000123456xgLKSV"[..]),
            is_gnu in any::<bool>(),
        ) {
            // A right checksum, so that what lies behind it is reached.
            let magic = if is_gnu { b"ustar  \0" } else { b"ustar\x0000" };
            block[257..265].copy_from_slice(magic);
            block[124..136].copy_from_slice(b"00000000777\0");
            block[156] = kind;
            block[148..156].fill(b' ');
            let sum: u32 = block[..BLOCK].iter().map(|&byte| u32::from(byte)).sum();
            block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
            let _ = read_all(&block);
        }
    }
}
