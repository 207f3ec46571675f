//! The ingester's process: configuration, start, the command, end.

use std::process::ExitCode;

use clap::Parser as _;
use ingester::store::Store;
use ingester::{Cli, Pipeline, execute};
use service::Process;
use service::process::{EXIT_CONFIG, exit_with_error};

#[tokio::main]
async fn main() -> ExitCode {
    let cli = Cli::parse();
    if let Some(code) = cli.run_without_settings() {
        return code;
    }
    let settings = match cli.settings() {
        Ok(settings) => settings,
        Err(code) => return code,
    };
    if let Some(code) = cli.run_offline(&settings).await {
        return code;
    }
    // Before any port is opened: a second ingester on the same state learns of the first one.
    let store = match Store::from_settings(&settings.state) {
        Ok(store) => store,
        Err(error) => return exit_with_error("ingester", &error, EXIT_CONFIG),
    };
    let process = match Process::start("ingester", &settings.process, &settings.telemetry).await {
        Ok(process) => process,
        Err(code) => return code,
    };
    let context = process.context();
    let pipeline = match Pipeline::new(&settings, store, &context) {
        Ok(pipeline) => pipeline,
        Err(error) => return exit_with_error("ingester", &error, EXIT_CONFIG),
    };
    process.run(execute(cli, settings, pipeline, context)).await
}
