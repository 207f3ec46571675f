//! Freshness: the time from the request for a run of one user until its row is visible, at a steady rate.
//!
//! A run that waits for the previous run is late by that wait.

use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use reqwest::StatusCode;
use serde_json::{Value, json};
use uuid::Uuid;

use super::pipeline::{Pipeline, READY};
use crate::env::BenchEnv;
use crate::error::BenchError;
use crate::report::figures::{Figure, spread};
use crate::report::spread::Spread;
use crate::usage::histogram::{histogram, millis, record};
use testkit::randomuser::{Options, RandomUserApi};
use testkit::servers::ports::PortLease;
use testkit::service::Service;

/// Interval between runs; it keeps them from overlapping.
const INTERVAL: Duration = Duration::from_millis(200);
const POLL: Duration = Duration::from_millis(1);
const RETRY_PAUSE: Duration = Duration::from_millis(2);
/// Warm-up runs of each round: they open connections and trigger JIT compilation.
const WARMUP: u64 = 20;
const MEDIAN: f64 = 15.0;
const TAIL: f64 = 40.0;

/// Results of the rounds, in milliseconds.
#[derive(Default)]
pub(super) struct Freshness {
    middles: Vec<f64>,
    tails: Vec<f64>,
}

impl Freshness {
    pub(super) async fn measure(env: &mut BenchEnv, singles: u64, rounds: usize) -> Result<Self, BenchError> {
        let mut seen = Self::default();
        for number in 1..=rounds {
            let histogram = round(env, singles, number).await?;
            let (middle, tail) = (millis(&histogram, 0.50), millis(&histogram, 0.99));
            println!("round {number}: {singles} runs of one user: p50 {middle:.1} ms, p99 {tail:.1} ms");
            seen.middles.push(middle);
            seen.tails.push(tail);
        }
        println!(
            "single user to row: p50 {} ms, p99 {} ms",
            spread(&seen.middles),
            spread(&seen.tails)
        );
        Ok(seen)
    }

    /// Two goals in one line: both must be met.
    pub(super) fn figure(&self) -> Figure {
        let (middle, tail) = (Spread::of(&self.middles), Spread::of(&self.tails));
        let met = middle
            .zip(tail)
            .map(|(middle, tail)| middle.median <= MEDIAN && tail.median <= TAIL);
        let summary = middle.map_or_else(String::new, |it| {
            format!(" (p50: {:.1}, {:.1} to {:.1})", it.median, it.min, it.max)
        });
        let name = format!("freshness of a single user, p99{summary}");
        let goal = format!("<= {TAIL} (p50: <= {MEDIAN})");
        Figure::judged(name, None, "ms", goal, met).of_rounds(tail)
    }
}

async fn round(env: &mut BenchEnv, singles: u64, number: usize) -> Result<Histogram<u64>, BenchError> {
    let line = Pipeline::start(env, &format!("single_{number}")).await?;
    let api = RandomUserApi::start(Options::unlimited()).await?;
    let port = PortLease::free(&[Ipv4Addr::LOCALHOST])?;
    let listen = format!("127.0.0.1:{}", port.port());
    let options = line
        .ingester(&api)
        .set("api.listen", &listen)
        .set("schedule.cron", "0 0 29 2 *");
    let mut ingester = Service::start(&options)?;
    ingester.wait_until_ready(READY).await?;
    let runs = Runs {
        client: reqwest::Client::builder().no_proxy().timeout(READY).build()?,
        api: format!("{}/api/1.4/", api.url()),
        runs: format!("http://{listen}/v1/runs"),
    };
    let mut fresh = histogram();
    let start = Instant::now() + INTERVAL;
    for single in 0..WARMUP + singles {
        let seed = format!("single-{number}-{single}");
        let id = runs.user(&seed).await?;
        let intended = start + INTERVAL * u32::try_from(single).unwrap_or(u32::MAX);
        tokio::time::sleep_until(intended.into()).await;
        runs.begin(&seed).await?;
        let age = wait_for_row(env, &line, id, intended).await?;
        if single >= WARMUP {
            record(&mut fresh, age);
        }
    }
    ingester.terminate(READY).await?;
    let topic = line.config.topic.clone();
    line.stop(env).await?;
    env.delete_topic(&topic).await?;
    Ok(fresh)
}

/// Clients for the API and for the ingester's runs.
struct Runs {
    client: reqwest::Client,
    api: String,
    runs: String,
}

impl Runs {
    /// Returns the user's id for this seed.
    async fn user(&self, seed: &str) -> Result<Uuid, BenchError> {
        let ask = self.client.get(format!("{}?results=1&seed={seed}", self.api));
        let reply: Value = ask.send().await?.json().await?;
        let id = reply["results"][0]["login"]["uuid"].as_str().unwrap_or_default();
        Uuid::parse_str(id).map_err(|_| BenchError::Incomplete(reply.to_string()))
    }

    /// Requests a run; retries while the previous run is active.
    async fn begin(&self, seed: &str) -> Result<(), BenchError> {
        loop {
            let request = self
                .client
                .post(&self.runs)
                .json(&json!({ "users": 1, "seed": seed }));
            let answer = request.send().await?;
            if answer.status() != StatusCode::CONFLICT {
                answer.error_for_status()?;
                return Ok(());
            }
            tokio::time::sleep(RETRY_PAUSE).await;
        }
    }
}

async fn wait_for_row(
    env: &BenchEnv,
    line: &Pipeline,
    id: Uuid,
    intended: Instant,
) -> Result<Duration, BenchError> {
    let ask = format!(
        "SELECT id FROM {}.{} WHERE id = {id}",
        line.config.keyspace, line.config.table
    );
    while env.cassandra_client.run(&ask).await?.is_empty() {
        if intended.elapsed() > READY {
            return Err(BenchError::Incomplete(line.streamer.last_lines(20)));
        }
        tokio::time::sleep(POLL).await;
    }
    Ok(intended.elapsed())
}
