//! Writes the topic to Cassandra: every record a row or a dead letter, exactly once.

use std::process::ExitCode;

use clap::Parser;
use service::{CommandLine, Process};
use streamer::Settings;

/// Kafka → Cassandra: every record becomes a row or a dead letter, exactly once.
#[derive(Parser)]
#[command(version)]
struct Cli {
    #[command(flatten)]
    common: CommandLine,
}

#[tokio::main]
async fn main() -> ExitCode {
    let settings: Settings = match Cli::parse().common.settings() {
        Ok(settings) => settings,
        Err(code) => return code,
    };
    let process = match Process::start(streamer::settings::NAME, &settings.process).await {
        Ok(process) => process,
        Err(code) => return code,
    };
    let work = streamer::run(settings, process.context());
    process.run(work).await
}
