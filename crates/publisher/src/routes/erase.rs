//! `DELETE /v1/{resource}/{key}`: publishes a tombstone for a key.

use std::borrow::Cow;
use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{Response, StatusCode};
use axum::response::IntoResponse;
use jiff::Timestamp;
use model::{Contract, Key, Reason};
use percent_encoding::percent_decode_str;
use service::http::auth::Role;
use tokio::time::{Instant, timeout_at};

use super::admit::admit;
use super::state::AppState;
use crate::http::problem::{Document, Problem};
use crate::publish::response::PublishResponse;
use crate::request::metadata::RequestMetadata;
use crate::request::preference::Preference;

/// Writes a tombstone, which deletes all rows of the key downstream. `documents` fills in the braces.
#[utoipa::path(
    delete,
    path = "/v1/{resource}/{{key}}",
    summary = "Writes a tombstone for the {noun}.",
    description = "{rows} deleted downstream; compaction or retention removes the record from the topic.",
    params(("{key}" = String, Path, description = "The {noun}'s {key}")),
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
    request: Request,
) -> Result<Response<Body>, Problem> {
    let deadline = Instant::now() + state.request_timeout;
    let (caller, request) = admit(&state, Role::Erase, request).await?;
    let key = key(&state.contract, request.uri().path()).map_err(|reason| Problem::invalid_id(&reason))?;
    let metadata = RequestMetadata::from_headers(request.headers(), Timestamp::now())?;
    drop(request);
    state.check_deadline(deadline)?;
    let publication = state
        .publisher()
        .erase(key, &metadata, state.admission.enter_as(&caller.usage))?;
    let result = timeout_at(deadline, publication.result(Preference::Minimal)).await;
    match result.map_err(|_| Problem::unknown(None))?.into() {
        PublishResponse::Final(_) => Ok(StatusCode::NO_CONTENT.into_response()),
        PublishResponse::Problem(problem) => Err(problem),
    }
}

/// The key at the end of a path. A client has to escape a slash in it.
fn key(contract: &Contract, path: &str) -> Result<Key, Reason> {
    let escaped = path.rsplit('/').next().unwrap_or_default();
    let text: Cow<'_, [u8]> = percent_decode_str(escaped).into();
    contract.parse_key_strict(&text)
}
