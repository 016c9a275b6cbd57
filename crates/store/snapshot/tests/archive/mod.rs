//! Archives for the tests, honest and hostile: every field is written as told.

#![allow(clippy::unwrap_used, reason = "these are tests")]
#![allow(dead_code, unreachable_pub, reason = "each test binary uses a part of it")]

use std::io::{Read, Write};

use dhow_snapshot::{LayerInfo, Result, Snapshots, chain_id};
use dhow_spec::Digest;
use tar::{EntryType, Header};

/// An archive being written.
#[derive(Default)]
pub struct Archive {
    bytes: Vec<u8>,
    records: Vec<u8>,
}

/// What the tests set in a header; the rest has defaults.
#[derive(Clone, Copy)]
pub struct Attributes {
    pub mode: u32,
    pub owner: (u64, u64),
    pub mtime: u64,
}

impl Default for Attributes {
    fn default() -> Self {
        Self { mode: 0o644, owner: (0, 0), mtime: 1_700_000_000 }
    }
}

impl Archive {
    pub fn new() -> Self {
        Self::default()
    }

    /// A record of an extended header before the next entry.
    pub fn pax(mut self, key: &str, value: impl AsRef<[u8]>) -> Self {
        let value = value.as_ref();
        let rest = key.len() + value.len() + 3;
        let mut length = rest;
        while length != rest + length.to_string().len() {
            length = rest + length.to_string().len();
        }
        self.records.extend(format!("{length} {key}=").as_bytes());
        self.records.extend(value);
        self.records.push(b'\n');
        self
    }

    pub fn entry(
        mut self,
        kind: EntryType,
        name: impl AsRef<[u8]>,
        link: impl AsRef<[u8]>,
        attributes: Attributes,
        content: &[u8],
    ) -> Self {
        if !self.records.is_empty() {
            let records = std::mem::take(&mut self.records);
            let plain = Attributes::default();
            self = self.entry(EntryType::XHeader, "pax", "", plain, &records);
        }
        let mut header = Header::new_ustar();
        header.set_entry_type(kind);
        header.set_size(content.len() as u64);
        header.set_mode(attributes.mode);
        header.set_uid(attributes.owner.0);
        header.set_gid(attributes.owner.1);
        header.set_mtime(attributes.mtime);
        if matches!(kind, EntryType::Char | EntryType::Block) {
            header.set_device_major(1).unwrap();
            header.set_device_minor(3).unwrap();
        }
        let ustar = header.as_ustar_mut().unwrap();
        ustar.name[..name.as_ref().len()].copy_from_slice(name.as_ref());
        ustar.linkname[..link.as_ref().len()].copy_from_slice(link.as_ref());
        header.set_cksum();
        self.bytes.extend(header.as_bytes());
        self.bytes.extend(content);
        self.bytes.resize(self.bytes.len().next_multiple_of(512), 0);
        self
    }

    pub fn file(self, name: impl AsRef<[u8]>, content: impl AsRef<[u8]>) -> Self {
        self.entry(EntryType::Regular, name, "", Attributes::default(), content.as_ref())
    }

    pub fn folder(self, name: impl AsRef<[u8]>, mode: u32) -> Self {
        let attributes = Attributes { mode, ..Attributes::default() };
        self.entry(EntryType::Directory, name, "", attributes, b"")
    }

    pub fn symlink(self, name: impl AsRef<[u8]>, target: impl AsRef<[u8]>) -> Self {
        self.entry(EntryType::Symlink, name, target, Attributes::default(), b"")
    }

    pub fn hard_link(self, name: impl AsRef<[u8]>, target: impl AsRef<[u8]>) -> Self {
        self.entry(EntryType::Link, name, target, Attributes::default(), b"")
    }

    pub fn end(mut self) -> Vec<u8> {
        self.bytes.extend([0; 1024]);
        self.bytes
    }
}

/// Unpacks a plain archive on top of `parents`; returns its chain id and what is known of it.
pub fn unpack(
    snapshots: &Snapshots,
    parents: &[Digest],
    bytes: &[u8],
) -> Result<(Digest, LayerInfo)> {
    let diff_id = Digest::of(bytes);
    let chain = chain_id(parents.last(), &diff_id);
    Ok((chain, snapshots.unpack(&chain, parents, bytes, &diff_id)?))
}

pub fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// A reader of `count` zeros, then an end.
pub fn zeros(count: u64) -> impl Read {
    std::io::repeat(0).take(count)
}
