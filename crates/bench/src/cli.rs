//! The command line of the `bench` binary, which `scripts/bench` calls.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, Result};
use clap::{Args, Parser, Subcommand};
use futures::future::LocalBoxFuture;
use testkit::workspace;

use crate::load::driver_baseline::DriverBaseline;
use crate::load::noop::{NoopOptions, NoopServer};
use crate::load::producer_baseline::ProducerBaseline;
use crate::measure::cost::Cost;
use crate::plot;
use crate::report::Report;
use crate::report::machine::Machine;
use crate::suites::chain::ChainBench;
use crate::suites::growth::GrowthBench;
use crate::suites::ingester::IngesterBench;
use crate::suites::publisher::PublisherBench;
use crate::suites::quick::{QuickBench, RatioCheck, check_cores, check_ratios};
use crate::suites::streamer::StreamerBench;

/// The reference of the gate.
const COMMITTED: &str = "docs/benchmarks/quick.json";

const EXAMPLES: &str = "Examples:
  scripts/bench --quick
  scripts/bench chain --peers --out target/bench/chain.json
  scripts/bench draw docs/benchmarks/chain-latency.json";

/// Benchmarks of the services, compared with baselines, peers and goals.
#[derive(Debug, Parser)]
#[command(name = "bench", version, after_help = EXAMPLES)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Kafka to Cassandra, compared with a loop of the bare driver
    #[command(after_help = "Example: scripts/bench streamer --records 300000 --rounds 5")]
    Streamer(Suite<StreamerBench>),
    /// The API to the publisher, compared with the publisher alone, and parsing compared with Python
    #[command(after_help = "Example: scripts/bench ingester --out target/bench/ingester.json")]
    Ingester(Suite<IngesterBench>),
    /// HTTP to Kafka, compared with a loop of the bare producer
    #[command(after_help = "Example: scripts/bench publisher --out target/bench/publisher.json")]
    Publisher(Suite<PublisherBench>),
    /// All three services: a run from the API to the rows, freshness, recovery, and the streamer compared with peers
    #[command(after_help = "Example: scripts/bench chain --peers --out target/bench/chain.json")]
    Chain(Suite<ChainBench>),
    /// The streamer's drain with growing backlog, partitions and nodes; without goals
    #[command(after_help = "Example: scripts/bench growth --parts nodes --rounds 3")]
    Growth(Suite<GrowthBench>),
    /// A few ratios in a few minutes; fails if one is worse than the committed one by more than a fifth
    #[command(after_help = "Example: scripts/bench quick --out docs/benchmarks/quick.json")]
    Quick(Suite<QuickBench>),
    /// Redraw pictures from their data
    #[command(after_help = "Example: scripts/bench draw docs/benchmarks/chain-latency.json")]
    Draw {
        /// Data of plots, as written by --out
        #[arg(required = true)]
        files: Vec<PathBuf>,
    },
    /// The driver baseline, as a process of its own
    #[command(hide = true)]
    DriverBaseline(DriverBaseline),
    /// The producer baseline, as a process of its own
    #[command(hide = true)]
    ProducerBaseline(ProducerBaseline),
    /// A route that does nothing, to measure the load generator
    #[command(hide = true)]
    NoopServer(NoopOptions),
}

/// A bench and where to write its result.
#[derive(Debug, Args)]
struct Suite<B: Args> {
    #[command(flatten)]
    bench: B,
    /// Write the result as JSON, and each plot next to it as JSON and SVG
    #[arg(long)]
    out: Option<PathBuf>,
}

/// Runs a command. Prints an error with its causes. The future is boxed, so that the binary does not compile the library's
/// futures again.
pub fn run(cli: Cli) -> LocalBoxFuture<'static, ExitCode> {
    Box::pin(async {
        cli.command.run().await.unwrap_or_else(|error| {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        })
    })
}

impl Command {
    async fn run(self) -> Result<ExitCode> {
        match self {
            Self::Streamer(suite) => finish(&suite.bench.run().await?, suite.out.as_deref())?,
            Self::Ingester(suite) => finish(&suite.bench.run().await?, suite.out.as_deref())?,
            Self::Publisher(suite) => finish(&suite.bench.run().await?, suite.out.as_deref())?,
            Self::Growth(suite) => finish(&suite.bench.run().await?, suite.out.as_deref())?,
            Self::Chain(suite) => {
                let out = suite.out.as_deref();
                let save = |report: &Report| out.map_or(Ok(()), |out| report.save(out).map(drop));
                finish(&suite.bench.run(save).await?, out)?;
            }
            Self::Quick(suite) if suite.out.is_some() => {
                finish(&suite.bench.run().await?, suite.out.as_deref())?;
            }
            Self::Quick(suite) => return gate(&suite.bench).await,
            Self::Draw { files } => {
                for file in files {
                    println!("{}", plot::redraw(&file)?.display());
                }
            }
            Self::DriverBaseline(baseline) => print_cost(baseline.run().await?),
            Self::ProducerBaseline(baseline) => print_cost(baseline.run()?),
            Self::NoopServer(options) => {
                let (server, _) = NoopServer::bind(options.listen)
                    .await
                    .with_context(|| format!("failed to listen on {}", options.listen))?;
                server.serve().await?;
            }
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// Prints a report, saves it on request, and ends with its figures as a line of JSON.
fn finish(report: &Report, out: Option<&Path>) -> Result<()> {
    print!("{report}");
    if let Some(out) = out {
        for path in report.save(out)? {
            println!("written: {}", path.display());
        }
    }
    println!("{}", serde_json::json!({ "figures": report.figures }));
    Ok(())
}

/// Compares the ratios with the committed ones.
async fn gate(bench: &QuickBench) -> Result<ExitCode> {
    let path = match &bench.against {
        Some(path) => path.clone(),
        None => workspace::root()?.join(COMMITTED),
    };
    let committed = Report::read(&path)?;
    check_cores(&path, &committed.machine, &Machine::current())?;
    let report = bench.run().await?;
    finish(&report, None)?;
    let checks = check_ratios(&committed.figures, &report.figures);
    println!("\ncompared with {}:", path.display());
    for check in &checks {
        println!("{}", check.line());
    }
    // A gate without a comparison must not pass.
    let passed = !checks.is_empty() && checks.iter().all(RatioCheck::passes);
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

/// Prints the cost as JSON, which the parent process reads.
fn print_cost(cost: Cost) {
    println!("{}", serde_json::json!(cost));
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn help_of_each_command_has_an_example() {
        let command = Cli::command();
        let shown = command.get_subcommands().filter(|command| !command.is_hide_set());
        let without: Vec<_> = shown
            .filter(|command| command.get_after_help().is_none())
            .collect();
        assert!(
            command.get_after_help().is_some() && without.is_empty(),
            "{without:?}"
        );
    }
}
