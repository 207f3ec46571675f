//! The `streamer` binary: the service, and the operator's commands.

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use service::{CommandLine, CompletionsCommand, ConfigCommand, ManCommand, Process};
use streamer::Settings;
use streamer::admin::{self, Command};

/// As in the publisher: librdkafka's threads allocate records and the streamer's free them.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// Write a Kafka topic to a Cassandra table: every record becomes a row or a dead letter, exactly once
///
/// Without a command the service runs until SIGTERM.
#[derive(Parser)]
#[command(version, after_help = admin::EXAMPLES)]
struct Cli {
    #[command(flatten)]
    common: CommandLine,
    #[command(subcommand)]
    command: Option<Action>,
}

#[derive(Subcommand)]
enum Action {
    Config(ConfigCommand),
    Completions(CompletionsCommand),
    Man(ManCommand),
    #[command(flatten)]
    Command(Command),
}

#[tokio::main]
async fn main() -> ExitCode {
    let cli = Cli::parse();
    match &cli.command {
        Some(Action::Config(command)) => return command.perform::<Settings>(&cli.common),
        Some(Action::Completions(command)) => return command.perform::<Cli>(),
        Some(Action::Man(command)) => return command.perform::<Cli>(),
        Some(Action::Command(_)) | None => {}
    }
    let settings: Settings = match cli.common.settings() {
        Ok(settings) => settings,
        Err(code) => return code,
    };
    let contract = match cli.common.contract::<Settings>(&settings.record) {
        Ok(contract) => contract,
        Err(code) => return code,
    };
    if let Some(Action::Command(command)) = cli.command {
        // Returning would wait for driver threads that may block on an unreachable server.
        std::process::exit(i32::from(admin::perform(command, settings, contract).await));
    }
    let process = match Process::start(streamer::config::NAME, &settings.process, &settings.telemetry).await {
        Ok(process) => process,
        Err(code) => return code,
    };
    let work = streamer::run(settings, contract, process.context());
    process.run(work).await
}
