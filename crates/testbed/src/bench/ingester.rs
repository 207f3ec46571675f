//! `scripts/bench ingester`: parsing against Python, the way from the offline API to the publisher against the
//! publisher by itself, memory over a long run, and how soon a triggered run begins.

mod delivery;
mod format;
mod trigger;

use std::path::PathBuf;
use std::time::Duration;

use thiserror::Error;

use self::delivery::Delivery;
use self::format::Replies;
use super::figures::{Figure, Goal, median, spread};
use crate::process::ProcessError;
use crate::randomuser::{Options, RandomUserApi, StartError};
use crate::servers::{KafkaCluster, KafkaOptions, ServerError};
use crate::service::ServiceError;
use crate::workspace::{self, WorkspaceError};

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

/// The bench could not measure.
#[derive(Debug, Error)]
#[allow(missing_docs, reason = "each is the error of the part it names")]
pub enum IngesterBenchError {
    #[error(transparent)]
    Server(#[from] ServerError),
    #[error(transparent)]
    Service(#[from] ServiceError),
    #[error(transparent)]
    Process(#[from] ProcessError),
    #[error(transparent)]
    Api(#[from] StartError),
    #[error(transparent)]
    Workspace(#[from] WorkspaceError),
    #[error("ask a part of the bench")]
    Http(#[from] reqwest::Error),
    #[error("run {0}")]
    Command(String, #[source] std::io::Error),
    #[error("{command} failed: {output}")]
    Failed { command: String, output: String },
    #[error("use {}", path.display())]
    File {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error("the run is not complete:\n{0}")]
    Incomplete(String),
    #[error("no request came within {} s:\n{log}", waited.as_secs())]
    NoRequest { waited: Duration, log: String },
}

/// The users a second that parsing and formatting is to reach on one core.
const FORMATTED: f64 = 200_000.0;
/// And how many times Python's figure.
const TIMES_PYTHON: f64 = 5.0;
/// The last third of a long run may hold so much more than the first.
const FLAT: f64 = 1.1;

impl IngesterBench {
    /// Measures; prints what it does on the way.
    ///
    /// # Errors
    /// [`IngesterBenchError`]; a goal that is missed is none.
    pub async fn run(&self) -> Result<Vec<Figure>, IngesterBenchError> {
        let folder = workspace::target_dir()?.join("bench").join("ingester");
        std::fs::create_dir_all(&folder).map_err(|source| IngesterBenchError::File {
            path: folder.clone(),
            source,
        })?;
        let api = RandomUserApi::start(Options::unlimited()).await?;
        let replies = Replies::fetch(&api, &folder).await?;
        let formatted = self.formatted(&replies)?;
        println!("starting Kafka and the publisher");
        let kafka = KafkaCluster::start(&KafkaOptions::default()).await?;
        let delivery = Delivery::start(&api, &kafka, &replies, &folder).await?;
        let delivered = self.delivered(&delivery).await?;
        let memory = self.memory(&delivery).await?;
        let started = trigger::times(&delivery, &folder, 2 * self.rounds + 1).await?;
        println!("trigger to first request: {} ms", spread(&started));
        let started = Figure::new(
            "trigger to first request out",
            Some(median(&started)),
            "ms",
            Goal::AtMost(100.0),
        );
        Ok(vec![formatted, delivered, memory, started])
    }

    /// Two goals in one line: it is met when both are.
    fn formatted(&self, replies: &Replies) -> Result<Figure, IngesterBenchError> {
        let (mut ours, mut ratios) = (Vec::new(), Vec::new());
        for round in 0..=self.rounds {
            let speed = replies.formatted(self.length)?;
            let python = replies.by_python(self.length)?;
            println!(
                "round {round}: {speed:.0} users/s, Python {python:.0}{}",
                told(round)
            );
            if round > 0 {
                ours.push(speed);
                ratios.push(speed / python);
            }
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
        let mut figure = Figure::new(name, Some(median(&ours)), "users/s", Goal::AtLeast(FORMATTED));
        figure.goal = format!(">= {FORMATTED}, >= {TIMES_PYTHON} x");
        figure.met = figure.met.map(|met| met && median(&ratios) >= TIMES_PYTHON);
        Ok(figure)
    }

    async fn delivered(&self, delivery: &Delivery) -> Result<Figure, IngesterBenchError> {
        let mut ratios = Vec::new();
        for round in 0..=self.rounds {
            let alone = delivery.publisher_alone(self.length).await?;
            let run = delivery.run(self.users, "zstd").await?;
            println!(
                "round {round}: publisher by itself {alone:.0} users/s, from the API {:.0} users/s, {:.1} CPU s per million{}",
                run.users_per_second,
                run.cpu_seconds * 1e6 / run.users,
                told(round)
            );
            if round > 0 {
                ratios.push(run.users_per_second / alone);
            }
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
        Ok(Figure::new(
            "API to publisher, users/s / publisher by itself",
            Some(median(&ratios)),
            "ratio",
            Goal::AtLeast(0.3),
        ))
    }

    async fn memory(&self, delivery: &Delivery) -> Result<Figure, IngesterBenchError> {
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
        let mut figure = Figure::new(name, Some(median(&peaks)), "MiB", Goal::AtMost(48.0));
        figure.goal.push_str(", flat");
        figure.met = figure.met.map(|met| met && median(&growths) <= FLAT);
        Ok(figure)
    }
}

fn told(round: usize) -> &'static str {
    if round == 0 {
        "  (warming up, not counted)"
    } else {
        ""
    }
}
