//! Responses without a page.

use axum::{
    http::{StatusCode, header},
    response::{IntoResponse, Response},
};
use serde_json::json;

use super::rate_limit::RateLimitReply;
use crate::randomuser::fault::Fault;

/// The content type of JSON.
pub(crate) const JSON: &str = "application/json; charset=utf-8";

/// The response of a fault without a page; `None` for a fault that changes a page.
pub(crate) fn of_fault(fault: &Fault) -> Option<Response> {
    Some(match fault {
        Fault::InternalError => (StatusCode::INTERNAL_SERVER_ERROR, "Internal Server Error").into_response(),
        Fault::BadGateway => html(StatusCode::BAD_GATEWAY, "502: the origin sent no valid response"),
        Fault::Unavailable => html(StatusCode::SERVICE_UNAVAILABLE, "503: come back in a while"),
        Fault::ForbiddenPage => forbidden(),
        Fault::ErrorBody => error(
            StatusCode::OK,
            "Uh oh, something has gone wrong: please try again soon",
        ),
        Fault::TooManyRequests(None) => rate_limited(RateLimitReply::TooManyRequests),
        Fault::TooManyRequests(Some(seconds)) => {
            let refused = rate_limited(RateLimitReply::TooManyRequests);
            ([(header::RETRY_AFTER, seconds.to_string())], refused).into_response()
        }
        _ => return None,
    })
}

/// The response to a request above the rate limit.
pub(crate) fn rate_limited(reply: RateLimitReply) -> Response {
    let status = match reply {
        RateLimitReply::TooManyRequests => StatusCode::TOO_MANY_REQUESTS,
        RateLimitReply::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
    };
    error(
        status,
        "Slow down: this address has had all the users of the last minutes. Please wait for a while.",
    )
}

/// `{"error": "…"}`.
pub(crate) fn error(status: StatusCode, text: &str) -> Response {
    (
        status,
        [(header::CONTENT_TYPE, JSON)],
        json!({ "error": text }).to_string(),
    )
        .into_response()
}

/// The page that a content delivery network shows to suspicious addresses.
fn forbidden() -> Response {
    let page = html(StatusCode::FORBIDDEN, "Sorry, you have been blocked");
    (
        [
            (header::SERVER, "cloudflare"),
            (header::CACHE_CONTROL, "private, no-store"),
        ],
        page,
    )
        .into_response()
}

fn html(status: StatusCode, title: &str) -> Response {
    let page = format!(
        "<!DOCTYPE html>\n<html lang=\"en\"><head><title>{title}</title></head>\n<body><h1>{title}</h1></body></html>\n"
    );
    (status, [(header::CONTENT_TYPE, "text/html; charset=UTF-8")], page).into_response()
}
