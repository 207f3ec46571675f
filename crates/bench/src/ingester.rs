//! `bench ingester`: parsing compared with Python, delivery to the publisher, memory of a long run, and trigger
//! latency.

mod delivery;
mod format;
mod trigger;

use std::time::Duration;

use self::delivery::Delivery;
use self::format::Responses;
use crate::error::BenchError;
use crate::report::figures::{Figure, Goal, median, spread};
use crate::usage::warmup::Warmup;
use testkit::randomuser::{Options, RandomUserApi};
use testkit::servers::{KafkaCluster, KafkaOptions};
use testkit::workspace;

/// Options of the benchmark.
#[derive(Debug, Clone)]
pub struct IngesterBench {
    /// Measured rounds.
    pub rounds: usize,
    /// Duration of each measurement of parsing and of the publisher alone.
    pub length: Duration,
    /// Users of a run that measures speed.
    pub users: u64,
    /// Users of a run that measures memory.
    pub long: u64,
}

/// Goal for parsing and formatting on one core, in users/s.
const FORMAT_GOAL: f64 = 200_000.0;
/// Goal relative to Python.
const TIMES_PYTHON: f64 = 5.0;
/// Size of the API's page cache in bytes, enough for a run that measures speed. A long run exceeds it.
const PAGE_CACHE: usize = 256 << 20;
/// Goal for the peak of the last third relative to the first.
const GROWTH_LIMIT: f64 = 1.1;

impl IngesterBench {
    /// Measures and prints its progress.
    ///
    /// # Errors
    /// [`BenchError`]; a missed goal is no error.
    pub async fn run(&self) -> Result<Vec<Figure>, BenchError> {
        let folder = workspace::target_dir()?.join("bench").join("ingester");
        std::fs::create_dir_all(&folder).map_err(|source| BenchError::File {
            path: folder.clone(),
            source,
        })?;
        let api = RandomUserApi::start(Options::unlimited().with_page_cache(PAGE_CACHE)).await?;
        let responses = Responses::fetch(&api, &folder).await?;
        let formatted = self.formatted(&responses)?;
        println!("starting Kafka and the publisher");
        let kafka = KafkaCluster::start(&KafkaOptions::default()).await?;
        let delivery = Delivery::start(&api, &kafka, &responses, &folder).await?;
        let delivered = self.delivered(&delivery).await?;
        let memory = self.memory(&delivery).await?;
        let started = trigger::times(&delivery, &folder, 2 * self.rounds + 1).await?;
        println!("trigger to first request: {} ms", spread(&started));
        let started = Figure::measured(
            "trigger to first request out",
            &started,
            "ms",
            Goal::AtMost(100.0),
        );
        Ok(vec![formatted, delivered, memory, started])
    }

    /// Two goals in one line: both must be met.
    fn formatted(&self, responses: &Responses) -> Result<Figure, BenchError> {
        let mut warmup = Warmup::default();
        while warmup.needs_another_round() {
            warmup.record(responses.formatted(self.length)?);
            responses.by_python(self.length)?;
        }
        let (mut ours, mut ratios) = (Vec::new(), Vec::new());
        for round in 1..=self.rounds {
            let speed = responses.formatted(self.length)?;
            let python = responses.by_python(self.length)?;
            println!("round {round}: {speed:.0} users/s, Python {python:.0}");
            ours.push(speed);
            ratios.push(speed / python);
        }
        if let Some(samples) = responses.samples(self.length)? {
            println!("responses of the real API: {samples:.0} users/s");
        }
        println!(
            "parse and format: {} users/s, {} times Python",
            spread(&ours),
            spread(&ratios)
        );
        let name = format!("parse + format, 1 core; {:.1} times Python", median(&ratios));
        let mut figure = Figure::measured(name, &ours, "users/s", Goal::AtLeast(FORMAT_GOAL));
        figure.goal = format!(">= {FORMAT_GOAL}, >= {TIMES_PYTHON} x");
        figure.met = figure.met.map(|met| met && median(&ratios) >= TIMES_PYTHON);
        Ok(figure)
    }

    async fn delivered(&self, delivery: &Delivery) -> Result<Figure, BenchError> {
        let mut warmup = Warmup::default();
        while warmup.needs_another_round() {
            let alone = delivery.publisher_alone(self.length).await?;
            warmup.record(alone + delivery.run(self.users, "zstd").await?.users_per_second);
        }
        let mut ratios = Vec::new();
        for round in 1..=self.rounds {
            let alone = delivery.publisher_alone(self.length).await?;
            let run = delivery.run(self.users, "zstd").await?;
            println!(
                "round {round}: publisher alone {alone:.0} users/s, from the API {:.0} users/s, {:.1} CPU s per million",
                run.users_per_second,
                run.cpu_seconds * 1e6 / run.users
            );
            ratios.push(run.users_per_second / alone);
        }
        for compression in ["none", "gzip", "zstd"] {
            let run = delivery.run(self.users, compression).await?;
            println!(
                "compression {compression}: {:.0} users/s, {:.1} CPU s per million",
                run.users_per_second,
                run.cpu_seconds * 1e6 / run.users
            );
        }
        println!("from the API, to the publisher alone: {}", spread(&ratios));
        Ok(Figure::measured(
            "API to publisher, users/s / publisher alone",
            &ratios,
            "ratio",
            Goal::AtLeast(0.3),
        ))
    }

    async fn memory(&self, delivery: &Delivery) -> Result<Figure, BenchError> {
        let (mut peaks, mut growths) = (Vec::new(), Vec::new());
        for round in 1..=self.rounds {
            let run = delivery.run(self.long, "zstd").await?;
            let (first, last) = run.thirds();
            println!(
                "round {round}: {} users at {:.0} users/s, peak {:.1} MiB; most in the first third {first:.1}, in the last {last:.1}",
                self.long, run.users_per_second, run.peak_mib
            );
            peaks.push(run.peak_mib);
            growths.push(last / first);
        }
        let name = format!(
            "peak RSS of {} users; last third x {:.2}",
            self.long,
            median(&growths)
        );
        let mut figure = Figure::measured(name, &peaks, "MiB", Goal::AtMost(48.0));
        figure.goal.push_str(", flat");
        figure.met = figure.met.map(|met| met && median(&growths) <= GROWTH_LIMIT);
        Ok(figure)
    }
}
