//! The HTTP API of `ingester run`: what the history says, asking for a run, ending one, watching one. It decides
//! nothing; that is `desk`'s.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::rejection::{JsonRejection, QueryRejection};
use axum::extract::{DefaultBodyLimit, Path, Query, Request, State};
use axum::http::{StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use serde::{Deserialize, Serialize};
use service::access::Callers;
use thiserror::Error;
use tokio::net::TcpListener;
use tokio::time::sleep;
use uuid::Uuid;

use crate::run::plan::{PageRange, Seed};
use crate::run::{Run, RunFilter, Trigger};
use crate::scheduler::run_queue::{CancelOutcome, EnqueueError, RunQueue, RunRequest};
use crate::store::outbox::RejectedRecord;

mod events;
mod problem;

use problem::Problem;

/// Answers under way get this long when the API ends by itself; streams of events would go on as long as a run.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(1);
/// Bodies hold three short values.
const MAX_BODY_BYTES: usize = 16 << 10;
/// Entries in one answer.
const MAX_RUNS: u32 = 500;
/// RejectedRecord records in one answer.
const MAX_REJECTED_RECORDS: u32 = 1_000;

/// The API can't be served.
#[derive(Debug, Error)]
pub enum ApiError {
    /// The address is taken, or is not this machine's.
    #[error("listen for the API on {address}")]
    Listen {
        /// The configured address.
        address: SocketAddr,
        /// The operating system's answer.
        #[source]
        source: std::io::Error,
    },
    /// Accepting connections failed.
    #[error("serve the API")]
    Serve(#[source] std::io::Error),
    /// Who asked was answered, and the log has the reason.
    #[error("a run that was query for can't be kept in the state")]
    StoreFailed,
}

/// A bound API that does not answer yet.
pub struct Api {
    listener: TcpListener,
    queue: RunQueue,
    callers: Arc<Callers>,
}

impl Api {
    /// Binds `address`; port 0 takes a free one, which the log names. Only `callers` may ask.
    ///
    /// # Errors
    /// [`ApiError::Listen`].
    pub async fn bind(address: SocketAddr, queue: RunQueue, callers: Arc<Callers>) -> Result<Self, ApiError> {
        let listening = |source| ApiError::Listen { address, source };
        let listener = TcpListener::bind(address).await.map_err(listening)?;
        let bound = listener.local_addr().map_err(listening)?;
        tracing::info!(api = %bound, "listening");
        Ok(Self {
            listener,
            queue,
            callers,
        })
    }

    /// Answers until it is dropped, or until it met a state that can't be used.
    ///
    /// # Errors
    /// [`ApiError::Serve`], [`ApiError::StateLost`].
    pub async fn serve(self) -> Result<(), ApiError> {
        let store_failed = self.queue.store_failed().clone();
        let serving = axum::serve(self.listener, router(self.queue, self.callers))
            .with_graceful_shutdown(store_failed.clone().cancelled_owned());
        let too_long = async {
            store_failed.cancelled().await;
            sleep(DRAIN_TIMEOUT).await;
        };
        tokio::select! {
            served = serving => served.map_err(ApiError::Serve)?,
            () = too_long => {}
        }
        Err(ApiError::StoreFailed)
    }
}

fn router(queue: RunQueue, callers: Arc<Callers>) -> Router {
    let authenticated = middleware::from_fn_with_state(callers, require_token);
    Router::new()
        .route("/v1/runs", get(runs).post(start))
        .route("/v1/runs/{id}", get(run).delete(cancel))
        .route("/v1/runs/{id}/events", get(events::events))
        .route("/v1/schedule", get(schedule))
        .route_layer(authenticated)
        // Neither says anything of a run, and a browser can't send a token before it has the page that asks for one.
        .route("/", get(page))
        .route("/openapi.json", get(openapi))
        .fallback(|| async { Problem::nothing_here() })
        .method_not_allowed_fallback(|| async { Problem::wrong_method() })
        .layer(DefaultBodyLimit::max(MAX_BODY_BYTES))
        .layer(middleware::from_fn(reject_cross_site))
        .with_state(queue)
}

async fn require_token(
    State(callers): State<Arc<Callers>>,
    request: Request,
    next: Next,
) -> Result<Response, Problem> {
    callers.authenticate(request.headers())?;
    Ok(next.run(request).await)
}

/// A page of somebody else, open in a browser that reaches this port, must not start or end runs.
async fn reject_cross_site(request: Request, next: Next) -> Response {
    let site = request.headers().get("sec-fetch-site");
    let foreign = site.is_some_and(|site| site != "same-origin" && site != "none");
    if foreign && !request.method().is_safe() {
        return Problem::foreign_page().into_response();
    }
    next.run(request).await
}

const PAGE: &str = include_str!("api/page.html");
/// The page holds all it needs; nothing of another origin may come in or frame it.
const PAGE_POLICY: &str = "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; connect-src 'self'; \
                           img-src data:; frame-ancestors 'none'; base-uri 'none'; form-action 'none'";
const OPENAPI: &str = include_str!("api/openapi.json");

/// What a browser shows.
async fn page() -> Response {
    let headers = [
        (header::CONTENT_TYPE, "text/html; charset=utf-8"),
        (header::CONTENT_SECURITY_POLICY, PAGE_POLICY),
        (header::CACHE_CONTROL, "no-cache"),
    ];
    (headers, PAGE).into_response()
}

async fn openapi() -> Response {
    ([(header::CONTENT_TYPE, model::headers::JSON)], OPENAPI).into_response()
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RunsQuery {
    state: Option<String>,
    trigger: Option<String>,
    before: Option<RunId>,
    limit: Option<u32>,
}

/// The id of a run, as text.
struct RunId(Uuid);

impl<'de> Deserialize<'de> for RunId {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse()
            .map(Self)
            .map_err(|_| serde::de::Error::custom("`before` is no run's id"))
    }
}

#[derive(Serialize)]
struct RunsPage {
    runs: Vec<Run>,
    /// The same question about older runs, when there may be some.
    next: Option<String>,
}

async fn runs(
    State(queue): State<RunQueue>,
    query: Result<Query<RunsQuery>, QueryRejection>,
) -> Result<Json<RunsPage>, Problem> {
    let Query(query) = query.map_err(|rejection| Problem::bad_request(rejection.body_text()))?;
    let filter = RunFilter {
        state: parse_name(query.state.as_deref(), "state")?,
        trigger: parse_name(query.trigger.as_deref(), "trigger")?,
        before: query.before.map(|before| before.0),
        limit: query.limit.unwrap_or(RunFilter::default().limit),
    };
    if !(1..=MAX_RUNS).contains(&filter.limit) {
        return Err(Problem::bad_request(format!(
            "`limit` must lie between 1 and {MAX_RUNS}"
        )));
    }
    let found = queue.store().runs(&filter)?;
    let full = u32::try_from(found.len()).is_ok_and(|found| found == filter.limit);
    let next = found.last().filter(|_| full).map(|last| {
        let of = |name: &str, value: Option<&str>| {
            value.map_or_else(String::new, |value| format!("&{name}={value}"))
        };
        let state = of("state", filter.state.map(|state| state.name()));
        let trigger = of("trigger", filter.trigger.map(|trigger| trigger.name()));
        format!(
            "/v1/runs?before={}&limit={}{state}{trigger}",
            last.id, filter.limit
        )
    });
    let runs = found
        .into_iter()
        .map(|entry| queue.with_live_counts(entry))
        .collect();
    Ok(Json(RunsPage { runs, next }))
}

fn parse_name<T: std::str::FromStr<Err = &'static str>>(
    text: Option<&str>,
    name: &str,
) -> Result<Option<T>, Problem> {
    let parsed = text.map(str::parse).transpose();
    parsed.map_err(|reason| Problem::bad_request(format!("`{name}` {reason}")))
}

#[derive(Serialize)]
struct RunDetails {
    #[serde(flatten)]
    run: Run,
    refused: Vec<RejectedRecord>,
}

async fn run(State(queue): State<RunQueue>, Path(id): Path<String>) -> Result<Response, Problem> {
    let id = id.parse().map_err(|_| Problem::unknown_run())?;
    let run = queue.run(id)?.ok_or_else(Problem::unknown_run)?;
    let refused = queue.store().rejected_records(id, MAX_REJECTED_RECORDS)?;
    Ok(Json(RunDetails { run, refused }).into_response())
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct StartRunBody {
    users: Option<u64>,
    seed: Option<Seed>,
    pages: Option<PageRange>,
}

/// A body may be left out.
async fn start(
    State(queue): State<RunQueue>,
    body: Result<Option<Json<StartRunBody>>, JsonRejection>,
) -> Result<Response, Problem> {
    let body = body.map_err(|rejection| Problem::because(rejection.status(), rejection.body_text()))?;
    let StartRunBody { users, seed, pages } = body.map(|Json(body)| body).unwrap_or_default();
    if users == Some(0) {
        return Err(Problem::bad_request("`users` must be 1 or more".to_owned()));
    }
    let spec = queue.spec(Trigger::Manual, &RunRequest { users, seed, pages });
    let run = queue.enqueue(&spec).map_err(|error| match error {
        EnqueueError::Busy(run) => Problem::busy(run),
        EnqueueError::NoUsers => Problem::bad_request(error.to_string()),
        EnqueueError::Store(error) => error.into(),
    })?;
    let entry = queue.run(run)?.ok_or_else(Problem::unknown_run)?;
    let location = [(header::LOCATION, format!("/v1/runs/{run}"))];
    Ok((StatusCode::ACCEPTED, location, Json(entry)).into_response())
}

async fn cancel(State(queue): State<RunQueue>, Path(id): Path<String>) -> Result<StatusCode, Problem> {
    let id = id.parse().map_err(|_| Problem::unknown_run())?;
    match queue.cancel(id)? {
        CancelOutcome::Stopping => Ok(StatusCode::ACCEPTED),
        CancelOutcome::Dequeued => Ok(StatusCode::NO_CONTENT),
        CancelOutcome::AlreadyEnded => Err(Problem::over()),
        CancelOutcome::NotFound => Err(Problem::unknown_run()),
    }
}

#[derive(Serialize)]
struct ScheduleView {
    /// The next start, when one is planned.
    next_start: Option<jiff::Timestamp>,
    /// The run under way.
    running: Option<String>,
    schedule: crate::settings::ScheduleSettings,
}

async fn schedule(State(queue): State<RunQueue>) -> Json<ScheduleView> {
    Json(ScheduleView {
        next_start: queue.next_start(),
        running: queue.active_run().map(|run| run.to_string()),
        schedule: queue.settings().schedule.clone(),
    })
}

#[cfg(test)]
#[path = "api/tests.rs"]
mod tests;
