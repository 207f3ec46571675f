//! The `bench` binary; see `bench --help`.

use std::process::ExitCode;

use bench::cli::{self, Cli};
use clap::Parser;

#[tokio::main]
async fn main() -> ExitCode {
    cli::run(Cli::parse()).await
}
