//! What can be made to go wrong, its one-word notation, and the queue in which faults wait for their requests.

use std::{collections::VecDeque, fmt, str::FromStr, time::Duration};

use jiff::SignedDuration;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error};

use super::damage::BrokenField;

/// One thing that goes wrong with one reply. Written as a word, some with a value behind a colon:
/// `no_results`, `hang:2s`, `broken_record:missing_email`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// `internal_error`: 500 with a line of text.
    InternalError,
    /// `bad_gateway`: 502 with a page of HTML.
    BadGateway,
    /// `unavailable`: 503 with a page of HTML.
    Unavailable,
    /// `forbidden_page`: 403 with the page of HTML that a protecting network shows to cloud addresses.
    ForbiddenPage,
    /// `too_many_requests` (429 without `Retry-After`) or `too_many_requests:7` (with it, in seconds).
    TooManyRequests(Option<u32>),
    /// `error_body`: 200 with `{"error": "Uh oh, something has gone wrong…"}`.
    ErrorBody,
    /// `no_results`: 200 with `"results": []`, while `info` says as many as asked.
    NoResults,
    /// `fewer_results`: half of the records, rounded down, while `info` says as many as asked.
    FewerResults,
    /// `wrong_version`: `info.version` is another one than the path's.
    WrongVersion,
    /// `wrong_content_type`: the right reply, called `text/html`.
    WrongContentType,
    /// `broken_record:FIELD`: the record in the middle of the page is damaged.
    BrokenRecord(BrokenField),
    /// `duplicate_uuids`: the last record carries the uuid of the first.
    DuplicateUuids,
    /// `truncated_json`: half of the document, as a complete HTTP reply.
    TruncatedJson,
    /// `oversized_body` or `oversized_body:BYTES` (64 MiB): the right reply, but blown up with blanks to that
    /// size and sent in chunks without a length.
    OversizedBody(u64),
    /// `hang` (no reply, ever) or `hang:2s` (the right reply, that much later).
    Hang(Option<Duration>),
    /// `stall_mid_body`: half of the body, then nothing, ever.
    StallMidBody,
    /// `slow_bytes` or `slow_bytes:20ms` (50 ms): 64 bytes each time.
    SlowBytes(Duration),
    /// `reset_mid_body`: half of the body, then the connection is reset.
    ResetMidBody,
}

impl fmt::Display for Fault {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(self.word())?;
        match self {
            Self::TooManyRequests(Some(seconds)) => write!(out, ":{seconds}"),
            Self::BrokenRecord(field) => write!(out, ":{field}"),
            Self::OversizedBody(bytes) => write!(out, ":{bytes}"),
            Self::Hang(Some(delay)) | Self::SlowBytes(delay) => write!(out, ":{}ms", delay.as_millis()),
            _ => Ok(()),
        }
    }
}

impl Fault {
    fn word(&self) -> &'static str {
        match self {
            Self::InternalError => "internal_error",
            Self::BadGateway => "bad_gateway",
            Self::Unavailable => "unavailable",
            Self::ForbiddenPage => "forbidden_page",
            Self::TooManyRequests(_) => "too_many_requests",
            Self::ErrorBody => "error_body",
            Self::NoResults => "no_results",
            Self::FewerResults => "fewer_results",
            Self::WrongVersion => "wrong_version",
            Self::WrongContentType => "wrong_content_type",
            Self::BrokenRecord(_) => "broken_record",
            Self::DuplicateUuids => "duplicate_uuids",
            Self::TruncatedJson => "truncated_json",
            Self::OversizedBody(_) => "oversized_body",
            Self::Hang(_) => "hang",
            Self::StallMidBody => "stall_mid_body",
            Self::SlowBytes(_) => "slow_bytes",
            Self::ResetMidBody => "reset_mid_body",
        }
    }
}

/// Why a text names no fault.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum ParseFaultError {
    /// The word in front of the colon is none of [`Fault`]'s, or takes no value.
    #[error("no such fault: {0}")]
    UnknownFault(String),
    /// The value behind the colon is not what the fault takes.
    #[error("not a value for the fault {fault}: {value}")]
    WrongValue {
        /// The word in front of the colon.
        fault: String,
        /// What stands behind it.
        value: String,
    },
}

impl FromStr for Fault {
    type Err = ParseFaultError;

    fn from_str(text: &str) -> Result<Self, ParseFaultError> {
        match text.split_once(':') {
            None => Self::plain(text).ok_or_else(|| ParseFaultError::UnknownFault(text.into())),
            Some((fault, value)) => Self::with_value(fault, value),
        }
    }
}

impl Fault {
    fn plain(word: &str) -> Option<Self> {
        const ALL: [Fault; 17] = [
            Fault::InternalError,
            Fault::BadGateway,
            Fault::Unavailable,
            Fault::ForbiddenPage,
            Fault::TooManyRequests(None),
            Fault::ErrorBody,
            Fault::NoResults,
            Fault::FewerResults,
            Fault::WrongVersion,
            Fault::WrongContentType,
            Fault::DuplicateUuids,
            Fault::TruncatedJson,
            Fault::OversizedBody(64 << 20),
            Fault::Hang(None),
            Fault::StallMidBody,
            Fault::SlowBytes(Duration::from_millis(50)),
            Fault::ResetMidBody,
        ];
        ALL.into_iter().find(|fault| fault.word() == word)
    }

    fn with_value(fault: &str, value: &str) -> Result<Self, ParseFaultError> {
        let parsed = match fault {
            "too_many_requests" => value
                .parse()
                .ok()
                .map(|seconds| Self::TooManyRequests(Some(seconds))),
            "broken_record" => BrokenField::of_word(value).map(Self::BrokenRecord),
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

/// Faults in the order in which they befall requests.
#[derive(Debug, Default)]
pub(super) struct FaultQueue {
    waiting: VecDeque<(Fault, u32)>,
}

impl FaultQueue {
    const CAPACITY: usize = 1_000;

    /// Whether there was room.
    pub(super) fn push(&mut self, fault: Fault, times: u32) -> bool {
        let room = self.waiting.len() < Self::CAPACITY;
        if room && times > 0 {
            self.waiting.push_back((fault, times));
        }
        room
    }

    /// The fault of the next request.
    pub(super) fn pop(&mut self) -> Option<Fault> {
        let (fault, times) = self.waiting.front_mut()?;
        *times -= 1;
        if *times > 0 {
            Some(fault.clone())
        } else {
            self.waiting.pop_front().map(|(fault, _)| fault)
        }
    }

    pub(super) fn clear(&mut self) {
        self.waiting.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_notation_is_read_back_as_it_was_written() {
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
    fn what_is_no_fault_is_refused_with_its_reason() {
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
    fn faults_are_taken_in_order_and_as_often_as_asked() {
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
    fn the_queue_is_bounded() {
        let mut queue = FaultQueue::default();
        assert!((0..FaultQueue::CAPACITY).all(|_| queue.push(Fault::NoResults, 1)));
        assert!(!queue.push(Fault::NoResults, 1));
    }
}
