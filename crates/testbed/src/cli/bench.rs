//! `testbed bench`: figures against goals. `testbed ceiling`: the bare loop, as a process of its own.

use std::process::ExitCode;
use std::time::Duration;

use clap::Subcommand;

use crate::bench::ceiling::{Ceiling, CeilingError};
use crate::bench::figures;
use crate::bench::streamer::{BenchError, StreamerBench};

#[derive(Debug, Subcommand)]
pub(super) enum BenchCommand {
    /// Kafka to Cassandra, against a bare loop of the same driver
    Streamer {
        /// Records in the backlog
        #[arg(long, default_value_t = 500_000)]
        records: u64,
        /// Rounds that count
        #[arg(long, default_value_t = 3)]
        rounds: usize,
        /// Seconds at each steady rate
        #[arg(long, default_value_t = 20)]
        steady: u64,
    },
}

impl BenchCommand {
    pub(super) async fn run(self) -> Result<ExitCode, BenchError> {
        let Self::Streamer {
            records,
            rounds,
            steady,
        } = self;
        let bench = StreamerBench {
            records,
            rounds,
            steady: Duration::from_secs(steady),
        };
        figures::print(&bench.run().await?);
        Ok(ExitCode::SUCCESS)
    }
}

/// Writes, and prints what it cost as one line of JSON.
pub(super) async fn ceiling(ceiling: Ceiling) -> Result<ExitCode, CeilingError> {
    let cost = ceiling.run().await?;
    println!("{}", serde_json::json!(cost));
    Ok(ExitCode::SUCCESS)
}
