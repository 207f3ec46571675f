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
mod tests;
