//! Parses a response to a publish request into the outcome of each record. Pure: status, headers and body are arguments.
//!
//! An inconsistent response never counts as success. Only a problem document of the publisher is definite. A gateway on
//! the way sends errors, too: its response says nothing about the records, so it is retried.

use std::collections::HashSet;
use std::time::Duration;

use model::Invalid;
use model::headers::{JSON, PROBLEM, PROBLEM_TYPE_PREFIX};
use serde::Deserialize;
use thiserror::Error;

/// Outcome of each record of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BatchOutcome {
    /// Number of records in Kafka.
    pub accepted: u64,
    /// The rejected records.
    pub rejected: Vec<RecordRejection>,
}

/// A rejected record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecordRejection {
    /// Index in the request, from 0.
    pub index: u64,
    /// `field: reason` of each error, at least one. The first is the one to count.
    pub reasons: Vec<String>,
}

impl RecordRejection {
    /// Creates the rejection of the record at `index` for one reason.
    pub fn new(index: u64, reason: impl Into<String>) -> Self {
        Self {
            index,
            reasons: vec![reason.into()],
        }
    }
}

/// A response as received.
#[derive(Clone, Copy, Debug)]
pub struct RawResponse<'r> {
    /// The status.
    pub status: u16,
    /// The content type, if there is one.
    pub content_type: Option<&'r str>,
    /// The target of a redirect.
    pub location: Option<&'r str>,
    /// The wait that the response requests.
    pub retry_after: Option<Duration>,
    /// The body.
    pub body: &'r [u8],
}

/// A response without an outcome for each record.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum ResponseError {
    /// Temporary error; nothing was written, or it is unknown.
    #[error("the publisher responded with {status}")]
    Retryable {
        /// 408, 429 or any 5xx except 502.
        status: u16,
        /// The wait that the response requests.
        retry_after: Option<Duration>,
    },
    /// No response of the publisher, but one of a gateway or of another server. The outcome is unknown.
    #[error("received {status} from a gateway or another server, not from the publisher{detail}")]
    Foreign {
        /// The status.
        status: u16,
        /// The wait that the response requests.
        retry_after: Option<Duration>,
        /// Content type or target of a redirect after a colon; empty without one.
        detail: String,
    },
    /// The request is too large.
    #[error("the publisher responded with 413")]
    TooLarge,
    /// The token is missing or wrong.
    #[error("the publisher responded with {status}; check publisher.token")]
    Unauthorized {
        /// 401 or 403.
        status: u16,
    },
    /// Permanent error.
    #[error("the publisher responded with {status}{detail}")]
    Permanent {
        /// 502, or any other 4xx.
        status: u16,
        /// Text of the problem document after a colon; empty without one.
        detail: String,
    },
    /// The response is inconsistent.
    #[error("the publisher responded with {status}, but {reason}")]
    Invalid {
        /// The status.
        status: u16,
        /// The inconsistency.
        reason: &'static str,
    },
}

#[derive(Deserialize)]
struct ResponseBody {
    accepted: Option<u64>,
    rejected: Option<u64>,
    #[serde(default)]
    errors: Vec<RecordErrorBody>,
}

/// The error of a record. Its first field error is in `field` and `reason`; all of them are in `errors`, which older
/// publishers omit.
#[derive(Deserialize)]
struct RecordErrorBody {
    index: u64,
    #[serde(flatten)]
    first: FieldErrorBody,
    #[serde(default)]
    errors: Vec<FieldErrorBody>,
}

#[derive(Deserialize)]
struct FieldErrorBody {
    field: Option<String>,
    reason: String,
}

/// Parses the response to a request of `sent` records.
///
/// # Errors
/// Returns any [`ResponseError`].
pub fn parse_response(response: &RawResponse<'_>, sent: u64) -> Result<BatchOutcome, ResponseError> {
    let status = response.status;
    let outcome = match status {
        200 | 207 | 422 => Some(parse_outcome(status, response.body, sent)),
        _ => None,
    };
    match (outcome, response.problem()) {
        (Some(Ok(outcome)), _) => Ok(outcome),
        (_, Some(problem)) => Err(response.problem_error(&problem)),
        (Some(Err(reason)), None) if response.has_type(JSON) => {
            Err(ResponseError::Invalid { status, reason })
        }
        _ => Err(response.foreign()),
    }
}

impl RawResponse<'_> {
    /// Returns the publisher's problem document, if this is one.
    fn problem(&self) -> Option<ProblemBody> {
        let problem: ProblemBody = self
            .has_type(PROBLEM)
            .then(|| serde_json::from_slice(self.body).ok())??;
        problem.kind.starts_with(PROBLEM_TYPE_PREFIX).then_some(problem)
    }

    fn problem_error(&self, problem: &ProblemBody) -> ResponseError {
        match self.status {
            413 => ResponseError::TooLarge,
            401 | 403 => ResponseError::Unauthorized { status: self.status },
            status @ (408 | 429 | 500 | 501 | 503..) => ResponseError::Retryable {
                status,
                retry_after: self.retry_after,
            },
            status => ResponseError::Permanent {
                status,
                detail: problem.describe(),
            },
        }
    }

    fn foreign(&self) -> ResponseError {
        let redirect = self.location.map(|target| format!("redirect to {target}"));
        let detail = redirect.or_else(|| self.content_type.map(str::to_owned));
        ResponseError::Foreign {
            status: self.status,
            retry_after: self.retry_after,
            detail: detail.map_or_else(String::new, |detail| format!(": {}", printable(&detail, 200))),
        }
    }

    /// Whether the content type is `media_type`, with any parameters.
    fn has_type(&self, media_type: &str) -> bool {
        let given = self.content_type.and_then(|given| given.split(';').next());
        given.is_some_and(|given| given.trim().eq_ignore_ascii_case(media_type))
    }
}

fn parse_outcome(status: u16, body: &[u8], sent: u64) -> Result<BatchOutcome, &'static str> {
    let response: ResponseBody =
        serde_json::from_slice(body).map_err(|_| "the body is not the expected JSON")?;
    let named = response
        .errors
        .iter()
        .map(|error| error.index)
        .collect::<HashSet<_>>();
    let named_count = u64::try_from(named.len()).map_err(|_| "the errors can't be counted")?;
    let (accepted, rejected) = match status {
        // Every record is rejected; a problem document may omit the counts.
        422 => (
            response.accepted.unwrap_or(0),
            response.rejected.unwrap_or(named_count),
        ),
        _ => (
            response
                .accepted
                .ok_or("the count of accepted records is missing")?,
            response
                .rejected
                .ok_or("the count of rejected records is missing")?,
        ),
    };
    if accepted.checked_add(rejected) != Some(sent) {
        return Err("accepted plus rejected differs from the number of records sent");
    }
    if named_count != rejected || named.iter().any(|index| *index >= sent) {
        return Err("the errors do not name the rejected records");
    }
    if (status == 200) != (rejected == 0) || (status == 422) != (accepted == 0) {
        return Err("the counts contradict the status");
    }
    let mut seen = HashSet::new();
    let first_of_each = response.errors.iter().filter(|error| seen.insert(error.index));
    Ok(BatchOutcome {
        accepted,
        rejected: first_of_each
            .map(|error| RecordRejection {
                index: error.index,
                reasons: error.reasons(),
            })
            .collect(),
    })
}

impl RecordErrorBody {
    /// Field and rule of each error.
    fn reasons(&self) -> Vec<String> {
        if self.errors.is_empty() {
            return vec![self.first.describe()];
        }
        let errors = self.errors.iter().take(Invalid::MAX_ERRORS);
        errors.map(FieldErrorBody::describe).collect()
    }
}

impl FieldErrorBody {
    /// Describes the error by field and rule, shortened and printable. Reasons of the publisher contain no values.
    fn describe(&self) -> String {
        let field = self.field.as_deref().unwrap_or("record");
        printable(&format!("{field}: {}", self.reason), 120)
    }
}

fn printable(text: &str, max_chars: usize) -> String {
    let characters = text.chars().map(|c| if c.is_control() { ' ' } else { c });
    characters.take(max_chars).collect()
}

#[derive(Deserialize)]
struct ProblemBody {
    #[serde(rename = "type")]
    kind: String,
    title: Option<String>,
    detail: Option<String>,
    #[serde(default)]
    errors: Vec<RecordErrorBody>,
}

impl ProblemBody {
    /// Returns detail or title and the first error, each after a colon.
    fn describe(&self) -> String {
        let text = self.detail.as_ref().or(self.title.as_ref()).cloned();
        let parts = text
            .into_iter()
            .chain(self.errors.first().map(|error| error.first.describe()));
        parts.map(|part| format!(": {}", printable(&part, 200))).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn response<'b>(status: u16, content_type: &'b str, body: &'b str) -> RawResponse<'b> {
        RawResponse {
            status,
            content_type: Some(content_type),
            location: None,
            retry_after: None,
            body: body.as_bytes(),
        }
    }

    fn parse(status: u16, body: &str) -> Result<BatchOutcome, ResponseError> {
        parse_response(&response(status, "application/json", body), 3)
    }

    /// Parses a problem document of the publisher with these further members.
    fn parse_problem(status: u16, members: &str) -> ResponseError {
        let body = format!(r#"{{"type":"urn:affluent:problem:any",{members}}}"#);
        parse_response(
            &response(status, "application/problem+json; charset=utf-8", &body),
            3,
        )
        .unwrap_err()
    }

    fn is_invalid(status: u16, body: &str) -> bool {
        matches!(parse(status, body), Err(ResponseError::Invalid { .. }))
    }

    const TWO_ERRORS: &str = r#"{"accepted":1,"rejected":2,"errors":[
        {"index":0,"id":null,"field":"email","reason":"is blank"},{"index":2,"field":null,"reason":"is not an object"}]}"#;

    #[test]
    fn status_200_with_matching_counts_is_success() {
        let outcome = parse(200, r#"{"accepted":3,"rejected":0}"#).unwrap();
        assert_eq!(
            outcome,
            BatchOutcome {
                accepted: 3,
                rejected: vec![]
            }
        );
    }

    #[test]
    fn inconsistent_200_is_invalid() {
        for body in [
            "",
            "<html>",
            "{}",
            "[]",
            r#"{"accepted":3}"#,
            r#"{"accepted":2,"rejected":0}"#,
            r#"{"accepted":4,"rejected":0}"#,
            r#"{"accepted":"3","rejected":0}"#,
            r#"{"accepted":-3,"rejected":0}"#,
            r#"{"accepted":2,"rejected":1,"errors":[{"index":0,"field":"id","reason":"x"}]}"#,
            r#"{"accepted":18446744073709551615,"rejected":4}"#,
        ] {
            assert!(is_invalid(200, body), "{body}");
        }
    }

    #[test]
    fn status_207_keeps_each_reason() {
        let outcome = parse(207, TWO_ERRORS).unwrap();
        assert_eq!(outcome.accepted, 1);
        let reasons: Vec<_> = outcome
            .rejected
            .iter()
            .map(|one| one.reasons.join("; "))
            .collect();
        assert_eq!(reasons, ["email: is blank", "record: is not an object"]);
    }

    #[test]
    fn all_errors_of_a_record_are_kept_if_they_are_listed() {
        let body = r#"{"accepted":1,"rejected":2,"errors":[
            {"index":0,"id":null,"field":"email","reason":"is blank","errors":[
                {"field":"email","reason":"is blank"},{"field":"phone","reason":"is missing"}]},
            {"index":2,"field":null,"reason":"is not an object","errors":[]}]}"#;
        let outcome = parse(207, body).unwrap();
        let reasons: Vec<_> = outcome
            .rejected
            .iter()
            .map(|one| one.reasons.join("; "))
            .collect();
        assert_eq!(
            reasons,
            ["email: is blank; phone: is missing", "record: is not an object"]
        );
        let many = format!(
            r#"{{"accepted":2,"rejected":1,"errors":[{{"index":1,"reason":"a","errors":[{}]}}]}}"#,
            vec![r#"{"field":"a","reason":"b"}"#; 20].join(",")
        );
        assert_eq!(
            parse(207, &many).unwrap().rejected[0].reasons.len(),
            Invalid::MAX_ERRORS
        );
    }

    #[test]
    fn status_207_with_mismatched_errors_is_invalid() {
        assert!(is_invalid(207, r#"{"accepted":3,"rejected":0,"errors":[]}"#));
        assert!(is_invalid(207, r#"{"accepted":1,"rejected":2}"#));
        assert!(is_invalid(207, &TWO_ERRORS.replace("\"index\":2", "\"index\":0")));
        assert!(is_invalid(207, &TWO_ERRORS.replace("\"index\":2", "\"index\":3")));
    }

    #[test]
    fn status_422_rejects_every_record_with_or_without_counts() {
        let errors = r#"[{"index":0,"reason":"a"},{"index":1,"reason":"b"},{"index":2,"reason":"c"}]"#;
        let bare = parse(422, &format!(r#"{{"title":"invalid","errors":{errors}}}"#)).unwrap();
        let full = parse(
            422,
            &format!(r#"{{"accepted":0,"rejected":3,"errors":{errors}}}"#),
        )
        .unwrap();
        assert_eq!(bare, full);
        assert_eq!((bare.accepted, bare.rejected.len()), (0, 3));
        assert!(is_invalid(422, r#"{"title":"invalid"}"#));
    }

    #[test]
    fn each_problem_document_of_the_publisher_is_classified() {
        const TITLE: &str = r#""title":"no""#;
        for status in [408, 429, 500, 503, 504, 599] {
            let retryable = ResponseError::Retryable {
                status,
                retry_after: None,
            };
            assert_eq!(parse_problem(status, TITLE), retryable);
        }
        assert_eq!(parse_problem(413, TITLE), ResponseError::TooLarge);
        for status in [401, 403] {
            assert_eq!(
                parse_problem(status, TITLE),
                ResponseError::Unauthorized { status }
            );
        }
        for status in [400, 404, 405, 409, 415, 422, 502] {
            let error = parse_problem(status, r#""title":"no","detail":"topic authorization\nfailed""#);
            assert_eq!(
                error.to_string(),
                format!("the publisher responded with {status}: topic authorization failed")
            );
        }
        let listed = parse_problem(
            502,
            r#""title":"refused","errors":[{"index":1,"field":null,"reason":"is too large"}]"#,
        );
        assert_eq!(
            listed.to_string(),
            "the publisher responded with 502: refused: record: is too large"
        );
    }

    #[test]
    fn only_problem_documents_of_the_publisher_are_definite() {
        const HTML: &str = "<html>502 Bad Gateway</html>";
        const OURS: &str = r#"{"type":"urn:affluent:problem:kafka-refused","title":"refused"}"#;
        const THEIRS: &str = r#"{"type":"about:blank","title":"Forbidden"}"#;
        let problem = "application/problem+json";
        for status in [
            200, 201, 204, 207, 302, 400, 401, 403, 404, 408, 413, 415, 422, 429, 500, 502, 503, 504, 530,
        ] {
            for (content_type, body) in [
                ("text/html", HTML),
                ("text/html", OURS),
                (problem, HTML),
                (problem, THEIRS),
                (problem, "{}"),
                ("text/plain", ""),
            ] {
                let error = parse_response(&response(status, content_type, body), 3).unwrap_err();
                assert!(
                    matches!(&error, ResponseError::Foreign { status: found, .. } if *found == status),
                    "{status} {content_type} {body}: {error}"
                );
            }
        }
        let json = parse_response(&response(502, "application/json", OURS), 3).unwrap_err();
        assert!(matches!(json, ResponseError::Foreign { .. }), "{json}");
    }

    #[test]
    fn foreign_response_names_its_type_or_its_redirect() {
        let error = |response: &RawResponse<'_>| parse_response(response, 3).unwrap_err().to_string();
        let html = response(502, "text/html", "");
        let sender = "from a gateway or another server, not from the publisher";
        assert_eq!(error(&html), format!("received 502 {sender}: text/html"));
        let redirect = RawResponse {
            status: 301,
            location: Some("https://a/v1/users\n"),
            ..html
        };
        let redirect = error(&redirect);
        assert_eq!(
            redirect,
            format!("received 301 {sender}: redirect to https://a/v1/users ")
        );
        let bare = RawResponse {
            content_type: None,
            ..html
        };
        assert_eq!(error(&bare), format!("received 502 {sender}"));
    }

    #[test]
    fn requested_wait_is_kept() {
        let wait = Some(Duration::from_secs(4));
        let body = r#"{"type":"urn:affluent:problem:overloaded"}"#;
        for content_type in ["application/problem+json", "text/html"] {
            let response = RawResponse {
                retry_after: wait,
                ..response(503, content_type, body)
            };
            let error = parse_response(&response, 3).unwrap_err();
            let (ResponseError::Retryable { retry_after, .. } | ResponseError::Foreign { retry_after, .. }) =
                error
            else {
                panic!("{error}")
            };
            assert_eq!(retry_after, wait);
        }
    }

    #[test]
    fn reason_is_short_and_printable() {
        let long = TWO_ERRORS.replace("is blank", &"x\\n".repeat(500));
        let outcome = parse(207, &long).unwrap();
        assert_eq!(outcome.rejected[0].reasons[0].chars().count(), 120);
        assert!(!outcome.rejected[0].reasons[0].contains('\n'));
    }
}
