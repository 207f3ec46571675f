//! Where a request's records come from and when they were taken: what the caller said in HTTP headers, and how it
//! travels on as Kafka headers. Nothing here decides an order.

use axum::http::{HeaderMap, HeaderName, HeaderValue};
use jiff::Timestamp;
use model::headers::{self, http, kafka};
use rdkafka::message::{Header, OwnedHeaders};
use thiserror::Error;

/// The longest `Run-Id`: room for a uuid and for what other tools use.
const LONGEST_RUN_ID: usize = 128;

/// A request header that can't be passed on.
#[derive(Debug, PartialEq, Eq, Error)]
pub enum OriginError {
    /// Empty, too long, or with other than visible ASCII characters.
    #[error("Run-Id must be 1 to {LONGEST_RUN_ID} visible ASCII characters")]
    RunId,
    /// No decimal number, or one whose records would count past the largest.
    #[error("Run-Seq must be a decimal number below 2^63")]
    RunSeq,
    /// The same header twice, so that it's unclear which one counts.
    #[error("{0} is given more than once")]
    Twice(HeaderName),
}

/// The origin of one request.
#[derive(Clone, Debug)]
pub struct Origin {
    accepted_at_us: i64,
    run_id: Option<HeaderValue>,
    run_seq: Option<u64>,
    traceparent: Option<HeaderValue>,
}

impl Origin {
    /// Reads the headers of a request taken at `accepted_at`.
    ///
    /// A `traceparent` that is none is left out, as its specification demands.
    ///
    /// # Errors
    /// Each [`OriginError`].
    pub fn of(headers: &HeaderMap, accepted_at: Timestamp) -> Result<Self, OriginError> {
        let run_id = only(headers, http::RUN_ID)?;
        if run_id.is_some_and(|id| !is_run_id(id)) {
            return Err(OriginError::RunId);
        }
        let run_seq = only(headers, http::RUN_SEQ)?.map(run_seq).transpose()?;
        let traceparent = headers
            .get(http::TRACEPARENT)
            .filter(|value| is_traceparent(value.as_bytes()));
        Ok(Self {
            accepted_at_us: accepted_at.as_microsecond(),
            run_id: run_id.cloned(),
            run_seq,
            traceparent: traceparent.cloned(),
        })
    }

    /// The Kafka headers that all records of the request have.
    pub fn of_records(&self) -> OwnedHeaders {
        let described = OwnedHeaders::new_with_capacity(6)
            .insert(header(kafka::CONTENT_TYPE, headers::JSON.as_bytes()))
            .insert(header(kafka::SCHEMA, model::SCHEMA.as_bytes()));
        self.with_origin(described)
    }

    /// Those of the record at `index` of the request, which has a number of its own when the run counts.
    pub fn of_record(&self, shared: &OwnedHeaders, index: usize) -> OwnedHeaders {
        let headers = shared.clone();
        match self.run_seq {
            Some(first) => {
                let number = first.saturating_add(index as u64).to_string();
                headers.insert(header(kafka::RUN_SEQ, number.as_bytes()))
            }
            None => headers,
        }
    }

    /// Those of a record without a value, which has no content to describe.
    pub fn of_tombstone(&self) -> OwnedHeaders {
        self.with_origin(OwnedHeaders::new())
    }

    fn with_origin(&self, headers: OwnedHeaders) -> OwnedHeaders {
        let accepted_at = self.accepted_at_us.to_string();
        let mut headers = headers.insert(header(kafka::ACCEPTED_AT_US, accepted_at.as_bytes()));
        if let Some(run_id) = &self.run_id {
            headers = headers.insert(header(kafka::RUN_ID, run_id.as_bytes()));
        }
        if let Some(traceparent) = &self.traceparent {
            headers = headers.insert(header(kafka::TRACEPARENT, traceparent.as_bytes()));
        }
        headers
    }
}

/// The value of a header that may be given once at most.
pub(crate) fn only<'a>(
    headers: &'a HeaderMap,
    name: &'static str,
) -> Result<Option<&'a HeaderValue>, OriginError> {
    let mut values = headers.get_all(name).iter();
    let value = values.next();
    match values.next() {
        None => Ok(value),
        Some(_) => Err(OriginError::Twice(HeaderName::from_static(name))),
    }
}

fn header<'a>(key: &'a str, value: &'a [u8]) -> Header<'a, &'a [u8]> {
    Header {
        key,
        value: Some(value),
    }
}

fn is_run_id(value: &HeaderValue) -> bool {
    (1..=LONGEST_RUN_ID).contains(&value.len()) && value.as_bytes().iter().all(u8::is_ascii_graphic)
}

fn run_seq(value: &HeaderValue) -> Result<u64, OriginError> {
    let digits = value.to_str().map_err(|_| OriginError::RunSeq)?;
    let number: i64 = digits.parse().map_err(|_| OriginError::RunSeq)?;
    u64::try_from(number).map_err(|_| OriginError::RunSeq)
}

/// Version 00 of W3C Trace Context: `00-<32 hex>-<16 hex>-<2 hex>`, in lower case, neither id all zeros.
fn is_traceparent(value: &[u8]) -> bool {
    let parts: Vec<_> = value.split(|byte| *byte == b'-').collect();
    let [b"00", trace, parent, flags] = parts[..] else {
        return false;
    };
    let is_hex = |part: &[u8], length| {
        part.len() == length && part.iter().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
    };
    let is_id = |part, length| is_hex(part, length) && part.iter().any(|byte| *byte != b'0');
    is_id(trace, 32) && is_id(parent, 16) && is_hex(flags, 2)
}

#[cfg(test)]
mod tests {
    use rdkafka::message::Headers as _;

    use super::*;

    const TRACE: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    fn origin(headers: &[(&'static str, &str)]) -> Result<Origin, OriginError> {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(*name, HeaderValue::from_str(value).unwrap());
        }
        Origin::of(&map, Timestamp::from_microsecond(1_700_000_000_000_001).unwrap())
    }

    fn written(origin: &Origin, index: usize) -> Vec<(String, String)> {
        let headers = origin.of_record(&origin.of_records(), index);
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
        headers
            .iter()
            .map(|header| (header.key.to_owned(), text(header.value.unwrap())))
            .collect()
    }

    #[test]
    fn a_record_says_where_it_comes_from_and_counts_on_within_the_run() {
        let given = [("run-id", "r-1"), ("run-seq", "40"), ("traceparent", TRACE)];
        let headers = written(&origin(&given).unwrap(), 2);
        let expected = [
            ("content-type", "application/json"),
            ("schema", "affluent.users.v1.User"),
            ("accepted-at-us", "1700000000000001"),
            ("run-id", "r-1"),
            ("traceparent", TRACE),
            ("run-seq", "42"),
        ];
        assert_eq!(headers.len(), expected.len());
        for (got, wanted) in headers.iter().zip(expected) {
            assert_eq!((got.0.as_str(), got.1.as_str()), wanted);
        }
    }

    #[test]
    fn a_caller_who_says_nothing_gets_three_headers() {
        assert_eq!(written(&origin(&[]).unwrap(), 0).len(), 3);
    }

    #[test]
    fn what_cannot_be_passed_on_is_refused() {
        assert_eq!(origin(&[("run-id", "")]).unwrap_err(), OriginError::RunId);
        assert_eq!(origin(&[("run-id", "a b")]).unwrap_err(), OriginError::RunId);
        assert_eq!(
            origin(&[("run-id", &"x".repeat(129))]).unwrap_err(),
            OriginError::RunId
        );
        for seq in ["", "-1", "x", "1.5", "9223372036854775808"] {
            assert_eq!(
                origin(&[("run-seq", seq)]).unwrap_err(),
                OriginError::RunSeq,
                "{seq}"
            );
        }
        let twice = [("run-id", "a"), ("run-id", "b")];
        assert!(matches!(origin(&twice), Err(OriginError::Twice(_))));
    }

    #[test]
    fn a_traceparent_that_is_none_is_left_out() {
        let zeros = "00-00000000000000000000000000000000-00f067aa0ba902b7-01";
        for value in ["", "x", &TRACE[1..], &TRACE.to_uppercase(), zeros] {
            let origin = origin(&[("traceparent", value)]).unwrap();
            assert!(origin.traceparent.is_none(), "{value}");
        }
    }
}
