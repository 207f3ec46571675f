//! The command line of the fault campaign; see `chaos --help`.

use std::process::ExitCode;

use chaos::cli::{self, Cli};
use clap::Parser;

#[tokio::main]
async fn main() -> ExitCode {
    cli::run(Cli::parse()).await
}
