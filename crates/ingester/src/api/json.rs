//! JSON responses. They end with a line break, so that a terminal's prompt begins a line.

use axum::http::header;
use axum::response::{IntoResponse, Response};
use serde::Serialize;

/// A JSON document as a response.
pub(super) struct Json<T>(pub(super) T);

impl<T: Serialize> IntoResponse for Json<T> {
    fn into_response(self) -> Response {
        let mut document = serde_json::to_vec(&self.0).expect("responses have text keys and serialize");
        document.push(b'\n');
        ([(header::CONTENT_TYPE, model::headers::JSON)], document).into_response()
    }
}
