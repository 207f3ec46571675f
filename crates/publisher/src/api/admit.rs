//! Who calls, and whether that caller's budget has a request left. Comes before anything else is looked at.

use axum::extract::Request;

use super::Door;
use crate::body::Incoming;
use crate::callers::Caller;
use crate::problem::Problem;

/// How much of a stranger's body is read, in bytes, so that it hears the answer.
const STRANGERS_BODY: usize = 64 * 1024;

/// The caller of a request.
///
/// # Errors
/// What a stranger hears, or one whose budget is spent. The body is gone then.
pub(super) async fn admit(door: &Door, request: &mut Request) -> Result<Caller, Problem> {
    match recognised(door, request) {
        Ok(caller) => Ok(caller),
        Err(problem) => {
            let body = std::mem::take(request.body_mut());
            Incoming::new(request.headers(), body, STRANGERS_BODY)
                .discard()
                .await;
            Err(problem)
        }
    }
}

fn recognised(door: &Door, request: &Request) -> Result<Caller, Problem> {
    let caller = door.callers.authenticate(request.headers())?;
    caller.budget.take_request()?;
    Ok(caller)
}
