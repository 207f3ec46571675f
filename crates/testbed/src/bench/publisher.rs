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

use super::figures::{Figure, Goal, median, spread};
use crate::process::ProcessError;
use crate::servers::ServerError;
use crate::service::ServiceError;
use crate::workspace::WorkspaceError;
use benthos::BenthosError;
use load::LoadError;
use rig::Rig;

/// How much is measured.
#[derive(Debug, Clone)]
pub struct PublisherBench {
    /// Rounds that count; one more comes before them, to warm up.
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
    #[error("the bare loop failed: {0}")]
    Bare(String),
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
    pub async fn run(&self) -> Result<Vec<Figure>, PublisherBenchError> {
        let mut rig = Rig::start(self).await?;
        rig.check_the_load_generator().await?;
        let mut rounds = Rounds::default();
        for round in 0..=self.rounds {
            rig.round(round, &mut rounds).await?;
        }
        rounds.tell();
        let latency = rig.latency().await?;
        let peak = rig.full_load().await?;
        let ready = rig.start_to_ready().await?;
        let of = |values: &[f64]| (!values.is_empty()).then(|| median(values));
        Ok(vec![
            Figure::new(
                "records/s in requests of 100, publisher / bare loop",
                of(&rounds.to_bare),
                "ratio",
                Goal::AtLeast(0.7),
            ),
            Figure::new(
                "records/s in requests of 100, publisher / Benthos",
                of(&rounds.to_peer),
                "ratio",
                Goal::AtLeast(6.0),
            ),
            Figure::new(
                "one-record requests/s, 256 callers, publisher / Benthos",
                of(&rounds.singles_to_peer),
                "ratio",
                Goal::AtLeast(2.0),
            ),
            Figure::new(
                "one-record latency at 1,000 req/s, p99",
                Some(latency),
                "ms",
                Goal::AtMost(10.0),
            ),
            Figure::new("peak RSS at full load", Some(peak), "MiB", Goal::AtMost(96.0)),
            Figure::new("start to ready", Some(ready), "ms", Goal::AtMost(200.0)),
        ])
    }
}

impl Rounds {
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
