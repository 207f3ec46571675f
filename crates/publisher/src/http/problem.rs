//! Error responses as RFC 9457 problem documents. They never quote a value of a record.

mod conversions;
mod kinds;

use std::fmt;
use std::time::Duration;

use axum::body::Body;
use axum::http::{HeaderName, HeaderValue, Response, StatusCode, header};
use axum::response::IntoResponse;
use model::headers::{PROBLEM, PROBLEM_TYPE_PREFIX};
use serde::Serialize;
use utoipa::ToSchema;

use crate::publish::result::Counts;
use crate::request::body::{IncomingBody, RefusalBody};

/// An error response.
#[derive(Debug)]
pub struct Problem(Box<Document>);

/// A problem document (RFC 9457). If records were queued, it also has the members of `Counts`.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Problem)]
pub(crate) struct Document {
    /// The problem type for programs: `urn:affluent:problem:` and a name.
    #[serde(rename = "type", serialize_with = "as_urn")]
    kind: &'static str,
    /// A summary for people; the same for each problem of the type.
    title: &'static str,
    /// The HTTP status.
    #[serde(serialize_with = "as_number")]
    #[schema(value_type = u16)]
    status: StatusCode,
    /// An explanation of this occurrence.
    detail: String,
    /// The line of the JSON error in the body, counted from 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    line: Option<usize>,
    /// The byte of that line.
    #[serde(skip_serializing_if = "Option::is_none")]
    column: Option<usize>,
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    #[schema(ignore)]
    counts: Option<Counts>,
    #[serde(skip)]
    retry_after: Option<Duration>,
    #[serde(skip)]
    header: Option<(HeaderName, HeaderValue)>,
    /// The rest of the request, which is read after the response is sent.
    #[serde(skip)]
    #[schema(ignore)]
    rejected_body: Option<IncomingBody>,
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
            header: None,
            rejected_body: None,
        }))
    }

    /// Reads the rest of an HTTP/2 request after the response is sent.
    pub(crate) fn with_rejected_body(mut self, body: IncomingBody) -> Self {
        self.0.rejected_body = Some(body);
        self
    }

    fn with_header(mut self, name: HeaderName, value: &'static str) -> Self {
        self.0.header = Some((name, HeaderValue::from_static(value)));
        self
    }

    fn retry_after(mut self, delay: Duration) -> Self {
        self.0.retry_after = Some(delay);
        self
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response<Body> {
        let document = *self.0;
        let text = serde_json::to_vec(&document).expect("texts and numbers serialize");
        let body = match document.rejected_body {
            Some(rejected) if !rejected.is_end_stream() => Body::new(RefusalBody::new(text.into(), rejected)),
            _ => Body::from(text),
        };
        let mut response = (
            document.status,
            [(header::CONTENT_TYPE, HeaderValue::from_static(PROBLEM))],
            body,
        )
            .into_response();
        let headers = response.headers_mut();
        if let Some(delay) = document.retry_after {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(rounded_up_seconds(delay)));
        }
        if let Some((name, value)) = document.header {
            headers.insert(name, value);
        }
        response
    }
}

/// Rounds up, so that a caller does not retry too early.
fn rounded_up_seconds(delay: Duration) -> u64 {
    delay.as_secs() + u64::from(delay.subsec_nanos() > 0)
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "serde hands a reference to the field"
)]
fn as_number<S: serde::Serializer>(status: &StatusCode, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_u16(status.as_u16())
}

fn as_urn<S: serde::Serializer>(kind: &str, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(&format_args!("{PROBLEM_TYPE_PREFIX}{kind}"))
}

#[cfg(test)]
mod tests {
    use axum::body::to_bytes;
    use serde_json::{Value, json};

    use super::*;
    use crate::request::framing::FramingError;

    async fn document(problem: Problem) -> (Response<()>, Value) {
        let (head, body) = problem.into_response().into_parts();
        let bytes = to_bytes(body, 10_000).await.unwrap();
        (
            Response::from_parts(head, ()),
            serde_json::from_slice(&bytes).unwrap(),
        )
    }

    #[tokio::test]
    async fn problem_has_type_position_and_retry_after() {
        let (response, body) = document(Problem::shutting_down()).await;
        assert_eq!(response.status(), 503);
        assert_eq!(response.headers()["content-type"], "application/problem+json");
        let retry_after = response.headers()["retry-after"].to_str().unwrap();
        assert!((2..=4).contains(&retry_after.parse().unwrap()), "{retry_after}");
        assert_eq!(response.headers()["connection"], "close");
        assert_eq!(body["type"], "urn:affluent:problem:shutting-down");
        assert_eq!(body["status"], 503);

        let error = FramingError::NotJson {
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
