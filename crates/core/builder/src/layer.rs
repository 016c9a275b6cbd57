//! Layers as archives: equal contents give equal bytes.
//!
//! Whoever writes does so in an order of its own that does not depend on chance; headers carry nothing of
//! the machine or the moment.

use std::ffi::OsStr;
use std::io::{self, Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use tar::{EntryType, Header};

use crate::tree::{Kind, Node};

/// A layer being written.
pub(crate) struct LayerWriter<W: Write>(tar::Builder<W>);

impl<W: Write> LayerWriter<W> {
    pub(crate) fn new(out: W) -> Self {
        Self(tar::Builder::new(out))
    }

    /// Writes an entry; `content` must have as many bytes as the node says, and is not read but for files.
    pub(crate) fn put(
        &mut self,
        path: &[u8],
        node: &Node,
        content: &mut dyn Read,
    ) -> io::Result<()> {
        refuse_whiteouts(path)?;
        let mut header = header_of(node);
        let name = Path::new(OsStr::from_bytes(path));
        match &node.kind {
            Kind::File => {
                header.set_entry_type(EntryType::Regular);
                header.set_size(node.size);
                let mut exact = Exact { content, left: node.size };
                self.0.append_data(&mut header, name, &mut exact)
            }
            Kind::Folder => {
                header.set_entry_type(EntryType::Directory);
                let name = [path, b"/"].concat();
                self.0.append_data(&mut header, Path::new(OsStr::from_bytes(&name)), io::empty())
            }
            Kind::Symlink(target) => {
                header.set_entry_type(EntryType::Symlink);
                self.0.append_link(&mut header, name, Path::new(OsStr::from_bytes(target)))
            }
            Kind::Other => Err(io::Error::new(
                io::ErrorKind::Unsupported,
                "devices, pipes and sockets cannot be copied",
            )),
        }
    }

    /// Writes another name of the entry `target`.
    pub(crate) fn link(&mut self, path: &[u8], node: &Node, target: &[u8]) -> io::Result<()> {
        refuse_whiteouts(path)?;
        let mut header = header_of(node);
        header.set_entry_type(EntryType::Link);
        let [path, target] = [path, target].map(|name| Path::new(OsStr::from_bytes(name)));
        self.0.append_link(&mut header, path, target)
    }

    /// Ends the archive.
    pub(crate) fn finish(self) -> io::Result<W> {
        self.0.into_inner()
    }
}

/// Exactly as many bytes as the header promises, or an error.
struct Exact<'a> {
    content: &'a mut dyn Read,
    left: u64,
}

impl Read for Exact<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = usize::try_from(self.left).unwrap_or(usize::MAX).min(buffer.len());
        if count == 0 {
            return Ok(0);
        }
        let read = self.content.read(&mut buffer[..count])?;
        if read == 0 {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "it is shorter than it was"));
        }
        self.left -= read as u64;
        Ok(read)
    }
}

fn header_of(node: &Node) -> Header {
    let mut header = Header::new_gnu();
    header.set_mode(node.mode);
    header.set_uid(node.uid);
    header.set_gid(node.gid);
    header.set_mtime(u64::try_from(node.mtime).unwrap_or(0));
    header.set_size(0);
    header
}

/// In a layer such names remove files.
fn refuse_whiteouts(path: &[u8]) -> io::Result<()> {
    if path.split(|byte| *byte == b'/').any(|part| part.starts_with(b".wh.")) {
        let message = "a name that begins with .wh. means a removed file in a layer";
        return Err(io::Error::new(io::ErrorKind::InvalidInput, message));
    }
    Ok(())
}
