//! Faults of the API, their notation, and the queue in which they wait for requests.

mod broken_field;

use std::{collections::VecDeque, fmt, mem::discriminant, str::FromStr, time::Duration};

use clap::ValueEnum as _;
use jiff::SignedDuration;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error};

pub use self::broken_field::BrokenField;

/// A fault of one response. Its notation is a word, some with a value after a colon: `no_results`, `hang:2s`,
/// `broken_record:missing_email`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// `internal_error`: 500 with a line of text.
    InternalError,
    /// `bad_gateway`: 502 with an HTML page.
    BadGateway,
    /// `unavailable`: 503 with an HTML page.
    Unavailable,
    /// `forbidden_page`: 403 with the HTML page that a content delivery network shows to cloud addresses.
    ForbiddenPage,
    /// `too_many_requests` (429 without `Retry-After`) or `too_many_requests:7` (with it, in seconds).
    TooManyRequests(Option<u32>),
    /// `error_body`: 200 with `{"error": "Uh oh, something has gone wrong…"}`.
    ErrorBody,
    /// `no_results`: 200 with `"results": []`, while `info` has the requested count.
    NoResults,
    /// `fewer_results`: half of the records, rounded down, while `info` has the requested count.
    FewerResults,
    /// `wrong_version`: `info.version` differs from the path's.
    WrongVersion,
    /// `wrong_content_type`: the right response with the content type `text/html`.
    WrongContentType,
    /// `broken_record:FIELD`: the record in the middle of the page is invalid.
    BrokenRecord(BrokenField),
    /// `duplicate_uuids`: the last record has the uuid of the first.
    DuplicateUuids,
    /// `truncated_json`: half of the document, as a complete HTTP response.
    TruncatedJson,
    /// `oversized_body` or `oversized_body:BYTES` (64 MiB): the right response, padded with blanks to that size and sent in
    /// chunks without a length.
    OversizedBody(u64),
    /// `hang` (no response, ever) or `hang:2s` (the right response after that time).
    Hang(Option<Duration>),
    /// `stall_mid_body`: half of the body, then nothing, ever.
    StallMidBody,
    /// `slow_bytes` or `slow_bytes:20ms` (50 ms): 64 bytes per interval.
    SlowBytes(Duration),
    /// `reset_mid_body`: half of the body, then a reset of the connection.
    ResetMidBody,
}

/// The words of all faults, with the values that they have without a colon.
const WORDS: [(&str, Fault); 18] = [
    ("internal_error", Fault::InternalError),
    ("bad_gateway", Fault::BadGateway),
    ("unavailable", Fault::Unavailable),
    ("forbidden_page", Fault::ForbiddenPage),
    ("too_many_requests", Fault::TooManyRequests(None)),
    ("error_body", Fault::ErrorBody),
    ("no_results", Fault::NoResults),
    ("fewer_results", Fault::FewerResults),
    ("wrong_version", Fault::WrongVersion),
    ("wrong_content_type", Fault::WrongContentType),
    (BROKEN_RECORD, Fault::BrokenRecord(BrokenField::NullRecord)),
    ("duplicate_uuids", Fault::DuplicateUuids),
    ("truncated_json", Fault::TruncatedJson),
    ("oversized_body", Fault::OversizedBody(64 << 20)),
    ("hang", Fault::Hang(None)),
    ("stall_mid_body", Fault::StallMidBody),
    ("slow_bytes", Fault::SlowBytes(Duration::from_millis(50))),
    ("reset_mid_body", Fault::ResetMidBody),
];

/// The one word that requires a value.
const BROKEN_RECORD: &str = "broken_record";

impl fmt::Display for Fault {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let words = WORDS.iter();
        let mut word = words.filter(|(_, fault)| discriminant(fault) == discriminant(self));
        word.try_for_each(|(word, _)| out.write_str(word))?;
        match self {
            Self::TooManyRequests(Some(seconds)) => write!(out, ":{seconds}"),
            Self::BrokenRecord(field) => write!(out, ":{field}"),
            Self::OversizedBody(bytes) => write!(out, ":{bytes}"),
            Self::Hang(Some(delay)) | Self::SlowBytes(delay) => write!(out, ":{}ms", delay.as_millis()),
            _ => Ok(()),
        }
    }
}

/// Why a text is not a fault.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum ParseFaultError {
    /// The word before the colon is unknown, or takes no value.
    #[error("unknown fault: {0}")]
    UnknownFault(String),
    /// The fault does not take the value after the colon.
    #[error("invalid value of the fault {fault}: {value}")]
    WrongValue {
        /// The word before the colon.
        fault: String,
        /// The text after it.
        value: String,
    },
}

impl FromStr for Fault {
    type Err = ParseFaultError;

    fn from_str(text: &str) -> Result<Self, ParseFaultError> {
        let Some((fault, value)) = text.split_once(':') else {
            let mut plain = WORDS.iter().filter(|(word, _)| *word != BROKEN_RECORD);
            let found = plain.find(|(word, _)| *word == text);
            return found.map_or_else(
                || Err(ParseFaultError::UnknownFault(text.into())),
                |(_, fault)| Ok(fault.clone()),
            );
        };
        let parsed = match fault {
            "too_many_requests" => value
                .parse()
                .ok()
                .map(|seconds| Self::TooManyRequests(Some(seconds))),
            BROKEN_RECORD => BrokenField::from_str(value, false).ok().map(Self::BrokenRecord),
            "oversized_body" => value.parse().ok().map(Self::OversizedBody),
            "hang" => duration(value).map(|delay| Self::Hang(Some(delay))),
            "slow_bytes" => duration(value).map(Self::SlowBytes),
            _ => return Err(ParseFaultError::UnknownFault(fault.into())),
        };
        parsed.ok_or_else(|| ParseFaultError::WrongValue {
            fault: fault.into(),
            value: value.into(),
        })
    }
}

fn duration(text: &str) -> Option<Duration> {
    text.parse::<SignedDuration>()
        .ok()
        .and_then(|duration| duration.try_into().ok())
}

impl Serialize for Fault {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Fault {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?
            .parse()
            .map_err(D::Error::custom)
    }
}

/// Faults in the order of the requests that they apply to.
#[derive(Debug, Default)]
pub(crate) struct FaultQueue {
    waiting: VecDeque<(Fault, u32)>,
}

impl FaultQueue {
    const CAPACITY: usize = 1_000;

    /// Returns whether the queue had space.
    pub(crate) fn push(&mut self, fault: Fault, times: u32) -> bool {
        let has_space = self.waiting.len() < Self::CAPACITY;
        if has_space && times > 0 {
            self.waiting.push_back((fault, times));
        }
        has_space
    }

    /// The fault of the next request.
    pub(crate) fn pop(&mut self) -> Option<Fault> {
        let (fault, times) = self.waiting.front_mut()?;
        *times -= 1;
        if *times > 0 {
            Some(fault.clone())
        } else {
            self.waiting.pop_front().map(|(fault, _)| fault)
        }
    }

    pub(crate) fn clear(&mut self) {
        self.waiting.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn notations_round_trip() {
        let plain = [
            "internal_error",
            "error_body",
            "duplicate_uuids",
            "hang",
            "reset_mid_body",
        ];
        let valued = [
            "too_many_requests:7",
            "broken_record:nil_uuid",
            "oversized_body:1000",
            "hang:1500ms",
            "slow_bytes:20ms",
        ];
        for text in plain.iter().chain(&valued) {
            assert_eq!(text.parse::<Fault>().unwrap().to_string(), *text);
        }
        assert_eq!("hang:2s".parse(), Ok(Fault::Hang(Some(Duration::from_secs(2)))));
    }

    #[test]
    fn invalid_notations_are_rejected_with_the_reason() {
        assert_eq!(
            "explode".parse::<Fault>(),
            Err(ParseFaultError::UnknownFault("explode".into()))
        );
        assert_eq!(
            "broken_record".parse::<Fault>(),
            Err(ParseFaultError::UnknownFault("broken_record".into()))
        );
        assert!(matches!(
            "hang:soon".parse::<Fault>(),
            Err(ParseFaultError::WrongValue { .. })
        ));
        assert!(matches!(
            "hang:-1s".parse::<Fault>(),
            Err(ParseFaultError::WrongValue { .. })
        ));
    }

    #[test]
    fn faults_are_popped_in_order_and_as_often_as_pushed() {
        let mut queue = FaultQueue::default();
        assert!(
            queue.push(Fault::NoResults, 2)
                && queue.push(Fault::ErrorBody, 0)
                && queue.push(Fault::Unavailable, 1)
        );
        let taken: Vec<_> = std::iter::from_fn(|| queue.pop()).collect();
        assert_eq!(taken, [Fault::NoResults, Fault::NoResults, Fault::Unavailable]);
    }

    #[test]
    fn queue_is_bounded() {
        let mut queue = FaultQueue::default();
        assert!((0..FaultQueue::CAPACITY).all(|_| queue.push(Fault::NoResults, 1)));
        assert!(!queue.push(Fault::NoResults, 1));
    }
}
