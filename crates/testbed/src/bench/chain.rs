//! `scripts/bench chain`: the three services as one, from a page of the API to its rows, and the streamer between the
//! topic and the table beside whoever else does that work.

mod freshness;
mod line;
mod recovery;
mod through;

use std::time::Duration;

use self::freshness::Freshness;
use self::recovery::Recovery;
use self::through::Through;
use super::contest::Contest;
use super::field::Field;
use super::figures::Figure;
use super::report::Report;
use super::sink::Sink;
use crate::error::TestbedError;

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

/// The session of a member that may be replaced: what the group's rules make everybody wait for.
const SESSION: f64 = 8.0;

impl ChainBench {
    /// Measures; prints what it does on the way.
    ///
    /// # Errors
    /// [`TestbedError`]; a goal that is missed is none.
    pub async fn run(&self, peers: &[Box<dyn Sink>]) -> Result<Report, TestbedError> {
        let mut field = Field::start(1, 1).await?;
        let through = Through::measure(&mut field, self.users, self.rounds).await?;
        let freshness = Freshness::measure(&mut field, self.singles, self.rounds).await?;
        let contest = Contest {
            records: self.records,
            rounds: self.rounds,
            steady: self.steady,
        };
        let sides = contest.run(&mut field, peers).await?;
        let recovery = Recovery::measure(&mut field, self.rounds).await?;
        let mut report = Report::new("chain")
            .set("users", &self.users)
            .set("records", &self.records)
            .set("rounds", &self.rounds)
            .set("partitions", &6)
            .set("services", &"as they come, each with its own defaults");
        report.figures = vec![
            through.figure(),
            freshness.figure(),
            sides.against("spark", 5.0),
            sides.against("benthos", 2.0),
            through.memory_against(sides.peak_of("spark").as_deref()),
        ];
        report.figures.extend(recovery.figures(SESSION));
        report.drains = sides.drains;
        report.latencies = sides.latencies;
        report.memory = through.memory;
        report.memory.extend(sides.memory);
        Ok(report)
    }

    /// Only the run of many users.
    ///
    /// # Errors
    /// [`TestbedError`]
    pub async fn through_only(&self, field: &mut Field) -> Result<Figure, TestbedError> {
        Ok(Through::measure(field, self.users, self.rounds).await?.figure())
    }
}
