//! What the API can't do, as RFC 9457 problem documents.

use axum::Json;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use service::access::AuthError;
use uuid::Uuid;

use crate::store::StoreError;

/// An error answer.
#[derive(Debug, Serialize)]
pub(super) struct Problem {
    title: &'static str,
    status: u16,
    #[serde(skip_serializing_if = "Option::is_none")]
    detail: Option<String>,
}

impl Problem {
    fn new(status: StatusCode, detail: impl Into<Option<String>>) -> Self {
        Self {
            title: status.canonical_reason().unwrap_or("Error"),
            status: status.as_u16(),
            detail: detail.into(),
        }
    }

    pub(super) fn because(status: StatusCode, detail: String) -> Self {
        Self::new(status, detail)
    }

    pub(super) fn bad_request(detail: String) -> Self {
        Self::new(StatusCode::BAD_REQUEST, detail)
    }

    pub(super) fn nothing_here() -> Self {
        Self::new(StatusCode::NOT_FOUND, None)
    }

    pub(super) fn wrong_method() -> Self {
        Self::new(StatusCode::METHOD_NOT_ALLOWED, None)
    }

    pub(super) fn unknown_run() -> Self {
        Self::new(StatusCode::NOT_FOUND, "there is no such run".to_owned())
    }

    pub(super) fn foreign_page() -> Self {
        Self::new(StatusCode::FORBIDDEN, "asked by another site's page".to_owned())
    }

    pub(super) fn busy(run: Uuid) -> Self {
        Self::new(StatusCode::CONFLICT, format!("run {run} is under way or waits"))
    }

    pub(super) fn over() -> Self {
        Self::new(StatusCode::CONFLICT, "the run has ended".to_owned())
    }
}

impl From<AuthError> for Problem {
    fn from(stranger: AuthError) -> Self {
        match stranger {
            AuthError::NoToken => Self::new(
                StatusCode::UNAUTHORIZED,
                "send one bearer token in the Authorization header".to_owned(),
            ),
            AuthError::WrongToken => {
                Self::new(StatusCode::FORBIDDEN, "nobody here has this token".to_owned())
            }
        }
    }
}

impl From<StoreError> for Problem {
    fn from(error: StoreError) -> Self {
        let error = service::process::chain(&error);
        tracing::error!(error, "the state can't be used");
        Self::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            "the state can't be used".to_owned(),
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
