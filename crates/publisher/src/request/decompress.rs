//! Decompresses bodies within the limit on their plain size, so that a decompression bomb is rejected early.
//!
//! Works on complete bodies in memory.

use std::io::Read;

use axum::http::{HeaderMap, header};
use bytes::Bytes;
use flate2::read::MultiGzDecoder;
use thiserror::Error;
use zstd::stream::read::Decoder as ZstdDecoder;

use crate::limits::admission::{AdmissionPermit, Overloaded};
use crate::limits::buffer::Buffer;

/// The supported encodings, for `Accept-Encoding` in a 415.
pub(crate) const SUPPORTED: &str = "gzip, zstd";

/// The largest zstd window, as a power of two: 8 MiB, which every decoder must support (RFC 8878). It limits the
/// memory of the decoder.
const MAX_WINDOW_LOG: u32 = 23;

/// The `Content-Encoding` of a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ContentEncoding {
    /// Not compressed.
    Identity,
    /// RFC 1952, with one or several members.
    Gzip,
    /// RFC 8878, with one or several frames.
    Zstd,
}

/// Why a body was not decompressed.
#[derive(Debug, Error)]
pub enum DecompressError {
    /// It is truncated, or not in its `Content-Encoding`.
    #[error("the body is truncated or not in its Content-Encoding")]
    Corrupt(#[source] std::io::Error),
    /// Its plain size exceeds the limit.
    #[error("the decompressed body is larger than {limit} bytes")]
    TooLarge {
        /// The limit, in bytes.
        limit: usize,
    },
    /// It does not fit into the bytes in flight.
    #[error(transparent)]
    Overloaded(#[from] Overloaded),
}

impl ContentEncoding {
    /// Parses `Content-Encoding`; returns none for an unsupported encoding or several of them.
    pub fn from_headers(headers: &HeaderMap) -> Option<Self> {
        let mut values = headers.get_all(header::CONTENT_ENCODING).iter();
        let Some(value) = values.next() else {
            return Some(Self::Identity);
        };
        let name = value.to_str().ok().filter(|_| values.next().is_none())?.trim();
        [
            ("identity", Self::Identity),
            ("gzip", Self::Gzip),
            ("x-gzip", Self::Gzip),
            ("zstd", Self::Zstd),
        ]
        .into_iter()
        .find(|(known, _)| name.eq_ignore_ascii_case(known))
        .map(|(_, encoding)| encoding)
    }

    /// Returns the plain body of at most `limit` bytes, and acquires its bytes while it grows.
    ///
    /// # Errors
    /// Each [`DecompressError`].
    pub fn decompress(
        self,
        body: Bytes,
        limit: usize,
        permit: &mut AdmissionPermit,
    ) -> Result<Bytes, DecompressError> {
        match self {
            Self::Identity => Ok(body),
            Self::Gzip => read_all(MultiGzDecoder::new(&*body), limit, permit),
            Self::Zstd => {
                let mut decoder = ZstdDecoder::new(&*body).map_err(DecompressError::Corrupt)?;
                decoder
                    .window_log_max(MAX_WINDOW_LOG)
                    .map_err(DecompressError::Corrupt)?;
                read_all(decoder, limit, permit)
            }
        }
    }
}

fn read_all(
    mut decoder: impl Read,
    limit: usize,
    permit: &mut AdmissionPermit,
) -> Result<Bytes, DecompressError> {
    let mut plain = Buffer::new(limit);
    while plain
        .read_from(&mut decoder, permit)?
        .map_err(DecompressError::Corrupt)?
        > 0
    {
        if plain.len() > limit {
            return Err(DecompressError::TooLarge { limit });
        }
    }
    Ok(plain.finish(permit))
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use axum::http::HeaderValue;
    use bytesize::ByteSize;
    use flate2::Compression;
    use flate2::write::GzEncoder;
    use service::Metrics;

    use super::*;
    use crate::config::LimitSettings;
    use crate::limits::admission::Admission;
    use crate::metrics::PublisherMetrics;

    const MIB: usize = 1 << 20;

    fn gzip(plain: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
        encoder.write_all(plain).unwrap();
        encoder.finish().unwrap()
    }

    fn zstd(plain: &[u8]) -> Vec<u8> {
        zstd::encode_all(plain, 3).unwrap()
    }

    fn decompress(encoding: ContentEncoding, body: Vec<u8>, limit: usize) -> Result<Bytes, DecompressError> {
        let limits = LimitSettings {
            max_in_flight_bytes: ByteSize(8 << 20),
            ..LimitSettings::default()
        };
        let metrics = PublisherMetrics::new(&Metrics::new("test"));
        let mut permit = Admission::new(&limits, &metrics).enter();
        encoding.decompress(body.into(), limit, &mut permit)
    }

    fn encoding(name: &str) -> Option<ContentEncoding> {
        let mut headers = HeaderMap::new();
        headers.insert("content-encoding", HeaderValue::from_str(name).unwrap());
        ContentEncoding::from_headers(&headers)
    }

    #[test]
    fn gzip_and_zstd_are_supported_one_at_a_time() {
        assert_eq!(
            ContentEncoding::from_headers(&HeaderMap::new()),
            Some(ContentEncoding::Identity)
        );
        assert_eq!(encoding("GZIP"), Some(ContentEncoding::Gzip));
        assert_eq!(encoding("zstd"), Some(ContentEncoding::Zstd));
        assert_eq!(encoding("gzip, zstd"), None);
        assert_eq!(encoding("br"), None);
    }

    #[test]
    fn compression_round_trips_with_several_members() {
        let plain: Vec<_> = (0..200_000u32).flat_map(u32::to_le_bytes).collect();
        let (front, back) = plain.split_at(300_000);
        for (encoding, parts) in [
            (ContentEncoding::Gzip, [gzip(front), gzip(back)].concat()),
            (ContentEncoding::Zstd, [zstd(front), zstd(back)].concat()),
            (ContentEncoding::Identity, plain.clone()),
        ] {
            assert_eq!(decompress(encoding, parts, MIB).unwrap(), plain, "{encoding:?}");
        }
        assert!(
            decompress(ContentEncoding::Gzip, gzip(b""), MIB)
                .unwrap()
                .is_empty()
        );
    }

    #[test]
    fn decompression_bomb_is_rejected() {
        let zeros = vec![0; 64 * MIB];
        for (encoding, bomb) in [
            (ContentEncoding::Gzip, gzip(&zeros)),
            (ContentEncoding::Zstd, zstd(&zeros)),
        ] {
            assert!(bomb.len() < MIB);
            let outcome = decompress(encoding, bomb.clone(), MIB);
            assert!(matches!(outcome, Err(DecompressError::TooLarge { limit: MIB })));
            let outcome = decompress(encoding, bomb, 64 * MIB);
            assert!(matches!(outcome, Err(DecompressError::Overloaded(_))));
        }
    }

    #[test]
    fn large_zstd_window_is_rejected() {
        let mut encoder = zstd::Encoder::new(Vec::new(), 1).unwrap();
        encoder.window_log(27).unwrap();
        encoder.include_contentsize(false).unwrap();
        encoder.write_all(&[7; MIB]).unwrap();
        let frame = encoder.finish().unwrap();
        assert!(matches!(
            decompress(ContentEncoding::Zstd, frame, 2 * MIB),
            Err(DecompressError::Corrupt(_))
        ));
    }

    #[test]
    fn truncated_and_foreign_bodies_are_corrupt() {
        for (encoding, whole) in [
            (ContentEncoding::Gzip, gzip(&[7; 10_000])),
            (ContentEncoding::Zstd, zstd(&[7; 10_000])),
        ] {
            for body in [
                whole[..whole.len() - 1].to_vec(),
                b"plain text".to_vec(),
                [&whole[..], b"tail"].concat(),
            ] {
                assert!(
                    matches!(decompress(encoding, body, MIB), Err(DecompressError::Corrupt(_))),
                    "{encoding:?}"
                );
            }
        }
    }
}
