//! The command line of the `bench` binary, which `scripts/bench` calls. `ceiling`, `produce` and `noop` are the baselines,
//! each a process of its own.

use std::error::Error;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::{Parser, Subcommand};

use crate::ceiling::{Ceiling, CeilingError};
use crate::chain::ChainBench;
use crate::draw::draw;
use crate::error::BenchError;
use crate::figures;
use crate::growth::GrowthBench;
use crate::ingester::IngesterBench;
use crate::machine::Machine;
use crate::peers::command::PeersBench;
use crate::peers::{Installed, Peer};
use crate::publisher::PublisherBench;
use crate::publisher::bare::{BareError, BareLoop};
use crate::publisher::noop::NoopCommand;
use crate::quick::{Comparison, QuickBench, comparable, compare};
use crate::report::Report;
use crate::streamer::StreamerBench;
use testkit::error::chain;
use testkit::workspace;

/// What the gate holds a quick run against.
const COMMITTED: &str = "docs/benchmarks/quick.json";

/// Measurements of the services beside bare loops and peers, compared with goals.
#[derive(Debug, Parser)]
#[command(name = "bench", version)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    #[command(flatten)]
    Bench(BenchCommand),
    /// The bare loop that a bench compares with, as a process of its own.
    #[command(hide = true)]
    Ceiling(Ceiling),
    /// The bare producer loop that a bench compares with, as a process of its own.
    #[command(hide = true)]
    Produce(BareLoop),
    /// A route that does nothing, against which a bench checks its load generator.
    #[command(hide = true)]
    Noop(NoopCommand),
}

/// Runs one command to its end.
pub async fn run(cli: Cli) -> ExitCode {
    let outcome: Result<ExitCode, Box<dyn Error>> = match cli.command {
        Command::Bench(command) => command.run().await,
        Command::Ceiling(command) => ceiling(command).await.map_err(Into::into),
        Command::Produce(command) => produce(&command).map_err(Into::into),
        Command::Noop(command) => noop(&command).await.map_err(Into::into),
    };
    outcome.unwrap_or_else(|error| {
        eprintln!("error: {}", chain(error.as_ref()));
        ExitCode::FAILURE
    })
}

#[derive(Debug, Subcommand)]
enum BenchCommand {
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
        /// Write the result here, as JSON, and its pictures beside it
        #[arg(long)]
        out: Option<PathBuf>,
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
        /// Write the result here, as JSON
        #[arg(long)]
        out: Option<PathBuf>,
    },
    /// HTTP to Kafka, against a bare producer loop
    Publisher {
        /// Rounds that count
        #[arg(long, default_value_t = 3)]
        rounds: usize,
        /// Seconds of each measurement in a round
        #[arg(long, default_value_t = 4)]
        seconds: u64,
        /// Measure Benthos and the original's loop, too; needs Go and Python with `venv`
        #[arg(long)]
        peers: bool,
        /// Write the result here, as JSON
        #[arg(long)]
        out: Option<PathBuf>,
    },
    /// All three services: a run from the API to the rows, freshness, recovery, and the streamer beside its peers
    Chain {
        /// Users of a run through all three
        #[arg(long, default_value_t = 100_000)]
        users: u64,
        /// Records in the backlog that all sinks drain
        #[arg(long, default_value_t = 300_000)]
        records: u64,
        /// Rounds that count
        #[arg(long, default_value_t = 3)]
        rounds: usize,
        /// Runs of one user in each round
        #[arg(long, default_value_t = 200)]
        singles: u64,
        /// Seconds at each steady rate; 0: none
        #[arg(long, default_value_t = 20)]
        steady: u64,
        /// Fetch the peers and measure them, too
        #[arg(long)]
        peers: bool,
        /// Write the result here, as JSON, and its pictures beside it
        #[arg(long)]
        out: Option<PathBuf>,
    },
    /// The streamer's drain as backlog, records, partitions, members and nodes grow; no goal
    Growth {
        /// Records where something else than their number grows
        #[arg(long, default_value_t = 300_000)]
        records: u64,
        /// Records in the backlogs; 10000000 is worth a try where there is room
        #[arg(long, value_delimiter = ',', default_value = "100000,1000000")]
        backlogs: Vec<u64>,
        /// Rounds that count
        #[arg(long, default_value_t = 3)]
        rounds: usize,
        /// Leave out three nodes of Kafka and of Cassandra
        #[arg(long)]
        single: bool,
        /// Write the result here, as JSON, and its pictures beside it
        #[arg(long)]
        out: Option<PathBuf>,
    },
    /// A few ratios in a few minutes, against the committed ones: fails when one has fallen by more than a fifth
    Quick {
        /// Records of a backlog, and users of a run
        #[arg(long, default_value_t = 100_000)]
        records: u64,
        /// Rounds that count
        #[arg(long, default_value_t = 3)]
        rounds: usize,
        /// Against this result, in place of docs/benchmarks/quick.json
        #[arg(long)]
        against: Option<PathBuf>,
        /// Write the result here, as JSON, and compare it with nothing
        #[arg(long)]
        out: Option<PathBuf>,
    },
    /// What the peers store and how fast, beside the streamer; no goal
    Peers(PeersBench),
    /// Draw the pictures of results again
    Draw {
        /// Results, as written by --out
        #[arg(required = true)]
        files: Vec<PathBuf>,
    },
}

impl BenchCommand {
    async fn run(self) -> Result<ExitCode, Box<dyn Error>> {
        match self {
            Self::Streamer {
                records,
                rounds,
                steady,
                large,
                out,
            } => {
                let steady = Duration::from_secs(steady);
                let bench = StreamerBench {
                    records,
                    rounds,
                    steady,
                    large,
                };
                told(&bench.run().await?, out.as_deref())
            }
            Self::Ingester {
                rounds,
                seconds,
                users,
                long,
                out,
            } => {
                let length = Duration::from_secs(seconds);
                let bench = IngesterBench {
                    rounds,
                    length,
                    users,
                    long,
                };
                let mut report = Report::new("ingester")
                    .set("rounds", &rounds)
                    .set("users", &users)
                    .set("users of a long run", &long);
                report.figures = bench.run().await?;
                told(&report, out.as_deref())
            }
            Self::Publisher {
                rounds,
                seconds,
                peers,
                out,
            } => {
                let length = Duration::from_secs(seconds);
                let bench = PublisherBench {
                    rounds,
                    length,
                    peers,
                };
                told(&bench.run().await?, out.as_deref())
            }
            Self::Chain {
                users,
                records,
                rounds,
                singles,
                steady,
                peers,
                out,
            } => {
                let bench = ChainBench {
                    users,
                    records,
                    rounds,
                    singles,
                    steady: Duration::from_secs(steady),
                };
                let report = bench.run(&installed(peers).await, out.as_deref()).await?;
                told(&report, out.as_deref())
            }
            Self::Growth {
                records,
                backlogs,
                rounds,
                single,
                out,
            } => {
                let bench = GrowthBench {
                    records,
                    backlogs,
                    rounds,
                    cluster: !single,
                };
                told(&bench.run().await?, out.as_deref())
            }
            Self::Quick {
                records,
                rounds,
                against,
                out,
            } => {
                let bench = QuickBench { records, rounds };
                if out.is_some() {
                    return told(&bench.run().await?, out.as_deref());
                }
                quick(&bench, against).await
            }
            Self::Peers(peers) => {
                peers.run().await?;
                Ok(ExitCode::SUCCESS)
            }
            Self::Draw { files } => {
                for file in files {
                    for picture in draw(&file)? {
                        println!("{}", picture.display());
                    }
                }
                Ok(ExitCode::SUCCESS)
            }
        }
    }
}

/// The peers that write the topic to the table.
async fn installed(peers: bool) -> Installed {
    if peers {
        Peer::install_all().await
    } else {
        Installed::default()
    }
}

/// Prints a report, and keeps it where wanted.
fn told(report: &Report, out: Option<&Path>) -> Result<ExitCode, Box<dyn Error>> {
    report.print_conditions();
    report.print_tables();
    if let Some(out) = out {
        keep(report, out)?;
    }
    figures::print(&report.figures);
    Ok(ExitCode::SUCCESS)
}

fn keep(report: &Report, out: &Path) -> Result<(), BenchError> {
    report.write(out)?;
    println!("\nwritten: {}", out.display());
    for picture in draw(out)? {
        println!("drawn: {}", picture.display());
    }
    Ok(())
}

/// Compares a quick run with the committed one.
async fn quick(bench: &QuickBench, against: Option<PathBuf>) -> Result<ExitCode, Box<dyn Error>> {
    let against = match against {
        Some(path) => path,
        None => workspace::root()?.join(COMMITTED),
    };
    let committed = Report::read(&against)?;
    comparable(&against, &committed.machine, &Machine::this())?;
    let report = bench.run().await?;
    told(&report, None)?;
    let comparisons = compare(&committed.figures, &report.figures);
    println!("\nagainst {}:", against.display());
    for comparison in &comparisons {
        println!("{}", comparison.line());
    }
    // A gate that compares nothing must not look like one that passes.
    let passed = !comparisons.is_empty() && comparisons.iter().all(Comparison::passes);
    println!(
        "{}",
        serde_json::json!({ "passed": passed, "figures": report.figures })
    );
    Ok(if passed {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// Writes, and prints what it cost as one line of JSON.
async fn ceiling(ceiling: Ceiling) -> Result<ExitCode, CeilingError> {
    let cost = ceiling.run().await?;
    println!("{}", serde_json::json!(cost));
    Ok(ExitCode::SUCCESS)
}

/// The same with a producer.
fn produce(bare: &BareLoop) -> Result<ExitCode, BareError> {
    let cost = bare.run()?;
    println!("{}", serde_json::json!(cost));
    Ok(ExitCode::SUCCESS)
}

/// Answers until it is killed.
async fn noop(noop: &NoopCommand) -> std::io::Result<ExitCode> {
    noop.run().await?;
    Ok(ExitCode::SUCCESS)
}
