//! `testkit demo`: the main job, end to end.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use tokio::signal::unix::{SignalKind, signal};

use crate::demo::{Demo, DemoOptions, From, Outcome};
use crate::error::TestkitError;

/// Users from the random-user API become rows in Cassandra, through real Kafka; every count is checked.
#[derive(Debug, Args)]
pub(super) struct DemoCommand {
    /// How many users (1,000, or as many as the samples hold)
    #[arg(long, value_name = "N")]
    users: Option<u64>,
    /// From randomuser.me itself instead of the offline API
    #[arg(long, conflicts_with = "samples")]
    live: bool,
    /// From the whole replies in this folder, served by the offline API
    #[arg(long, value_name = "FOLDER")]
    samples: Option<PathBuf>,
    /// The API's version
    #[arg(long, value_name = "VERSION", default_value = "1.4")]
    api_version: String,
    /// Leave everything running until Ctrl-C
    #[arg(long)]
    keep: bool,
}

impl DemoCommand {
    pub(super) async fn run(self) -> Result<ExitCode, TestkitError> {
        let from = match self.samples {
            Some(folder) => From::Samples(folder),
            None if self.live => From::Live,
            None => From::Offline,
        };
        let options = DemoOptions {
            users: self.users,
            from,
            version: self.api_version,
        };
        // Ctrl-C ends this process, and everything it started with it.
        let mut demo = Demo::start(options).await?;
        let outcome = demo.run().await?;
        show(&outcome);
        if self.keep {
            keep(&demo).await;
        }
        drop(demo);
        println!("{}", serde_json::to_string(&outcome.figures).unwrap_or_default());
        Ok(if outcome.objections.is_empty() {
            ExitCode::SUCCESS
        } else {
            ExitCode::FAILURE
        })
    }
}

fn show(outcome: &Outcome) {
    println!("\nsome rows of spark_streams.created_users:");
    for (id, row) in &outcome.sample {
        let column = |name| row.get(name).map_or("", String::as_str);
        println!(
            "  {id}  {} {}  {}",
            column("first_name"),
            column("last_name"),
            column("address")
        );
    }
    let figures = &outcome.figures;
    println!(
        "\nfetched {}, accepted {}, stored {}, dead-lettered {}, duplicates {}",
        figures.fetched, figures.accepted, figures.stored, figures.dead_lettered, figures.duplicates
    );
    println!(
        "publisher to row: p50 {} ms, p99 {} ms; {} rows/s from the first request to the last row",
        figures.p50_ms, figures.p99_ms, figures.rows_per_second
    );
    for objection in &outcome.objections {
        println!("does not agree: {objection}");
    }
}

async fn keep(demo: &Demo) {
    println!("\nrunning until Ctrl-C:");
    for (name, address) in demo.addresses() {
        println!("  {name:<16} {address}");
    }
    let Ok(mut terminate) = signal(SignalKind::terminate()) else {
        return;
    };
    tokio::select! {
        _ = tokio::signal::ctrl_c() => {}
        _ = terminate.recv() => {}
    }
}
