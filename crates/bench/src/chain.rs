//! `scripts/bench chain`: the three services as one, from a page of the API to its rows, and the streamer between the
//! topic and the table beside whoever else does that work.

mod freshness;
mod line;
mod recovery;
mod split;
mod through;

use std::path::Path;
use std::time::Duration;

use self::freshness::Freshness;
use self::recovery::Recovery;
use self::through::Through;
use super::contest::{Contest, Sides};
use super::field::Field;
use super::figures::Figure;
use super::machine::peer_versions;
use super::peers::Installed;
use super::report::{Report, SplitLine};
use crate::error::BenchError;

/// How much is measured.
#[derive(Debug, Clone)]
pub struct ChainBench {
    /// Users of a run through the whole chain.
    pub users: u64,
    /// Records in the backlog that all sinks drain.
    pub records: u64,
    /// Rounds that count.
    pub rounds: usize,
    /// Runs of one user in each round.
    pub singles: u64,
    /// Seconds at each steady rate; 0: none.
    pub steady: Duration,
}

/// The sections that are done.
#[derive(Default)]
struct Measured {
    through: Through,
    freshness: Freshness,
    sides: Sides,
    recovery: Recovery,
}

impl ChainBench {
    /// Measures; prints what it does on the way. What is there is written to `out` after each section, so that what
    /// goes wrong later costs nothing but itself.
    ///
    /// # Errors
    /// [`BenchError`]; a goal that is missed is none, and a peer that fails is a line that says so.
    pub async fn run(&self, peers: &Installed, out: Option<&Path>) -> Result<Report, BenchError> {
        let mut field = Field::start(1, 1).await?;
        let mut done = Measured {
            through: Through::measure(&mut field, self.users, self.rounds).await?,
            ..Measured::default()
        };
        self.keep(&done, peers, out)?;
        done.freshness = Freshness::measure(&mut field, self.singles, self.rounds).await?;
        self.keep(&done, peers, out)?;
        let contest = Contest {
            records: self.records,
            rounds: self.rounds,
            steady: self.steady,
        };
        done.sides = contest.run(&mut field, &peers.sinks).await?;
        self.keep(&done, peers, out)?;
        done.recovery = Recovery::measure(&mut field, self.rounds).await?;
        self.keep(&done, peers, out)
    }

    /// Only the run of many users: its goal, and where its time went.
    ///
    /// # Errors
    /// [`BenchError`]
    pub async fn through_only(&self, field: &mut Field) -> Result<(Figure, Vec<SplitLine>), BenchError> {
        let through = Through::measure(field, self.users, self.rounds).await?;
        Ok((through.figure(), through.split()))
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
                &"each with its own defaults, but for addresses, the ingester's budget and its state.path",
            );
        for sink in &peers.sinks {
            report = report.set(&format!("settings of {}", sink.name()), &sink.describe());
        }
        if !peers.sinks.is_empty() {
            report.versions.extend(peer_versions());
        }
        let sides = &done.sides;
        report.figures = vec![
            done.through.figure(),
            done.freshness.figure(),
            sides.against("spark", 5.0),
            sides.against("benthos", 2.0),
            done.through.memory_against(sides.peak_of("spark").as_deref()),
        ];
        report.figures.extend(done.recovery.figures());
        report.split = done.through.split();
        report.drains.clone_from(&sides.drains);
        report.latencies.clone_from(&sides.latencies);
        report.memory.clone_from(&done.through.memory);
        report.memory.extend(sides.memory.iter().cloned());
        report.absent.clone_from(&peers.absent);
        report.absent.extend(sides.absent.clone());
        report
    }
}
