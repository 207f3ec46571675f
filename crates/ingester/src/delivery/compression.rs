//! Compression of request bodies. Pure.

use std::io::Write as _;

use bytes::Bytes;
use flate2::write::GzEncoder;
use reqwest::Url;
use serde::{Deserialize, Serialize};

use crate::http::is_loopback;

/// Level of both algorithms. On records, higher levels cost several times the CPU for a tenth less size.
const FASTEST: u8 = 1;

/// Configured compression of request bodies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CompressionConfig {
    /// `zstd`, or none to a loopback address, where bandwidth is free.
    Auto,
    /// No compression.
    None,
    /// RFC 1952.
    Gzip,
    /// RFC 8878.
    Zstd,
}

impl CompressionConfig {
    /// Returns the compression for requests to `url`.
    #[must_use]
    pub fn towards(self, url: &Url) -> Compression {
        match self {
            Self::Auto if is_loopback(url) => Compression::None,
            Self::Auto | Self::Zstd => Compression::Zstd,
            Self::Gzip => Compression::Gzip,
            Self::None => Compression::None,
        }
    }
}

/// Compression of request bodies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compression {
    /// No compression.
    None,
    /// RFC 1952.
    Gzip,
    /// RFC 8878.
    Zstd,
}

impl Compression {
    /// Returns the `Content-Encoding` and the body. A body that fails to compress (out of memory) is sent as it is.
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
    let output = Vec::with_capacity(body.len() / 4);
    let mut encoder = GzEncoder::new(output, flate2::Compression::new(FASTEST.into()));
    encoder.write_all(body)?;
    encoder.finish()
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use super::*;
    use crate::delivery::record_batch::RecordBatch;
    use crate::delivery::record_batch::tests::records_of;

    #[test]
    fn auto_compresses_except_to_loopback() {
        for (address, auto) in [
            ("http://127.0.0.1:8080/", Compression::None),
            ("http://[::1]:8080/", Compression::None),
            ("http://localhost/", Compression::None),
            ("http://publisher:8080/", Compression::Zstd),
            ("https://10.0.0.1/", Compression::Zstd),
        ] {
            let url = address.parse().unwrap();
            assert_eq!(CompressionConfig::Auto.towards(&url), auto, "{address}");
            assert_eq!(CompressionConfig::Zstd.towards(&url), Compression::Zstd);
            assert_eq!(CompressionConfig::Gzip.towards(&url), Compression::Gzip);
            assert_eq!(CompressionConfig::None.towards(&url), Compression::None);
        }
    }

    #[test]
    fn compressed_bodies_round_trip_and_are_smaller() {
        let records = records_of(500);
        let body = RecordBatch::new(&records, 0..500, 0).body();
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
