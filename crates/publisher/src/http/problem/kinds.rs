//! The problem types: status, name, title and detail of each.

use std::time::Duration;

use axum::http::{HeaderName, StatusCode, header};

use super::Problem;
use crate::publish::result::Counts;
use crate::request::decompress;

/// When to retry at the earliest after an overload: a batch is acknowledged in milliseconds.
const OVERLOAD_RETRY_AFTER: Duration = Duration::from_secs(1);

/// When to retry at the earliest while Kafka is unavailable: a broker restarts in seconds.
const OUTAGE_RETRY_AFTER: Duration = Duration::from_secs(2);

/// Lists the media types that a POST accepts (W3C Linked Data Platform).
const ACCEPT_POST: HeaderName = HeaderName::from_static("accept-post");

/// Adds up to the same time at random, in whole seconds, so that not all callers retry at once.
fn jittered(least: Duration) -> Duration {
    least + Duration::from_secs(rand::random_range(0..=least.as_secs()))
}

impl Problem {
    /// The path does not exist.
    pub(crate) fn not_found() -> Self {
        let detail = "the publisher has no resource at this path";
        Self::new(StatusCode::NOT_FOUND, "not-found", "Not found", detail)
    }

    /// The path does not allow this method.
    pub(crate) fn wrong_method() -> Self {
        let detail = "the resource does not allow this method";
        Self::new(
            StatusCode::METHOD_NOT_ALLOWED,
            "wrong-method",
            "Method not allowed",
            detail,
        )
    }

    /// The path has no valid key.
    pub(crate) fn invalid_id(reason: &dyn std::fmt::Display) -> Self {
        let detail = format!("the id in the path {reason}");
        Self::new(StatusCode::BAD_REQUEST, "not-an-id", "Invalid id", detail)
    }

    /// The content type is not supported.
    pub(crate) fn unsupported_media_type() -> Self {
        let detail = "Content-Type must be application/json or application/x-ndjson, in UTF-8";
        Self::new(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "unsupported-media-type",
            "Unsupported media type",
            detail,
        )
        .with_header(ACCEPT_POST, "application/json, application/x-ndjson")
    }

    /// The content encoding is not supported.
    pub(crate) fn unsupported_encoding() -> Self {
        let detail = "Content-Encoding must be gzip or zstd, not a combination";
        Self::new(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "unsupported-encoding",
            "Unsupported content encoding",
            detail,
        )
        .with_header(header::ACCEPT_ENCODING, decompress::SUPPORTED)
    }

    /// The idempotency key is malformed.
    pub(crate) fn invalid_idempotency_key() -> Self {
        let detail = "Idempotency-Key must be 1 to 255 visible ASCII characters";
        Self::new(StatusCode::BAD_REQUEST, "bad-header", "Invalid header", detail)
    }

    /// The idempotency key was used with another request.
    pub(crate) fn idempotency_key_reused() -> Self {
        let detail = "the Idempotency-Key was used with another body; nothing was written";
        Self::new(
            StatusCode::UNPROCESSABLE_ENTITY,
            "idempotency-key-reused",
            "Idempotency key reused with another body",
            detail,
        )
    }

    /// The first request with this idempotency key takes longer than this one may wait, or has failed.
    pub(crate) fn idempotency_key_in_use() -> Self {
        let detail =
            "another request with this Idempotency-Key is in progress or has failed; this one wrote nothing";
        Self::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "idempotency-key-in-use",
            "Request in progress",
            detail,
        )
        .retry_after(jittered(OVERLOAD_RETRY_AFTER))
    }

    /// Kafka is unavailable; nothing was written.
    pub(crate) fn kafka_unavailable() -> Self {
        let detail = "Kafka is unavailable; nothing was written";
        Self::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "kafka-unavailable",
            "Kafka unavailable",
            detail,
        )
        .retry_after(jittered(OUTAGE_RETRY_AFTER))
    }

    /// A token is signed with a key that only its issuer knows, and the issuer does not respond; nothing was written.
    pub(crate) fn keys_unavailable() -> Self {
        let detail =
            "the issuer of the token does not respond, and its key is not known yet; nothing was written";
        Self::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "keys-unavailable",
            "Keys unavailable",
            detail,
        )
        .retry_after(jittered(OUTAGE_RETRY_AFTER))
    }

    /// The publisher shuts down; nothing was written.
    pub(crate) fn shutting_down() -> Self {
        let detail = "the publisher is shutting down; nothing was written";
        Self::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "shutting-down",
            "Shutting down",
            detail,
        )
        .with_header(header::CONNECTION, "close")
        .retry_after(jittered(OUTAGE_RETRY_AFTER))
    }

    /// A limit is reached; nothing was written.
    pub(crate) fn overloaded() -> Self {
        let detail = "the limit of bytes or records in flight is reached; nothing was written";
        Self::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "overloaded",
            "Overloaded",
            detail,
        )
        .retry_after(jittered(OVERLOAD_RETRY_AFTER))
    }

    /// Kafka refused some records permanently.
    pub(crate) fn refused(counts: Counts) -> Self {
        let detail = "Kafka refused the listed records; a retry will not help";
        let mut problem = Self::new(
            StatusCode::BAD_GATEWAY,
            "kafka-refused",
            "Refused by Kafka",
            detail,
        );
        problem.0.counts = Some(counts);
        problem
    }

    /// Some records may or may not be written.
    pub(crate) fn unknown(counts: Option<Counts>) -> Self {
        let detail = "Kafka did not acknowledge every record in time, so those may or may not be written. A retry is \
                      safe unless a newer version of the same records was sent";
        let mut problem = Self::new(
            StatusCode::GATEWAY_TIMEOUT,
            "outcome-unknown",
            "Outcome unknown",
            detail,
        );
        problem.0.counts = counts;
        problem
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn retries_are_spread_over_seconds() {
        let delays: std::collections::BTreeSet<_> =
            (0..200).map(|_| jittered(OUTAGE_RETRY_AFTER).as_secs()).collect();
        assert_eq!(delays.into_iter().collect::<Vec<_>>(), [2, 3, 4]);
    }
}
