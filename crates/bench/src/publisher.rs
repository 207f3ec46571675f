//! `bench publisher`: the publisher compared with a producer baseline and, with `--peers`, with Benthos and the
//! original's Python loop.

pub mod benthos;
pub mod connection;
pub mod load;
pub mod noop;
mod python_loops;
mod rounds;
mod setup;
mod target;

use std::time::Duration;

use crate::error::BenchError;
use crate::report::Report;
use crate::report::figures::{Figure, Goal};
use crate::report::machine::peer_versions;
use rounds::Rounds;
use setup::PublisherSetup;

/// Options of the benchmark.
#[derive(Debug, Clone)]
pub struct PublisherBench {
    /// Measured rounds.
    pub rounds: usize,
    /// Duration of each measurement.
    pub length: Duration,
    /// Whether Benthos and the original's loop are measured.
    pub peers: bool,
}

impl PublisherBench {
    /// Measures and prints its progress.
    ///
    /// # Errors
    /// [`BenchError`]; a missed goal is no error.
    pub async fn run(&self) -> Result<Report, BenchError> {
        let mut setup = PublisherSetup::start(self.length, self.peers).await?;
        setup.check_load_generator().await?;
        let warming = setup.warm_up().await?;
        setup.sweep().await?;
        let mut rounds = Rounds(Vec::new());
        for round in 0..self.rounds {
            rounds.0.push(setup.round(round).await?);
        }
        let (mut latencies, mut peaks) = (Vec::new(), Vec::new());
        for _ in 0..self.rounds {
            latencies.push(setup.latency().await?);
        }
        for round in 0..self.rounds {
            peaks.push(setup.full_load(round).await?);
        }
        let ready = setup.start_to_ready().await?;
        let mut report = Report::new("publisher")
            .set("rounds", &self.rounds)
            .set("rounds to warm up", &warming)
            .set("seconds of each measurement", &self.length.as_secs())
            .set("linger of the baseline, ms", &setup.linger_ms());
        if self.peers {
            report.versions.extend(peer_versions());
        }
        report.absent.clone_from(setup.absent());
        report.sent = rounds.sent();
        report.figures = rounds.figures();
        report.figures.extend([
            Figure::measured(
                "one-record latency at 1,000 req/s, p99",
                &latencies,
                "ms",
                Goal::AtMost(10.0),
            ),
            Figure::measured("peak RSS at full load", &peaks, "MiB", Goal::AtMost(96.0)),
            Figure::measured("start to ready", &ready, "ms", Goal::AtMost(200.0)),
        ]);
        Ok(report)
    }
}
