//! The publisher's process: configuration, logs, admin port, signals, then the service itself.

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use publisher::PublisherSettings;
use service::{CommandLine, ConfigCommand, HealthCheck, Process};

/// Records are allocated by the threads that read requests and freed by the one that hears of their delivery. glibc
/// keeps memory apart for each thread, and holds several times what is in use; this one gives it back. librdkafka has it,
/// too. Its settings are in `.cargo/config.toml`.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Takes records over HTTP and answers once Kafka has acknowledged them
#[derive(Parser)]
#[command(name = "publisher", version)]
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
}

#[tokio::main]
async fn main() -> ExitCode {
    let cli = Cli::parse();
    if let Some(Command::Config(command)) = cli.command {
        return command.perform::<PublisherSettings>(&cli.common);
    }
    let settings: PublisherSettings = match cli.common.settings() {
        Ok(settings) => settings,
        Err(code) => return code,
    };
    if let Some(Command::Healthcheck(check)) = cli.command {
        return check.perform("publisher", &settings.process).await.into();
    }
    let process = match Process::start("publisher", &settings.process).await {
        Ok(process) => process,
        Err(code) => return code,
    };
    let context = process.context();
    process.run(publisher::run(settings, context)).await
}
