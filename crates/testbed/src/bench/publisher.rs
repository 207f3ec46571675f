//! `scripts/bench publisher`: the door to Kafka against a bare producer loop and, with `--peers`, against Benthos, in
//! one run.

pub mod bare;
pub mod benthos;
pub mod connection;
mod contest;
pub mod load;
pub mod noop;
mod rig;

use std::time::Duration;

use thiserror::Error;

use super::bare::LoopError;
use super::figures::{Figure, Goal, spread};
use super::machine::peer_versions;
use super::report::Report;
use crate::process::ProcessError;
use crate::servers::ServerError;
use crate::service::ServiceError;
use crate::workspace::WorkspaceError;
use benthos::BenthosError;
use contest::Carriers;
use load::LoadError;
use rig::Rig;

/// How much is measured.
#[derive(Debug, Clone)]
pub struct PublisherBench {
    /// Rounds that count.
    pub rounds: usize,
    /// How long each measurement of a round takes.
    pub length: Duration,
    /// Whether Benthos is built and measured, too.
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

/// The figures of all rounds.
#[derive(Default)]
struct Rounds {
    to_bare: Vec<f64>,
    to_peer: Vec<f64>,
    singles_to_peer: Vec<f64>,
}

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
        let mut rounds = Rounds::default();
        for round in 0..self.rounds {
            rig.round(round, &mut rounds).await?;
        }
        rounds.tell();
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
        if let Some(reason) = rig.without_peer() {
            // Rounds before it failed would stand beside those of another length.
            rounds.forget_peer();
            report.absent.insert("Benthos".to_owned(), reason.to_owned());
        }
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
        let ratio = |name: &str, rounds: &[f64], least: f64| {
            Figure::measured(name, rounds, "ratio", Goal::AtLeast(least))
        };
        vec![
            ratio(
                "records/s in requests of 100, publisher / bare loop",
                &self.to_bare,
                0.7,
            ),
            ratio(
                "records/s in requests of 100, publisher / Benthos",
                &self.to_peer,
                6.0,
            ),
            ratio(
                "one-record requests/s, 256 callers, publisher / Benthos",
                &self.singles_to_peer,
                2.0,
            ),
        ]
    }

    fn note(&mut self, carried: &Carriers) {
        self.to_bare.push(carried.ours.records / carried.bare);
        if let Some(peer) = &carried.peer {
            self.to_peer.push(carried.ours.records / peer.records);
            self.singles_to_peer.push(carried.ours.singles / peer.singles);
        }
    }

    fn forget_peer(&mut self) {
        self.to_peer.clear();
        self.singles_to_peer.clear();
    }

    fn tell(&self) {
        println!("records/s, publisher to bare loop: {}", spread(&self.to_bare));
        if !self.to_peer.is_empty() {
            println!("records/s, publisher to Benthos: {}", spread(&self.to_peer));
            println!(
                "one-record requests/s, publisher to Benthos: {}",
                spread(&self.singles_to_peer)
            );
        }
    }
}
