//! `testbed bench`: figures against goals. `testbed ceiling`, `produce`, `member` and `noop`: what they are compared with, each
//! as a process of its own.

use std::error::Error;
use std::process::ExitCode;
use std::time::Duration;

use clap::Subcommand;

use crate::bench::assignment::{AssignmentBench, Member, MemberError};
use crate::bench::ceiling::{Ceiling, CeilingError};
use crate::bench::figures;
use crate::bench::ingester::IngesterBench;
use crate::bench::publisher::PublisherBench;
use crate::bench::publisher::bare::{BareError, BareLoop};
use crate::bench::publisher::noop::NoopCommand;
use crate::bench::streamer::StreamerBench;

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
        /// Records in a larger backlog, which shows whether memory grows; 0: none
        #[arg(long, default_value_t = 5_000_000)]
        large: u64,
    },
    /// For how long partitions stand still under each of Kafka's assignment protocols; no goal
    Assignment {
        /// Rounds of each protocol
        #[arg(long, default_value_t = 3)]
        rounds: usize,
    },
    /// The API to the publisher, against the publisher by itself, and parsing against Python
    Ingester {
        /// Rounds that count
        #[arg(long, default_value_t = 3)]
        rounds: usize,
        /// Seconds of each measurement of parsing, and of the publisher by itself
        #[arg(long, default_value_t = 2)]
        seconds: u64,
        /// Users of a run whose speed is measured
        #[arg(long, default_value_t = 100_000)]
        users: u64,
        /// Users of a run whose memory is measured
        #[arg(long, default_value_t = 1_000_000)]
        long: u64,
    },
    /// HTTP to Kafka, against a bare producer loop
    Publisher {
        /// Rounds that count
        #[arg(long, default_value_t = 3)]
        rounds: usize,
        /// Seconds of each measurement in a round
        #[arg(long, default_value_t = 4)]
        seconds: u64,
        /// Build Benthos and measure it, too; needs Go
        #[arg(long)]
        peers: bool,
    },
}

impl BenchCommand {
    pub(super) async fn run(self) -> Result<ExitCode, Box<dyn Error>> {
        let figures = match self {
            Self::Streamer {
                records,
                rounds,
                steady,
                large,
            } => {
                let steady = Duration::from_secs(steady);
                let bench = StreamerBench {
                    records,
                    rounds,
                    steady,
                    large,
                };
                bench.run().await?
            }
            Self::Assignment { rounds } => {
                AssignmentBench { rounds }.run().await?;
                return Ok(ExitCode::SUCCESS);
            }
            Self::Ingester {
                rounds,
                seconds,
                users,
                long,
            } => {
                let length = Duration::from_secs(seconds);
                let bench = IngesterBench {
                    rounds,
                    length,
                    users,
                    long,
                };
                bench.run().await?
            }
            Self::Publisher {
                rounds,
                seconds,
                peers,
            } => {
                let length = Duration::from_secs(seconds);
                let bench = PublisherBench {
                    rounds,
                    length,
                    peers,
                };
                bench.run().await?
            }
        };
        figures::print(&figures);
        Ok(ExitCode::SUCCESS)
    }
}

/// Writes, and prints what it cost as one line of JSON.
pub(super) async fn ceiling(ceiling: Ceiling) -> Result<ExitCode, CeilingError> {
    let cost = ceiling.run().await?;
    println!("{}", serde_json::json!(cost));
    Ok(ExitCode::SUCCESS)
}

/// The same with a producer.
pub(super) fn produce(bare: &BareLoop) -> Result<ExitCode, BareError> {
    let cost = bare.run()?;
    println!("{}", serde_json::json!(cost));
    Ok(ExitCode::SUCCESS)
}

/// Reads until its input ends.
pub(super) fn member(member: &Member) -> Result<ExitCode, MemberError> {
    member.run()?;
    Ok(ExitCode::SUCCESS)
}

/// Answers until it is killed.
pub(super) async fn noop(noop: &NoopCommand) -> std::io::Result<ExitCode> {
    noop.run().await?;
    Ok(ExitCode::SUCCESS)
}
