//! Compressed bodies → plain ones, under the limit on what comes out: a bomb is refused while it unfolds. It reads
//! no network; the compressed body is whole.

use std::io::Read;

use axum::http::{HeaderMap, header};
use bytes::Bytes;
use flate2::read::MultiGzDecoder;
use thiserror::Error;
use zstd::stream::read::Decoder as ZstdDecoder;

use crate::admission::{NoRoom, Reservation};
use crate::buffer::Buffer;

/// What may be asked for in `Accept-Encoding`, and is told with 415.
pub(crate) const UNDERSTOOD: &str = "gzip, zstd";

/// The largest zstd window, as a power of two: 8 MiB, which every decoder must support (RFC 8878) and which bounds
/// what a frame can make us allocate.
const LARGEST_WINDOW_LOG: u32 = 23;

/// How a body is compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Coding {
    /// Not at all.
    Identity,
    /// RFC 1952, also in several members.
    Gzip,
    /// RFC 8878, also in several frames.
    Zstd,
}

/// A body can't be decoded.
#[derive(Debug, Error)]
pub enum CodingError {
    /// It is cut off, or not what its `Content-Encoding` says.
    #[error("the body is not valid in its Content-Encoding")]
    Broken(#[source] std::io::Error),
    /// More comes out of it than the limit allows.
    #[error("the decoded body has more than {limit} bytes")]
    TooLarge {
        /// The limit, in bytes.
        limit: usize,
    },
    /// There is no room for it now.
    #[error(transparent)]
    NoRoom(#[from] NoRoom),
}

impl Coding {
    /// What the `Content-Encoding` of a request stands for; none when it isn't understood, as with several at once.
    pub fn of(headers: &HeaderMap) -> Option<Self> {
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
        .map(|(_, coding)| coding)
    }

    /// The plain body, of at most `limit` bytes, for which room is taken as it unfolds.
    ///
    /// # Errors
    /// Each [`CodingError`].
    pub fn decode(
        self,
        body: Bytes,
        limit: usize,
        reservation: &mut Reservation,
    ) -> Result<Bytes, CodingError> {
        match self {
            Self::Identity => Ok(body),
            Self::Gzip => unfold(MultiGzDecoder::new(&*body), limit, reservation),
            Self::Zstd => {
                let mut decoder = ZstdDecoder::new(&*body).map_err(CodingError::Broken)?;
                decoder
                    .window_log_max(LARGEST_WINDOW_LOG)
                    .map_err(CodingError::Broken)?;
                unfold(decoder, limit, reservation)
            }
        }
    }
}

fn unfold(mut decoder: impl Read, limit: usize, reservation: &mut Reservation) -> Result<Bytes, CodingError> {
    let mut plain = Buffer::new(limit);
    while plain
        .pull(&mut decoder, reservation)?
        .map_err(CodingError::Broken)?
        > 0
    {
        if plain.len() > limit {
            return Err(CodingError::TooLarge { limit });
        }
    }
    Ok(plain.whole(reservation))
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
    use crate::admission::Admission;
    use crate::metrics::PublisherMetrics;
    use crate::settings::LimitSettings;

    const MIB: usize = 1 << 20;

    fn gzip(plain: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
        encoder.write_all(plain).unwrap();
        encoder.finish().unwrap()
    }

    fn zstd(plain: &[u8]) -> Vec<u8> {
        zstd::encode_all(plain, 3).unwrap()
    }

    fn decode(coding: Coding, body: Vec<u8>, limit: usize) -> Result<Bytes, CodingError> {
        let limits = LimitSettings {
            max_in_flight_bytes: ByteSize(8 << 20),
            ..LimitSettings::default()
        };
        let metrics = PublisherMetrics::new(&Metrics::new("test"));
        let mut reservation = Admission::new(&limits, &metrics).enter();
        coding.decode(body.into(), limit, &mut reservation)
    }

    fn coding(name: &str) -> Option<Coding> {
        let mut headers = HeaderMap::new();
        headers.insert("content-encoding", HeaderValue::from_str(name).unwrap());
        Coding::of(&headers)
    }

    #[test]
    fn two_codings_are_understood_one_at_a_time() {
        assert_eq!(Coding::of(&HeaderMap::new()), Some(Coding::Identity));
        assert_eq!(coding("GZIP"), Some(Coding::Gzip));
        assert_eq!(coding("zstd"), Some(Coding::Zstd));
        assert_eq!(coding("gzip, zstd"), None);
        assert_eq!(coding("br"), None);
    }

    #[test]
    fn what_was_compressed_comes_out_again_also_from_several_parts() {
        let plain: Vec<_> = (0..200_000u32).flat_map(u32::to_le_bytes).collect();
        let (front, back) = plain.split_at(300_000);
        for (coding, parts) in [
            (Coding::Gzip, [gzip(front), gzip(back)].concat()),
            (Coding::Zstd, [zstd(front), zstd(back)].concat()),
            (Coding::Identity, plain.clone()),
        ] {
            assert_eq!(decode(coding, parts, MIB).unwrap(), plain, "{coding:?}");
        }
        assert!(decode(Coding::Gzip, gzip(b""), MIB).unwrap().is_empty());
    }

    #[test]
    fn a_bomb_is_refused_while_it_unfolds() {
        let zeros = vec![0; 64 * MIB];
        for (coding, bomb) in [(Coding::Gzip, gzip(&zeros)), (Coding::Zstd, zstd(&zeros))] {
            assert!(bomb.len() < MIB);
            let outcome = decode(coding, bomb.clone(), MIB);
            assert!(matches!(outcome, Err(CodingError::TooLarge { limit: MIB })));
            let outcome = decode(coding, bomb, 64 * MIB);
            assert!(matches!(outcome, Err(CodingError::NoRoom(_))));
        }
    }

    #[test]
    fn a_window_that_would_take_much_memory_is_refused() {
        let mut encoder = zstd::Encoder::new(Vec::new(), 1).unwrap();
        encoder.window_log(27).unwrap();
        encoder.include_contentsize(false).unwrap();
        encoder.write_all(&[7; MIB]).unwrap();
        let frame = encoder.finish().unwrap();
        assert!(matches!(
            decode(Coding::Zstd, frame, 2 * MIB),
            Err(CodingError::Broken(_))
        ));
    }

    #[test]
    fn what_is_cut_or_something_else_is_broken() {
        for (coding, whole) in [
            (Coding::Gzip, gzip(&[7; 10_000])),
            (Coding::Zstd, zstd(&[7; 10_000])),
        ] {
            for body in [
                whole[..whole.len() - 1].to_vec(),
                b"plain text".to_vec(),
                [&whole[..], b"tail"].concat(),
            ] {
                assert!(
                    matches!(decode(coding, body, MIB), Err(CodingError::Broken(_))),
                    "{coding:?}"
                );
            }
        }
    }
}
