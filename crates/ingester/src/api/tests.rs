//! Tests of the HTTP API, and what they share: a queue and requests to the router.

mod access;
mod documents;
mod runs;
mod schedule;

use axum::body::Body;
use serde_json::{Value, json};
use tower::ServiceExt as _;

use super::*;
use crate::config::IngesterSettings;
use crate::metrics::IngesterMetrics;
use crate::run::active_run::ActiveRun;
use crate::store::Store;

fn queue() -> RunQueue {
    let settings = IngesterSettings::default();
    RunQueue::new(Store::in_memory().unwrap(), ActiveRun::default(), settings)
}

fn status(queue: &RunQueue) -> IngesterStatus {
    let context = service::Context::new("ingester");
    IngesterStatus::new(queue.clone(), &IngesterMetrics::new(&context.metrics), &context)
}

fn pipeline(queue: &RunQueue) -> PipelineComposer {
    PipelineComposer::new(status(queue), queue.settings().pipeline.clone()).unwrap()
}

fn public_router(queue: &RunQueue) -> Router {
    let authenticator = Authenticator::load(&service::AuthSettings::default()).unwrap();
    router(queue.clone(), Arc::new(authenticator), pipeline(queue))
}

async fn send(
    queue: &RunQueue,
    method: &str,
    path: &str,
    body: Option<Value>,
) -> (u16, Option<String>, Value) {
    let mut request = axum::http::Request::builder().method(method).uri(path);
    let body = match body {
        Some(body) => {
            request = request.header(header::CONTENT_TYPE, "application/json");
            Body::from(body.to_string())
        }
        None => Body::empty(),
    };
    respond(queue, request.body(body).unwrap()).await
}

async fn respond(queue: &RunQueue, mut request: Request) -> (u16, Option<String>, Value) {
    let headers = request.headers_mut();
    headers
        .entry(header::HOST)
        .or_insert(header::HeaderValue::from_static("localhost"));
    let response = public_router(queue).oneshot(request).await.unwrap();
    let status = response.status().as_u16();
    let location = response.headers().get(header::LOCATION);
    let location = location.map(|location| location.to_str().unwrap().to_owned());
    let body = axum::body::to_bytes(response.into_body(), 1 << 20).await.unwrap();
    (
        status,
        location,
        serde_json::from_slice(&body).unwrap_or_default(),
    )
}

/// Returns the response of the public API at `path`.
async fn get_response(queue: &RunQueue, path: &str) -> Response {
    let request = axum::http::Request::get(path).header(header::HOST, "localhost");
    let request = request.body(Body::empty()).unwrap();
    public_router(queue).oneshot(request).await.unwrap()
}
