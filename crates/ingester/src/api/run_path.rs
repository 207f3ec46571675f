//! The id of a run in a path.

use axum::extract::{FromRequestParts, Path};
use axum::http::request::Parts;
use uuid::Uuid;

use super::problem::Problem;

/// The id of a run. Any other text, also one that is not UTF-8, is an unknown run.
pub(super) struct RunPath(pub(super) Uuid);

impl<S: Send + Sync> FromRequestParts<S> for RunPath {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let Ok(Path(id)) = Path::<String>::from_request_parts(parts, state).await else {
            return Err(Problem::unknown_run());
        };
        id.parse().map(Self).map_err(|_| Problem::unknown_run())
    }
}
