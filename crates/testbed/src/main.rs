//! The testbed's command line; see `testbed --help`.

use std::process::ExitCode;

use clap::Parser;
use testbed::cli::{self, Cli};

#[tokio::main]
async fn main() -> ExitCode {
    cli::run(Cli::parse()).await
}
