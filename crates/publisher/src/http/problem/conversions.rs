//! Maps internal errors to problems.

use axum::http::{StatusCode, header};
use service::http::auth::AuthError;

use super::Problem;
use crate::limits::admission::Overloaded;
use crate::limits::rate_limit::RateLimited;
use crate::publish::publication::PublicationError;
use crate::request::body::BodyError;
use crate::request::decompress::DecompressError;
use crate::request::framing::FramingError;
use crate::request::metadata::MetadataError;

impl From<AuthError> for Problem {
    fn from(error: AuthError) -> Self {
        match error {
            AuthError::NoToken => Self::new(
                StatusCode::UNAUTHORIZED,
                "no-token",
                "Token required",
                "send one bearer token in the Authorization header",
            )
            .with_header(header::WWW_AUTHENTICATE, "Bearer"),
            AuthError::WrongToken => Self::new(
                StatusCode::FORBIDDEN,
                "wrong-token",
                "Wrong token",
                "the token is not in the publisher's token file",
            ),
            AuthError::InvalidToken(error) => {
                Self::new(StatusCode::UNAUTHORIZED, "invalid-token", "Invalid token", error)
                    .with_header(header::WWW_AUTHENTICATE, "Bearer error=\"invalid_token\"")
            }
            AuthError::KeysUnavailable => Self::keys_unavailable(),
            AuthError::MissingRole(role) => Self::new(
                StatusCode::FORBIDDEN,
                "missing-role",
                "Role required",
                format_args!("the request requires the role {}", role.name()),
            )
            .with_header(header::WWW_AUTHENTICATE, "Bearer error=\"insufficient_scope\""),
        }
    }
}

impl From<RateLimited> for Problem {
    fn from(error: RateLimited) -> Self {
        let detail = format!("{error}; nothing was written");
        Self::new(
            StatusCode::TOO_MANY_REQUESTS,
            "rate-limited",
            "Rate limit exceeded",
            detail,
        )
        .retry_after(error.retry_after)
    }
}

impl From<DecompressError> for Problem {
    fn from(error: DecompressError) -> Self {
        match error {
            DecompressError::Corrupt(_) => Self::new(
                StatusCode::BAD_REQUEST,
                "bad-encoding",
                "Invalid content encoding",
                error,
            ),
            DecompressError::TooLarge { .. } => Self::new(
                StatusCode::PAYLOAD_TOO_LARGE,
                "body-too-large",
                "Body too large",
                error,
            ),
            DecompressError::Overloaded(overloaded) => overloaded.into(),
        }
    }
}

impl From<Overloaded> for Problem {
    fn from(_: Overloaded) -> Self {
        Self::overloaded()
    }
}

impl From<PublicationError> for Problem {
    fn from(error: PublicationError) -> Self {
        match error {
            PublicationError::Framing(error) => error.into(),
            PublicationError::Overloaded(error) => error.into(),
            PublicationError::KeyTooLarge { .. } => Self::invalid_id(&error),
        }
    }
}

impl From<MetadataError> for Problem {
    fn from(error: MetadataError) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "bad-header", "Invalid header", error)
    }
}

impl From<BodyError> for Problem {
    fn from(error: BodyError) -> Self {
        match error {
            BodyError::TooLarge { .. } => Self::new(
                StatusCode::PAYLOAD_TOO_LARGE,
                "body-too-large",
                "Body too large",
                error,
            ),
            BodyError::Overloaded(overloaded) => overloaded.into(),
            BodyError::TooSlow => Self::new(
                StatusCode::REQUEST_TIMEOUT,
                "body-too-slow",
                "Body too slow",
                error,
            ),
            BodyError::Read(_) => Self::new(
                StatusCode::BAD_REQUEST,
                "body-broken",
                "Body incomplete or malformed",
                error,
            ),
        }
    }
}

impl From<FramingError> for Problem {
    fn from(error: FramingError) -> Self {
        let detail = error.to_string();
        match error {
            FramingError::NotJson { line, column, .. } => {
                let mut problem = Self::new(StatusCode::BAD_REQUEST, "not-json", "Body is not JSON", detail);
                (problem.0.line, problem.0.column) = (Some(line), Some(column));
                problem
            }
            FramingError::Empty => Self::new(StatusCode::BAD_REQUEST, "no-records", "No records", detail),
            FramingError::TooMany { .. } => Self::new(
                StatusCode::PAYLOAD_TOO_LARGE,
                "too-many-records",
                "Too many records",
                detail,
            ),
        }
    }
}
