//! The errors a caller hears, as RFC 9457 problem documents: what a program can branch on, what a person can read,
//! and never a value of a record.

mod causes;
mod kinds;

use std::fmt;
use std::time::Duration;

use axum::body::Body;
use axum::http::{HeaderName, HeaderValue, Response, StatusCode, header};
use axum::response::IntoResponse;
use model::headers::PROBLEM;
use serde::Serialize;
use utoipa::ToSchema;

use crate::verdict::Counts;

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
