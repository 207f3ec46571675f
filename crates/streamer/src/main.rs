//! Writes the topic to Cassandra: every record a row or a dead letter, exactly once.

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use service::{CommandLine, ConfigCommand, Process};
use streamer::Settings;
use streamer::commands::{self, Command};

/// Kafka → Cassandra: every record becomes a row or a dead letter, exactly once
///
/// Without a command it runs until it is told to stop.
#[derive(Parser)]
#[command(version)]
struct Cli {
    #[command(flatten)]
    common: CommandLine,
    #[command(subcommand)]
    command: Option<Action>,
}

#[derive(Subcommand)]
enum Action {
    Config(ConfigCommand),
    #[command(flatten)]
    Command(Command),
}

#[tokio::main]
async fn main() -> ExitCode {
    let cli = Cli::parse();
    if let Some(Action::Config(command)) = cli.command {
        return command.perform::<Settings>(&cli.common);
    }
    let settings: Settings = match cli.common.settings() {
        Ok(settings) => settings,
        Err(code) => return code,
    };
    if let Some(Action::Command(command)) = cli.command {
        // Not returned: a thread of a driver may be waiting for a server that is away.
        std::process::exit(i32::from(commands::perform(command, settings).await));
    }
    let process = match Process::start(streamer::config::NAME, &settings.process).await {
        Ok(process) => process,
        Err(code) => return code,
    };
    let work = streamer::run(settings, process.context());
    process.run(work).await
}
