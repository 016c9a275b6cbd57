//! Streams that may be compressed: gzip and zstd are told by their first bytes, all else is plain.

use std::io::{self, BufReader, Read};

use flate2::bufread::MultiGzDecoder;

/// RFC 1952, 2.3.1.
const GZIP: &[u8] = &[0x1f, 0x8b];
/// RFC 8878, 3.1.1.
const ZSTD: &[u8] = &[0x28, 0xb5, 0x2f, 0xfd];
/// RFC 8878, 3.1.2: the first frame may be one to skip (0x184D2A5?).
const ZSTD_SKIPPABLE: &[u8] = &[0x2a, 0x4d, 0x18];
/// The largest window a stream may ask for, as a power of two: 128 MiB, what `zstd --long` uses.
const WINDOW_LOG_MAX: u32 = 27;

/// How a stream is compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Compression {
    Plain,
    Gzip,
    Zstd,
}

impl Compression {
    /// Told by the first four bytes.
    pub(crate) fn of(start: &[u8]) -> Self {
        let skippable = start.get(1..4).is_some_and(|rest| rest == ZSTD_SKIPPABLE)
            && start.first().is_some_and(|first| first & 0xf0 == 0x50);
        if start.starts_with(GZIP) {
            Self::Gzip
        } else if start.starts_with(ZSTD) || skippable {
            Self::Zstd
        } else {
            Self::Plain
        }
    }
}

/// A reader of the uncompressed content of `reader`.
pub fn inflate<'a>(mut reader: impl Read + Send + 'a) -> io::Result<Box<dyn Read + Send + 'a>> {
    let mut head = [0; 4];
    let mut count = 0;
    while count < head.len() {
        match reader.read(&mut head[count..])? {
            0 => break,
            more => count += more,
        }
    }
    let start = head[..count].to_vec();
    let compression = Compression::of(&start);
    let whole = BufReader::with_capacity(64 << 10, io::Cursor::new(start).chain(reader));
    Ok(match compression {
        Compression::Plain => Box::new(whole),
        Compression::Gzip => Box::new(MultiGzDecoder::new(whole)),
        Compression::Zstd => {
            let mut decoder = zstd::Decoder::with_buffer(whole)?;
            decoder.window_log_max(WINDOW_LOG_MAX)?;
            Box::new(decoder)
        }
    })
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[test]
    fn tells_the_three_kinds_apart() {
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        gzip.write_all(b"content").unwrap();
        let zstd = zstd::encode_all(&b"content"[..], 1).unwrap();
        for stream in [b"content".to_vec(), gzip.finish().unwrap(), zstd] {
            let mut text = String::new();
            inflate(stream.as_slice()).unwrap().read_to_string(&mut text).unwrap();
            assert_eq!(text, "content");
        }
        assert_eq!(inflate(&b""[..]).unwrap().read_to_end(&mut Vec::new()).unwrap(), 0);
    }
}
