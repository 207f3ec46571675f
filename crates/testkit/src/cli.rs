//! The command line of the `testkit` binary, which the scripts call.
//!
//! The last line of each command's output is one line of JSON.

mod demo;
mod interrupt;
mod pool;
mod random_user;
mod stack;

use std::error::Error;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use futures::future::BoxFuture;

use crate::error::chain;

/// Real servers and an offline random-user API for Affluent's demo, tests and benches.
#[derive(Debug, Parser)]
#[command(name = "testkit", version, after_help = "Example: testkit demo --users 5000")]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Kafka and Cassandra without the services.
    #[command(after_help = "Example: testkit stack run --kafka 3")]
    #[command(subcommand)]
    Stack(stack::StackCommand),
    /// The whole pipeline on real servers.
    #[command(after_help = "Example: testkit demo --users 5000 --keep")]
    Demo(demo::DemoCommand),
    /// Run a command whose tests share servers.
    #[command(after_help = "Example: testkit pool -- cargo nextest run --release")]
    Pool(pool::PoolCommand),
    /// The offline random-user API.
    #[command(after_help = "Example: testkit random-user --listen 127.0.0.1:8000 --fault unavailable*3")]
    RandomUser(random_user::RandomUserCommand),
}

/// Runs one command to its end. The future is boxed, so that the binary does not compile the library's futures again.
pub fn run(cli: Cli) -> BoxFuture<'static, ExitCode> {
    Box::pin(async {
        let outcome: Result<ExitCode, Box<dyn Error + Send>> = match cli.command {
            Command::Stack(command) => command.run().await.map_err(|error| Box::new(error) as _),
            Command::Demo(command) => command.run().await.map_err(|error| Box::new(error) as _),
            Command::Pool(command) => command.run().await.map_err(|error| Box::new(error) as _),
            Command::RandomUser(command) => command.run().await.map_err(|error| Box::new(error) as _),
        };
        outcome.unwrap_or_else(|error| {
            eprintln!("error: {}", chain(error.as_ref()));
            ExitCode::FAILURE
        })
    })
}
