//! Bodies on their way to the publisher, made smaller. Pure; it reads no answer.

use std::io::Write as _;

use bytes::Bytes;
use flate2::write::GzEncoder;
use serde::{Deserialize, Serialize};

/// The level of both: on records, higher ones cost several times as much for a tenth less.
const FASTEST: u8 = 1;

/// How bodies are compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Compression {
    /// Not at all.
    None,
    /// RFC 1952.
    Gzip,
    /// RFC 8878.
    Zstd,
}

impl Compression {
    /// The body and its `Content-Encoding`. What can't be compressed, which takes a lack of memory, goes as it is.
    #[must_use]
    pub fn of(self, body: &Bytes) -> (Option<&'static str>, Bytes) {
        let compressed = match self {
            Self::None => None,
            Self::Gzip => gzip(body).ok().map(|bytes| ("gzip", bytes)),
            Self::Zstd => zstd::bulk::compress(body, FASTEST.into())
                .ok()
                .map(|bytes| ("zstd", bytes)),
        };
        match compressed {
            Some((coding, bytes)) => (Some(coding), bytes.into()),
            None => (None, body.clone()),
        }
    }
}

fn gzip(body: &[u8]) -> std::io::Result<Vec<u8>> {
    let room = Vec::with_capacity(body.len() / 4);
    let mut encoder = GzEncoder::new(room, flate2::Compression::new(FASTEST.into()));
    encoder.write_all(body)?;
    encoder.finish()
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use super::*;
    use crate::batch::Batch;
    use crate::batch::tests::records_of;

    #[test]
    fn a_body_comes_out_as_it_went_in_and_much_smaller() {
        let records = records_of(500);
        let body = Batch::new(&records, 0..500, 0).body();
        let (coding, plain) = Compression::None.of(&body);
        assert_eq!((coding, &plain), (None, &body));
        let (coding, gzipped) = Compression::Gzip.of(&body);
        let mut read = Vec::new();
        flate2::read::GzDecoder::new(&gzipped[..])
            .read_to_end(&mut read)
            .unwrap();
        assert_eq!((coding, &read[..]), (Some("gzip"), &body[..]));
        let (coding, packed) = Compression::Zstd.of(&body);
        assert_eq!(
            (coding, &zstd::decode_all(&packed[..]).unwrap()[..]),
            (Some("zstd"), &body[..])
        );
        assert!(gzipped.len() * 4 < body.len() && packed.len() * 4 < body.len());
    }
}
