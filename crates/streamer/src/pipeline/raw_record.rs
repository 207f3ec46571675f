//! The original bytes of a record, kept for a dead letter until its row is durable.

use std::ops::Range;

use kafka::headers::Header;

/// Key, value and headers in one allocation.
#[derive(Debug)]
pub struct RawRecord {
    bytes: Box<[u8]>,
    key: Option<Range<usize>>,
    value: Option<Range<usize>>,
    headers: usize,
}

const LENGTH: usize = size_of::<u32>();
/// No part is this long, so the value encodes null.
const NULL: u32 = u32::MAX;

impl RawRecord {
    /// Copies a record.
    pub fn copy<'a>(
        key: Option<&[u8]>,
        value: Option<&[u8]>,
        headers: impl Iterator<Item = Header<'a>>,
    ) -> Self {
        let mut bytes = Vec::with_capacity(key.map_or(0, <[u8]>::len) + value.map_or(0, <[u8]>::len) + 192);
        let key = key.map(|key| append(&mut bytes, key));
        let value = value.map(|value| append(&mut bytes, value));
        let start = bytes.len();
        for (name, value) in headers {
            append_length(&mut bytes, Some(name.len()));
            bytes.extend_from_slice(name);
            append_length(&mut bytes, value.map(<[u8]>::len));
            bytes.extend_from_slice(value.unwrap_or_default());
        }
        Self {
            bytes: bytes.into_boxed_slice(),
            key,
            value,
            headers: start,
        }
    }

    /// The key.
    pub fn key(&self) -> Option<&[u8]> {
        self.key.clone().map(|range| &self.bytes[range])
    }

    /// The value.
    pub fn value(&self) -> Option<&[u8]> {
        self.value.clone().map(|range| &self.bytes[range])
    }

    /// The headers, in order.
    pub fn headers(&self) -> Headers<'_> {
        Headers {
            rest: &self.bytes[self.headers..],
        }
    }

    /// The number of bytes.
    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Whether there is no key, value or header.
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }
}

/// Iterates over the headers of a [`RawRecord`].
pub struct Headers<'a> {
    rest: &'a [u8],
}

impl<'a> Iterator for Headers<'a> {
    type Item = Header<'a>;

    fn next(&mut self) -> Option<Header<'a>> {
        if self.rest.is_empty() {
            return None;
        }
        let name = self.take()?;
        let value = self.take();
        Some((name, value))
    }
}

impl<'a> Headers<'a> {
    fn take(&mut self) -> Option<&'a [u8]> {
        let (length, rest) = self
            .rest
            .split_first_chunk::<LENGTH>()
            .expect("each part is preceded by its length");
        let length = u32::from_ne_bytes(*length);
        self.rest = rest;
        if length == NULL {
            return None;
        }
        let (part, rest) = rest.split_at(length as usize);
        self.rest = rest;
        Some(part)
    }
}

fn append(bytes: &mut Vec<u8>, part: &[u8]) -> Range<usize> {
    let start = bytes.len();
    bytes.extend_from_slice(part);
    start..bytes.len()
}

fn append_length(bytes: &mut Vec<u8>, length: Option<usize>) {
    let length = length.map_or(NULL, |length| {
        u32::try_from(length).expect("Kafka's own lengths are 32 bits, and signed")
    });
    bytes.extend_from_slice(&length.to_ne_bytes());
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn null_and_empty_are_distinguished() {
        let record = RawRecord::copy(
            Some(b""),
            None,
            [(b"a".as_slice(), None), (b"\xe9", Some(b"".as_slice()))].into_iter(),
        );
        assert_eq!(record.key(), Some(b"".as_slice()));
        assert_eq!(record.value(), None);
        assert_eq!(
            record.headers().collect::<Vec<_>>(),
            [(b"a".as_slice(), None), (b"\xe9", Some(b"".as_slice()))]
        );
    }

    proptest! {
        #[test]
        fn record_is_copied_byte_for_byte(
            key: Option<Vec<u8>>,
            value: Option<Vec<u8>>,
            headers: Vec<(Vec<u8>, Option<Vec<u8>>)>,
        ) {
            let given = headers.iter().map(|(name, value)| (name.as_slice(), value.as_deref()));
            let record = RawRecord::copy(key.as_deref(), value.as_deref(), given.clone());
            prop_assert_eq!(record.key(), key.as_deref());
            prop_assert_eq!(record.value(), value.as_deref());
            prop_assert!(record.headers().eq(given));
        }
    }
}
