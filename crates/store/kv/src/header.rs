//! A look at a redb file's first bytes before redb sees it.
//!
//! redb 3 takes the numbers in its file header as they are and panics where they contradict the file, for
//! example in one that was cut off. A file that somebody else has damaged must be an error instead.
//!
//! ```text
//!   0    9 bytes  magic                       20   u32  pages of data in a full region
//!   9    1        flags                       24   u32  full regions
//!   12   u32      bytes in a page             28   u32  pages of data in the last region
//!   16   u32      pages of a region's header       (little endian; redb's docs/design.md)
//! ```

const MAGIC: &[u8] = b"redb\x1a\x0a\xa9\x0d\x0a";
/// The only page size that redb's builder gives by default, and so the only one of our files.
const PAGE: u64 = 4096;
/// How much of a file [`check`] wants to see.
pub(crate) const LENGTH: usize = 32;

/// What is wrong with a file that begins with these bytes and has this length.
pub(crate) fn check(header: &[u8; LENGTH], file_bytes: u64) -> Result<(), String> {
    if !header.starts_with(MAGIC) {
        return Err("it does not begin as one".to_owned());
    }
    let [page, region_header, region_data, regions, last_data] =
        [12, 16, 20, 24, 28].map(|at| number(header, at));
    if page != PAGE {
        return Err(format!("it has pages of {page} bytes"));
    }
    let last = if last_data == 0 { 0 } else { region_header + last_data };
    // The file's own header takes a page. Nothing overflows: each number has 32 bits.
    let pages =
        u128::from(region_header + region_data) * u128::from(regions) + u128::from(last) + 1;
    let needed = pages * u128::from(PAGE);
    if region_data == 0 || last_data > region_data || regions + last_data == 0 {
        return Err("its header contradicts itself".to_owned());
    }
    if u128::from(file_bytes) < needed {
        return Err(format!("it is cut off: {file_bytes} of {needed} bytes are there"));
    }
    Ok(())
}

/// The number at this offset.
fn number(header: &[u8; LENGTH], at: usize) -> u64 {
    let bytes = header.get(at..at + 4).and_then(|bytes| bytes.try_into().ok());
    u32::from_le_bytes(bytes.unwrap_or_default()).into()
}
