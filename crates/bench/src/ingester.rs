//! `scripts/bench ingester`: parsing against Python, the way from the offline API to the publisher against the
//! publisher by itself, memory over a long run, and how soon a triggered run begins.

mod delivery;
mod format;
mod trigger;

use std::time::Duration;

use self::delivery::Delivery;
use self::format::Replies;
use super::figures::{Figure, Goal, median, spread};
use super::warmup::Warmup;
use crate::error::BenchError;
use testkit::randomuser::{Options, RandomUserApi};
use testkit::servers::{KafkaCluster, KafkaOptions};
use testkit::workspace;

/// How much is measured.
#[derive(Debug, Clone)]
pub struct IngesterBench {
    /// Rounds that count.
    pub rounds: usize,
    /// Seconds of each measurement of parsing, and of the publisher by itself.
    pub length: Duration,
    /// Users of a run whose speed is measured.
    pub users: u64,
    /// Users of the run whose memory is measured.
    pub long: u64,
}

/// The users a second that parsing and formatting is to reach on one core.
const FORMATTED: f64 = 200_000.0;
/// And how many times Python's figure.
const TIMES_PYTHON: f64 = 5.0;
/// How many bytes of pages the API remembers: enough for a run whose speed is measured, so that people are not made up on
/// the cores that are measured. A long run makes them up all the same.
const REMEMBERED: usize = 256 << 20;
/// The last third of a long run may hold so much more than the first.
const FLAT: f64 = 1.1;

impl IngesterBench {
    /// Measures; prints what it does on the way.
    ///
    /// # Errors
    /// [`BenchError`]; a goal that is missed is none.
    pub async fn run(&self) -> Result<Vec<Figure>, BenchError> {
        let folder = workspace::target_dir()?.join("bench").join("ingester");
        std::fs::create_dir_all(&folder).map_err(|source| BenchError::File {
            path: folder.clone(),
            source,
        })?;
        let api = RandomUserApi::start(Options::unlimited().with_page_cache(REMEMBERED)).await?;
        let replies = Replies::fetch(&api, &folder).await?;
        let formatted = self.formatted(&replies)?;
        println!("starting Kafka and the publisher");
        let kafka = KafkaCluster::start(&KafkaOptions::default()).await?;
        let delivery = Delivery::start(&api, &kafka, &replies, &folder).await?;
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

    /// Two goals in one line: it is met when both are.
    fn formatted(&self, replies: &Replies) -> Result<Figure, BenchError> {
        let mut warmup = Warmup::default();
        while warmup.goes_on() {
            warmup.note(replies.formatted(self.length)?);
            replies.by_python(self.length)?;
        }
        let (mut ours, mut ratios) = (Vec::new(), Vec::new());
        for round in 1..=self.rounds {
            let speed = replies.formatted(self.length)?;
            let python = replies.by_python(self.length)?;
            println!("round {round}: {speed:.0} users/s, Python {python:.0}");
            ours.push(speed);
            ratios.push(speed / python);
        }
        if let Some(samples) = replies.samples(self.length)? {
            println!("real replies beside the repository: {samples:.0} users/s");
        }
        println!(
            "parse and format: {} users/s, {} times Python",
            spread(&ours),
            spread(&ratios)
        );
        let name = format!("parse + format, 1 core; {:.1} times Python", median(&ratios));
        let mut figure = Figure::measured(name, &ours, "users/s", Goal::AtLeast(FORMATTED));
        figure.goal = format!(">= {FORMATTED}, >= {TIMES_PYTHON} x");
        figure.met = figure.met.map(|met| met && median(&ratios) >= TIMES_PYTHON);
        Ok(figure)
    }

    async fn delivered(&self, delivery: &Delivery) -> Result<Figure, BenchError> {
        let mut warmup = Warmup::default();
        while warmup.goes_on() {
            let alone = delivery.publisher_alone(self.length).await?;
            warmup.note(alone + delivery.run(self.users, "zstd").await?.users_per_second);
        }
        let mut ratios = Vec::new();
        for round in 1..=self.rounds {
            let alone = delivery.publisher_alone(self.length).await?;
            let run = delivery.run(self.users, "zstd").await?;
            println!(
                "round {round}: publisher by itself {alone:.0} users/s, from the API {:.0} users/s, {:.1} CPU s per million",
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
        println!("from the API, to the publisher by itself: {}", spread(&ratios));
        Ok(Figure::measured(
            "API to publisher, users/s / publisher by itself",
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
        figure.met = figure.met.map(|met| met && median(&growths) <= FLAT);
        Ok(figure)
    }
}
