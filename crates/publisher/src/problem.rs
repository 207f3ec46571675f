//! The errors a caller hears, as RFC 9457 problem documents: what a program can branch on, what a person can read,
//! and never a value of a record.

mod causes;

use std::fmt;
use std::time::Duration;

use axum::body::Body;
use axum::http::{HeaderName, HeaderValue, Response, StatusCode, header};
use axum::response::IntoResponse;
use model::headers::PROBLEM;
use serde::Serialize;
use utoipa::ToSchema;

use crate::answer::Counts;
use crate::coding;

/// When a caller who finds no room may try again: a batch is acknowledged in milliseconds.
const AFTER_OVERLOAD: Duration = Duration::from_secs(1);

/// When a caller who finds Kafka down may try again: a broker restarts in seconds.
const AFTER_OUTAGE: Duration = Duration::from_secs(2);

/// Tells what a POST may bring (W3C Linked Data Platform).
const ACCEPT_POST: HeaderName = HeaderName::from_static("accept-post");

/// An error answer.
#[derive(Debug)]
pub struct Problem(Box<Document>);

/// What is wrong (RFC 9457). When records were sent, it has the members of `Counts` as well.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Problem)]
pub(crate) struct Document {
    /// Names the problem for programs: `urn:affluent:problem:` and a name.
    #[serde(rename = "type", serialize_with = "as_urn")]
    kind: &'static str,
    /// Names it for people; the same for each problem of the type.
    title: &'static str,
    /// The status of the answer.
    #[serde(serialize_with = "as_number")]
    #[schema(value_type = u16)]
    status: StatusCode,
    /// What is wrong here.
    detail: String,
    /// Where in the body it is no JSON, counted from 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    line: Option<usize>,
    /// Which byte of the line.
    #[serde(skip_serializing_if = "Option::is_none")]
    column: Option<usize>,
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    #[schema(ignore)]
    counts: Option<Counts>,
    #[serde(skip)]
    retry_after: Option<Duration>,
    #[serde(skip)]
    more: Option<(HeaderName, HeaderValue)>,
}

impl Problem {
    fn new(status: StatusCode, kind: &'static str, title: &'static str, detail: impl fmt::Display) -> Self {
        Self(Box::new(Document {
            kind,
            title,
            status,
            detail: detail.to_string(),
            line: None,
            column: None,
            counts: None,
            retry_after: None,
            more: None,
        }))
    }

    fn with_header(mut self, name: HeaderName, value: &'static str) -> Self {
        self.0.more = Some((name, HeaderValue::from_static(value)));
        self
    }

    fn retry_after(mut self, pause: Duration) -> Self {
        self.0.retry_after = Some(pause);
        self
    }

    /// No such path.
    pub(crate) fn no_such_path() -> Self {
        let detail = "the publisher has no such path";
        Self::new(StatusCode::NOT_FOUND, "no-such-path", "No such path", detail)
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
            "kafka-down",
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
            "no-room",
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

impl IntoResponse for Problem {
    fn into_response(self) -> Response<Body> {
        let document = *self.0;
        let text = serde_json::to_vec(&document).expect("a struct of texts and numbers can be written");
        let mut response = (
            document.status,
            [(header::CONTENT_TYPE, HeaderValue::from_static(PROBLEM))],
            text,
        )
            .into_response();
        let headers = response.headers_mut();
        if let Some(pause) = document.retry_after {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(whole_seconds(pause)));
        }
        if let Some((name, value)) = document.more {
            headers.insert(name, value);
        }
        response
    }
}

/// Never too early: a fraction of a second is a whole one.
fn whole_seconds(pause: Duration) -> u64 {
    pause.as_secs() + u64::from(pause.subsec_nanos() > 0)
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "serde hands a reference to the field"
)]
fn as_number<S: serde::Serializer>(status: &StatusCode, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_u16(status.as_u16())
}

fn as_urn<S: serde::Serializer>(kind: &str, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(&format_args!("urn:affluent:problem:{kind}"))
}

#[cfg(test)]
mod tests {
    use axum::body::to_bytes;
    use serde_json::{Value, json};

    use super::*;
    use crate::records::RecordsError;

    async fn document(problem: Problem) -> (Response<()>, Value) {
        let (head, body) = problem.into_response().into_parts();
        let bytes = to_bytes(body, 10_000).await.unwrap();
        (
            Response::from_parts(head, ()),
            serde_json::from_slice(&bytes).unwrap(),
        )
    }

    #[tokio::test]
    async fn a_problem_says_what_where_and_when_to_come_back() {
        let (response, body) = document(Problem::stopping()).await;
        assert_eq!(response.status(), 503);
        assert_eq!(response.headers()["content-type"], "application/problem+json");
        assert_eq!(response.headers()["retry-after"], "2");
        assert_eq!(response.headers()["connection"], "close");
        assert_eq!(body["type"], "urn:affluent:problem:stopping");
        assert_eq!(body["status"], 503);

        let error = RecordsError::NotJson {
            line: 3,
            column: 4,
            cause: "expected value".to_owned(),
        };
        let (response, body) = document(error.into()).await;
        assert!(response.headers().get("retry-after").is_none());
        assert_eq!(body["detail"], "expected value at line 3 column 4");
        assert_eq!((&body["line"], &body["column"]), (&json!(3), &json!(4)));
    }
}
