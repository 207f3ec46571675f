//! The routes of the API. Each response is counted.

mod admit;
mod create;
mod documents;
mod erase;
mod observe;
pub mod state;

use std::sync::Arc;

use axum::Router;
use axum::extract::Request;
use axum::routing::{delete, post};
use service::http::connection::Api;
use tower::{ServiceExt as _, service_fn};

use crate::http::problem::Problem;
use observe::observe;
use state::AppState;

pub use documents::document as openapi;

/// The service of all connections.
pub fn service(state: Arc<AppState>) -> impl Api {
    let metrics = Arc::clone(&state.metrics);
    let router = router(state);
    // A layer would box the future of each request once more.
    service_fn(move |request: Request| observe(Arc::clone(&metrics), router.clone().oneshot(request)))
}

fn router(state: Arc<AppState>) -> Router {
    let resource = format!("/v1/{}", state.contract.resource());
    Router::new()
        .route(&resource, post(create::create))
        .route(&format!("{resource}/{{key}}"), delete(erase::erase))
        .merge(documents::router(&state.contract))
        .fallback(async || Problem::not_found())
        .method_not_allowed_fallback(async || Problem::wrong_method())
        .with_state(state)
}
