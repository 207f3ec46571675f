//! `testkit demo`: the whole pipeline on real servers.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;

use super::interrupt::interrupted;
use crate::demo::{Demo, DemoOptions, DemoReport, UserSource};
use crate::error::{TestkitError, chain};
use crate::record_type::{RecordType, USERS};
use crate::service::ServiceError;

/// Users from the random-user API, or generated records, become rows in Cassandra, through real Kafka; every count is checked.
#[derive(Debug, Args)]
pub(super) struct DemoCommand {
    /// users, or the contract of a folder of examples, whose records are generated
    #[arg(long, value_name = "NAME", default_value = USERS)]
    record: String,
    /// Number of records [default: 1000, or all of the samples]
    #[arg(long, value_name = "N")]
    users: Option<u64>,
    /// From randomuser.me instead of the offline API
    #[arg(long, conflicts_with = "samples")]
    live: bool,
    /// From the stored responses in this folder, served by the offline API
    #[arg(long, value_name = "FOLDER")]
    samples: Option<PathBuf>,
    /// The API's version
    #[arg(long, value_name = "VERSION", default_value = "1.4")]
    api_version: String,
    /// Leave everything running until Ctrl-C; fail when Kafka or Cassandra ends
    #[arg(long)]
    keep: bool,
}

impl DemoCommand {
    pub(super) async fn run(self) -> Result<ExitCode, TestkitError> {
        let source = match self.samples {
            Some(folder) => UserSource::Samples(folder),
            None if self.live => UserSource::Live,
            None => UserSource::Offline,
        };
        let options = DemoOptions {
            record: RecordType::load(&self.record)?,
            users: self.users,
            source,
            version: self.api_version,
        };
        // Ctrl-C ends this process, and with it everything it started.
        let demo = Demo::start(options).await?;
        let report = demo.run().await?;
        print(&report);
        let ended = if self.keep { keep(&demo).await } else { None };
        drop(demo);
        if let Some(error) = &ended {
            eprintln!("error: {}", chain(error));
        }
        println!("{}", serde_json::to_string(&report.figures).unwrap_or_default());
        Ok(if report.failures.is_empty() && ended.is_none() {
            ExitCode::SUCCESS
        } else {
            ExitCode::FAILURE
        })
    }
}

fn print(report: &DemoReport) {
    println!("\nsome rows of spark_streams.created_{}:", report.figures.record);
    for (id, columns) in &report.sample {
        println!("  {id}  {}", columns.join("  "));
    }
    let figures = &report.figures;
    println!(
        "\nfetched {}, invalid {}, accepted {}, stored {}, dead-lettered {}, duplicates {}",
        figures.fetched,
        figures.invalid,
        figures.accepted,
        figures.stored,
        figures.dead_lettered,
        figures.duplicates
    );
    println!(
        "publisher to row: p50 {} ms, p99 {} ms; {} rows/s from the first request to the last row",
        figures.p50_ms, figures.p99_ms, figures.rows_per_second
    );
    if let (Some(p50), Some(p99)) = (figures.end_to_end_p50_ms, figures.end_to_end_p99_ms) {
        println!("API to row: p50 {p50} ms, p99 {p99} ms");
    }
    println!(
        "each accepted record is in the streamer's ledger: {}",
        figures.conserved
    );
    for failure in &report.failures {
        println!("failed check: {failure}");
    }
}

/// Keeps everything running until a signal. Returns the reason when a server ends before.
async fn keep(demo: &Demo) -> Option<TestkitError> {
    println!("\nrunning until Ctrl-C:");
    for (name, address) in demo.addresses() {
        println!("  {name:<16} {address}");
    }
    let ended = |error: &ServiceError| {
        let error = error.to_string();
        println!("{}", error.lines().next().unwrap_or_default());
    };
    tokio::select! {
        error = demo.watch_servers(ended) => Some(error),
        () = interrupted() => None,
    }
}
