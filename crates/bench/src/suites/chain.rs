//! `scripts/bench chain`: all three services, from a page of the API to its rows, and the streamer compared with peers.

mod breakdown;
mod freshness;
mod pipeline;
mod recovery;
mod run;

use std::time::Duration;

use anyhow::Result;
use clap::Args;

use self::freshness::Freshness;
use self::recovery::Recovery;
use self::run::ChainRuns;
use crate::compare::SinkComparison;
use crate::compare::comparison::Comparison;
use crate::env::{BenchEnv, PARTITIONS};
use crate::measure::cost::as_f64;
use crate::peers::InstalledPeers;
use crate::plot::data::{Chart, LineChart};
use crate::plot::number;
use crate::report::Report;
use crate::report::figure::Figure;
use crate::report::machine::peer_versions;
use crate::report::table::Table;

/// The size of the bench.
#[derive(Debug, Clone, Args)]
pub struct ChainBench {
    /// Users of a run through all services
    #[arg(long, default_value_t = 100_000)]
    pub users: u64,
    /// Records in the backlog that all sinks drain
    #[arg(long, default_value_t = 300_000)]
    pub records: u64,
    /// Measured rounds
    #[arg(long, default_value_t = 3)]
    pub rounds: usize,
    /// Runs of a single user in each round
    #[arg(long, default_value_t = 200)]
    pub singles: u64,
    /// Seconds at each steady rate; 0: none
    #[arg(long, default_value_t = 20)]
    pub steady: u64,
    /// Install the peers and measure them, too
    #[arg(long)]
    pub peers: bool,
}

/// Results of the completed sections.
#[derive(Default)]
struct Results {
    runs: ChainRuns,
    freshness: Freshness,
    comparison: Comparison,
    recovery: Recovery,
}

impl ChainBench {
    /// Runs the bench and prints its progress. Calls `save` after each section, so that a later failure loses nothing.
    pub async fn run(&self, save: impl Fn(&Report) -> Result<()>) -> Result<Report> {
        let peers = if self.peers {
            InstalledPeers::install().await
        } else {
            InstalledPeers::default()
        };
        let mut env = BenchEnv::start(1, 1).await?;
        let mut results = Results {
            runs: ChainRuns::measure(&mut env, self.users, self.rounds).await?,
            ..Results::default()
        };
        save(&self.report(&results, &peers))?;
        results.freshness = Freshness::measure(&mut env, self.singles, self.rounds).await?;
        save(&self.report(&results, &peers))?;
        let comparison = SinkComparison {
            records: self.records,
            rounds: self.rounds,
            steady: Duration::from_secs(self.steady),
        };
        results.comparison = comparison.run(&mut env, &peers.sinks).await?;
        save(&self.report(&results, &peers))?;
        results.recovery = Recovery::measure(&mut env, self.rounds).await?;
        Ok(self.report(&results, &peers))
    }

    fn report(&self, results: &Results, peers: &InstalledPeers) -> Report {
        let mut report = Report::new("chain")
            .set("users", &self.users)
            .set("records", &self.records)
            .set("rounds", &self.rounds)
            .set("partitions", &PARTITIONS)
            .set(
                "services",
                &"default settings, except addresses, the ingester's rate limit and its state.path",
            );
        for sink in &peers.sinks {
            report = report.set(&format!("settings of {}", sink.name()), &sink.describe());
        }
        if !peers.sinks.is_empty() {
            report.versions.extend(peer_versions());
        }
        let comparison = &results.comparison;
        report.figures = vec![
            results.runs.figure(),
            results.freshness.figure(),
            comparison.speedup("Spark", 5.0),
            comparison.speedup("Benthos", 2.0),
            results.runs.memory_ratio(&comparison.peaks("Spark")),
        ];
        report.figures.extend(results.recovery.figures());
        report.tables = vec![
            comparison.drain_table(),
            comparison.latency_table(),
            results.runs.breakdown(),
        ];
        report.skipped.clone_from(&peers.skipped);
        report.skipped.extend(comparison.skipped());
        self.add_plots(&mut report, results);
        report
    }

    fn add_plots(&self, report: &mut Report, results: &Results) {
        let comparison = &results.comparison;
        if let Some(chart) = comparison.throughput_chart() {
            let title = format!("Draining a backlog of {} records", number(as_f64(self.records)));
            report.add_plot("throughput", title, chart);
        }
        if let Some(chart) = comparison.latency_chart() {
            let title = "From due time to visible row: p99 thick, p50 thin, × did not keep up";
            report.add_plot("latency", title, chart);
        }
        let lines = results.runs.memory.iter().cloned();
        let lines = LineChart::of_memory(lines.chain(comparison.memory_lines()).collect());
        report.add_plot(
            "memory",
            "Resident memory over time, with child processes",
            Chart::Lines(lines),
        );
    }
}

/// The run of many users: its goal and its breakdown.
pub async fn run_only(env: &mut BenchEnv, users: u64, rounds: usize) -> Result<(Figure, Table)> {
    let runs = ChainRuns::measure(env, users, rounds).await?;
    Ok((runs.figure(), runs.breakdown()))
}
