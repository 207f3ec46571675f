//! What an operator does to a group by hand: look at its checkpoints, move them on purpose, accept a new table.
//!
//! A command asks the same servers as the service and prints to standard output. It opens no admin port, since it may
//! run beside a streamer, joins no group, and reports a failure as one line on standard error. No wait is without a
//! deadline, except the one for the operator's own answer.

mod accept_table;
mod confirm;
mod dead_letters;
mod error;
mod letter;
mod redrive;
mod replay;
mod resume;
mod servers;
mod situation;
mod status;
mod verify;

use clap::Subcommand;
use service::process::chain;
use service::{ExitStatus as _, HealthCheck};

use crate::commands::error::CommandError;
use crate::commands::servers::Servers;
use crate::settings::{NAME, Settings};

/// What is asked for instead of the service.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Ask the streamer that runs with this configuration how it is
    Healthcheck(HealthCheck),
    /// What an operator does
    #[command(flatten)]
    ByHand(ByHand),
}

/// What an operator does.
#[derive(Debug, Subcommand)]
pub enum ByHand {
    /// Go on with the present table, without the rows that were written to the one before
    ///
    /// Only while the group has no members.
    AcceptTable,
    /// List dead letters, or show one
    DeadLetters(dead_letters::Arguments),
    /// Write dead letters to the table, each under its own write timestamp
    ///
    /// What came after them in the log stays. Those that are still invalid are left, and those that are older than
    /// the table's gc_grace_seconds.
    Redrive(redrive::Arguments),
    /// Move the checkpoints back on purpose, so that records are written again
    ///
    /// Rows that are there do not change: each record is written under a timestamp that is not larger than before.
    /// A table that is gone is created and filled again. No checkpoint is moved forward, so nothing is skipped. Only
    /// while the group has no members.
    Replay(replay::Arguments),
    /// Clear the counts of dead letters in a row, after their cause is mended, so that stopped partitions go on
    ///
    /// Only while the group has no members: a running one has the counts in memory.
    Resume,
    /// Show checkpoint, beginning, end and lag of each partition
    Status(status::Arguments),
    /// Hold each user's newest record in the topic, up to the checkpoints, against its row, and list what differs
    ///
    /// The exit code is 1 if anything does.
    Verify,
}

/// Does what `command` says. Returns the exit code: 0 done, 78 refused for what only the operator can mend, 1 failed.
pub async fn perform(command: Command, settings: Settings) -> u8 {
    let command = match command {
        Command::Healthcheck(check) => return check.perform(NAME, &settings.process).await,
        Command::ByHand(command) => command,
    };
    match attempt(command, settings).await {
        Ok(()) => 0,
        Err(error) => {
            eprintln!("{NAME}: {}", chain(&error));
            error.exit_code()
        }
    }
}

async fn attempt(command: ByHand, settings: Settings) -> Result<(), CommandError> {
    let servers = Servers::new(settings)?;
    match command {
        ByHand::AcceptTable => accept_table::accept_table(&servers).await,
        ByHand::DeadLetters(arguments) => dead_letters::dead_letters(&servers, &arguments).await,
        ByHand::Redrive(arguments) => redrive::redrive(&servers, &arguments).await,
        ByHand::Replay(arguments) => replay::replay(&servers, &arguments).await,
        ByHand::Resume => resume::resume(&servers).await,
        ByHand::Status(arguments) => status::status(&servers, &arguments).await,
        ByHand::Verify => verify::verify(&servers).await,
    }
}

/// Writes a line to standard output. A closed pipe is an error and not a panic.
fn say(line: impl std::fmt::Display) -> Result<(), CommandError> {
    use std::io::Write as _;
    writeln!(std::io::stdout(), "{line}").map_err(CommandError::Output)
}
