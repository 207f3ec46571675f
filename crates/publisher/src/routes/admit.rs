//! Authenticates a caller and applies its rate limit in requests, before anything else of a request is read.

use axum::extract::Request;

use super::state::AppState;
use crate::http::problem::Problem;
use crate::limits::callers::Caller;
use crate::request::body::IncomingBody;

/// How much of a rejected caller's body is read, in bytes, so that it receives the response.
const REJECTED_BODY: usize = 64 * 1024;

/// Returns the caller of a request, and the request.
///
/// # Errors
/// A [`Problem`] if the caller is not authenticated or exceeds its rate limit. The body is discarded then.
pub(super) async fn admit(state: &AppState, request: Request) -> Result<(Caller, Request), Problem> {
    match authenticate(state, &request) {
        Ok(caller) => Ok((caller, request)),
        Err(problem) => {
            let (head, body) = request.into_parts();
            let incoming = IncomingBody::new(&head.headers, body, REJECTED_BODY);
            drop(head);
            incoming.discard().await;
            Err(problem)
        }
    }
}

fn authenticate(state: &AppState, request: &Request) -> Result<Caller, Problem> {
    let caller = state.callers.authenticate(request.headers())?;
    caller.rate_limiter.take_request()?;
    Ok(caller)
}
