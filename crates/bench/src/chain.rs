//! `bench chain`: runs from the API to Cassandra through all three services, and the streamer compared with its
//! peers.

mod breakdown;
mod freshness;
mod pipeline;
mod recovery;
mod throughput;

use std::path::Path;
use std::time::Duration;

use self::freshness::Freshness;
use self::recovery::Recovery;
use self::throughput::ChainThroughput;
use crate::env::BenchEnv;
use crate::error::BenchError;
use crate::peers::Installed;
use crate::report::figures::Figure;
use crate::report::machine::peer_versions;
use crate::report::{BreakdownLine, Report};
use crate::sink::compare::{SinkComparison, SinkResults};

/// Options of the benchmark.
#[derive(Debug, Clone)]
pub struct ChainBench {
    /// Users of a run through the whole chain.
    pub users: u64,
    /// Records in the backlog that all sinks drain.
    pub records: u64,
    /// Measured rounds.
    pub rounds: usize,
    /// Runs of one user in each round.
    pub singles: u64,
    /// Duration of each steady rate; zero: no steady rates.
    pub steady: Duration,
}

/// Results of the completed sections.
#[derive(Default)]
struct Measured {
    through: ChainThroughput,
    freshness: Freshness,
    measured: SinkResults,
    recovery: Recovery,
}

impl ChainBench {
    /// Measures and prints its progress. Writes the results to `out` after each section, so that a later failure
    /// loses only its own section.
    ///
    /// # Errors
    /// [`BenchError`]; a missed goal or a failed peer is no error.
    pub async fn run(&self, peers: &Installed, out: Option<&Path>) -> Result<Report, BenchError> {
        let mut env = BenchEnv::start(1, 1).await?;
        let mut done = Measured {
            through: ChainThroughput::measure(&mut env, self.users, self.rounds).await?,
            ..Measured::default()
        };
        self.keep(&done, peers, out)?;
        done.freshness = Freshness::measure(&mut env, self.singles, self.rounds).await?;
        self.keep(&done, peers, out)?;
        let compare = SinkComparison {
            records: self.records,
            rounds: self.rounds,
            steady: self.steady,
        };
        done.measured = compare.run(&mut env, &peers.sinks).await?;
        self.keep(&done, peers, out)?;
        done.recovery = Recovery::measure(&mut env, self.rounds).await?;
        self.keep(&done, peers, out)
    }

    /// Measures only the run of many users: its goal and its time breakdown.
    ///
    /// # Errors
    /// [`BenchError`]
    pub async fn throughput_only(
        &self,
        env: &mut BenchEnv,
    ) -> Result<(Figure, Vec<BreakdownLine>), BenchError> {
        let through = ChainThroughput::measure(env, self.users, self.rounds).await?;
        Ok((through.figure(), through.breakdown()))
    }

    fn keep(&self, done: &Measured, peers: &Installed, out: Option<&Path>) -> Result<Report, BenchError> {
        let report = self.report(done, peers);
        if let Some(out) = out {
            report.write(out)?;
        }
        Ok(report)
    }

    fn report(&self, done: &Measured, peers: &Installed) -> Report {
        let mut report = Report::new("chain")
            .set("users", &self.users)
            .set("records", &self.records)
            .set("rounds", &self.rounds)
            .set("partitions", &6)
            .set(
                "services",
                &"defaults, except addresses, the ingester's rate limit and state.path",
            );
        for sink in &peers.sinks {
            report = report.set(&format!("settings of {}", sink.name()), &sink.describe());
        }
        if !peers.sinks.is_empty() {
            report.versions.extend(peer_versions());
        }
        let measured = &done.measured;
        report.figures = vec![
            done.through.figure(),
            done.freshness.figure(),
            measured.against("spark", 5.0),
            measured.against("benthos", 2.0),
            done.through.memory_against(measured.peak_of("spark").as_deref()),
        ];
        report.figures.extend(done.recovery.figures());
        report.breakdown = done.through.breakdown();
        report.drains.clone_from(&measured.drains);
        report.latencies.clone_from(&measured.latencies);
        report.memory.clone_from(&done.through.memory);
        report.memory.extend(measured.memory.iter().cloned());
        report.absent.clone_from(&peers.absent);
        report.absent.extend(measured.absent.clone());
        report
    }
}
