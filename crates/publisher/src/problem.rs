//! The errors a caller hears, as RFC 9457 problem documents: what a program can branch on, what a person can read,
//! and never a value of a record.

use std::fmt;
use std::time::Duration;

use axum::body::Body;
use axum::http::{HeaderValue, Response, StatusCode, header};
use axum::response::IntoResponse;
use model::headers::PROBLEM;
use serde::Serialize;

use crate::admission::NoRoom;
use crate::answer::Counts;
use crate::body::BodyError;
use crate::origin::OriginError;
use crate::publication::PublicationError;
use crate::records::RecordsError;

/// When a caller who finds no room may try again: a batch is acknowledged in milliseconds.
const AFTER_OVERLOAD: Duration = Duration::from_secs(1);

/// When a caller who finds Kafka down may try again: a broker restarts in seconds.
const AFTER_OUTAGE: Duration = Duration::from_secs(2);

/// An error answer.
#[derive(Debug)]
pub struct Problem(Box<Document>);

#[derive(Debug, Serialize)]
struct Document {
    #[serde(rename = "type", serialize_with = "as_urn")]
    kind: &'static str,
    title: &'static str,
    #[serde(serialize_with = "as_number")]
    status: StatusCode,
    detail: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    line: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    column: Option<usize>,
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    counts: Option<Counts>,
    #[serde(skip)]
    retry_after: Option<Duration>,
    #[serde(skip)]
    last_on_connection: bool,
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
            last_on_connection: false,
        }))
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

    /// A content type or encoding that is not understood.
    pub(crate) fn unsupported(detail: &str) -> Self {
        Self::new(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "unsupported-media-type",
            "Unsupported media type",
            detail,
        )
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
        let mut problem = Self::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "stopping",
            "The publisher is stopping",
            detail,
        );
        problem.0.last_on_connection = true;
        problem.retry_after(AFTER_OUTAGE)
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

impl From<NoRoom> for Problem {
    fn from(_: NoRoom) -> Self {
        Self::no_room()
    }
}

impl From<PublicationError> for Problem {
    fn from(error: PublicationError) -> Self {
        match error {
            PublicationError::Records(error) => error.into(),
            PublicationError::NoRoom(error) => error.into(),
        }
    }
}

impl From<OriginError> for Problem {
    fn from(error: OriginError) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "bad-header", "Bad header", error)
    }
}

impl From<BodyError> for Problem {
    fn from(error: BodyError) -> Self {
        match error {
            BodyError::TooLarge { .. } => Self::new(
                StatusCode::PAYLOAD_TOO_LARGE,
                "body-too-large",
                "The body is too large",
                error,
            ),
            BodyError::NoRoom(no_room) => no_room.into(),
            BodyError::TooSlow => Self::new(
                StatusCode::REQUEST_TIMEOUT,
                "body-too-slow",
                "The body is too slow",
                error,
            ),
            BodyError::Broken(_) => Self::new(
                StatusCode::BAD_REQUEST,
                "body-broken",
                "The body broke off",
                error,
            ),
        }
    }
}

impl From<RecordsError> for Problem {
    fn from(error: RecordsError) -> Self {
        let detail = error.to_string();
        match error {
            RecordsError::NotJson { line, column, .. } => {
                let mut problem = Self::new(
                    StatusCode::BAD_REQUEST,
                    "not-json",
                    "The body is not JSON",
                    detail,
                );
                (problem.0.line, problem.0.column) = (Some(line), Some(column));
                problem
            }
            RecordsError::Empty => Self::new(StatusCode::BAD_REQUEST, "no-records", "No records", detail),
            RecordsError::TooMany { .. } => Self::new(
                StatusCode::PAYLOAD_TOO_LARGE,
                "too-many-records",
                "Too many records",
                detail,
            ),
        }
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
            headers.insert(header::RETRY_AFTER, HeaderValue::from(pause.as_secs()));
        }
        if document.last_on_connection {
            headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
        response
    }
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
