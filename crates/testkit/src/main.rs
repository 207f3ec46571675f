//! The testkit's command line; see `testkit --help`.

use std::process::ExitCode;

use clap::Parser;
use testkit::cli::{self, Cli};

#[tokio::main]
async fn main() -> ExitCode {
    cli::run(Cli::parse()).await
}
