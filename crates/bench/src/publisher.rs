//! `scripts/bench publisher`: the door to Kafka against a bare producer loop and, with `--peers`, against Benthos and the
//! original's loop in Python, in one run.

pub mod bare;
pub mod benthos;
pub mod connection;
mod contest;
pub mod load;
mod loops;
pub mod noop;
mod rig;

use std::fmt;
use std::time::Duration;

use thiserror::Error;

use super::bare::LoopError;
use super::figures::{Figure, Goal};
use super::machine::peer_versions;
use super::peers::python::Producer;
use super::report::{Report, SentLine};
use super::usage::Cost;
use benthos::BenthosError;
use contest::Costs;
use load::LoadError;
use rig::Rig;
use testkit::process::ProcessError;
use testkit::servers::ServerError;
use testkit::service::ServiceError;
use testkit::workspace::WorkspaceError;

/// How much is measured.
#[derive(Debug, Clone)]
pub struct PublisherBench {
    /// Rounds that count.
    pub rounds: usize,
    /// How long each measurement of a round takes.
    pub length: Duration,
    /// Whether Benthos and the original's loop are measured, too.
    pub peers: bool,
}

/// The bench could not measure.
#[derive(Debug, Error)]
#[allow(missing_docs, reason = "each is the error of the part it names")]
pub enum PublisherBenchError {
    #[error(transparent)]
    Server(#[from] ServerError),
    #[error(transparent)]
    Service(#[from] ServiceError),
    #[error(transparent)]
    Process(#[from] ProcessError),
    #[error(transparent)]
    Workspace(#[from] WorkspaceError),
    #[error(transparent)]
    Benthos(#[from] BenthosError),
    #[error("load on {on}")]
    Load {
        on: &'static str,
        #[source]
        source: LoadError,
    },
    #[error("the publisher's address {0} can't be read")]
    Address(String),
    #[error(transparent)]
    Bare(#[from] LoopError),
}

/// What each contestant has carried in one round, and what it cost.
struct Round {
    bare: Cost,
    ours: Costs,
    peer: Option<Costs>,
    /// In the order of [`Producer::ALL`].
    loops: Option<Vec<Cost>>,
}

/// All rounds. One that a peer does not take part in to the last is as if it had never come.
struct Rounds(Vec<Round>);

impl PublisherBench {
    /// Measures; prints what it does on the way.
    ///
    /// # Errors
    /// [`PublisherBenchError`]; a goal that is missed is none.
    pub async fn run(&self) -> Result<Report, PublisherBenchError> {
        let mut rig = Rig::start(self).await?;
        rig.check_the_load_generator().await?;
        let warming = rig.warm_up().await?;
        rig.sweep().await?;
        let mut rounds = Rounds(Vec::new());
        for round in 0..self.rounds {
            rounds.0.push(rig.round(round).await?);
        }
        let (mut latencies, mut peaks) = (Vec::new(), Vec::new());
        for _ in 0..self.rounds {
            latencies.push(rig.latency().await?);
        }
        for round in 0..self.rounds {
            peaks.push(rig.full_load(round).await?);
        }
        let ready = rig.start_to_ready().await?;
        let mut report = Report::new("publisher")
            .set("rounds", &self.rounds)
            .set("rounds to warm up", &warming)
            .set("seconds of each measurement", &self.length.as_secs())
            .set("linger of the bare loop, ms", &rig.linger_ms());
        if self.peers {
            report.versions.extend(peer_versions());
        }
        report.absent.clone_from(rig.absent());
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
                "records/s in requests of 100, publisher / bare loop",
                self.each(|round| Some(speed(&round.ours.many) / speed(&round.bare))),
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

    /// Everyone's own figures.
    fn sent(&self) -> Vec<SentLine> {
        let mut lines = vec![
            SentLine::of("bare producer loop", &self.each(|round| Some(round.bare))),
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
            let costs = self.each(|round| round.loops.as_ref()?.get(place).copied());
            lines.push(SentLine::of(&producer.name(), &costs));
        }
        lines.into_iter().flatten().collect()
    }

    /// Of each round; nothing if one of them has none.
    fn each<T>(&self, of: impl Fn(&Round) -> Option<T>) -> Vec<T> {
        let all: Option<Vec<T>> = self.0.iter().map(of).collect();
        all.unwrap_or_default()
    }
}

impl fmt::Display for Round {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bare = self.bare.rows_per_second();
        write!(f, "bare loop {bare:.0} records/s, publisher {}", self.ours)?;
        if let Some(peer) = &self.peer {
            write!(f, ", Benthos {peer}")?;
        }
        for (producer, cost) in Producer::ALL.into_iter().zip(self.loops.iter().flatten()) {
            write!(f, ", {} {:.0}", producer.name(), cost.rows_per_second())?;
        }
        Ok(())
    }
}
