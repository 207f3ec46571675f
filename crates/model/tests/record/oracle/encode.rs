//! Encodes a record as canonical JSON: the contract's names in its order, no white space, only required escapes.

use std::{
    borrow::Cow,
    io::{self, Write},
};

use super::user::User;

impl User<'_> {
    /// Returns the canonical encoding.
    #[must_use]
    pub fn to_json(&self) -> Vec<u8> {
        let mut json = Vec::with_capacity(640); // The API's records have 420 to 560 bytes.
        self.write_json(&mut json);
        json
    }

    /// Appends the canonical encoding to `json`.
    pub fn write_json(&self, json: &mut Vec<u8>) {
        serde_json::to_writer(json, self).expect("writing a struct of strings to memory does not fail");
    }

    /// Whether `json` is the canonical encoding of this record. Does not allocate.
    #[must_use]
    pub fn is_canonical(&self, json: &[u8]) -> bool {
        let mut expected = Expected { rest: json };
        serde_json::to_writer(&mut expected, self).is_ok() && expected.rest.is_empty()
    }

    /// Returns the canonical encoding: `original`, which this record was parsed from, if it is canonical.
    #[must_use]
    pub fn canonical_json<'b>(&self, original: &'b [u8]) -> Cow<'b, [u8]> {
        if self.is_canonical(original) {
            Cow::Borrowed(original)
        } else {
            Cow::Owned(self.to_json())
        }
    }
}

/// Compares written bytes with the expected ones and fails at the first difference.
struct Expected<'a> {
    rest: &'a [u8],
}

impl Write for Expected<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.rest = self.rest.strip_prefix(bytes).ok_or(io::ErrorKind::InvalidData)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
