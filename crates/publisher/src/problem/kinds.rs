//! Each problem by its name: what the caller hears, and when it may come again.

use std::time::Duration;

use axum::http::{HeaderName, StatusCode, header};

use super::Problem;
use crate::coding;
use crate::verdict::Counts;

/// When a caller who finds no room may try again: a batch is acknowledged in milliseconds.
const AFTER_OVERLOAD: Duration = Duration::from_secs(1);

/// When a caller who finds Kafka down may try again: a broker restarts in seconds.
const AFTER_OUTAGE: Duration = Duration::from_secs(2);

/// Tells what a POST may bring (W3C Linked Data Platform).
const ACCEPT_POST: HeaderName = HeaderName::from_static("accept-post");

impl Problem {
    /// No such path.
    pub(crate) fn no_such_path() -> Self {
        let detail = "the publisher has no such path";
        Self::new(StatusCode::NOT_FOUND, "not-found", "No such path", detail)
    }

    /// Another method is needed.
    pub(crate) fn wrong_method() -> Self {
        let detail = "the path exists and does not take this method";
        Self::new(
            StatusCode::METHOD_NOT_ALLOWED,
            "wrong-method",
            "Wrong method",
            detail,
        )
    }

    /// The path names no user.
    pub(crate) fn not_an_id(reason: &model::Reason) -> Self {
        let detail = format!("the id in the path {reason}");
        Self::new(StatusCode::BAD_REQUEST, "not-an-id", "Not an id", detail)
    }

    /// A content type that is not understood.
    pub(crate) fn unsupported_type() -> Self {
        let detail = "the Content-Type must be application/json or application/x-ndjson, in UTF-8";
        Self::new(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "unsupported-media-type",
            "Unsupported media type",
            detail,
        )
        .with_header(ACCEPT_POST, "application/json, application/x-ndjson")
    }

    /// A content encoding that is not understood.
    pub(crate) fn unsupported_coding() -> Self {
        let detail = "the Content-Encoding must be gzip or zstd, one at most";
        Self::new(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "unsupported-encoding",
            "Unsupported content encoding",
            detail,
        )
        .with_header(header::ACCEPT_ENCODING, coding::UNDERSTOOD)
    }

    /// An idempotency key that is none.
    pub(crate) fn bad_key() -> Self {
        let detail = "Idempotency-Key must be 1 to 255 visible ASCII characters, once";
        Self::new(StatusCode::BAD_REQUEST, "bad-header", "Bad header", detail)
    }

    /// An idempotency key that stands for another request.
    pub(crate) fn key_reused() -> Self {
        let detail = "the Idempotency-Key was given before with another body; nothing was written";
        Self::new(
            StatusCode::UNPROCESSABLE_ENTITY,
            "idempotency-key-reused",
            "The idempotency key was used for something else",
            detail,
        )
    }

    /// The first request under an idempotency key takes longer than this one may wait.
    pub(crate) fn key_in_use() -> Self {
        let detail =
            "a request with this Idempotency-Key is being worked on; nothing was written by this one";
        Self::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "idempotency-key-in-use",
            "The first request is not answered yet",
            detail,
        )
        .retry_after(AFTER_OVERLOAD)
    }

    /// Kafka is not there; nothing was written.
    pub(crate) fn kafka_down() -> Self {
        let detail = "Kafka is not available; nothing was written";
        Self::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "kafka-unavailable",
            "Kafka is not available",
            detail,
        )
        .retry_after(AFTER_OUTAGE)
    }

    /// The process is about to end; nothing was written.
    pub(crate) fn stopping() -> Self {
        let detail = "this publisher is stopping; nothing was written";
        Self::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "stopping",
            "The publisher is stopping",
            detail,
        )
        .with_header(header::CONNECTION, "close")
        .retry_after(AFTER_OUTAGE)
    }

    /// There is no room; nothing was written.
    pub(crate) fn no_room() -> Self {
        let detail = "too much is in flight; nothing was written";
        Self::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "overloaded",
            "No room right now",
            detail,
        )
        .retry_after(AFTER_OVERLOAD)
    }

    /// Kafka has definitely refused some records.
    pub(crate) fn refused(counts: Counts) -> Self {
        let detail = "Kafka has refused the records listed; sending them again will not help";
        let mut problem = Self::new(
            StatusCode::BAD_GATEWAY,
            "kafka-refused",
            "Kafka has refused records",
            detail,
        );
        problem.0.counts = Some(counts);
        problem
    }

    /// Some records may be written or not.
    pub(crate) fn unknown(counts: Option<Counts>) -> Self {
        let detail = "Kafka did not acknowledge every record in time: those may be written or not. Sending all \
                      again is safe while no newer version of the same users was sent";
        let mut problem = Self::new(
            StatusCode::GATEWAY_TIMEOUT,
            "outcome-unknown",
            "The outcome is unknown",
            detail,
        );
        problem.0.counts = counts;
        problem
    }
}
