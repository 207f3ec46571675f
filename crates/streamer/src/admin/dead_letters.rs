//! `streamer dead-letters`: lists or shows dead letters, or resets their limits.
//!
//! The output may contain personal data. It goes to standard output and never into a log. A dead letter that was
//! written twice is shown once.

use std::collections::{BTreeMap, HashSet};

use clap::{Args, Subcommand};
use serde_json::json;

use crate::admin::clients::Clients;
use crate::admin::error::CommandError;
use crate::admin::output::print_line;
use crate::admin::reset_limits;
use crate::dead_letters::dead_letter::{DeadLetter, PartitionOffset};

/// The arguments of `dead-letters`.
#[derive(Debug, Args)]
pub struct DeadLettersArgs {
    #[command(subcommand)]
    command: DeadLettersCommand,
}

#[derive(Debug, Subcommand)]
enum DeadLettersCommand {
    /// List dead letters: partition:offset of the record, reason, time, error
    List {
        /// Only dead letters with this reason
        #[arg(long, value_name = "REASON")]
        reason: Option<String>,
        /// One line of JSON for each dead letter
        #[arg(long)]
        json: bool,
    },
    /// Show a dead letter with its key, headers and value
    Show {
        /// Partition and offset of the record, such as 3:1542
        position: PartitionOffset,
    },
    /// Reset the counts of dead letters after their cause is fixed, so that halted partitions continue
    ///
    /// Requires a group without members, because a member keeps the counts in memory.
    ResetLimits,
}

/// # Errors
/// When a server rejects a request or does not respond in time, or the dead letter does not exist.
pub(super) async fn dead_letters(clients: &Clients, arguments: &DeadLettersArgs) -> Result<(), CommandError> {
    match &arguments.command {
        DeadLettersCommand::List { reason, json } => list(clients, reason.as_deref(), *json).await,
        DeadLettersCommand::Show { position } => show(clients, *position).await,
        DeadLettersCommand::ResetLimits => reset_limits::reset_limits(clients).await,
    }
}

/// Passes each dead letter to `each`, including duplicates. Returns the number of records that are not dead letters.
///
/// # Errors
/// The errors of `each`, and when Kafka rejects a request or does not respond in time.
pub(super) async fn read(
    clients: &Clients,
    mut each: impl AsyncFnMut(DeadLetter) -> Result<(), CommandError>,
) -> Result<usize, CommandError> {
    let mut unreadable = 0;
    let mut scan = clients.scan_dead_letters().await?;
    while let Some(records) = clients.next(&mut scan).await? {
        for record in records {
            match DeadLetter::read(record) {
                Some(letter) => each(letter).await?,
                None => unreadable += 1,
            }
        }
    }
    Ok(unreadable)
}

async fn list(clients: &Clients, reason: Option<&str>, as_json: bool) -> Result<(), CommandError> {
    let mut seen = HashSet::new();
    let mut reasons: BTreeMap<String, usize> = BTreeMap::new();
    let unreadable = read(clients, async |letter| {
        if reason.is_some_and(|reason| reason != letter.reason) || !seen.insert(letter.origin) {
            return Ok(());
        }
        *reasons.entry(letter.reason.clone()).or_default() += 1;
        if as_json {
            print_line(json_line(&letter))
        } else {
            print_line(table_row(&letter))
        }
    })
    .await?;
    if as_json {
        return Ok(());
    }
    let reasons: Vec<_> = reasons
        .iter()
        .map(|(reason, count)| format!(", {reason}: {count}"))
        .collect();
    print_line(format_args!("dead letters: {}{}", seen.len(), reasons.concat()))?;
    if unreadable > 0 {
        print_line(format_args!("records that are not dead letters: {unreadable}"))?;
    }
    Ok(())
}

fn table_row(letter: &DeadLetter) -> String {
    let DeadLetter {
        origin,
        reason,
        at,
        error,
        ..
    } = letter;
    format!("{:<16} {reason:<24} {at:<30} {error}", origin.position)
}

fn json_line(letter: &DeadLetter) -> serde_json::Value {
    json!({
        "partition": letter.origin.position.partition,
        "offset": letter.origin.position.offset,
        "topic": letter.topic,
        "topic_id": letter.origin.topic_id.to_string(),
        "reason": letter.reason,
        "error": letter.error,
        "write_timestamp": letter.write_timestamp,
        "at": letter.at.to_string(),
    })
}

async fn show(clients: &Clients, position: PartitionOffset) -> Result<(), CommandError> {
    // A recreated topic may have had a dead letter at the same position.
    let mut seen = HashSet::new();
    read(clients, async |letter| {
        if letter.origin.position != position || !seen.insert(letter.origin) {
            return Ok(());
        }
        print_line(details(&letter))
    })
    .await?;
    if seen.is_empty() {
        return Err(CommandError::NoDeadLetter(position));
    }
    Ok(())
}

fn details(letter: &DeadLetter) -> String {
    let write_timestamp = jiff::Timestamp::from_microsecond(letter.write_timestamp);
    let mut lines = vec![
        format!("record      {} of {}", letter.origin.position, letter.topic),
        format!("topic id    {}", letter.origin.topic_id),
        format!("reason      {}: {}", letter.reason, letter.error),
        format!(
            "timestamp   {} ({})",
            letter.write_timestamp,
            write_timestamp.unwrap_or_default()
        ),
        format!("rejected at {}", letter.at),
        format!(
            "dead letter {}",
            PartitionOffset {
                partition: letter.record.partition,
                offset: letter.record.offset,
            }
        ),
        format!("key         {}", text(letter.record.raw.key())),
    ];
    let headers = letter.record.raw.headers();
    lines.extend(headers.map(|(name, value)| format!("header      {}: {}", text(Some(name)), text(value))));
    lines.push(format!("value       {}", text(letter.record.raw.value())));
    lines.join("\n")
}

/// Escapes bytes that are not UTF-8.
fn text(bytes: Option<&[u8]>) -> String {
    match bytes.map(std::str::from_utf8) {
        None => "(null)".to_owned(),
        Some(Ok(text)) => text.escape_debug().to_string().replace("\\\"", "\""),
        Some(Err(_)) => format!("(binary) {}", bytes.unwrap_or_default().escape_ascii()),
    }
}
