//! Record → JSON. There is one encoding of a record: the contract's names in the contract's order, no white space,
//! no escape that JSON does not demand.

use std::{
    borrow::Cow,
    io::{self, Write},
};

use crate::User;

impl User<'_> {
    /// The canonical encoding.
    #[must_use]
    pub fn to_json(&self) -> Vec<u8> {
        let mut json = Vec::with_capacity(640); // The API's records take 420 to 560 bytes.
        self.write_json(&mut json);
        json
    }

    /// Appends the canonical encoding to `json`.
    pub fn write_json(&self, json: &mut Vec<u8>) {
        serde_json::to_writer(json, self).expect("a struct of strings can be written to memory");
    }

    /// Whether `json` is the canonical encoding of this record. Allocates nothing.
    #[must_use]
    pub fn is_canonical(&self, json: &[u8]) -> bool {
        let mut expected = Expected { rest: json };
        serde_json::to_writer(&mut expected, self).is_ok() && expected.rest.is_empty()
    }

    /// The canonical encoding: `original`, the text that this record was parsed from, if it is that already.
    #[must_use]
    pub fn canonical_json<'b>(&self, original: &'b [u8]) -> Cow<'b, [u8]> {
        if self.is_canonical(original) {
            Cow::Borrowed(original)
        } else {
            Cow::Owned(self.to_json())
        }
    }
}

/// Takes only the bytes it expects, and fails on the first other one.
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
