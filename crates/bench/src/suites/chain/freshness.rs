//! Freshness of a single user: from the request for a run of one user until the row is visible, through all services, at
//! a steady rate. A run that waits for the previous one counts its wait.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use hdrhistogram::Histogram;
use reqwest::StatusCode;
use serde_json::{Value, json};
use testkit::randomuser::{Options, RandomUserApi};
use testkit::service::Service;
use uuid::Uuid;

use super::pipeline::{Pipeline, TIMEOUT};
use crate::env::BenchEnv;
use crate::env::ingester::on_request;
use crate::measure::histogram::{histogram, quantile_ms, record};
use crate::measure::spread::{Spread, summary};
use crate::report::figure::Figure;

/// Between two runs, so that they do not overlap.
const INTERVAL: Duration = Duration::from_millis(200);
const POLL_INTERVAL: Duration = Duration::from_millis(1);
const RETRY_DELAY: Duration = Duration::from_millis(2);
/// Runs at the start of a round that do not count.
const WARMUP_RUNS: u64 = 20;
const MAX_P50_MS: f64 = 15.0;
const MAX_P99_MS: f64 = 40.0;

/// The rounds, in milliseconds.
#[derive(Default)]
pub(super) struct Freshness {
    p50: Vec<f64>,
    p99: Vec<f64>,
}

impl Freshness {
    pub(super) async fn measure(env: &mut BenchEnv, singles: u64, rounds: usize) -> Result<Self> {
        let mut freshness = Self::default();
        for number in 1..=rounds {
            let latencies = measure_round(env, singles, number).await?;
            let [p50, p99] = [0.50, 0.99].map(|quantile| quantile_ms(&latencies, quantile));
            println!("round {number}: {singles} runs of one user: p50 {p50:.1} ms, p99 {p99:.1} ms");
            freshness.p50.push(p50);
            freshness.p99.push(p99);
        }
        println!(
            "freshness of a single user: p50 {} ms, p99 {} ms",
            summary(&freshness.p50),
            summary(&freshness.p99)
        );
        Ok(freshness)
    }

    /// Two goals; the figure is met if both are.
    pub(super) fn figure(&self) -> Figure {
        let [p50, p99] = [&self.p50, &self.p99].map(|rounds| Spread::of(rounds.iter().copied()));
        let met = p50
            .zip(p99)
            .map(|(p50, p99)| p50.median <= MAX_P50_MS && p99.median <= MAX_P99_MS);
        let median = p50.map_or_else(String::new, |p50| format!(" (p50: {p50})"));
        let name = format!("freshness of a single user, p99{median}");
        let goal = format!("<= {MAX_P99_MS} (p50: <= {MAX_P50_MS})");
        Figure::new(name, p99, "ms", goal, met)
    }
}

async fn measure_round(env: &mut BenchEnv, singles: u64, number: usize) -> Result<Histogram<u64>> {
    let pipeline = Pipeline::start(env, &format!("single_{number}")).await?;
    let api = RandomUserApi::start(Options::unlimited()).await?;
    let (options, runs_url, _port) = on_request(pipeline.ingester(&api))?;
    let mut ingester = Service::start(&options)?;
    ingester.wait_until_ready(TIMEOUT).await?;
    let client = Client {
        http: reqwest::Client::builder().no_proxy().timeout(TIMEOUT).build()?,
        api_url: format!("{}/api/1.4/", api.url()),
        runs_url,
    };
    let mut latencies = histogram();
    let start = Instant::now() + INTERVAL;
    for single in 0..WARMUP_RUNS + singles {
        let seed = format!("single-{number}-{single}");
        let id = client.user_id(&seed).await?;
        let due = start + INTERVAL * u32::try_from(single).unwrap_or(u32::MAX);
        tokio::time::sleep_until(due.into()).await;
        client.request_run(&seed).await?;
        let latency = wait_for_row(env, &pipeline, id, due).await?;
        if single >= WARMUP_RUNS {
            record(&mut latencies, latency);
        }
    }
    ingester.terminate(TIMEOUT).await?;
    let topic = pipeline.target.topic.clone();
    pipeline.stop(env).await?;
    env.delete_topic(&topic).await?;
    Ok(latencies)
}

/// A client of the API and of the ingester.
struct Client {
    http: reqwest::Client,
    api_url: String,
    runs_url: String,
}

impl Client {
    /// The user that the API returns for a seed.
    async fn user_id(&self, seed: &str) -> Result<Uuid> {
        let url = format!("{}?results=1&seed={seed}", self.api_url);
        let page: Value = self.http.get(url).send().await?.json().await?;
        let id = page["results"][0]["login"]["uuid"].as_str();
        let id = id.with_context(|| format!("the API returned no user: {page}"))?;
        Uuid::parse_str(id).with_context(|| format!("failed to parse the id {id}"))
    }

    /// Requests a run, until the previous one has ended.
    async fn request_run(&self, seed: &str) -> Result<()> {
        let body = json!({ "users": 1, "seed": seed });
        loop {
            let response = self.http.post(&self.runs_url).json(&body).send().await?;
            if response.status() != StatusCode::CONFLICT {
                response.error_for_status()?;
                return Ok(());
            }
            tokio::time::sleep(RETRY_DELAY).await;
        }
    }
}

async fn wait_for_row(env: &BenchEnv, pipeline: &Pipeline, id: Uuid, due: Instant) -> Result<Duration> {
    let query = format!("SELECT id FROM {} WHERE id = {id}", pipeline.target.full_table());
    while env.cassandra.run(&query).await?.is_empty() {
        ensure!(
            due.elapsed() < TIMEOUT,
            "no row of user {id} within {} s:\n{}",
            TIMEOUT.as_secs(),
            pipeline.streamer.last_lines(20)
        );
        tokio::time::sleep(POLL_INTERVAL).await;
    }
    Ok(due.elapsed())
}
