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

use crate::scheduler::run_queue::{RunQueue, EnqueueError, CancelOutcome, RunRequest};
use crate::run::{Trigger, Run, RunFilter};
use crate::store::Refused;
use crate::run::plan::{PageRange, Seed};

mod events;
mod problem;

use problem::Problem;

/// Answers under way get this long when the API ends by itself; streams of events would go on as long as a run.
const LAST_ANSWERS: Duration = Duration::from_secs(1);
/// Bodies hold three short values.
const LARGEST_BODY: usize = 16 << 10;
/// Entries in one answer.
const MOST_RUNS: u32 = 500;
/// RejectedRecord records in one answer.
const MOST_REFUSED: u32 = 1_000;

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
    #[error("a run that was asked for can't be kept in the state")]
    StateLost,
}

/// A bound API that does not answer yet.
pub struct Api {
    listener: TcpListener,
    desk: RunQueue,
    callers: Arc<Callers>,
}

impl Api {
    /// Binds `address`; port 0 takes a free one, which the log names. Only `callers` may ask.
    ///
    /// # Errors
    /// [`ApiError::Listen`].
    pub async fn bind(address: SocketAddr, desk: RunQueue, callers: Arc<Callers>) -> Result<Self, ApiError> {
        let listening = |source| ApiError::Listen { address, source };
        let listener = TcpListener::bind(address).await.map_err(listening)?;
        let bound = listener.local_addr().map_err(listening)?;
        tracing::info!(api = %bound, "listening");
        Ok(Self {
            listener,
            desk,
            callers,
        })
    }

    /// Answers until it is dropped, or until it met a state that can't be used.
    ///
    /// # Errors
    /// [`ApiError::Serve`], [`ApiError::StateLost`].
    pub async fn serve(self) -> Result<(), ApiError> {
        let lost = self.desk.lost().clone();
        let serving = axum::serve(self.listener, router(self.desk, self.callers))
            .with_graceful_shutdown(lost.clone().cancelled_owned());
        let too_long = async {
            lost.cancelled().await;
            sleep(LAST_ANSWERS).await;
        };
        tokio::select! {
            served = serving => served.map_err(ApiError::Serve)?,
            () = too_long => {}
        }
        Err(ApiError::StateLost)
    }
}

fn router(desk: RunQueue, callers: Arc<Callers>) -> Router {
    let known_only = middleware::from_fn_with_state(callers, known_callers_only);
    Router::new()
        .route("/v1/runs", get(runs).post(ask))
        .route("/v1/runs/{id}", get(run).delete(end))
        .route("/v1/runs/{id}/events", get(events::events))
        .route("/v1/schedule", get(schedule))
        .route_layer(known_only)
        // Neither says anything of a run, and a browser can't send a token before it has the page that asks for one.
        .route("/", get(page))
        .route("/openapi.json", get(openapi))
        .fallback(|| async { Problem::nothing_here() })
        .method_not_allowed_fallback(|| async { Problem::wrong_method() })
        .layer(DefaultBodyLimit::max(LARGEST_BODY))
        .layer(middleware::from_fn(own_pages_only))
        .with_state(desk)
}

async fn known_callers_only(
    State(callers): State<Arc<Callers>>,
    request: Request,
    next: Next,
) -> Result<Response, Problem> {
    callers.authenticate(request.headers())?;
    Ok(next.run(request).await)
}

/// A page of somebody else, open in a browser that reaches this port, must not start or end runs.
async fn own_pages_only(request: Request, next: Next) -> Response {
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
    cause: Option<String>,
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
    State(desk): State<RunQueue>,
    asked: Result<Query<RunsQuery>, QueryRejection>,
) -> Result<Json<RunsPage>, Problem> {
    let Query(asked) = asked.map_err(|rejection| Problem::bad_request(rejection.body_text()))?;
    let filter = RunFilter {
        state: named(asked.state.as_deref(), "state")?,
        cause: named(asked.cause.as_deref(), "cause")?,
        before: asked.before.map(|before| before.0),
        limit: asked.limit.unwrap_or(RunFilter::default().limit),
    };
    if !(1..=MOST_RUNS).contains(&filter.limit) {
        return Err(Problem::bad_request(format!(
            "`limit` must lie between 1 and {MOST_RUNS}"
        )));
    }
    let found = desk.memory().runs(&filter)?;
    let full = u32::try_from(found.len()).is_ok_and(|found| found == filter.limit);
    let next = found.last().filter(|_| full).map(|last| {
        let of = |name: &str, value: Option<&str>| {
            value.map_or_else(String::new, |value| format!("&{name}={value}"))
        };
        let state = of("state", filter.state.map(|state| state.name()));
        let cause = of("cause", filter.cause.map(|cause| cause.name()));
        format!("/v1/runs?before={}&limit={}{state}{cause}", last.id, filter.limit)
    });
    let runs = found.into_iter().map(|entry| desk.live(entry)).collect();
    Ok(Json(RunsPage { runs, next }))
}

fn named<T: std::str::FromStr<Err = &'static str>>(
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

async fn run(State(desk): State<RunQueue>, Path(id): Path<String>) -> Result<Response, Problem> {
    let id = id.parse().map_err(|_| Problem::unknown_run())?;
    let run = desk.run(id)?.ok_or_else(Problem::unknown_run)?;
    let refused = desk.memory().refused(id, MOST_REFUSED)?;
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
async fn ask(
    State(desk): State<RunQueue>,
    wanted: Result<Option<Json<StartRunBody>>, JsonRejection>,
) -> Result<Response, Problem> {
    let wanted = wanted.map_err(|rejection| Problem::because(rejection.status(), rejection.body_text()))?;
    let StartRunBody { users, seed, pages } = wanted.map(|Json(wanted)| wanted).unwrap_or_default();
    if users == Some(0) {
        return Err(Problem::bad_request("`users` must be 1 or more".to_owned()));
    }
    let order = desk.order(Trigger::Manual, &RunRequest { users, seed, pages });
    let run = desk.ask(&order).map_err(|error| match error {
        EnqueueError::Busy(run) => Problem::busy(run),
        EnqueueError::Nothing => Problem::bad_request(error.to_string()),
        EnqueueError::Store(error) => error.into(),
    })?;
    let entry = desk.run(run)?.ok_or_else(Problem::unknown_run)?;
    let location = [(header::LOCATION, format!("/v1/runs/{run}"))];
    Ok((StatusCode::ACCEPTED, location, Json(entry)).into_response())
}

async fn end(State(desk): State<RunQueue>, Path(id): Path<String>) -> Result<StatusCode, Problem> {
    let id = id.parse().map_err(|_| Problem::unknown_run())?;
    match desk.end(id)? {
        CancelOutcome::Stopping => Ok(StatusCode::ACCEPTED),
        CancelOutcome::Withdrawn => Ok(StatusCode::NO_CONTENT),
        CancelOutcome::Over => Err(Problem::over()),
        CancelOutcome::Unknown => Err(Problem::unknown_run()),
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

async fn schedule(State(desk): State<RunQueue>) -> Json<ScheduleView> {
    Json(ScheduleView {
        next_start: desk.next_start(),
        running: desk.running().map(|run| run.to_string()),
        schedule: desk.settings().schedule.clone(),
    })
}

#[cfg(test)]
#[path = "api/tests.rs"]
mod tests;
