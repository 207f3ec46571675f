//! How fresh a row is: from the request for a run of one user until the row is seen, through all three services, again
//! and again at a steady rate. A run that has to wait for the one before it is as late as that makes it.

use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use reqwest::StatusCode;
use serde_json::{Value, json};
use uuid::Uuid;

use super::line::{Line, READY};
use crate::error::BenchError;
use crate::field::Field;
use crate::figures::{Figure, spread};
use crate::histogram::{histogram, millis, note};
use crate::spread::Spread;
use testkit::randomuser::{Options, RandomUserApi};
use testkit::servers::ports::PortLease;
use testkit::service::Service;

/// Between two runs: they must not overlap.
const EVERY: Duration = Duration::from_millis(200);
const LOOK: Duration = Duration::from_millis(1);
const AGAIN: Duration = Duration::from_millis(2);
/// The first of a round: connections are made, code is compiled.
const WARM: u64 = 20;
const MEDIAN: f64 = 15.0;
const TAIL: f64 = 40.0;

/// What the rounds gave, in milliseconds.
#[derive(Default)]
pub(super) struct Freshness {
    middles: Vec<f64>,
    tails: Vec<f64>,
}

impl Freshness {
    pub(super) async fn measure(field: &mut Field, singles: u64, rounds: usize) -> Result<Self, BenchError> {
        let mut seen = Self::default();
        for number in 1..=rounds {
            let histogram = round(field, singles, number).await?;
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

    /// Two goals in one line: it is met when both are.
    pub(super) fn figure(&self) -> Figure {
        let (middle, tail) = (Spread::of(&self.middles), Spread::of(&self.tails));
        let met = middle
            .zip(tail)
            .map(|(middle, tail)| middle.median <= MEDIAN && tail.median <= TAIL);
        let told = middle.map_or_else(String::new, |it| {
            format!(" (p50: {:.1}, {:.1} to {:.1})", it.median, it.min, it.max)
        });
        let name = format!("freshness of a single user, p99{told}");
        let goal = format!("<= {TAIL} (p50: <= {MEDIAN})");
        Figure::judged(name, None, "ms", goal, met).of_rounds(tail)
    }
}

async fn round(field: &mut Field, singles: u64, number: usize) -> Result<Histogram<u64>, BenchError> {
    let line = Line::start(field, &format!("single_{number}")).await?;
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
    let start = Instant::now() + EVERY;
    for single in 0..WARM + singles {
        let seed = format!("single-{number}-{single}");
        let id = runs.user(&seed).await?;
        let intended = start + EVERY * u32::try_from(single).unwrap_or(u32::MAX);
        tokio::time::sleep_until(intended.into()).await;
        runs.begin(&seed).await?;
        let age = seen(field, &line, id, intended).await?;
        if single >= WARM {
            note(&mut fresh, age);
        }
    }
    ingester.terminate(READY).await?;
    let topic = line.site.topic.clone();
    line.stop(field).await?;
    field.delete_topic(&topic).await?;
    Ok(fresh)
}

/// The two ends at which a run begins.
struct Runs {
    client: reqwest::Client,
    api: String,
    runs: String,
}

impl Runs {
    /// Who comes with this seed.
    async fn user(&self, seed: &str) -> Result<Uuid, BenchError> {
        let ask = self.client.get(format!("{}?results=1&seed={seed}", self.api));
        let reply: Value = ask.send().await?.json().await?;
        let id = reply["results"][0]["login"]["uuid"].as_str().unwrap_or_default();
        Uuid::parse_str(id).map_err(|_| BenchError::Incomplete(reply.to_string()))
    }

    /// Asks for a run until the one before it is over.
    async fn begin(&self, seed: &str) -> Result<(), BenchError> {
        loop {
            let wish = self
                .client
                .post(&self.runs)
                .json(&json!({ "users": 1, "seed": seed }));
            let answer = wish.send().await?;
            if answer.status() != StatusCode::CONFLICT {
                answer.error_for_status()?;
                return Ok(());
            }
            tokio::time::sleep(AGAIN).await;
        }
    }
}

async fn seen(field: &Field, line: &Line, id: Uuid, intended: Instant) -> Result<Duration, BenchError> {
    let ask = format!(
        "SELECT id FROM {}.{} WHERE id = {id}",
        line.site.keyspace, line.site.table
    );
    while field.table.run(&ask).await?.is_empty() {
        if intended.elapsed() > READY {
            return Err(BenchError::Incomplete(line.streamer.last_lines(20)));
        }
        tokio::time::sleep(LOOK).await;
    }
    Ok(intended.elapsed())
}
