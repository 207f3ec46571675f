//! `GET /v1/pipeline`: the state of every stage from the API to Cassandra, as one document. An unreachable service is a
//! state of the document, never an error of the request.

mod document;

use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::extract::State;
use jiff::Timestamp;
use reqwest::Client;
use serde::Serialize;
use tokio::sync::Mutex;

use self::document::{DeadLettersSection, DependencyReport, Document, Fetched, LagSection};
use super::json::Json;
use super::problem::Problem;
use super::status::{IngesterStatus, RunSection, ScheduleSection, SourceState};
use crate::config::PipelineSettings;
use crate::http::direct_client;
use crate::http::endpoint::Endpoint;
use crate::store::StoreError;

/// For this long the documents of the other services are reused, so that many open pages cost them one request a second.
const CACHE_DURATION: Duration = Duration::from_secs(1);

/// Composes the view. Clones share the cache.
#[derive(Clone)]
pub(super) struct PipelineComposer {
    ingester: IngesterStatus,
    settings: PipelineSettings,
    client: Client,
    /// Locked during the requests, so that callers wait for one result instead of a new request.
    cached: Arc<Mutex<Option<OtherServices>>>,
}

/// What the other services report.
#[derive(Clone)]
struct OtherServices {
    publisher: Arc<Fetched>,
    streamer: Arc<Fetched>,
    at: Instant,
}

/// The state of a stage.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum StageState {
    /// It works, or is idle.
    Ok,
    /// It works, but something else holds it back.
    Waiting,
    /// It does not work.
    Down,
    /// Not known.
    Unknown,
}

/// A stage of the pipeline.
#[derive(Debug, PartialEq, Serialize)]
struct Stage {
    name: &'static str,
    state: StageState,
    /// Why, as a sentence.
    reason: Option<String>,
    /// Records per second from this stage to the next, over the last minute.
    records_per_second: Option<f64>,
}

/// The four figures that say how well the pipeline does.
#[derive(Debug, PartialEq, Serialize)]
struct ViewFigures {
    /// Milliseconds from the API's response to the row, 99th percentile of the last minute.
    freshness_p99_ms: Option<f64>,
    /// Records in Kafka that are not in the table yet.
    lag: Option<i64>,
    /// Dead letters of the last 24 hours.
    dead_letters_24h: Option<u64>,
    /// When the last complete run ended.
    last_success_at: Option<Timestamp>,
}

/// The response of `GET /v1/pipeline`.
#[derive(Serialize)]
pub(super) struct PipelineView {
    stages: [Stage; 6],
    figures: ViewFigures,
    run: Option<RunSection>,
    schedule: ScheduleSection,
    lag: Option<LagSection>,
    dead_letters: Option<DeadLettersSection>,
}

/// Handles `GET /v1/pipeline`.
pub(super) async fn pipeline(
    State(pipeline): State<PipelineComposer>,
) -> Result<Json<PipelineView>, Problem> {
    Ok(Json(pipeline.view().await?))
}

impl PipelineComposer {
    /// # Errors
    /// When TLS can't be set up.
    pub(super) fn new(ingester: IngesterStatus, settings: PipelineSettings) -> Result<Self, reqwest::Error> {
        Ok(Self {
            ingester,
            settings,
            client: direct_client(document::TIMEOUT, document::TIMEOUT)?,
            cached: Arc::default(),
        })
    }

    async fn view(&self) -> Result<PipelineView, StoreError> {
        let services = self.services().await;
        let run = self.ingester.run()?;
        let (publisher, streamer) = (services.publisher.document(), services.streamer.document());
        let rates = self.ingester.rates();
        let streamer_rates = streamer.and_then(|it| it.rates);
        let publisher_rates = publisher.and_then(|it| it.rates);
        let schedule = self.ingester.schedule()?;
        let published = own(&services.publisher, self.ingester.publisher_outage());
        let rows = streamer_rates.map(|it| it.rows_per_second.unwrap_or(it.records_per_second));
        let stages = [
            stage(
                "source",
                source(self.ingester.source()?),
                Some(rates.fetched_per_second),
            ),
            stage(
                "ingester",
                ingester(run.as_ref(), &schedule),
                Some(rates.delivered_per_second),
            ),
            stage(
                "publisher",
                published,
                publisher_rates.map(|it| it.records_per_second),
            ),
            stage(
                "kafka",
                server("kafka", [publisher, streamer]),
                streamer_rates.map(|it| it.records_per_second),
            ),
            stage("streamer", own(&services.streamer, None), rows),
            stage("cassandra", server("cassandra", [None, streamer]), None),
        ];
        let lag = streamer.and_then(|it| it.lag.clone());
        let dead_letters = streamer.and_then(|it| it.dead_letters.clone());
        Ok(PipelineView {
            stages,
            figures: ViewFigures {
                freshness_p99_ms: streamer
                    .and_then(|it| it.end_to_end)
                    .and_then(|quantiles| quantiles.p99_ms),
                lag: lag.as_ref().and_then(|lag| lag.total),
                dead_letters_24h: dead_letters.as_ref().map(|it| it.last_24h.values().sum()),
                last_success_at: self.ingester.last_success()?,
            },
            run,
            schedule,
            lag,
            dead_letters,
        })
    }

    async fn services(&self) -> OtherServices {
        let mut cached = self.cached.lock().await;
        if let Some(services) = cached.as_ref().filter(|it| it.at.elapsed() < CACHE_DURATION) {
            return services.clone();
        }
        let (publisher, streamer) = tokio::join!(
            self.fetch(
                self.settings.publisher_url.as_ref(),
                "publisher",
                "pipeline.publisher_url"
            ),
            self.fetch(
                self.settings.streamer_url.as_ref(),
                "streamer",
                "pipeline.streamer_url"
            ),
        );
        let services = OtherServices {
            publisher: Arc::new(publisher),
            streamer: Arc::new(streamer),
            at: Instant::now(),
        };
        cached.insert(services).clone()
    }

    async fn fetch(&self, admin: Option<&Endpoint>, service: &str, key: &'static str) -> Fetched {
        match admin {
            Some(admin) => document::fetch(&self.client, admin.url(), service).await,
            None => Fetched::NotConfigured(key),
        }
    }
}

impl Fetched {
    fn document(&self) -> Option<&Document> {
        match self {
            Self::Document(document) => Some(document),
            Self::NotConfigured(_) | Self::Unavailable(_) => None,
        }
    }
}

/// A state and its reason.
type Assessment = (StageState, Option<String>);

fn stage(name: &'static str, (state, reason): Assessment, records_per_second: Option<f64>) -> Stage {
    Stage {
        name,
        state,
        reason,
        records_per_second,
    }
}

fn source(state: SourceState) -> Assessment {
    match state {
        SourceState::Ok(reason) => (StageState::Ok, reason),
        SourceState::Waiting(reason) => (StageState::Waiting, Some(reason)),
        SourceState::Down(reason) => (StageState::Down, Some(reason)),
        SourceState::Unknown(reason) => (StageState::Unknown, Some(reason)),
    }
}

fn ingester(run: Option<&RunSection>, schedule: &ScheduleSection) -> Assessment {
    match run {
        Some(RunSection {
            waits_for: Some(reason),
            ..
        }) => (StageState::Waiting, Some(reason.clone())),
        Some(run) => (
            StageState::Ok,
            Some(format!("running: {:.0} %", run.percent.floor())),
        ),
        None if schedule.paused => (StageState::Ok, Some("idle: the schedule is paused".to_owned())),
        None => (StageState::Ok, Some("idle".to_owned())),
    }
}

/// The servers that have a stage of their own.
const SERVERS: [&str; 2] = ["kafka", "cassandra"];

/// The state of a service of ours. `outage` is what the ingester itself knows of it.
fn own(fetched: &Fetched, outage: Option<String>) -> Assessment {
    let document = match fetched {
        Fetched::Document(document) => document,
        Fetched::Unavailable(reason) => return (StageState::Down, Some(reason.clone())),
        Fetched::NotConfigured(key) => {
            return match outage {
                Some(reason) => (StageState::Down, Some(reason)),
                None => (StageState::Unknown, Some(format!("{key} is not set"))),
            };
        }
    };
    let missing = || {
        document
            .dependencies
            .iter()
            .filter(|dependency| !dependency.ready)
    };
    let (servers, of_its_own): (Vec<_>, Vec<_>) =
        missing().partition(|dependency| SERVERS.contains(&dependency.name.as_str()));
    if document.stopping {
        (StageState::Waiting, Some("it shuts down".to_owned()))
    } else if !of_its_own.is_empty() {
        let reason = |report: &DependencyReport| format!("{}: {}", report.name, report.reason());
        let reasons: Vec<_> = of_its_own.into_iter().map(reason).collect();
        (StageState::Down, Some(reasons.join("; ")))
    } else if !servers.is_empty() {
        let names: Vec<_> = servers.iter().map(|server| title(&server.name)).collect();
        (
            StageState::Waiting,
            Some(format!("it waits for {}", names.join(" and "))),
        )
    } else if document.ready {
        (StageState::Ok, None)
    } else {
        (StageState::Down, Some("not ready".to_owned()))
    }
}

/// The state of a server, by the readiness of the services that use it.
fn server(name: &str, users: [Option<&Document>; 2]) -> Assessment {
    let reports: Vec<_> = users
        .into_iter()
        .flatten()
        .flat_map(|user| user.dependencies.iter().map(move |dependency| (user, dependency)))
        .filter(|(_, dependency)| dependency.name == name)
        .collect();
    if reports.is_empty() {
        return (StageState::Unknown, Some("no service reports it".to_owned()));
    }
    let outages: Vec<_> = reports
        .iter()
        .filter(|(_, dependency)| !dependency.ready)
        .map(|(user, dependency)| format!("{}: {}", user.service, dependency.reason()))
        .collect();
    if outages.is_empty() {
        (StageState::Ok, None)
    } else {
        (StageState::Down, Some(outages.join("; ")))
    }
}

fn title(server: &str) -> &str {
    match server {
        "kafka" => "Kafka",
        "cassandra" => "Cassandra",
        other => other,
    }
}

#[cfg(test)]
mod tests;
