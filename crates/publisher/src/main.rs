//! The publisher's process: configuration, logs, admin port, signals, then the service itself.

use std::process::ExitCode;

use clap::Parser;
use publisher::PublisherSettings;
use service::{CommandLine, Process};

/// Takes records over HTTP and answers once Kafka has acknowledged them
#[derive(Parser)]
#[command(name = "publisher", version)]
struct Cli {
    #[command(flatten)]
    common: CommandLine,
}

#[tokio::main]
async fn main() -> ExitCode {
    let settings: PublisherSettings = match Cli::parse().common.settings() {
        Ok(settings) => settings,
        Err(code) => return code,
    };
    let process = match Process::start("publisher", &settings.process).await {
        Ok(process) => process,
        Err(code) => return code,
    };
    let context = process.context();
    process.run(publisher::run(settings, context)).await
}
