//! Netlink messages: requests written into one buffer, answers read attribute by attribute.
//!
//! ```text
//! nlmsghdr (len u32, type u16, flags u16, sequence u32, port u32)
//! family header (ifinfomsg, nfgenmsg, …)
//! attribute*: len u16, type u16, payload, padding to 4 bytes; payload may be attributes again
//! ```
//!
//! Numbers are in the machine's byte order except where a family says otherwise (nf_tables: network
//! order). See netlink(7). Reading never trusts a length: an attribute that does not fit ends the list.

use std::borrow::Cow;

/// Bytes of an nlmsghdr.
pub(super) const HEADER_LEN: usize = 16;
/// Bytes of an attribute's header.
const ATTRIBUTE_LEN: usize = 4;
/// The bit that says "my payload is attributes" (`NLA_F_NESTED`).
const NESTED: u16 = 1 << 15;
/// The bits of an attribute's type that are flags (`NLA_F_NESTED`, `NLA_F_NET_BYTEORDER`).
const TYPE_MASK: u16 = 0x3fff;

/// Requests on their way to the kernel, sent and answered together.
#[derive(Debug, Default)]
pub struct Messages {
    bytes: Vec<u8>,
    requests: Vec<Request>,
    too_long: Option<usize>,
}

/// One request among [`Messages`].
#[derive(Debug)]
pub(super) struct Request {
    /// Where its header starts.
    pub(super) offset: usize,
    /// What it does, for the error message: "create bridge dhow0".
    pub(super) what: Cow<'static, str>,
    /// Whether it is acknowledged.
    pub(super) acknowledged: bool,
}

impl Messages {
    /// No requests yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// How many requests there are.
    pub fn len(&self) -> usize {
        self.requests.len()
    }

    /// Whether there is nothing to send.
    pub fn is_empty(&self) -> bool {
        self.requests.is_empty()
    }

    /// Appends a request. `what` completes "cannot …" if the kernel refuses it; `fill` writes the family
    /// header and the attributes.
    pub fn push(
        &mut self,
        what: impl Into<Cow<'static, str>>,
        kind: u16,
        flags: u16,
        fill: impl FnOnce(&mut Body<'_>),
    ) {
        let offset = self.bytes.len();
        self.bytes.extend_from_slice(&[0; 4]);
        self.bytes.extend_from_slice(&kind.to_ne_bytes());
        self.bytes.extend_from_slice(&flags.to_ne_bytes());
        self.bytes.extend_from_slice(&[0; 8]);
        let mut body = Body { bytes: &mut self.bytes, too_long: false };
        fill(&mut body);
        if body.too_long {
            self.too_long.get_or_insert(self.requests.len());
        }
        let length = (self.bytes.len() - offset) as u32;
        self.write(offset, &length.to_ne_bytes());
        let acknowledged = i32::from(flags) & libc::NLM_F_ACK != 0;
        self.requests.push(Request { offset, what: what.into(), acknowledged });
    }

    /// The whole buffer, each request numbered from `first_sequence` on.
    pub(super) fn numbered(&mut self, first_sequence: u32) -> &[u8] {
        for index in 0..self.requests.len() {
            let offset = self.requests[index].offset + 8;
            self.write(offset, &first_sequence.wrapping_add(index as u32).to_ne_bytes());
        }
        &self.bytes
    }

    /// The requests in their order.
    pub(super) fn requests(&self) -> &[Request] {
        &self.requests
    }

    /// The request that has an attribute beyond 64 KiB.
    pub(super) fn too_long(&self) -> Option<&Request> {
        self.too_long.and_then(|index| self.requests.get(index))
    }

    fn write(&mut self, offset: usize, bytes: &[u8]) {
        self.bytes[offset..offset + bytes.len()].copy_from_slice(bytes);
    }
}

/// The part of a request after its header, being written.
#[derive(Debug)]
pub struct Body<'a> {
    bytes: &'a mut Vec<u8>,
    too_long: bool,
}

impl Body<'_> {
    /// Appends a family header or other raw bytes, padded to four.
    pub fn raw(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
        self.pad();
    }

    /// Appends an attribute.
    pub fn put(&mut self, kind: u16, payload: &[u8]) {
        self.attribute(kind, |body| body.bytes.extend_from_slice(payload));
    }

    /// Appends an attribute of one byte.
    pub fn put_u8(&mut self, kind: u16, value: u8) {
        self.put(kind, &[value]);
    }

    /// Appends an attribute of four bytes in the machine's order.
    pub fn put_u32(&mut self, kind: u16, value: u32) {
        self.put(kind, &value.to_ne_bytes());
    }

    /// Appends an attribute of four bytes in network order.
    pub fn put_be32(&mut self, kind: u16, value: u32) {
        self.put(kind, &value.to_be_bytes());
    }

    /// Appends an attribute that is a string, with its final zero.
    pub fn put_str(&mut self, kind: u16, text: &str) {
        self.attribute(kind, |body| {
            body.bytes.extend_from_slice(text.as_bytes());
            body.bytes.push(0);
        });
    }

    /// Appends an attribute whose payload is attributes.
    pub fn nest(&mut self, kind: u16, fill: impl FnOnce(&mut Body<'_>)) {
        self.attribute(kind | NESTED, fill);
    }

    fn attribute(&mut self, kind: u16, fill: impl FnOnce(&mut Body<'_>)) {
        let offset = self.bytes.len();
        self.bytes.extend_from_slice(&[0; 2]);
        self.bytes.extend_from_slice(&kind.to_ne_bytes());
        let mut inner = Body { bytes: self.bytes, too_long: false };
        fill(&mut inner);
        self.too_long |= inner.too_long;
        match u16::try_from(self.bytes.len() - offset) {
            Ok(length) => self.bytes[offset..offset + 2].copy_from_slice(&length.to_ne_bytes()),
            Err(_) => self.too_long = true,
        }
        self.pad();
    }

    fn pad(&mut self) {
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }
}

/// One message from the kernel.
#[derive(Debug, Clone, Copy)]
pub struct Answer<'a> {
    /// The message's type.
    pub kind: u16,
    /// The message's flags.
    pub flags: u16,
    /// The sequence number of the request it answers.
    pub sequence: u32,
    /// What follows the header.
    pub payload: &'a [u8],
}

/// The messages in one datagram from the kernel.
#[derive(Debug, Clone)]
pub struct Answers<'a>(&'a [u8]);

impl<'a> Answers<'a> {
    /// The messages in `datagram`.
    pub fn new(datagram: &'a [u8]) -> Self {
        Self(datagram)
    }
}

impl<'a> Iterator for Answers<'a> {
    type Item = Answer<'a>;

    fn next(&mut self) -> Option<Answer<'a>> {
        let length = read_u32(self.0, 0)? as usize;
        let message = self.0.get(..length).filter(|message| message.len() >= HEADER_LEN)?;
        self.0 = self.0.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some(Answer {
            kind: read_u16(message, 4)?,
            flags: read_u16(message, 6)?,
            sequence: read_u32(message, 8)?,
            payload: &message[HEADER_LEN..],
        })
    }
}

/// The attributes in a payload: type without its flag bits, and payload.
#[derive(Debug, Clone)]
pub struct Attributes<'a>(&'a [u8]);

impl<'a> Attributes<'a> {
    /// The attributes in `payload`.
    pub fn new(payload: &'a [u8]) -> Self {
        Self(payload)
    }

    /// The attributes in a message's payload behind a family header of `header_len` bytes.
    pub fn after(payload: &'a [u8], header_len: usize) -> Self {
        Self(payload.get(header_len.next_multiple_of(4)..).unwrap_or_default())
    }

    /// The payload of the first attribute of this type.
    pub fn find(mut self, kind: u16) -> Option<&'a [u8]> {
        self.find_map(|(found, payload)| (found == kind).then_some(payload))
    }
}

impl<'a> Iterator for Attributes<'a> {
    type Item = (u16, &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        let length = usize::from(read_u16(self.0, 0)?);
        let kind = read_u16(self.0, 2)? & TYPE_MASK;
        let attribute =
            self.0.get(..length).filter(|attribute| attribute.len() >= ATTRIBUTE_LEN)?;
        self.0 = self.0.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some((kind, &attribute[ATTRIBUTE_LEN..]))
    }
}

/// Two bytes at `offset` in the machine's order.
pub fn read_u16(bytes: &[u8], offset: usize) -> Option<u16> {
    let bytes = bytes.get(offset..offset.checked_add(2)?)?;
    bytes.try_into().ok().map(u16::from_ne_bytes)
}

/// Four bytes at `offset` in the machine's order.
pub fn read_u32(bytes: &[u8], offset: usize) -> Option<u32> {
    let bytes = bytes.get(offset..offset.checked_add(4)?)?;
    bytes.try_into().ok().map(u32::from_ne_bytes)
}

/// A string attribute without its final zero; bytes that are no UTF-8 are replaced.
pub fn read_str(payload: &[u8]) -> String {
    let end = payload.iter().position(|byte| *byte == 0).unwrap_or(payload.len());
    String::from_utf8_lossy(&payload[..end]).into_owned()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let mut messages = Messages::new();
        messages.push("do this", 16, 5, |body| {
            body.raw(&[1, 2, 3]);
            body.put_str(3, "eth0");
            body.nest(18, |body| body.put_u32(1, 7));
        });
        messages.push("do that", 17, 1, |body| body.put_u8(9, 1));
        let bytes = messages.numbered(40).to_vec();
        let answers: Vec<_> = Answers::new(&bytes).collect();
        assert_eq!(answers.len(), 2);
        assert_eq!((answers[0].kind, answers[0].flags, answers[0].sequence), (16, 5, 40));
        assert_eq!((answers[1].kind, answers[1].sequence), (17, 41));
        let attributes = Attributes::after(answers[0].payload, 3);
        assert_eq!(attributes.clone().find(3).map(read_str).as_deref(), Some("eth0"));
        let inner = Attributes::new(attributes.find(18).unwrap()).find(1).unwrap();
        assert_eq!(read_u32(inner, 0), Some(7));
        assert!(messages.requests()[0].acknowledged && !messages.requests()[1].acknowledged);
    }

    #[test]
    fn an_attribute_beyond_its_length_field_is_refused() {
        let mut messages = Messages::new();
        messages.push("fit", 1, 0, |body| body.put(1, &[0; 100]));
        messages.push("burst", 1, 0, |body| body.nest(1, |body| body.put(2, &vec![0; 70_000])));
        assert_eq!(messages.too_long().map(|request| &*request.what), Some("burst"));
    }

    proptest! {
        #[test]
        fn reading_anything_ends(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            for answer in Answers::new(&bytes) {
                prop_assert!(answer.payload.len() <= bytes.len());
                prop_assert!(Attributes::after(answer.payload, 16).count() <= bytes.len());
            }
            prop_assert!(Attributes::new(&bytes).count() <= bytes.len());
        }
    }
}
