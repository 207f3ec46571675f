//! Refuses a request whose body has not been read, so that its caller receives the response.

use axum::extract::Request;
use axum::http::Version;

use crate::http::problem::Problem;
use crate::request::body::IncomingBody;

/// How much of the body is read where the caller or the path is not known, in bytes.
const REJECTED_BODY: usize = 64 * 1024;

/// Refuses the request with this body. An HTTP/1 caller receives the response after it has sent its body, or the part of it
/// that is read. An HTTP/2 caller receives the response at once.
pub(super) async fn refuse(version: Version, body: IncomingBody, problem: Problem) -> Problem {
    if version == Version::HTTP_2 {
        return problem.with_rejected_body(body);
    }
    body.discard().await;
    problem
}

/// Refuses a request before its head has been examined.
pub(super) async fn refuse_request(request: Request, problem: Problem) -> Problem {
    refuse_request_up_to(request, problem, REJECTED_BODY).await
}

/// Refuses a request that may be valid, whose body has at most `max_body` bytes then.
pub(super) async fn refuse_request_up_to(request: Request, problem: Problem, max_body: usize) -> Problem {
    let (head, body) = request.into_parts();
    let body = IncomingBody::new(&head.headers, body, max_body);
    let version = head.version;
    // A caller may send a large head, and its body slowly.
    drop(head);
    refuse(version, body, problem).await
}
