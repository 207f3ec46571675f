//! The `streamer` binary: the service, and the operator's commands.

use std::process::ExitCode;

use clap::Parser;
use service::{CommandLine, Process};
use streamer::Settings;
use streamer::admin::{self, Command};

/// Write a Kafka topic to a Cassandra table: every record becomes a row or a dead letter, exactly once
///
/// Without a command the service runs until SIGTERM.
#[derive(Parser)]
#[command(version, after_help = admin::EXAMPLES)]
struct Cli {
    #[command(flatten)]
    common: CommandLine,
    #[command(subcommand)]
    command: Option<Command>,
}

#[tokio::main]
async fn main() -> ExitCode {
    let cli = Cli::parse();
    let settings: Settings = match cli.common.settings() {
        Ok(settings) => settings,
        Err(code) => return code,
    };
    if let Some(command) = cli.command {
        // Returning would wait for driver threads that may block on an unreachable server.
        std::process::exit(i32::from(admin::perform(command, settings).await));
    }
    let process = match Process::start(streamer::settings::NAME, &settings.process).await {
        Ok(process) => process,
        Err(code) => return code,
    };
    let work = streamer::run(settings, process.context());
    process.run(work).await
}
