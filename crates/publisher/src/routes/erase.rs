//! `DELETE /v1/users/{id}`: publishes a tombstone for a user.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, Request, State};
use axum::http::{Response, StatusCode};
use axum::response::IntoResponse;
use jiff::Timestamp;
use model::{Reason, UserId};
use tokio::time::{Instant, timeout_at};

use super::admit::admit;
use super::state::AppState;
use crate::http::problem::{Document, Problem};
use crate::publish::response::PublishResponse;
use crate::request::metadata::RequestMetadata;
use crate::request::preference::Preference;

/// Writes a tombstone for the user.
///
/// The row is deleted downstream; compaction or retention removes the record from the topic.
#[utoipa::path(
    delete,
    path = "/v1/users/{id}",
    params(("id" = String, Path, format = "uuid", description = "The user's id")),
    security((), ("token" = [])),
    responses(
        (status = 204, description = "The tombstone is in Kafka"),
        (status = "4XX", body = Document, content_type = "application/problem+json",
         description = "Invalid id, missing or wrong token, rate limit exceeded"),
        (status = "5XX", body = Document, content_type = "application/problem+json",
         description = "502 refused by Kafka, 503 not written, 504 unknown"),
    )
)]
pub(super) async fn erase(
    State(state): State<Arc<AppState>>,
    id: Result<Path<String>, PathRejection>,
    mut request: Request,
) -> Result<Response<Body>, Problem> {
    let deadline = Instant::now() + state.request_timeout;
    admit(&state, &mut request).await?;
    // axum rejects a path that is not UTF-8.
    let id = id.map_err(|_| Reason::NotAUuid).and_then(|Path(id)| id.parse());
    let id: UserId = id.map_err(|reason| Problem::invalid_id(&reason))?;
    let metadata = RequestMetadata::from_headers(request.headers(), Timestamp::now())?;
    state.check_deadline(deadline)?;
    let publication = state.publisher().erase(id, &metadata, state.admission.enter())?;
    let result = timeout_at(deadline, publication.result(Preference::Minimal)).await;
    match result.map_err(|_| Problem::unknown(None))?.into() {
        PublishResponse::Final(_) => Ok(StatusCode::NO_CONTENT.into_response()),
        PublishResponse::Problem(problem) => Err(problem),
    }
}
