//! `streamer dead-letters`: lists or shows dead letters, resets their limits, or changes their retention.
//!
//! The output may contain personal data. It goes to standard output and never into a log. A dead letter that was
//! written twice is shown once.

mod reset_limits;
mod retention;

use std::collections::{BTreeMap, HashSet};
use std::vec;

use clap::builder::PossibleValuesParser;
use clap::{Args, Subcommand};
use serde_json::json;

use crate::admin::clients::Clients;
use crate::admin::error::CommandError;
use crate::admin::output::print_line;
use crate::consumer::scan::{Scan, ScannedRecord};
use crate::dead_letters::dead_letter::{DeadLetter, PartitionOffset, known_reasons};

/// The arguments of `dead-letters`.
#[derive(Debug, Args)]
pub struct DeadLettersArgs {
    #[command(subcommand)]
    command: DeadLettersCommand,
}

#[derive(Debug, Subcommand)]
enum DeadLettersCommand {
    /// List dead letters: partition:offset of the record, reason, time, error
    #[command(after_help = "Example: streamer dead-letters list --since 2026-05-01T00:00:00Z --limit 100")]
    List(ListArgs),
    /// Show a dead letter with its key, headers and value
    #[command(after_help = "Example: streamer dead-letters show 3:1542")]
    Show {
        /// Partition and offset of the record, such as 3:1542
        position: PartitionOffset,
    },
    /// Reset the counts of dead letters after their cause is fixed, so that halted partitions continue
    ///
    /// Requires a group without members, because a member keeps the counts in memory.
    #[command(after_help = "Example: streamer dead-letters reset-limits --config streamer.toml")]
    ResetLimits,
    /// Show how the retention of the dead-letter topic differs from `dead_letters.retention`, and change it
    ///
    /// A streamer creates the topic with that retention, and never changes an existing one.
    #[command(after_help = "Example: streamer dead-letters retention --apply")]
    Retention {
        /// Change the topic. Dead letters that are older than the retention are deleted
        #[arg(long)]
        apply: bool,
    },
}

#[derive(Debug, Default, Args)]
struct ListArgs {
    /// Only dead letters with this reason
    #[arg(long, value_name = "REASON", value_parser = known_reason())]
    reason: Option<String>,
    /// Only dead letters of records in this partition
    #[arg(long, value_name = "P", value_parser = clap::value_parser!(i32).range(0..))]
    partition: Option<i32>,
    /// Only dead letters of records with this key
    #[arg(long, value_name = "KEY")]
    key: Option<String>,
    /// Only dead letters that were written at or after this time, such as 2026-05-01T00:00:00Z
    #[arg(long, value_name = "RFC3339", value_parser = time)]
    since: Option<jiff::Timestamp>,
    /// Stop after N dead letters
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    limit: Option<u64>,
    /// One line of JSON for each dead letter
    #[arg(long)]
    json: bool,
}

impl ListArgs {
    fn matches(&self, letter: &DeadLetter) -> bool {
        let key = self.key.as_deref().map(str::as_bytes);
        self.reason.as_ref().is_none_or(|reason| *reason == letter.reason)
            && self
                .partition
                .is_none_or(|partition| partition == letter.origin.position.partition)
            && key.is_none_or(|key| letter.record.raw.key() == Some(key))
            && self.since.is_none_or(|since| letter.at >= since)
    }

    fn is_reached(&self, listed: usize) -> bool {
        let listed = u64::try_from(listed).unwrap_or(u64::MAX);
        self.limit.is_some_and(|limit| listed >= limit)
    }
}

/// Parses a time. jiff's error explains its parser.
fn time(text: &str) -> Result<jiff::Timestamp, &'static str> {
    text.parse()
        .map_err(|_| "not a time, such as 2026-05-01T00:00:00Z")
}

/// Parses a reason. An unknown one is an error that lists the known ones.
pub(super) fn known_reason() -> PossibleValuesParser {
    PossibleValuesParser::new(known_reasons())
}

/// # Errors
/// When a server rejects a request or does not respond in time, or the dead letter does not exist.
pub(super) async fn dead_letters(clients: &Clients, arguments: &DeadLettersArgs) -> Result<(), CommandError> {
    match &arguments.command {
        DeadLettersCommand::List(arguments) => list(clients, arguments).await,
        DeadLettersCommand::Show { position } => show(clients, *position).await,
        DeadLettersCommand::ResetLimits => reset_limits::reset_limits(clients).await,
        DeadLettersCommand::Retention { apply } => retention::retention(clients, *apply).await,
    }
}

/// Reads the dead letters that are present at its creation.
struct DeadLetterReader<'a> {
    clients: &'a Clients,
    scan: Scan,
    records: vec::IntoIter<ScannedRecord>,
    /// Records that are not dead letters.
    unreadable: usize,
}

impl<'a> DeadLetterReader<'a> {
    async fn new(clients: &'a Clients) -> Result<Self, CommandError> {
        Ok(Self {
            clients,
            scan: clients.scan_dead_letters().await?,
            records: Vec::new().into_iter(),
            unreadable: 0,
        })
    }

    /// Returns the next dead letter, including duplicates, or `None` at the end.
    async fn next(&mut self) -> Result<Option<DeadLetter>, CommandError> {
        loop {
            for record in self.records.by_ref() {
                match DeadLetter::read(record) {
                    Some(letter) => return Ok(Some(letter)),
                    None => self.unreadable += 1,
                }
            }
            match self.clients.next(&mut self.scan).await? {
                Some(records) => self.records = records.into_iter(),
                None => return Ok(None),
            }
        }
    }
}

/// Passes each dead letter to `each`, including duplicates.
///
/// # Errors
/// The errors of `each`, and when Kafka rejects a request or does not respond in time.
pub(super) async fn read(
    clients: &Clients,
    mut each: impl AsyncFnMut(DeadLetter) -> Result<(), CommandError>,
) -> Result<(), CommandError> {
    let mut letters = DeadLetterReader::new(clients).await?;
    while let Some(letter) = letters.next().await? {
        each(letter).await?;
    }
    Ok(())
}

async fn list(clients: &Clients, arguments: &ListArgs) -> Result<(), CommandError> {
    let mut seen = HashSet::new();
    let mut reasons: BTreeMap<String, usize> = BTreeMap::new();
    let mut letters = DeadLetterReader::new(clients).await?;
    while !arguments.is_reached(seen.len())
        && let Some(letter) = letters.next().await?
    {
        if !arguments.matches(&letter) || !seen.insert(letter.origin) {
            continue;
        }
        *reasons.entry(letter.reason.clone()).or_default() += 1;
        if arguments.json {
            print_line(json_line(&letter))?;
        } else {
            print_line(table_row(&letter))?;
        }
    }
    if arguments.json {
        return Ok(());
    }
    let reasons: Vec<_> = reasons
        .iter()
        .map(|(reason, count)| format!(", {reason}: {count}"))
        .collect();
    print_line(format_args!("dead letters: {}{}", seen.len(), reasons.concat()))?;
    if arguments.is_reached(seen.len()) {
        print_line("stopped at --limit: more dead letters may follow")?;
    }
    if letters.unreadable > 0 {
        print_line(format_args!(
            "records that are not dead letters: {}",
            letters.unreadable
        ))?;
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dead_letters::dead_letter::tests::letter;

    #[test]
    fn wrong_time_is_explained_by_an_example() {
        assert_eq!(time("soon"), Err("not a time, such as 2026-05-01T00:00:00Z"));
        assert!(time("2026-05-01T02:00:00+02:00").is_ok());
    }

    #[test]
    fn every_given_filter_must_match() {
        let letter = letter(None, 5);
        let since = |text: &str| Some(text.parse().unwrap());
        let matching = ListArgs {
            reason: Some("email".to_owned()),
            partition: Some(3),
            key: Some("0195d0b1-7a4c-7f3e-9b1a-2c3d4e5f6071".to_owned()),
            since: since("2026-05-01T00:00:00Z"),
            ..ListArgs::default()
        };
        assert!(ListArgs::default().matches(&letter) && matching.matches(&letter));
        for other in [
            ListArgs {
                reason: Some("missing".to_owned()),
                ..ListArgs::default()
            },
            ListArgs {
                partition: Some(1),
                ..ListArgs::default()
            },
            ListArgs {
                key: Some("0195".to_owned()),
                ..ListArgs::default()
            },
            ListArgs {
                since: since("2026-05-01T00:00:01Z"),
                ..ListArgs::default()
            },
        ] {
            assert!(!other.matches(&letter), "{other:?}");
        }
    }
}
