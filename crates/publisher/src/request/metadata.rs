//! The metadata of a request: run, sequence number, trace, fetch and acceptance time. It is read from HTTP headers and
//! written as Kafka headers.
//!
//! Never decides the order of records.

use axum::http::{HeaderMap, HeaderName, HeaderValue};
use jiff::Timestamp;
use model::Contract;
use model::headers::{self, dead_letter, http, kafka};
use rdkafka::message::{Header, OwnedHeaders};
use service::TraceContext;
use thiserror::Error;

/// The most headers of the caller's choice in a record.
const MAX_CALLER_HEADERS: usize = 16;

/// The most bytes of their names and values.
const MAX_CALLER_HEADER_BYTES: usize = 4 * 1024;

/// The name and the value of a record header of the caller's choice.
type CallerHeader = (Box<str>, Box<[u8]>);

/// The longest `Run-Id`: enough for a UUID and for the ids of other tools.
const MAX_RUN_ID: usize = 128;

/// A request header is invalid.
#[derive(Debug, PartialEq, Eq, Error)]
pub enum MetadataError {
    /// `Run-Id` is empty, too long, or has other than visible ASCII characters.
    #[error("Run-Id must be 1 to {MAX_RUN_ID} visible ASCII characters")]
    RunId,
    /// `Run-Seq` is not a decimal number, or too large to count the records from it.
    #[error("Run-Seq must be a decimal number below 2^63")]
    RunSeq,
    /// `Fetched-At-Us` is not a decimal number of microseconds.
    #[error("Fetched-At-Us must be the microseconds since 1970, a decimal number below 2^63")]
    FetchedAtUs,
    /// There are too many headers `Kafka-Header-…`, or they are too large.
    #[error(
        "there must be at most {MAX_CALLER_HEADERS} headers Kafka-Header-…, with at most {MAX_CALLER_HEADER_BYTES} bytes"
    )]
    TooManyCallerHeaders,
    /// The record header of a header `Kafka-Header-…` has no name, or one that is reserved.
    #[error("{0} names no record header, or a reserved one")]
    CallerHeaderName(HeaderName),
    /// A header occurs more than once.
    #[error("{0} must not occur more than once")]
    Duplicate(HeaderName),
}

/// The metadata of one request.
#[derive(Clone, Debug)]
pub struct RequestMetadata {
    accepted_at_us: i64,
    fetched_at_us: Option<u64>,
    run_id: Option<HeaderValue>,
    run_seq: Option<u64>,
    trace: Option<TraceContext>,
    request_id: Option<HeaderValue>,
    /// Record headers of the caller's choice.
    caller_headers: Vec<CallerHeader>,
}

impl RequestMetadata {
    /// Reads the headers of a request that was accepted at `accepted_at`.
    ///
    /// Ignores a `traceparent` that is invalid, as its specification requires, or not sampled: records of a trace that
    /// is not exported have no header for it.
    ///
    /// # Errors
    /// Each [`MetadataError`].
    pub fn from_headers(headers: &HeaderMap, accepted_at: Timestamp) -> Result<Self, MetadataError> {
        let run_id = single_header(headers, http::RUN_ID)?;
        if run_id.is_some_and(|id| !is_run_id(id)) {
            return Err(MetadataError::RunId);
        }
        let run_seq =
            single_header(headers, http::RUN_SEQ)?.map(|value| decimal(value).ok_or(MetadataError::RunSeq));
        let fetched_at_us = single_header(headers, http::FETCHED_AT_US)?
            .map(|value| decimal(value).ok_or(MetadataError::FetchedAtUs));
        let trace = headers
            .get(http::TRACEPARENT)
            .and_then(|value| TraceContext::parse(value.as_bytes()))
            .filter(|trace| trace.sampled);
        Ok(Self {
            accepted_at_us: accepted_at.as_microsecond(),
            fetched_at_us: fetched_at_us.transpose()?,
            run_id: run_id.map(copied),
            run_seq: run_seq.transpose()?,
            trace,
            // The server has replaced an invalid one.
            request_id: headers.get(http::REQUEST_ID).cloned(),
            caller_headers: caller_headers(headers)?,
        })
    }

    /// The bytes of the caller's headers, which each record has.
    pub fn caller_header_bytes(&self) -> usize {
        size(&self.caller_headers)
    }

    /// The id of the request, for logs.
    pub fn request_id(&self) -> Option<&str> {
        self.request_id.as_ref()?.to_str().ok()
    }

    /// The span of the request or of its caller, if the trace is sampled.
    pub fn trace(&self) -> Option<TraceContext> {
        self.trace
    }

    /// The Kafka headers that all records of the request share. `trace` is the span that writes them.
    pub fn shared_headers(&self, contract: &Contract, trace: Option<TraceContext>) -> OwnedHeaders {
        let headers = OwnedHeaders::new_with_capacity(kafka::ALL.len() + self.caller_headers.len())
            .insert(header(kafka::CONTENT_TYPE, headers::JSON.as_bytes()))
            .insert(header(kafka::SCHEMA, contract.name().as_bytes()))
            .insert(header(kafka::SCHEMA_HASH, contract.hash().as_bytes()));
        self.with_metadata(headers, trace)
    }

    /// The Kafka headers of the record at `index`, with its sequence number if the request has one.
    pub fn record_headers(&self, shared: OwnedHeaders, index: usize) -> OwnedHeaders {
        match self.run_seq {
            Some(first) => {
                let number = first.saturating_add(index as u64).to_string();
                shared.insert(header(kafka::RUN_SEQ, number.as_bytes()))
            }
            None => shared,
        }
    }

    /// The Kafka headers of a tombstone, which has no content type and no schema.
    pub fn tombstone_headers(&self, trace: Option<TraceContext>) -> OwnedHeaders {
        self.with_metadata(OwnedHeaders::new(), trace)
    }

    fn with_metadata(&self, headers: OwnedHeaders, trace: Option<TraceContext>) -> OwnedHeaders {
        let accepted_at = self.accepted_at_us.to_string();
        let mut headers = headers.insert(header(kafka::ACCEPTED_AT_US, accepted_at.as_bytes()));
        if let Some(fetched_at_us) = self.fetched_at_us {
            let fetched_at = fetched_at_us.to_string();
            headers = headers.insert(header(kafka::FETCHED_AT_US, fetched_at.as_bytes()));
        }
        if let Some(run_id) = &self.run_id {
            headers = headers.insert(header(kafka::RUN_ID, run_id.as_bytes()));
        }
        if let Some(trace) = trace {
            headers = headers.insert(header(kafka::TRACEPARENT, trace.traceparent().as_bytes()));
        }
        for (name, value) in &self.caller_headers {
            headers = headers.insert(header(name, value));
        }
        headers
    }
}

/// Returns the name and value of each record header that the caller sets with `Kafka-Header-<name>`.
fn caller_headers(headers: &HeaderMap) -> Result<Vec<CallerHeader>, MetadataError> {
    let mut found = Vec::new();
    for (name, value) in headers {
        let Some(record_header) = name.as_str().strip_prefix(http::KAFKA_HEADER_PREFIX) else {
            continue;
        };
        let is_reserved =
            kafka::ALL.contains(&record_header) || record_header.starts_with(dead_letter::PREFIX);
        if record_header.is_empty() || is_reserved {
            return Err(MetadataError::CallerHeaderName(name.clone()));
        }
        // The values of one name follow each other.
        if found
            .last()
            .is_some_and(|(last, _): &CallerHeader| **last == *record_header)
        {
            return Err(MetadataError::Duplicate(name.clone()));
        }
        found.push((record_header.into(), value.as_bytes().into()));
        if found.len() > MAX_CALLER_HEADERS || size(&found) > MAX_CALLER_HEADER_BYTES {
            return Err(MetadataError::TooManyCallerHeaders);
        }
    }
    Ok(found)
}

fn size(headers: &[CallerHeader]) -> usize {
    headers.iter().map(|(name, value)| name.len() + value.len()).sum()
}

/// A copy in memory of its own. A clone would keep the whole head of the request.
fn copied(value: &HeaderValue) -> HeaderValue {
    HeaderValue::from_bytes(value.as_bytes()).expect("the bytes are those of a header value")
}

/// Returns the value of a header that must not occur more than once.
pub(crate) fn single_header<'a>(
    headers: &'a HeaderMap,
    name: &'static str,
) -> Result<Option<&'a HeaderValue>, MetadataError> {
    let mut values = headers.get_all(name).iter();
    let value = values.next();
    match values.next() {
        None => Ok(value),
        Some(_) => Err(MetadataError::Duplicate(HeaderName::from_static(name))),
    }
}

fn header<'a>(key: &'a str, value: &'a [u8]) -> Header<'a, &'a [u8]> {
    Header {
        key,
        value: Some(value),
    }
}

fn is_run_id(value: &HeaderValue) -> bool {
    (1..=MAX_RUN_ID).contains(&value.len()) && value.as_bytes().iter().all(u8::is_ascii_graphic)
}

/// A decimal number below 2^63, which readers may keep in a signed one.
fn decimal(value: &HeaderValue) -> Option<u64> {
    let number: i64 = value.to_str().ok()?.parse().ok()?;
    u64::try_from(number).ok()
}

#[cfg(test)]
mod tests {
    use rdkafka::message::Headers as _;

    use super::*;

    const TRACE: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    fn metadata(headers: &[(&'static str, &str)]) -> Result<RequestMetadata, MetadataError> {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(*name, HeaderValue::from_str(value).unwrap());
        }
        RequestMetadata::from_headers(&map, Timestamp::from_microsecond(1_700_000_000_000_001).unwrap())
    }

    fn record_headers(metadata: &RequestMetadata, index: usize) -> Vec<(String, String)> {
        let shared = metadata.shared_headers(&Contract::user(), metadata.trace());
        let headers = metadata.record_headers(shared, index);
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
        headers
            .iter()
            .map(|header| (header.key.to_owned(), text(header.value.unwrap())))
            .collect()
    }

    #[test]
    fn record_headers_have_run_sequence_number_and_trace() {
        let request = [
            ("run-id", "r-1"),
            ("run-seq", "40"),
            ("fetched-at-us", "1699999999999000"),
            ("traceparent", TRACE),
        ];
        let headers = record_headers(&metadata(&request).unwrap(), 2);
        let contract = Contract::user();
        let expected = [
            ("content-type", "application/json"),
            ("schema", "affluent.users.v1.User"),
            ("schema-hash", contract.hash()),
            ("accepted-at-us", "1700000000000001"),
            ("fetched-at-us", "1699999999999000"),
            ("run-id", "r-1"),
            ("traceparent", TRACE),
            ("run-seq", "42"),
        ];
        assert_eq!(headers.len(), expected.len());
        for (found, expected) in headers.iter().zip(expected) {
            assert_eq!((found.0.as_str(), found.1.as_str()), expected);
        }
    }

    #[test]
    fn request_without_metadata_has_four_headers() {
        assert_eq!(record_headers(&metadata(&[]).unwrap(), 0).len(), 4);
    }

    #[test]
    fn invalid_headers_are_rejected() {
        assert_eq!(metadata(&[("run-id", "")]).unwrap_err(), MetadataError::RunId);
        assert_eq!(metadata(&[("run-id", "a b")]).unwrap_err(), MetadataError::RunId);
        assert_eq!(
            metadata(&[("run-id", &"x".repeat(129))]).unwrap_err(),
            MetadataError::RunId
        );
        for number in ["", "-1", "x", "1.5", "9223372036854775808"] {
            for (name, error) in [
                ("run-seq", MetadataError::RunSeq),
                ("fetched-at-us", MetadataError::FetchedAtUs),
            ] {
                assert_eq!(metadata(&[(name, number)]).unwrap_err(), error, "{number}");
            }
        }
        let duplicate = [("run-id", "a"), ("run-id", "b")];
        assert!(matches!(metadata(&duplicate), Err(MetadataError::Duplicate(_))));
    }

    #[test]
    fn callers_headers_are_added_under_their_names() {
        let request = [("kafka-header-source", "crm"), ("kafka-header-x-2", "")];
        let metadata = metadata(&request).unwrap();
        let headers = record_headers(&metadata, 0);
        let text = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        assert_eq!(headers[4..], [text("source", "crm"), text("x-2", "")]);
        assert_eq!(metadata.caller_header_bytes(), 12);
        assert_eq!(metadata.tombstone_headers(None).count(), 3);
    }

    #[test]
    fn tombstone_has_the_fetch_time_of_its_request() {
        let headers = metadata(&[("fetched-at-us", "7")])
            .unwrap()
            .tombstone_headers(None);
        let fetched_at = headers.iter().find(|header| header.key == "fetched-at-us");
        assert_eq!(fetched_at.unwrap().value, Some(&b"7"[..]));
    }

    #[test]
    fn reserved_or_too_many_callers_headers_are_rejected() {
        for name in [
            "kafka-header-",
            "kafka-header-content-type",
            "kafka-header-run-id",
            "kafka-header-fetched-at-us",
            "kafka-header-dlq-reason",
        ] {
            let error = metadata(&[(name, "x")]).unwrap_err();
            assert!(matches!(error, MetadataError::CallerHeaderName(_)), "{name}");
        }
        let duplicate = [("kafka-header-a", "1"), ("kafka-header-a", "2")];
        assert!(matches!(metadata(&duplicate), Err(MetadataError::Duplicate(_))));
        let large = metadata(&[("kafka-header-a", &"x".repeat(4_096))]);
        assert_eq!(large.unwrap_err(), MetadataError::TooManyCallerHeaders);
        let names: Vec<_> = (0..17).map(|number| format!("kafka-header-{number}")).collect();
        let many = |count: usize| {
            let mut map = HeaderMap::new();
            for name in &names[..count] {
                map.insert(HeaderName::try_from(name).unwrap(), HeaderValue::from_static("x"));
            }
            RequestMetadata::from_headers(&map, Timestamp::UNIX_EPOCH)
        };
        assert!(many(16).is_ok());
        assert_eq!(many(17).unwrap_err(), MetadataError::TooManyCallerHeaders);
    }

    #[test]
    fn invalid_or_unsampled_traceparent_is_ignored() {
        let zeros = "00-00000000000000000000000000000000-00f067aa0ba902b7-01";
        let unsampled = TRACE.replace("-01", "-00");
        for value in ["", "x", &TRACE[1..], &TRACE.to_uppercase(), zeros, &unsampled] {
            let metadata = metadata(&[("traceparent", value)]).unwrap();
            assert!(metadata.trace.is_none(), "{value}");
        }
    }
}
