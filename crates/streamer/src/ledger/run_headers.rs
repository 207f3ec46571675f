//! The headers of a record that say to which run it belongs and when it was fetched.
//!
//! Pure. An invalid header never rejects a record.

use ::kafka::headers::Header;
use model::headers;
use uuid::Uuid;

use crate::ledger::run_number::{RunNumber, SEQUENCE_LIMIT};

const RUN_ID: &[u8] = headers::kafka::RUN_ID.as_bytes();
const RUN_SEQ: &[u8] = headers::kafka::RUN_SEQ.as_bytes();
const FETCHED_AT_US: &[u8] = headers::kafka::FETCHED_AT_US.as_bytes();
const ACCEPTED_AT_US: &[u8] = headers::kafka::ACCEPTED_AT_US.as_bytes();

/// How long before its acceptance a record may have been fetched, in microseconds.
const MAX_AGE: i64 = 24 * 3_600_000_000;
/// How far the fetcher's clock may be ahead of the publisher's, in microseconds.
const MAX_AHEAD: i64 = 5_000_000;

/// When a record was fetched from its source.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum FetchedAt {
    /// The record has no header.
    #[default]
    Absent,
    /// The header is no number, or not between 24 hours before the acceptance and 5 seconds after it.
    Invalid,
    /// Microseconds since 1970.
    Micros(i64),
}

/// What the headers say.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RunHeaders {
    /// The number; `None` unless both headers are valid.
    pub number: Option<RunNumber>,
    /// When the record was fetched.
    pub fetched_at: FetchedAt,
}

impl RunHeaders {
    /// Reads the first header of each name. `timestamp`: Kafka's, in milliseconds since 1970, which replaces a missing
    /// `accepted-at-us`.
    pub fn read<'a>(headers: impl Iterator<Item = Header<'a>>, timestamp: i64) -> Self {
        let [mut run, mut sequence, mut fetched_at, mut accepted_at] = [None; 4];
        for (name, value) in headers {
            let slot = match name {
                RUN_ID => &mut run,
                RUN_SEQ => &mut sequence,
                FETCHED_AT_US => &mut fetched_at,
                ACCEPTED_AT_US => &mut accepted_at,
                _ => continue,
            };
            *slot = slot.or(Some(value.unwrap_or_default()));
        }
        let number = || {
            Some(RunNumber {
                run: Uuid::try_parse_ascii(run?).ok()?,
                sequence: number(sequence?).filter(|sequence| *sequence < SEQUENCE_LIMIT)?,
            })
        };
        let fetched_at = match fetched_at {
            None => FetchedAt::Absent,
            Some(fetched_at) => {
                let accepted_at = accepted_at
                    .and_then(number_of_micros)
                    .unwrap_or(timestamp.saturating_mul(1_000));
                let valid = accepted_at.saturating_sub(MAX_AGE)..=accepted_at.saturating_add(MAX_AHEAD);
                let micros = number_of_micros(fetched_at).filter(|micros| valid.contains(micros));
                micros.map_or(FetchedAt::Invalid, FetchedAt::Micros)
            }
        };
        Self {
            number: number(),
            fetched_at,
        }
    }
}

/// Parses digits alone: no sign and no space.
fn number(text: &[u8]) -> Option<u64> {
    let append = |number: u64, byte: &u8| {
        let digit = byte.checked_sub(b'0').filter(|digit| *digit < 10)?;
        number.checked_mul(10)?.checked_add(digit.into())
    };
    (!text.is_empty())
        .then(|| text.iter().try_fold(0, append))
        .flatten()
}

fn number_of_micros(text: &[u8]) -> Option<i64> {
    i64::try_from(number(text)?).ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const RUN: &str = "0195d0b1-7a4c-7f3e-9b1a-2c3d4e5f6071";
    /// In milliseconds since 1970.
    const ACCEPTED: i64 = 1_800_000_000_000;

    fn read(headers: &[(&str, &str)]) -> RunHeaders {
        let headers = headers
            .iter()
            .map(|(name, value)| (name.as_bytes(), Some(value.as_bytes())));
        RunHeaders::read(headers, ACCEPTED)
    }

    #[test]
    fn number_needs_both_headers() {
        let found = read(&[("run-id", RUN), ("run-seq", "17"), ("run-seq", "18")]);
        let number = RunNumber {
            run: RUN.parse().unwrap(),
            sequence: 17,
        };
        assert_eq!(found.number, Some(number), "the first header of a name counts");
        for headers in [
            vec![],
            vec![("run-id", RUN)],
            vec![("run-seq", "17")],
            vec![("run-id", "nightly"), ("run-seq", "17")],
            vec![("run-id", RUN), ("run-seq", "")],
            vec![("run-id", RUN), ("run-seq", "-1")],
            vec![("run-id", RUN), ("run-seq", "+1")],
            vec![("run-id", RUN), ("run-seq", "1000000000000")],
            vec![("run-id", RUN), ("run-seq", "18446744073709551616")],
        ] {
            assert_eq!(read(&headers).number, None, "{headers:?}");
        }
    }

    #[test]
    fn fetched_at_outside_its_range_is_invalid() {
        let accepted = ACCEPTED * 1_000;
        for (at, valid) in [
            (accepted - MAX_AGE, true),
            (accepted - MAX_AGE - 1, false),
            (accepted + MAX_AHEAD, true),
            (accepted + MAX_AHEAD + 1, false),
        ] {
            let expected = if valid {
                FetchedAt::Micros(at)
            } else {
                FetchedAt::Invalid
            };
            let text = at.to_string();
            assert_eq!(read(&[("fetched-at-us", &text)]).fetched_at, expected);
            let accepted = accepted.to_string();
            let headers = [("accepted-at-us", &*accepted), ("fetched-at-us", &text)];
            assert_eq!(read(&headers).fetched_at, expected);
        }
        assert_eq!(read(&[("fetched-at-us", "now")]).fetched_at, FetchedAt::Invalid);
        assert_eq!(read(&[]).fetched_at, FetchedAt::Absent);
    }

    proptest! {
        #[test]
        fn any_headers_are_read(headers: Vec<(Vec<u8>, Option<Vec<u8>>)>, timestamp: i64) {
            let headers = headers.iter().map(|(name, value)| (name.as_slice(), value.as_deref()));
            RunHeaders::read(headers, timestamp);
        }
    }
}
