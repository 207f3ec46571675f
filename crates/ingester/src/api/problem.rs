//! Error responses of the API as RFC 9457 problem documents.

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use model::headers::PROBLEM_TYPE_PREFIX;
use serde::Serialize;
use service::http::auth::AuthError;

use super::json::Json;
use crate::scheduler::run_queue::EnqueueError;
use crate::store::StoreError;

/// An error response.
#[derive(Debug, Serialize)]
pub(super) struct Problem {
    #[serde(rename = "type")]
    kind: String,
    title: &'static str,
    status: u16,
    #[serde(skip_serializing_if = "Option::is_none")]
    detail: Option<String>,
}

impl Problem {
    pub(super) fn new(status: StatusCode, detail: impl Into<Option<String>>) -> Self {
        Self {
            kind: format!("{PROBLEM_TYPE_PREFIX}{}", kind(status)),
            title: status.canonical_reason().unwrap_or("Error"),
            status: status.as_u16(),
            detail: detail.into(),
        }
    }

    pub(super) fn bad_request(detail: String) -> Self {
        Self::new(StatusCode::BAD_REQUEST, detail)
    }

    pub(super) fn not_found() -> Self {
        Self::new(StatusCode::NOT_FOUND, None)
    }

    pub(super) fn method_not_allowed() -> Self {
        Self::new(StatusCode::METHOD_NOT_ALLOWED, None)
    }

    pub(super) fn unknown_run() -> Self {
        Self::new(StatusCode::NOT_FOUND, "the run does not exist".to_owned())
    }

    pub(super) fn cross_site() -> Self {
        Self::new(StatusCode::FORBIDDEN, "cross-site request".to_owned())
    }

    pub(super) fn no_host() -> Self {
        Self::bad_request("one Host header is required".to_owned())
    }

    pub(super) fn unknown_host(host: &str) -> Self {
        let host: String = host.chars().take(80).collect();
        Self::new(
            StatusCode::FORBIDDEN,
            format!("{host} is no address, not localhost and not in api.host_names"),
        )
    }

    pub(super) fn conflict(detail: String) -> Self {
        Self::new(StatusCode::CONFLICT, detail)
    }
}

/// Returns the name of the problem type.
fn kind(status: StatusCode) -> &'static str {
    match status {
        StatusCode::BAD_REQUEST => "bad-request",
        StatusCode::UNAUTHORIZED => "unauthorized",
        StatusCode::FORBIDDEN => "forbidden",
        StatusCode::NOT_FOUND => "not-found",
        StatusCode::METHOD_NOT_ALLOWED => "wrong-method",
        StatusCode::CONFLICT => "conflict",
        StatusCode::PAYLOAD_TOO_LARGE => "too-large",
        StatusCode::UNSUPPORTED_MEDIA_TYPE => "unsupported-media-type",
        StatusCode::UNPROCESSABLE_ENTITY => "invalid-body",
        StatusCode::SERVICE_UNAVAILABLE => "unavailable",
        _ => "internal-error",
    }
}

impl From<AuthError> for Problem {
    fn from(error: AuthError) -> Self {
        match error {
            AuthError::NoToken => Self::new(
                StatusCode::UNAUTHORIZED,
                "send one bearer token in the Authorization header".to_owned(),
            ),
            AuthError::WrongToken => Self::new(StatusCode::FORBIDDEN, "the token is not valid".to_owned()),
            AuthError::InvalidToken(error) => Self::new(StatusCode::UNAUTHORIZED, error.to_string()),
            AuthError::KeysUnavailable => Self::new(
                StatusCode::SERVICE_UNAVAILABLE,
                "the issuer of the token does not respond".to_owned(),
            ),
            AuthError::MissingRole(role) => Self::new(
                StatusCode::FORBIDDEN,
                format!("the token lacks the role {}", role.name()),
            ),
        }
    }
}

impl From<EnqueueError> for Problem {
    fn from(error: EnqueueError) -> Self {
        match error {
            EnqueueError::Full => Self::conflict(error.to_string()),
            EnqueueError::Invalid(_) => Self::bad_request(error.to_string()),
            EnqueueError::Store(error) => error.into(),
        }
    }
}

impl From<StoreError> for Problem {
    fn from(error: StoreError) -> Self {
        let error = service::process::chain(&error);
        tracing::error!(error, "failed to access the state file");
        Self::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            "failed to access the state file".to_owned(),
        )
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let mut response = (status, Json(self)).into_response();
        let content_type = HeaderValue::from_static(model::headers::PROBLEM);
        response.headers_mut().insert(header::CONTENT_TYPE, content_type);
        if status == StatusCode::UNAUTHORIZED {
            let bearer = HeaderValue::from_static("Bearer");
            response.headers_mut().insert(header::WWW_AUTHENTICATE, bearer);
        }
        if status == StatusCode::SERVICE_UNAVAILABLE {
            let seconds = HeaderValue::from_static("5");
            response.headers_mut().insert(header::RETRY_AFTER, seconds);
        }
        response
    }
}
