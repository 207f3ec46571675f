//! CORS: the web pages that may call the API from a browser. Off unless origins are configured.

use std::time::Duration;

use axum::http::{HeaderName, HeaderValue, Method, header};
use model::headers::http::REQUEST_ID;
use tower_http::cors::{AllowHeaders, CorsLayer};

/// How long a browser may cache the response to a preflight request.
const MAX_AGE: Duration = Duration::from_secs(600);

/// The headers of responses that a page may read.
const EXPOSED: [HeaderName; 4] = [
    header::RETRY_AFTER,
    HeaderName::from_static(REQUEST_ID),
    HeaderName::from_static("idempotency-replayed"),
    HeaderName::from_static("preference-applied"),
];

/// The layer for these origins.
pub(super) fn layer(origins: Vec<HeaderValue>) -> CorsLayer {
    CorsLayer::new()
        .allow_origin(origins)
        .allow_methods([Method::GET, Method::POST, Method::DELETE])
        // Callers choose the names of `Kafka-Header-…`.
        .allow_headers(AllowHeaders::mirror_request())
        .expose_headers(EXPOSED)
        .max_age(MAX_AGE)
}
