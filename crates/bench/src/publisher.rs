//! `bench publisher`: the publisher compared with a producer baseline and, with `--peers`, with Benthos and the
//! original's Python loop.

pub mod benthos;
pub mod connection;
pub mod load;
pub mod noop;
mod python_loops;
mod setup;
mod target;

use std::fmt;
use std::time::Duration;

use super::figures::{Figure, Goal};
use super::machine::peer_versions;
use super::peers::python::Producer;
use super::report::{Report, SentLine};
use super::usage::Cost;
use crate::error::BenchError;
use setup::PublisherSetup;
use target::Costs;

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

/// Costs of one round.
struct Round {
    baseline: Cost,
    ours: Costs,
    peer: Option<Costs>,
    /// In the order of [`Producer::ALL`].
    python_loops: Option<Vec<Cost>>,
}

/// All rounds. A peer that misses a round has no figures.
struct Rounds(Vec<Round>);

impl PublisherBench {
    /// Measures and prints its progress.
    ///
    /// # Errors
    /// [`BenchError`]; a missed goal is no error.
    pub async fn run(&self) -> Result<Report, BenchError> {
        let mut setup = PublisherSetup::start(self).await?;
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

impl Rounds {
    fn figures(&self) -> Vec<Figure> {
        let ratio = |name: &str, ratios: Vec<f64>, least: f64| {
            Figure::measured(name, &ratios, "ratio", Goal::AtLeast(least))
        };
        let speed = Cost::rows_per_second;
        vec![
            ratio(
                "records/s in requests of 100, publisher / baseline",
                self.each(|round| Some(speed(&round.ours.many) / speed(&round.baseline))),
                0.7,
            ),
            ratio(
                "records/s in requests of 100, publisher / Benthos",
                self.each(|round| Some(speed(&round.ours.many) / speed(&round.peer.as_ref()?.many))),
                6.0,
            ),
            ratio(
                "one-record requests/s, 256 callers, publisher / Benthos",
                self.each(|round| Some(speed(&round.ours.one) / speed(&round.peer.as_ref()?.one))),
                2.0,
            ),
        ]
    }

    /// The figures of each participant.
    fn sent(&self) -> Vec<SentLine> {
        let mut lines = vec![
            SentLine::of("producer baseline", &self.each(|round| Some(round.baseline))),
            SentLine::of(
                "publisher, requests of 100",
                &self.each(|round| Some(round.ours.many)),
            ),
            SentLine::of(
                "publisher, requests of one",
                &self.each(|round| Some(round.ours.one)),
            ),
            SentLine::of(
                "Benthos, requests of 100",
                &self.each(|round| Some(round.peer?.many)),
            ),
            SentLine::of(
                "Benthos, requests of one",
                &self.each(|round| Some(round.peer?.one)),
            ),
        ];
        for (place, producer) in Producer::ALL.into_iter().enumerate() {
            let costs = self.each(|round| round.python_loops.as_ref()?.get(place).copied());
            lines.push(SentLine::of(&producer.name(), &costs));
        }
        lines.into_iter().flatten().collect()
    }

    /// One value of each round; empty if a round lacks it.
    fn each<T>(&self, of: impl Fn(&Round) -> Option<T>) -> Vec<T> {
        let all: Option<Vec<T>> = self.0.iter().map(of).collect();
        all.unwrap_or_default()
    }
}

impl fmt::Display for Round {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let baseline = self.baseline.rows_per_second();
        write!(f, "baseline {baseline:.0} records/s, publisher {}", self.ours)?;
        if let Some(peer) = &self.peer {
            write!(f, ", Benthos {peer}")?;
        }
        for (producer, cost) in Producer::ALL.into_iter().zip(self.python_loops.iter().flatten()) {
            write!(f, ", {} {:.0}", producer.name(), cost.rows_per_second())?;
        }
        Ok(())
    }
}
