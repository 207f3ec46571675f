//! What went wrong inside → what the caller hears.

use axum::http::{StatusCode, header};
use service::access::AuthError;

use super::Problem;
use crate::admission::NoRoom;
use crate::body::BodyError;
use crate::budget::Spent;
use crate::coding::CodingError;
use crate::origin::OriginError;
use crate::publication::PublicationError;
use crate::records::RecordsError;

impl From<AuthError> for Problem {
    fn from(stranger: AuthError) -> Self {
        match stranger {
            AuthError::NoToken => Self::new(
                StatusCode::UNAUTHORIZED,
                "no-token",
                "A token is needed",
                "send one bearer token in the Authorization header",
            )
            .with_header(header::WWW_AUTHENTICATE, "Bearer"),
            AuthError::WrongToken => Self::new(
                StatusCode::FORBIDDEN,
                "wrong-token",
                "The token is wrong",
                "nobody here has this token",
            ),
        }
    }
}

impl From<Spent> for Problem {
    fn from(spent: Spent) -> Self {
        let detail = format!("{spent}; nothing was written");
        Self::new(
            StatusCode::TOO_MANY_REQUESTS,
            "rate-limited",
            "The budget is spent",
            detail,
        )
        .retry_after(spent.retry_after)
    }
}

impl From<CodingError> for Problem {
    fn from(error: CodingError) -> Self {
        match error {
            CodingError::Broken(_) => Self::new(
                StatusCode::BAD_REQUEST,
                "bad-encoding",
                "The body can't be decoded",
                error,
            ),
            CodingError::TooLarge { .. } => Self::new(
                StatusCode::PAYLOAD_TOO_LARGE,
                "body-too-large",
                "The body is too large",
                error,
            ),
            CodingError::NoRoom(no_room) => no_room.into(),
        }
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
