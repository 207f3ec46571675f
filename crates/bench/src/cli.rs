//! Command line of the `bench` binary, which `scripts/bench` runs.
//!
//! The hidden commands `driver-baseline`, `producer-baseline` and `noop` are child processes of the benchmarks.

use std::error::Error;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::{Parser, Subcommand};

use crate::baseline::driver::{DriverBaseline, DriverBaselineError};
use crate::baseline::producer::{ProducerBaseline, ProducerBaselineError};
use crate::chain::ChainBench;
use crate::draw::{draw, tables};
use crate::error::BenchError;
use crate::growth::GrowthBench;
use crate::ingester::IngesterBench;
use crate::peers::{Installed, Peer};
use crate::publisher::PublisherBench;
use crate::publisher::noop::NoopCommand;
use crate::quick::{Comparison, QuickBench, comparable, compare};
use crate::report::Report;
use crate::report::machine::Machine;
use crate::streamer::StreamerBench;
use testkit::error::chain;
use testkit::workspace;

/// The committed result that the gate compares with.
const COMMITTED: &str = "docs/benchmarks/quick.json";

/// Benchmarks of the services, compared with baselines, peers and goals.
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
    /// The driver baseline: writes rows and prints its cost.
    #[command(hide = true)]
    DriverBaseline(DriverBaseline),
    /// The producer baseline: sends records and prints its cost.
    #[command(hide = true)]
    ProducerBaseline(ProducerBaseline),
    /// A no-op HTTP route that measures the load generator.
    #[command(hide = true)]
    Noop(NoopCommand),
}

/// Runs one command.
pub async fn run(cli: Cli) -> ExitCode {
    let outcome: Result<ExitCode, Box<dyn Error>> = match cli.command {
        Command::Bench(command) => command.run().await,
        Command::DriverBaseline(command) => driver_baseline(command).await.map_err(Into::into),
        Command::ProducerBaseline(command) => producer_baseline(&command).map_err(Into::into),
        Command::Noop(command) => noop(&command).await.map_err(Into::into),
    };
    outcome.unwrap_or_else(|error| {
        eprintln!("error: {}", chain(error.as_ref()));
        ExitCode::FAILURE
    })
}

#[derive(Debug, Subcommand)]
enum BenchCommand {
    /// Kafka to Cassandra, compared with a baseline over the same driver
    Streamer {
        /// Records in the backlog
        #[arg(long, default_value_t = 500_000)]
        records: u64,
        /// Measured rounds
        #[arg(long, default_value_t = 3)]
        rounds: usize,
        /// Seconds at each steady rate
        #[arg(long, default_value_t = 20)]
        steady: u64,
        /// Records in a larger backlog that shows memory growth; 0: none
        #[arg(long, default_value_t = 5_000_000)]
        large: u64,
        /// Write the result to this file as JSON, with pictures in the same folder
        #[arg(long)]
        out: Option<PathBuf>,
    },
    /// API to publisher, compared with the publisher alone, and parsing compared with Python
    Ingester {
        /// Measured rounds
        #[arg(long, default_value_t = 3)]
        rounds: usize,
        /// Seconds of each measurement of parsing and of the publisher alone
        #[arg(long, default_value_t = 2)]
        seconds: u64,
        /// Users of a run that measures speed
        #[arg(long, default_value_t = 100_000)]
        users: u64,
        /// Users of a run that measures memory
        #[arg(long, default_value_t = 1_000_000)]
        long: u64,
        /// Write the result to this file as JSON
        #[arg(long)]
        out: Option<PathBuf>,
    },
    /// HTTP to Kafka, compared with a producer baseline
    Publisher {
        /// Measured rounds
        #[arg(long, default_value_t = 3)]
        rounds: usize,
        /// Seconds of each measurement
        #[arg(long, default_value_t = 4)]
        seconds: u64,
        /// Also measure Benthos and the original's loop; needs Go and Python with `venv`
        #[arg(long)]
        peers: bool,
        /// Write the result to this file as JSON
        #[arg(long)]
        out: Option<PathBuf>,
    },
    /// All three services: throughput, freshness, recovery, and the streamer compared with its peers
    Chain {
        /// Users of a run through all three
        #[arg(long, default_value_t = 100_000)]
        users: u64,
        /// Records in the backlog that all sinks drain
        #[arg(long, default_value_t = 300_000)]
        records: u64,
        /// Measured rounds
        #[arg(long, default_value_t = 3)]
        rounds: usize,
        /// Runs of one user in each round
        #[arg(long, default_value_t = 200)]
        singles: u64,
        /// Seconds at each steady rate; 0: none
        #[arg(long, default_value_t = 20)]
        steady: u64,
        /// Also install and measure the peers
        #[arg(long)]
        peers: bool,
        /// Write the result to this file as JSON, with pictures in the same folder
        #[arg(long)]
        out: Option<PathBuf>,
    },
    /// The streamer's drain as backlog, partitions and nodes grow; no goal
    Growth {
        /// Records where another dimension grows
        #[arg(long, default_value_t = 300_000)]
        records: u64,
        /// Records in the backlogs
        #[arg(long, value_delimiter = ',', default_value = "100000,1000000")]
        backlogs: Vec<u64>,
        /// Measured rounds
        #[arg(long, default_value_t = 3)]
        rounds: usize,
        /// Skip the clusters of three nodes
        #[arg(long)]
        single: bool,
        /// Write the result to this file as JSON, with pictures in the same folder
        #[arg(long)]
        out: Option<PathBuf>,
    },
    /// A few ratios in a few minutes; fails when one has regressed by more than a fifth
    Quick {
        /// Records of a backlog and users of a run
        #[arg(long, default_value_t = 100_000)]
        records: u64,
        /// Measured rounds
        #[arg(long, default_value_t = 3)]
        rounds: usize,
        /// Compare with this result instead of docs/benchmarks/quick.json
        #[arg(long)]
        against: Option<PathBuf>,
        /// Write the result to this file as JSON without a comparison
        #[arg(long)]
        out: Option<PathBuf>,
    },
    /// Redraw the pictures of results
    Draw {
        /// Results written by --out
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
                print_report(&bench.run().await?, out.as_deref())
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
                print_report(&report, out.as_deref())
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
                print_report(&bench.run().await?, out.as_deref())
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
                print_report(&report, out.as_deref())
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
                print_report(&bench.run().await?, out.as_deref())
            }
            Self::Quick {
                records,
                rounds,
                against,
                out,
            } => {
                let bench = QuickBench { records, rounds };
                if out.is_some() {
                    return print_report(&bench.run().await?, out.as_deref());
                }
                quick(&bench, against).await
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

/// Installs the streamer's peers if requested.
async fn installed(peers: bool) -> Installed {
    if peers {
        Peer::install_all().await
    } else {
        Installed::default()
    }
}

/// Prints a report and writes it to `out` if set.
fn print_report(report: &Report, out: Option<&Path>) -> Result<ExitCode, Box<dyn Error>> {
    println!("\n{}", tables::page(report));
    if let Some(out) = out {
        write(report, out)?;
    }
    println!("{}", serde_json::json!({ "figures": report.figures }));
    Ok(ExitCode::SUCCESS)
}

fn write(report: &Report, out: &Path) -> Result<(), BenchError> {
    report.write(out)?;
    println!("\nwritten: {}", out.display());
    for picture in draw(out)? {
        println!("drawn: {}", picture.display());
    }
    Ok(())
}

/// Compares a quick run with the committed result.
async fn quick(bench: &QuickBench, against: Option<PathBuf>) -> Result<ExitCode, Box<dyn Error>> {
    let against = match against {
        Some(path) => path,
        None => workspace::root()?.join(COMMITTED),
    };
    let committed = Report::read(&against)?;
    comparable(&against, &committed.machine, &Machine::this())?;
    let report = bench.run().await?;
    print_report(&report, None)?;
    let comparisons = compare(&committed.figures, &report.figures);
    println!("\nagainst {}:", against.display());
    for comparison in &comparisons {
        println!("{}", comparison.line());
    }
    // A gate without comparisons must fail.
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

/// Runs the driver baseline and prints its cost as a line of JSON.
async fn driver_baseline(baseline: DriverBaseline) -> Result<ExitCode, DriverBaselineError> {
    let cost = baseline.run().await?;
    println!("{}", serde_json::json!(cost));
    Ok(ExitCode::SUCCESS)
}

/// Runs the producer baseline and prints its cost as a line of JSON.
fn producer_baseline(baseline: &ProducerBaseline) -> Result<ExitCode, ProducerBaselineError> {
    let cost = baseline.run()?;
    println!("{}", serde_json::json!(cost));
    Ok(ExitCode::SUCCESS)
}

/// Serves until the process is killed.
async fn noop(noop: &NoopCommand) -> std::io::Result<ExitCode> {
    noop.run().await?;
    Ok(ExitCode::SUCCESS)
}
