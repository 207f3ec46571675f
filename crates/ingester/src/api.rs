//! HTTP API of `ingester run`: list, start, cancel and observe runs. `run_queue` decides what may run.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::rejection::{JsonRejection, QueryRejection};
use axum::extract::{DefaultBodyLimit, Query, Request, State};
use axum::http::{Method, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Extension, Router};
use serde::{Deserialize, Serialize};
use service::http::auth::{Authenticator, Role};
use service::http::connection::ConnectionLimits;
use service::http::server::{ListenError, Server};
use thiserror::Error;
use tokio::time::sleep;
use uuid::Uuid;

use crate::run::plan::{PageRange, Seed};
use crate::run::{Run, RunFilter, Trigger};
use crate::scheduler::run_queue::{CancelOutcome, RetryError, RunQueue, RunRequest};
use crate::store::cursors::SchedulePause;
use crate::store::outbox::{MAX_REJECTED_RECORDS, RejectedRecord};

mod events;
mod json;
mod origin_check;
mod pipeline;
mod problem;
mod run_path;
pub mod status;

use json::Json;
use origin_check::{OriginCheck, check_origin};
use pipeline::PipelineComposer;
use problem::Problem;
use run_path::RunPath;
use status::IngesterStatus;

/// Time for responses in flight when the API shuts down; an event stream would last as long as a run.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(1);
/// The limits of connections, as those of the admin port. A stream of events may last as long as a run.
const LIMITS: ConnectionLimits = ConnectionLimits {
    max_connections: 64,
    header_timeout: Duration::from_secs(10),
    write_timeout: Duration::from_secs(10),
    min_response_rate: 16 * 1024,
    max_age: Duration::from_secs(24 * 3600),
    drain_timeout: Duration::from_secs(20),
};
/// Maximum size of request bodies, which hold three short values.
const MAX_BODY_BYTES: usize = 16 << 10;
/// Maximum number of runs in one response.
const MAX_RUNS: u32 = 500;

/// Error of the API server.
#[derive(Debug, Error)]
pub enum ApiError {
    /// The address is in use or not available on this host.
    #[error(transparent)]
    Listen(#[from] ListenError),
    /// The bound address can't be read.
    #[error("failed to read the address of the API")]
    Address(#[source] std::io::Error),
    /// TLS can't be set up for requests to the other services.
    #[error("failed to set up TLS")]
    Tls(#[source] reqwest::Error),
    /// The store failed; the caller got a response and the log has the cause.
    #[error("failed to store a requested run")]
    StoreFailed,
}

/// An API server that is bound, but does not serve yet.
pub struct ApiServer {
    server: Server,
    queue: RunQueue,
    authenticator: Arc<Authenticator>,
    pipeline: PipelineComposer,
}

impl ApiServer {
    /// Binds `address`; the log names the port that port 0 selects. Only callers that `authenticator` knows are authorized.
    ///
    /// # Errors
    /// Returns [`ApiError::Listen`], [`ApiError::Address`] or [`ApiError::Tls`].
    pub async fn bind(
        address: SocketAddr,
        queue: RunQueue,
        authenticator: Arc<Authenticator>,
        status: IngesterStatus,
    ) -> Result<Self, ApiError> {
        Self::bind_with(LIMITS, address, queue, authenticator, status).await
    }

    async fn bind_with(
        limits: ConnectionLimits,
        address: SocketAddr,
        queue: RunQueue,
        authenticator: Arc<Authenticator>,
        status: IngesterStatus,
    ) -> Result<Self, ApiError> {
        let pipeline = queue.settings().pipeline.clone();
        let pipeline = PipelineComposer::new(status, pipeline).map_err(ApiError::Tls)?;
        let server = Server::bind("api.listen", address, limits).await?;
        let bound = server.address().map_err(ApiError::Address)?;
        tracing::info!(api = %bound, "listening");
        Ok(Self {
            server,
            queue,
            authenticator,
            pipeline,
        })
    }

    /// Serves until it is dropped or the store fails.
    pub async fn serve(self) -> ApiError {
        let store_failed = self.queue.store_failed().clone();
        let router = router(self.queue, self.authenticator, self.pipeline);
        let serving = self.server.serve(router, store_failed.clone());
        let drained = async {
            store_failed.cancelled().await;
            sleep(DRAIN_TIMEOUT).await;
        };
        tokio::select! {
            () = serving => {}
            () = drained => {}
        }
        ApiError::StoreFailed
    }
}

fn router(queue: RunQueue, authenticator: Arc<Authenticator>, pipeline: PipelineComposer) -> Router {
    let authenticated = middleware::from_fn_with_state(authenticator, require_token);
    let from_own_origin = middleware::from_fn_with_state(OriginCheck::new(queue.settings()), check_origin);
    Router::new()
        .route("/v1/runs", get(runs).post(start))
        .route("/v1/runs/{id}", get(run).delete(cancel))
        .route("/v1/runs/{id}/events", get(events::events))
        .route("/v1/runs/{id}/retry", post(retry))
        .route("/v1/schedule", get(schedule))
        .route("/v1/schedule/pause", post(pause))
        .route("/v1/schedule/resume", post(resume))
        .route("/v1/pipeline", get(pipeline::pipeline).with_state(pipeline))
        .route_layer(authenticated)
        // Public: neither reveals a run, and a browser has no token before it has loaded the page.
        .route("/", get(page))
        .route("/openapi.json", get(openapi))
        .fallback(|| async { Problem::not_found() })
        .method_not_allowed_fallback(|| async { Problem::method_not_allowed() })
        .layer(DefaultBodyLimit::max(MAX_BODY_BYTES))
        .layer(from_own_origin)
        .with_state(queue)
}

/// The name of the caller.
#[derive(Clone)]
struct ApiCaller(Arc<str>);

async fn require_token(
    State(authenticator): State<Arc<Authenticator>>,
    mut request: Request,
    next: Next,
) -> Result<Response, Problem> {
    let caller = authenticator.authenticate(request.headers()).await?;
    caller.require(required_role(request.method()))?;
    request.extensions_mut().insert(ApiCaller(caller.name));
    Ok(next.run(request).await)
}

/// Reading changes nothing; each other request starts or changes work.
fn required_role(method: &Method) -> Role {
    if method.is_safe() { Role::Read } else { Role::Write }
}

const PAGE: &str = include_str!("api/page.html");
/// The page is self-contained; it loads nothing from other origins and can't be framed.
const PAGE_POLICY: &str = "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; connect-src 'self'; \
                           img-src data:; frame-ancestors 'none'; base-uri 'none'; form-action 'none'";
const OPENAPI: &str = include_str!("api/openapi.json");

/// Serves the web page.
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

/// The id of a run as text.
struct RunId(Uuid);

impl<'de> Deserialize<'de> for RunId {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse()
            .map(Self)
            .map_err(|_| serde::de::Error::custom("`before` must be the id of a run"))
    }
}

#[derive(Serialize)]
struct RunsPage {
    runs: Vec<Run>,
    /// Path of the next page, if there may be one.
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
            "`limit` must be between 1 and {MAX_RUNS}"
        )));
    }
    let found = queue.store().runs(&filter)?;
    let full = u32::try_from(found.len()).is_ok_and(|found| found == filter.limit);
    let next = found.last().filter(|_| full).map(|last| {
        let parameter = |name: &str, value: Option<&str>| {
            value.map_or_else(String::new, |value| format!("&{name}={value}"))
        };
        let state = parameter("state", filter.state.map(|state| state.name()));
        let trigger = parameter("trigger", filter.trigger.map(|trigger| trigger.name()));
        format!(
            "/v1/runs?before={}&limit={}{state}{trigger}",
            last.id, filter.limit
        )
    });
    let runs = found.into_iter().map(|run| queue.complete(run)).collect();
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
    rejected_records: Vec<RejectedRecord>,
}

async fn run(State(queue): State<RunQueue>, RunPath(id): RunPath) -> Result<Response, Problem> {
    let run = queue.run(id)?.ok_or_else(Problem::unknown_run)?;
    let rejected_records = queue.store().rejected_records(id, MAX_REJECTED_RECORDS)?;
    let details = RunDetails {
        run,
        rejected_records,
    };
    Ok(Json(details).into_response())
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct StartRunBody {
    users: Option<u64>,
    seed: Option<Seed>,
    pages: Option<PageRange>,
}

/// Starts a run. The body is optional.
async fn start(
    State(queue): State<RunQueue>,
    Extension(ApiCaller(caller)): Extension<ApiCaller>,
    body: Result<Option<axum::Json<StartRunBody>>, JsonRejection>,
) -> Result<Response, Problem> {
    let body = body.map_err(|rejection| Problem::new(rejection.status(), rejection.body_text()))?;
    let StartRunBody { users, seed, pages } = body.map(|body| body.0).unwrap_or_default();
    if users == Some(0) {
        return Err(Problem::bad_request("`users` must be 1 or more".to_owned()));
    }
    let mut spec = queue.spec(Trigger::Manual, &RunRequest { users, seed, pages });
    spec.requested_by = Some(caller.to_string());
    accepted(&queue, queue.enqueue(&spec)?)
}

/// Fetches the pages that an ended run has not delivered.
async fn retry(
    State(queue): State<RunQueue>,
    Extension(ApiCaller(caller)): Extension<ApiCaller>,
    RunPath(id): RunPath,
) -> Result<Response, Problem> {
    let run = queue.retry(id, &caller).map_err(|error| match error {
        RetryError::NotFound => Problem::unknown_run(),
        RetryError::NotEnded | RetryError::NothingLeft => Problem::conflict(error.to_string()),
        RetryError::Enqueue(error) => error.into(),
    })?;
    accepted(&queue, run)
}

fn accepted(queue: &RunQueue, run: Uuid) -> Result<Response, Problem> {
    let stored = queue.run(run)?.ok_or_else(Problem::unknown_run)?;
    let location = [(header::LOCATION, format!("/v1/runs/{run}"))];
    Ok((StatusCode::ACCEPTED, location, Json(stored)).into_response())
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct CancelQuery {
    /// Drop what is not delivered yet.
    #[serde(default)]
    force: bool,
}

async fn cancel(
    State(queue): State<RunQueue>,
    Extension(ApiCaller(caller)): Extension<ApiCaller>,
    RunPath(id): RunPath,
    query: Result<Query<CancelQuery>, QueryRejection>,
) -> Result<StatusCode, Problem> {
    let Query(CancelQuery { force }) =
        query.map_err(|rejection| Problem::bad_request(rejection.body_text()))?;
    match queue.cancel(id, force, &caller)? {
        CancelOutcome::Cancelling => Ok(StatusCode::ACCEPTED),
        CancelOutcome::Cancelled => Ok(StatusCode::NO_CONTENT),
        CancelOutcome::AlreadyEnded => Err(Problem::conflict("the run has ended".to_owned())),
        CancelOutcome::NotFound => Err(Problem::unknown_run()),
    }
}

#[derive(Serialize)]
struct ScheduleView {
    /// The next start, if one is scheduled.
    next_start: Option<jiff::Timestamp>,
    /// The next five starts.
    next_starts: Vec<jiff::Timestamp>,
    /// Since when and by whom the schedule is paused.
    paused: Option<SchedulePause>,
    /// Id of the active run.
    running: Option<String>,
    /// The time that the rate limit alone takes for a scheduled run.
    expected_seconds: u64,
    schedule: crate::config::ScheduleSettings,
}

async fn schedule(State(queue): State<RunQueue>) -> Result<Json<ScheduleView>, Problem> {
    let settings = queue.settings();
    let rate_limit = &settings.source.rate_limit;
    let expected = rate_limit.min_duration(settings.run.users, settings.source.page_size);
    let next_starts = queue.next_starts();
    Ok(Json(ScheduleView {
        next_start: next_starts.first().copied(),
        next_starts,
        paused: queue.store().paused()?,
        running: queue.active_run().map(|run| run.to_string()),
        expected_seconds: expected.as_secs(),
        schedule: settings.schedule.clone(),
    }))
}

async fn pause(
    state: State<RunQueue>,
    Extension(ApiCaller(caller)): Extension<ApiCaller>,
) -> Result<Json<ScheduleView>, Problem> {
    state.pause(&caller)?;
    tracing::info!(%caller, "schedule paused");
    schedule(state).await
}

async fn resume(
    state: State<RunQueue>,
    Extension(ApiCaller(caller)): Extension<ApiCaller>,
) -> Result<Json<ScheduleView>, Problem> {
    state.resume()?;
    tracing::info!(%caller, "schedule resumed");
    schedule(state).await
}

#[cfg(test)]
mod tests;
