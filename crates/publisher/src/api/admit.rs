//! Who calls, and whether that caller's budget has a request left. Comes before anything else is looked at.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::Response;
use axum::middleware::Next;

use super::Door;
use crate::body::Incoming;
use crate::callers::Caller;
use crate::problem::Problem;

/// How much of a stranger's body is read, in bytes, so that it hears the answer.
const STRANGERS_BODY: usize = 64 * 1024;

/// Lets a request pass with its [`Caller`] as an extension.
pub(super) async fn admit(
    State(door): State<Arc<Door>>,
    mut request: Request,
    next: Next,
) -> Result<Response<Body>, Problem> {
    match recognised(&door, &request) {
        Ok(caller) => {
            request.extensions_mut().insert(caller);
            Ok(next.run(request).await)
        }
        Err(problem) => {
            let (head, body) = request.into_parts();
            Incoming::new(&head.headers, body, STRANGERS_BODY).discard().await;
            Err(problem)
        }
    }
}

fn recognised(door: &Door, request: &Request) -> Result<Caller, Problem> {
    let caller = door.callers.recognise(request.headers())?;
    caller.budget.take_request()?;
    Ok(caller)
}
