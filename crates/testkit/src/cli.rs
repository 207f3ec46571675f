//! The command line of the `testkit` binary, which the scripts call.
//!
//! The last line of each command's output is one line of JSON.

mod demo;
mod pool;
mod random_user;
mod stack;

use std::error::Error;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::error::chain;

/// Real servers and offline sources for Affluent's demo, tests and benches.
#[derive(Debug, Parser)]
#[command(name = "testkit", version)]
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
    /// Run a command whose tests share servers.
    Pool(pool::PoolCommand),
    /// The offline random-user API.
    RandomUser(random_user::RandomUserCommand),
}

/// Runs one command to its end.
pub async fn run(cli: Cli) -> ExitCode {
    let outcome: Result<ExitCode, Box<dyn Error>> = match cli.command {
        Command::Stack(command) => command.run().await.map_err(Into::into),
        Command::Demo(command) => command.run().await.map_err(Into::into),
        Command::Pool(command) => command.run().await.map_err(Into::into),
        Command::RandomUser(command) => command.run().await.map_err(Into::into),
    };
    outcome.unwrap_or_else(|error| {
        eprintln!("error: {}", chain(error.as_ref()));
        ExitCode::FAILURE
    })
}
