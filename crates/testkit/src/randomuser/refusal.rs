//! Replies that come in place of a page.

use axum::{
    http::{StatusCode, header},
    response::{IntoResponse, Response},
};
use serde_json::json;

use super::{budget::Refusal, fault::Fault};

/// The content type of everything that is JSON.
pub(super) const JSON: &str = "application/json; charset=utf-8";

/// The reply of a fault that leaves no page; `None` for those that only spoil one.
pub(super) fn of_fault(fault: &Fault) -> Option<Response> {
    match fault {
        Fault::InternalError => {
            Some((StatusCode::INTERNAL_SERVER_ERROR, "Internal Server Error").into_response())
        }
        Fault::BadGateway => Some(html(
            StatusCode::BAD_GATEWAY,
            "502: the origin gave no valid answer",
        )),
        Fault::Unavailable => Some(html(StatusCode::SERVICE_UNAVAILABLE, "503: come back in a while")),
        Fault::ForbiddenPage => Some(forbidden()),
        Fault::ErrorBody => Some(error(
            StatusCode::OK,
            "Uh oh, something has gone wrong: please try again soon",
        )),
        Fault::TooManyRequests(None) => Some(over_budget(Refusal::TooManyRequests)),
        Fault::TooManyRequests(Some(seconds)) => {
            let refused = over_budget(Refusal::TooManyRequests);
            Some(([(header::RETRY_AFTER, seconds.to_string())], refused).into_response())
        }
        _ => None,
    }
}

/// The reply to a request above the budget.
pub(super) fn over_budget(refusal: Refusal) -> Response {
    let status = match refusal {
        Refusal::TooManyRequests => StatusCode::TOO_MANY_REQUESTS,
        Refusal::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
    };
    error(
        status,
        "Slow down: this address has had all the users of the last minutes. Please wait for a while.",
    )
}

/// `{"error": "…"}`.
pub(super) fn error(status: StatusCode, text: &str) -> Response {
    (
        status,
        [(header::CONTENT_TYPE, JSON)],
        json!({ "error": text }).to_string(),
    )
        .into_response()
}

/// What a network that protects the API shows to addresses it distrusts.
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
