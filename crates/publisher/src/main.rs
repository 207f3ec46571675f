//! The publisher's process: configuration, logs, admin port and signals.

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use publisher::PublisherSettings;
use service::{CommandLine, CompletionsCommand, ConfigCommand, HealthCheck, ManCommand, Process};

/// Records are allocated by the threads that read requests and freed by librdkafka's thread. glibc keeps an arena for
/// each thread, and so holds several times the memory in use. jemalloc returns it. Its settings are in
/// `.cargo/config.toml`; librdkafka uses it, too.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

const EXAMPLES: &str = "\
Examples:
  publisher --config publisher.toml
  PUBLISHER__KAFKA__BROKERS=kafka-1:9092,kafka-2:9092 publisher
  PUBLISHER__RECORD__PROTO=orders.proto publisher
  publisher --config publisher.toml --check-config
  publisher --config publisher.toml healthcheck --ready";

/// Publishes records from HTTP to Kafka and responds once Kafka has acknowledged them
#[derive(Parser)]
#[command(name = "publisher", version, after_help = EXAMPLES)]
struct Cli {
    #[command(flatten)]
    common: CommandLine,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Subcommand)]
enum Command {
    Healthcheck(HealthCheck),
    Config(ConfigCommand),
    Completions(CompletionsCommand),
    Man(ManCommand),
}

#[tokio::main]
async fn main() -> ExitCode {
    let cli = Cli::parse();
    match &cli.command {
        Some(Command::Config(command)) => return command.perform::<PublisherSettings>(&cli.common),
        Some(Command::Completions(command)) => return command.perform::<Cli>(),
        Some(Command::Man(command)) => return command.perform::<Cli>(),
        Some(Command::Healthcheck(_)) | None => {}
    }
    let settings: PublisherSettings = match cli.common.settings() {
        Ok(settings) => settings,
        Err(code) => return code,
    };
    if let Some(Command::Healthcheck(check)) = cli.command {
        return check.perform("publisher", &settings.process).await.into();
    }
    let contract = match cli.common.contract::<PublisherSettings>(&settings.record) {
        Ok(contract) => contract,
        Err(code) => return code,
    };
    let process = match Process::start("publisher", &settings.process, &settings.telemetry).await {
        Ok(process) => process,
        Err(code) => return code,
    };
    let context = process.context();
    process.run(publisher::run(settings, contract, context)).await
}
