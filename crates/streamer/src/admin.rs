//! The operator's commands: inspect and move checkpoints, accept a new table, list and redrive dead letters, show
//! runs, trace a key, and report where it still is.
//!
//! A command connects to the same servers as the service and prints to standard output. It opens no admin port, because it
//! may run next to a streamer, and joins no group. A failure is one line on standard error. Every wait has a timeout,
//! except the one for the operator's confirmation.

mod clients;
mod cluster_snapshot;
mod error;
mod output;
mod row_reader;

mod accept_table;
mod dead_letters;
mod erasure_report;
mod key_search;
mod redrive;
mod replay;
mod runs;
mod schema;
mod status;
mod trace;
mod verify;

use std::sync::Arc;

use clap::Subcommand;
use futures::future::LocalBoxFuture;
use model::Contract;
use service::output::print_error;
use service::{ExitStatus as _, HealthCheck};

use crate::admin::clients::Clients;
use crate::admin::error::CommandError;
use crate::config::{NAME, Settings};

/// The examples of `streamer --help`.
pub const EXAMPLES: &str = "\
Examples:
  streamer                                        Run the service
  streamer --check-config                         Validate the configuration
  streamer status                                 Show checkpoints and lag
  streamer status --watch                         Show how fast the lag falls
  streamer replay --from-time 2026-05-01T00:00:00Z
                                                  Write the records since that time again
  streamer replay --from-offset 0 --yes           Write the whole topic again, for example to a new table
  streamer accept-table                           Continue with a recreated table without its old rows
  streamer dead-letters list --reason missing     List the dead letters of one reason
  streamer dead-letters list --since 2026-05-01T00:00:00Z --limit 100
                                                  List the first 100 dead letters since that time
  streamer dead-letters show 3:1542               Show the dead letter of partition 3, offset 1542
  streamer dead-letters reset-limits              Let halted partitions continue at the next start
  streamer redrive --dry-run                      Show which dead letters could be written to the table
  streamer dead-letters retention --apply         Delete dead letters after dead_letters.retention
  streamer trace 0195d0b1-7a4c-7f3e-9b1a-2c3d4e5f6071
                                                  Show the events, dead letters and rows of a key
  streamer erasure-report 0195d0b1-7a4c-7f3e-9b1a-2c3d4e5f6071
                                                  Show where an erased key still is, and until when
  streamer runs show 0195d0b1-7a4c-7f3e-9b1a-2c3d4e5f6071
                                                  Show which records of a run became rows or dead letters
  streamer verify                                 Compare the table with the topic
  streamer schema plan                            Show the columns that the table lacks

Exit codes: 0 success, 78 configuration error that needs the operator, 1 any other failure";

/// The command to run instead of the service.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Request the health of the streamer that runs with this configuration
    #[command(after_help = "Example: streamer healthcheck --ready --config streamer.toml")]
    Healthcheck(HealthCheck),
    /// An operator's command.
    #[command(flatten)]
    Admin(AdminCommand),
}

/// An operator's command.
#[derive(Debug, Subcommand)]
pub enum AdminCommand {
    /// Continue with the present table, without the rows of the table before it
    ///
    /// Requires a group without members.
    #[command(after_help = "Example: streamer accept-table --config streamer.toml")]
    AcceptTable,
    /// List or show dead letters, reset their limits, or change their retention
    #[command(after_help = "Example: streamer dead-letters list --reason missing")]
    DeadLetters(dead_letters::DeadLettersArgs),
    /// Show where a key still is, and by when Kafka will have deleted it
    ///
    /// Reads both topics and the rows of the key. It finds records by their keys and by the bytes of the key. The exit code
    /// is 1 unless nothing but the key of a tombstone is left.
    #[command(after_help = "Example: streamer erasure-report 0195d0b1-7a4c-7f3e-9b1a-2c3d4e5f6071")]
    ErasureReport(erasure_report::ErasureReportArgs),
    /// Write dead letters to the table, each under its original write timestamp
    ///
    /// Later records of the same primary key keep their rows. Skips dead letters that are still invalid, and those older than the
    /// table's gc_grace_seconds.
    #[command(after_help = "Example: streamer redrive --dry-run")]
    Redrive(redrive::RedriveArgs),
    /// Move checkpoints back, so that the next start writes the records again
    ///
    /// Existing rows do not change, because no record gets a larger write timestamp than before. Creates the table if it
    /// was dropped. Never moves a checkpoint forward, so no record is skipped. Requires a group without members.
    #[command(after_help = "Example: streamer replay --from-time 2026-05-01T00:00:00Z")]
    Replay(replay::ReplayArgs),
    /// Show what became of the records of a run
    #[command(after_help = "Example: streamer runs show 0195d0b1-7a4c-7f3e-9b1a-2c3d4e5f6071")]
    Runs(runs::RunsArgs),
    /// Show the table that the contract needs, or add the columns that the present table lacks
    #[command(after_help = "Example: streamer schema plan")]
    Schema(schema::SchemaArgs),
    /// Show checkpoint, beginning, end and lag of each partition
    #[command(after_help = "Example: streamer status --watch")]
    Status(status::StatusArgs),
    /// Show the events of a key, their dead letters and the rows that they left
    ///
    /// Reads the partition of the key. Shows values of personal fields only with --values.
    #[command(after_help = "Example: streamer trace 0195d0b1-7a4c-7f3e-9b1a-2c3d4e5f6071")]
    Trace(trace::TraceArgs),
    /// Compare the latest record of each row up to the checkpoints with the table, and list the differences
    ///
    /// The exit code is 1 if there are differences.
    #[command(after_help = "Example: streamer verify --config streamer.toml")]
    Verify,
}

/// Runs `command` and returns the exit code: 0 success, 78 for an error that needs the operator, 1 otherwise.
///
/// The future is boxed here, so that the binary does not compile the commands again.
pub fn perform(command: Command, settings: Settings, contract: Arc<Contract>) -> LocalBoxFuture<'static, u8> {
    Box::pin(async move {
        let command = match command {
            Command::Healthcheck(check) => return check.perform(NAME, &settings.process).await,
            Command::Admin(command) => command,
        };
        match execute(command, settings, contract).await {
            Ok(()) => 0,
            Err(error) => {
                print_error(NAME, &error);
                error.exit_code()
            }
        }
    })
}

async fn execute(
    command: AdminCommand,
    settings: Settings,
    contract: Arc<Contract>,
) -> Result<(), CommandError> {
    let clients = Clients::new(settings, contract)?;
    match command {
        AdminCommand::AcceptTable => accept_table::accept_table(&clients).await,
        AdminCommand::DeadLetters(arguments) => dead_letters::dead_letters(&clients, &arguments).await,
        AdminCommand::ErasureReport(arguments) => erasure_report::erasure_report(&clients, &arguments).await,
        AdminCommand::Redrive(arguments) => redrive::redrive(&clients, &arguments).await,
        AdminCommand::Replay(arguments) => replay::replay(&clients, &arguments).await,
        AdminCommand::Runs(arguments) => runs::runs(&clients, &arguments).await,
        AdminCommand::Schema(arguments) => schema::schema(&clients, &arguments).await,
        AdminCommand::Status(arguments) => status::status(&clients, &arguments).await,
        AdminCommand::Trace(arguments) => trace::trace(&clients, &arguments).await,
        AdminCommand::Verify => verify::verify(&clients).await,
    }
}
