//! The command line of the `chaos` binary, which `scripts/chaos` runs.

use std::hash::{BuildHasher as _, RandomState};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Result;
use clap::{Parser, Subcommand};
use futures::future::BoxFuture;
use testkit::record_type::{RecordType, USERS};
use tokio::signal::unix::{SignalKind, signal};

use crate::campaign::{Campaign, MutationResult, Selection, commit};
use crate::cluster::shape::ClusterShape;
use crate::report::{Report, Skipped};
use crate::scenario::catalog;

const EXAMPLES: &str = "Examples:
  scripts/chaos --list
  scripts/chaos --scenario kills --seed 7
  scripts/chaos --rounds 10 --cluster six-nodes";

/// Injects faults into the whole pipeline and checks its delivery guarantees.
#[derive(Debug, Parser)]
#[command(name = "chaos", version, args_conflicts_with_subcommands = true, after_help = EXAMPLES)]
pub struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
    /// Play this scenario; repeatable, `all` plays every one
    #[arg(long, value_name = "NAME")]
    scenario: Vec<String>,
    /// Number of random rounds (1, unless a scenario is named)
    #[arg(long, value_name = "N")]
    rounds: Option<u64>,
    /// Servers of random rounds
    #[arg(long, value_enum, value_name = "SERVERS", default_value_t = ClusterShape::Single)]
    cluster: ClusterShape,
    /// Seed of traffic and random rounds; printed, and random by default
    #[arg(long, value_name = "S")]
    seed: Option<u64>,
    /// Record type: users, or the folder of a contract in examples/
    #[arg(long, value_name = "NAME", default_value = USERS)]
    record: String,
    /// Start no round after this many seconds
    #[arg(long, value_name = "SECONDS")]
    budget: Option<u64>,
    /// Folder for report.json, wall.svg and the logs of failed rounds (target/chaos-report)
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// List the scenarios
    #[arg(long)]
    list: bool,
    /// Test that each mutation of the services is detected; fails if one is not
    #[arg(long)]
    mutations: bool,
    /// Test only this mutation; repeatable
    #[arg(long, value_name = "NAME", requires = "mutations")]
    mutation: Vec<String>,
    /// Folder of services built with the feature `failpoint`
    #[arg(long, value_name = "DIR", hide = true)]
    failpoints: Option<PathBuf>,
    /// Folder of the services of the previous release
    #[arg(long, value_name = "DIR", hide = true)]
    previous: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Merge reports
    #[command(
        after_help = "Example: scripts/chaos merge one/report.json other/report.json --out target/chaos-report"
    )]
    Merge {
        /// Paths of report.json files
        #[arg(required = true)]
        reports: Vec<PathBuf>,
        /// Folder for the merged report
        #[arg(long, value_name = "DIR")]
        out: PathBuf,
    },
}

/// Runs the command. The future is boxed, so that the binary does not compile the library's futures again.
pub fn run(cli: Cli) -> BoxFuture<'static, ExitCode> {
    Box::pin(async {
        cli.run().await.unwrap_or_else(|error| {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        })
    })
}

impl Cli {
    async fn run(self) -> Result<ExitCode> {
        if let Some(Command::Merge { reports, out }) = &self.command {
            let reports: Result<Vec<_>, _> = reports.iter().map(|path| Report::read(path)).collect();
            let merged = Report::merge(reports?);
            merged.write(out)?;
            return finish(&merged, merged.rounds.first().map_or(0, |round| round.seed));
        }
        if self.list {
            for scenario in catalog::all() {
                println!("{}", scenario.name);
                scenario.describe().iter().for_each(|line| println!("    {line}"));
            }
            return Ok(ExitCode::SUCCESS);
        }
        let random_seed = || RandomState::new().hash_one("chaos") >> 32;
        let seed = self.seed.unwrap_or_else(random_seed);
        eprintln!("seed {seed}");
        let campaign = Campaign {
            seed,
            budget: self.budget.map(Duration::from_secs),
            out: match &self.out {
                Some(out) => out.clone(),
                None => Campaign::default_folder()?,
            },
            failpoints: self.failpoints.clone(),
            previous: self.previous.clone(),
            record: RecordType::load(&self.record)?,
            commit: commit(),
        };
        let mut terminate = signal(SignalKind::terminate())?;
        // A signal drops the campaign, which stops its processes and unmounts its disks.
        tokio::select! {
            outcome = self.play(&campaign) => outcome,
            _ = tokio::signal::ctrl_c() => Ok(interrupted()),
            _ = terminate.recv() => Ok(interrupted()),
        }
    }

    async fn play(&self, campaign: &Campaign) -> Result<ExitCode> {
        let seed = campaign.seed;
        if self.mutations {
            let results = campaign.test_mutations(&self.mutation).await?;
            println!("{}", serde_json::json!({"seed": seed, "mutations": results}));
            let detected = results.iter().all(MutationResult::is_detected);
            return Ok(exit_code(!results.is_empty() && detected));
        }
        let (selection, skipped) = self.select(campaign);
        let specs = campaign.plan(&selection)?;
        finish(&campaign.run_without(&specs, skipped).await?, seed)
    }

    /// `all` skips what this machine cannot play; a scenario selected by its name must be playable.
    fn select(&self, campaign: &Campaign) -> (Selection, Vec<Skipped>) {
        let (scenarios, skipped) = if self.scenario.iter().any(|name| name == "all") {
            campaign.playable()
        } else {
            (self.scenario.clone(), Vec::new())
        };
        for scenario in &skipped {
            eprintln!("skipped: {}", scenario.reason);
        }
        let selection = Selection {
            scenarios,
            random: self.rounds.unwrap_or(u64::from(self.scenario.is_empty())),
            shape: self.cluster,
        };
        (selection, skipped)
    }
}

fn interrupted() -> ExitCode {
    eprintln!("interrupted");
    ExitCode::FAILURE
}

/// Prints the summary, and returns the exit code.
fn finish(report: &Report, seed: u64) -> Result<ExitCode> {
    let summary = report.summary(seed);
    println!("{}", serde_json::to_string(&summary)?);
    Ok(exit_code(summary.passed()))
}

fn exit_code(success: bool) -> ExitCode {
    if success {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}
