//! The routes of the API. Each response is counted.

mod admit;
mod blocking;
mod cors;
mod create;
mod documents;
mod erase;
mod observe;
mod refuse;
mod request_id;
pub mod state;

use std::convert::Infallible;
use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::Request;
use axum::http::{Method, Response, StatusCode};
use axum::response::IntoResponse as _;
use axum::routing::{delete, post};
use service::Tracer;
use service::http::connection::Api;
use tower::{ServiceExt as _, service_fn};

use crate::http::problem::Problem;
use crate::limits::response_memory::hold_until_written;
use observe::{Observation, Observer};
use refuse::{refuse_request, refuse_request_up_to};
use state::AppState;

pub use documents::document as openapi;

/// The service of all connections. `tracer` starts a span for each request.
pub fn service(state: Arc<AppState>, tracer: Tracer) -> impl Api {
    let resource = resource_path(&state);
    let observer = Observer::new(Arc::clone(&state.metrics), state.access_log, &resource, tracer);
    let routes = Arc::new(PublisherRoutes {
        // The router adds the headers of CORS.
        create: state.cors_origins.is_empty().then_some(resource),
        router: router(Arc::clone(&state)),
        state,
    });
    // A layer would box the future of each request once more.
    service_fn(move |mut request: Request| {
        let observation = observer.begin(&mut request);
        // A large future: an idle connection must not hold its memory.
        Box::pin(respond(Arc::clone(&routes), observation, request))
    })
}

/// The routes of all requests.
struct PublisherRoutes {
    state: Arc<AppState>,
    /// The path of `POST` requests that need no router: most of them.
    create: Option<String>,
    router: Router,
}

impl PublisherRoutes {
    fn is_create(&self, request: &Request) -> bool {
        request.method() == Method::POST
            && self
                .create
                .as_deref()
                .is_some_and(|path| request.uri().path() == path)
    }

    /// Counts the request's own memory as bytes in flight until its response is written.
    async fn respond(&self, request: Request) -> Result<Response<Body>, Infallible> {
        let Ok(permit) = self.state.admission.enter_request() else {
            let problem = refuse_request_up_to(request, Problem::overloaded(), self.state.max_body);
            return Ok(problem.await.into_response());
        };
        let mut response = if self.is_create(&request) {
            create::respond(&self.state, request).await.into_response()
        } else {
            self.router.clone().oneshot(request).await?
        };
        hold_until_written(&mut response, permit);
        Ok(response)
    }
}

async fn respond(
    routes: Arc<PublisherRoutes>,
    observation: Observation,
    request: Request,
) -> Result<Response<Body>, Infallible> {
    let mut response = routes.respond(request).await?;
    observation.end(&mut response);
    Ok(response)
}

/// Responds to `OPTIONS`, and refuses any other method. The router adds the header `Allow` to both.
async fn other_method(request: Request) -> Response<Body> {
    if request.method() == Method::OPTIONS {
        return StatusCode::NO_CONTENT.into_response();
    }
    refuse_request(request, Problem::wrong_method())
        .await
        .into_response()
}

fn resource_path(state: &AppState) -> String {
    format!("/v1/{}", state.contract.resource())
}

fn router(state: Arc<AppState>) -> Router {
    let resource = resource_path(&state);
    let router = Router::new()
        .route(&resource, post(create::create))
        .route(&format!("{resource}/{{key}}"), delete(erase::erase))
        .merge(documents::router(&state.contract))
        .fallback(async |request: Request| refuse_request(request, Problem::not_found()).await)
        .method_not_allowed_fallback(other_method);
    let router = if state.cors_origins.is_empty() {
        router
    } else {
        router.layer(cors::layer(state.cors_origins.clone()))
    };
    router.with_state(state)
}
