//! Authenticates a caller and applies its rate limit in requests, before anything else of a request is read.

use axum::extract::Request;
use service::http::peer::PeerName;

use super::observe::LoggedCaller;
use super::refuse::refuse_request;
use super::state::AppState;
use crate::http::problem::Problem;
use crate::limits::callers::Caller;

/// Returns the caller of a request, and the request.
///
/// # Errors
/// A [`Problem`] if the caller is not authenticated or exceeds its rate limit. The body is discarded then.
pub(super) async fn admit(state: &AppState, request: Request) -> Result<(Caller, Request), Problem> {
    match authenticate(state, &request) {
        Ok(caller) => Ok((caller, request)),
        Err(problem) => Err(refuse_request(request, problem).await),
    }
}

fn authenticate(state: &AppState, request: &Request) -> Result<Caller, Problem> {
    let peer = request.extensions().get::<PeerName>();
    let caller = state.callers.authenticate(request.headers(), peer)?;
    if let Some(logged) = request.extensions().get::<LoggedCaller>() {
        logged.set(&caller.name);
    }
    caller.rate_limiter.take_request()?;
    Ok(caller)
}
