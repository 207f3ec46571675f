//! `DELETE /v1/users/{id}`: a person is to be gone.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, Request, State};
use axum::http::{Response, StatusCode};
use axum::response::IntoResponse;
use jiff::Timestamp;
use model::{Reason, UserId};
use tokio::time::{Instant, timeout_at};

use super::Door;
use super::admit::admit;
use crate::answer::Answer;
use crate::origin::Origin;
use crate::preference::Preference;
use crate::problem::{Document, Problem};

/// Writes a tombstone for the user.
///
/// The row is deleted downstream; the record is gone from the topic after compaction or retention.
#[utoipa::path(
    delete,
    path = "/v1/users/{id}",
    params(("id" = String, Path, format = "uuid", description = "The user's id")),
    security((), ("token" = [])),
    responses(
        (status = 204, description = "The tombstone is in Kafka"),
        (status = "4XX", body = Document, content_type = "application/problem+json",
         description = "Not an id, no or a wrong token, budget spent"),
        (status = "5XX", body = Document, content_type = "application/problem+json",
         description = "502 refused by Kafka, 503 not written, 504 unknown"),
    )
)]
pub(super) async fn erase(
    State(door): State<Arc<Door>>,
    id: Result<Path<String>, PathRejection>,
    mut request: Request,
) -> Result<Response<Body>, Problem> {
    let deadline = Instant::now() + door.request_timeout;
    admit(&door, &mut request).await?;
    // What is refused here is no text at all.
    let id = id.map_err(|_| Reason::NotAUuid).and_then(|Path(id)| id.parse());
    let id: UserId = id.map_err(|reason| Problem::not_an_id(&reason))?;
    let origin = Origin::of(request.headers(), Timestamp::now())?;
    door.still_time(deadline)?;
    let publication = door.publisher().erase(id, &origin, door.admission.enter())?;
    let settled = timeout_at(deadline, publication.settled(Preference::Counts)).await;
    match settled.map_err(|_| Problem::unknown(None))?.into() {
        Answer::Told(_) => Ok(StatusCode::NO_CONTENT.into_response()),
        Answer::Problem(problem) => Err(problem),
    }
}
