//! Authenticates a caller, requires its role, and applies its rate limit in requests, before anything else of a request is read.

use axum::extract::Request;
use axum::http::{Extensions, HeaderMap};
use service::http::auth::Role;
use service::http::peer::PeerName;

use super::observe::LoggedCaller;
use super::refuse::refuse_request;
use super::state::AppState;
use crate::http::problem::Problem;
use crate::limits::callers::Caller;

/// Returns the caller of a request, and the request.
///
/// # Errors
/// A [`Problem`] if the caller is not authenticated, lacks `role` or exceeds its rate limit. The body is discarded then.
pub(super) async fn admit(
    state: &AppState,
    role: Role,
    request: Request,
) -> Result<(Caller, Request), Problem> {
    match authenticate(state, role, request.headers(), request.extensions()).await {
        Ok(caller) => Ok((caller, request)),
        Err(problem) => Err(refuse_request(request, problem).await),
    }
}

async fn authenticate(
    state: &AppState,
    role: Role,
    headers: &HeaderMap,
    extensions: &Extensions,
) -> Result<Caller, Problem> {
    let identity = state
        .callers
        .authenticate(headers, extensions.get::<PeerName>())
        .await?;
    if let Some(logged) = extensions.get::<LoggedCaller>() {
        logged.set(&identity.name);
    }
    identity.require(role)?;
    let caller = state.callers.caller(&identity.name);
    caller.rate_limiter.take_request()?;
    Ok(caller)
}
