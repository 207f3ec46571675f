//! Error responses of the API as RFC 9457 problem documents.

use axum::Json;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use service::http::auth::AuthError;

use crate::store::StoreError;

/// An error response.
#[derive(Debug, Serialize)]
pub(super) struct Problem {
    title: &'static str,
    status: u16,
    #[serde(skip_serializing_if = "Option::is_none")]
    detail: Option<String>,
}

impl Problem {
    pub(super) fn new(status: StatusCode, detail: impl Into<Option<String>>) -> Self {
        Self {
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

impl From<AuthError> for Problem {
    fn from(error: AuthError) -> Self {
        match error {
            AuthError::NoToken => Self::new(
                StatusCode::UNAUTHORIZED,
                "send one bearer token in the Authorization header".to_owned(),
            ),
            AuthError::WrongToken => Self::new(StatusCode::FORBIDDEN, "the token is not valid".to_owned()),
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
        let content_type = [(header::CONTENT_TYPE, model::headers::PROBLEM)];
        let mut response = (status, content_type, Json(self)).into_response();
        if status == StatusCode::UNAUTHORIZED {
            let bearer = HeaderValue::from_static("Bearer");
            response.headers_mut().insert(header::WWW_AUTHENTICATE, bearer);
        }
        response
    }
}
