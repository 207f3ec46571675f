//! The command line of the `testbed` binary, which the scripts call.
//!
//! The last line of each command's output is one line of JSON.

mod bench;
mod chaos;
mod demo;
mod random_user;
mod stack;

use std::error::Error;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::error::chain;

/// Real servers and offline sources for Affluent's demo, tests and benches.
#[derive(Debug, Parser)]
#[command(name = "testbed", version)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Real Kafka and Cassandra, on their own.
    #[command(subcommand)]
    Stack(stack::StackCommand),
    /// The main job, end to end on real servers.
    Demo(demo::DemoCommand),
    /// Figures against goals, side by side in one run.
    #[command(subcommand)]
    Bench(bench::BenchCommand),
    /// Faults against the whole chain, judged by an oracle.
    Chaos(chaos::ChaosCommand),
    /// The bare loop that a bench compares with, as a process of its own.
    #[command(hide = true)]
    Ceiling(crate::bench::ceiling::Ceiling),
    /// The bare producer loop that a bench compares with, as a process of its own.
    #[command(hide = true)]
    Produce(crate::bench::publisher::bare::BareLoop),
    /// A bare member of a consumer group, as a process of its own.
    #[command(hide = true)]
    Member(crate::bench::assignment::Member),
    /// A route that does nothing, against which a bench checks its load generator.
    #[command(hide = true)]
    Noop(crate::bench::publisher::noop::NoopCommand),
    /// The offline random-user API.
    RandomUser(random_user::RandomUserCommand),
}

/// Runs one command to its end.
pub async fn run(cli: Cli) -> ExitCode {
    let outcome: Result<ExitCode, Box<dyn Error>> = match cli.command {
        Command::Stack(command) => command.run().await.map_err(Into::into),
        Command::Demo(command) => command.run().await.map_err(Into::into),
        Command::Bench(command) => command.run().await,
        Command::Chaos(command) => command.run().await,
        Command::Ceiling(command) => bench::ceiling(command).await.map_err(Into::into),
        Command::Produce(command) => bench::produce(&command).map_err(Into::into),
        Command::Member(member) => bench::member(&member).map_err(Into::into),
        Command::Noop(command) => bench::noop(&command).await.map_err(Into::into),
        Command::RandomUser(command) => command.run().await.map_err(Into::into),
    };
    outcome.unwrap_or_else(|error| {
        eprintln!("error: {}", chain(error.as_ref()));
        ExitCode::FAILURE
    })
}
