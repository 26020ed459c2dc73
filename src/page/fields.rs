//! Header fields at rest: the lines as they go over the wire.

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue};

use crate::rules::Lines;

/// Header fields in wire form, `Name: value\r\n` each, in the order and the
/// case they came in. A `HeaderMap` would take several times the memory.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Fields(Bytes);

/// Collects [`Fields`].
#[derive(Debug, Default)]
pub struct FieldsBuf(Vec<u8>);

impl FieldsBuf {
    /// Adds a field. Name and value must be valid (RFC 9110 §5.1, §5.5).
    pub fn push(&mut self, name: &str, value: &[u8]) {
        debug_assert!(!value.contains(&b'\n') && !value.contains(&b'\r'));
        self.0.extend_from_slice(name.as_bytes());
        self.0.extend_from_slice(b": ");
        self.0.extend_from_slice(value);
        self.0.extend_from_slice(b"\r\n");
    }

    /// The fields collected.
    #[must_use]
    pub fn done(self) -> Fields {
        // Exactly as long as it is: a page is stored for long.
        Fields(self.0.into_boxed_slice().into())
    }
}

impl From<Fields> for FieldsBuf {
    /// To add to them.
    fn from(fields: Fields) -> FieldsBuf {
        FieldsBuf(fields.0.into())
    }
}

impl Fields {
    /// The wire form: lines, each with its CRLF, without the empty line at the end.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// Bytes of heap that the fields take.
    #[must_use]
    pub fn size(&self) -> usize {
        self.0.len()
    }

    /// Each field, in order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &[u8])> {
        let mut rest: &[u8] = &self.0;
        std::iter::from_fn(move || {
            let end = memchr::memchr(b'\r', rest)?;
            let line = &rest[..end];
            rest = rest.get(end + 2..)?;
            let colon = memchr::memchr(b':', line)?;
            let name = std::str::from_utf8(&line[..colon]).ok()?;
            Some((name, line.get(colon + 2..)?))
        })
    }

    /// The first field of that name, in any case.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&[u8]> {
        self.iter().find(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, value)| value)
    }

    /// As a `HeaderMap`, for the rules on the response side.
    #[must_use]
    pub fn to_map(&self) -> HeaderMap {
        let mut map = HeaderMap::new();
        for (name, value) in self.iter() {
            if let (Ok(name), Ok(value)) =
                (HeaderName::from_bytes(name.as_bytes()), HeaderValue::from_bytes(value))
            {
                map.append(name, value);
            }
        }
        map
    }
}

impl Lines for Fields {
    fn lines<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a [u8]> {
        self.iter().filter(move |(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, value)| value)
    }
}
