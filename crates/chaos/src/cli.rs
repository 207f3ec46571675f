//! The command line of the `chaos` binary, which `scripts/chaos` calls.

use std::error::Error;
use std::hash::{BuildHasher as _, RandomState};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Parser, Subcommand};
use tokio::signal::unix::{SignalKind, signal};

use crate::campaign::commit;
use crate::prove::Proof;
use crate::report::{LeftOut, Report};
use crate::{Campaign, Pick, scenario};
use testkit::error::chain;

/// Faults against the whole chain, judged by an oracle that is never faulted itself.
#[derive(Debug, Parser)]
#[command(name = "chaos", version, args_conflicts_with_subcommands = true)]
pub struct Cli {
    #[command(subcommand)]
    tool: Option<Tool>,
    /// This scenario; may be given again, and `all` is every one
    #[arg(long, value_name = "NAME")]
    scenario: Vec<String>,
    /// So many rounds by chance (1, unless a scenario is named)
    #[arg(long, value_name = "N")]
    rounds: Option<u64>,
    /// Rounds by chance are on three servers of each kind
    #[arg(long)]
    cluster: bool,
    /// Where chance begins; printed, and drawn unless given
    #[arg(long, value_name = "S")]
    seed: Option<u64>,
    /// No round begins after so many seconds
    #[arg(long, value_name = "SECONDS")]
    budget: Option<u64>,
    /// Where report.json, report.html and the logs of failed rounds go (target/chaos-report)
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// List the scenarios
    #[arg(long)]
    list: bool,
    /// Play services with one deliberate bug each until it is caught; fails when one is not
    #[arg(long)]
    prove: bool,
    /// Prove this bug only; may be given again
    #[arg(long, value_name = "NAME", requires = "prove")]
    bug: Vec<String>,
    /// Where services built with the feature `failpoint` lie
    #[arg(long, value_name = "DIR", hide = true)]
    failpoints: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
enum Tool {
    /// One report of several
    Merge {
        /// Their report.json
        #[arg(required = true)]
        reports: Vec<PathBuf>,
        /// Where the merged one goes
        #[arg(long, value_name = "DIR")]
        out: PathBuf,
    },
}

/// Runs one command to its end.
pub async fn run(cli: Cli) -> ExitCode {
    cli.run().await.unwrap_or_else(|error| {
        eprintln!("error: {}", chain(error.as_ref()));
        ExitCode::FAILURE
    })
}

impl Cli {
    async fn run(self) -> Result<ExitCode, Box<dyn Error>> {
        if let Some(Tool::Merge { reports, out }) = &self.tool {
            let read: Result<Vec<_>, _> = reports.iter().map(|path| Report::read(path)).collect();
            let merged = Report::merged(read?);
            merged.write(out)?;
            return end(&merged, merged.rounds.first().map_or(0, |round| round.seed));
        }
        if self.list {
            for scenario in scenario::all() {
                println!("{}", scenario.name);
                let clocks = scenario.clocks.iter();
                clocks.for_each(|(who, seconds)| println!("    {}", scenario::clock(*who, *seconds)));
                scenario.plan.iter().for_each(|planned| println!("    {planned}"));
            }
            return Ok(ExitCode::SUCCESS);
        }
        let seed = self
            .seed
            .unwrap_or_else(|| RandomState::new().hash_one("chaos") >> 32);
        eprintln!("seed {seed}");
        let campaign = Campaign {
            seed,
            budget: self.budget.map(Duration::from_secs),
            out: match &self.out {
                Some(out) => out.clone(),
                None => Campaign::folder()?,
            },
            failpoints: self.failpoints.clone(),
            commit: commit(),
        };
        let mut terminate = signal(SignalKind::terminate())?;
        // Whatever ends it, what it has started and mounted is dropped first.
        tokio::select! {
            outcome = self.play(&campaign) => outcome,
            _ = tokio::signal::ctrl_c() => Ok(interrupted()),
            _ = terminate.recv() => Ok(interrupted()),
        }
    }

    async fn play(&self, campaign: &Campaign) -> Result<ExitCode, Box<dyn Error>> {
        let seed = campaign.seed;
        if self.prove {
            let proofs = campaign.prove(&self.bug).await?;
            println!(
                "{}",
                serde_json::to_string(&serde_json::json!({"seed": seed, "bugs": proofs}))?
            );
            return Ok(code(!proofs.is_empty() && proofs.iter().all(Proof::holds)));
        }
        let (pick, left_out) = self.pick(campaign);
        let orders = campaign.orders(&pick)?;
        end(&campaign.run(&orders, left_out).await?, seed)
    }

    /// Of all scenarios those that this machine can play; one that is named and can't be is an error.
    fn pick(&self, campaign: &Campaign) -> (Pick, Vec<LeftOut>) {
        let (scenarios, left_out) = if self.scenario.iter().any(|name| name == "all") {
            campaign.everything()
        } else {
            (self.scenario.clone(), Vec::new())
        };
        for left in &left_out {
            eprintln!("left out: {}", left.reason);
        }
        let pick = Pick {
            scenarios,
            random: self.rounds.unwrap_or(u64::from(self.scenario.is_empty())),
            cluster: self.cluster,
        };
        (pick, left_out)
    }
}

fn interrupted() -> ExitCode {
    eprintln!("interrupted");
    ExitCode::FAILURE
}

/// The last line, and the exit code.
fn end(report: &Report, seed: u64) -> Result<ExitCode, Box<dyn Error>> {
    let summary = report.summary(seed);
    println!("{}", serde_json::to_string(&summary)?);
    Ok(code(summary.is_green()))
}

fn code(success: bool) -> ExitCode {
    if success {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}
