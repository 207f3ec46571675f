//! `streamer dead-letters`: lists them, or shows one whole. What is shown may be personal; it goes to the operator's
//! terminal and into no log. A letter that was written twice is told once.

use std::collections::{BTreeMap, HashSet};

use clap::{Args, Subcommand};
use serde_json::json;

use crate::commands::error::CommandError;
use crate::commands::letter::{Letter, Place};
use crate::commands::say;
use crate::commands::servers::Servers;

/// What of them.
#[derive(Debug, Args)]
pub struct Arguments {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// One line for each dead letter: partition:offset of the record it was, reason, when, why
    List {
        /// Those with this reason alone
        #[arg(long, value_name = "REASON")]
        reason: Option<String>,
        /// A line of JSON for each
        #[arg(long)]
        json: bool,
    },
    /// Everything of one dead letter
    Show {
        /// Partition and offset of the record it was, such as 3:1542
        place: Place,
    },
}

/// # Errors
/// When Kafka refuses, or has not answered in time; when there is no such letter.
pub(super) async fn dead_letters(servers: &Servers, arguments: &Arguments) -> Result<(), CommandError> {
    match &arguments.what {
        What::List { reason, json } => list(servers, reason.as_deref(), *json).await,
        What::Show { place } => show(servers, *place).await,
    }
}

/// Gives each letter to `each`, also what was written twice; returns how many records are no letters.
///
/// # Errors
/// Those of `each`, and when Kafka refuses or has not answered in time.
pub(super) async fn read(
    servers: &Servers,
    mut each: impl AsyncFnMut(Letter) -> Result<(), CommandError>,
) -> Result<usize, CommandError> {
    let mut strange = 0;
    let mut scan = servers.scan_dead_letters().await?;
    while let Some(records) = servers.next(&mut scan).await? {
        for record in records {
            match Letter::read(record) {
                Some(letter) => each(letter).await?,
                None => strange += 1,
            }
        }
    }
    Ok(strange)
}

async fn list(servers: &Servers, reason: Option<&str>, as_json: bool) -> Result<(), CommandError> {
    let mut seen = HashSet::new();
    let mut reasons: BTreeMap<String, usize> = BTreeMap::new();
    let strange = read(servers, async |letter| {
        if reason.is_some_and(|reason| reason != letter.reason) || !seen.insert(letter.origin) {
            return Ok(());
        }
        *reasons.entry(letter.reason.clone()).or_default() += 1;
        if as_json {
            say(line(&letter))
        } else {
            say(row(&letter))
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
    say(format_args!("dead letters: {}{}", seen.len(), reasons.concat()))?;
    if strange > 0 {
        say(format_args!("records that are not dead letters: {strange}"))?;
    }
    Ok(())
}

fn row(letter: &Letter) -> String {
    let Letter {
        origin,
        reason,
        at,
        error,
        ..
    } = letter;
    format!("{:<16} {reason:<24} {at:<30} {error}", origin.place)
}

fn line(letter: &Letter) -> serde_json::Value {
    json!({
        "partition": letter.origin.place.partition,
        "offset": letter.origin.place.offset,
        "topic": letter.topic,
        "topic_id": letter.origin.topic_id.to_string(),
        "reason": letter.reason,
        "error": letter.error,
        "write_timestamp": letter.stamp,
        "at": letter.at.to_string(),
    })
}

async fn show(servers: &Servers, place: Place) -> Result<(), CommandError> {
    // A recreated topic may have had a letter at the same place.
    let mut seen = HashSet::new();
    read(servers, async |letter| {
        if letter.origin.place != place || !seen.insert(letter.origin) {
            return Ok(());
        }
        say(whole(&letter))
    })
    .await?;
    if seen.is_empty() {
        return Err(CommandError::NoLetter(place));
    }
    Ok(())
}

fn whole(letter: &Letter) -> String {
    let stamp = jiff::Timestamp::from_microsecond(letter.stamp);
    let mut lines = vec![
        format!("record  {} of {}", letter.origin.place, letter.topic),
        format!("topic   id {}", letter.origin.topic_id),
        format!("reason  {}: {}", letter.reason, letter.error),
        format!("stamp   {} ({})", letter.stamp, stamp.unwrap_or_default()),
        format!("aside   {}", letter.at),
        format!(
            "letter  {}",
            Place {
                partition: letter.record.partition,
                offset: letter.record.offset,
            }
        ),
        format!("key     {}", text(letter.record.raw.key())),
    ];
    let headers = letter.record.raw.headers();
    lines.extend(headers.map(|(name, value)| format!("header  {name}: {}", text(value))));
    lines.push(format!("value   {}", text(letter.record.raw.value())));
    lines.join("\n")
}

/// Bytes that are no text are shown as such, escaped.
fn text(bytes: Option<&[u8]>) -> String {
    match bytes.map(std::str::from_utf8) {
        None => "(null)".to_owned(),
        Some(Ok(text)) => text.escape_debug().to_string().replace("\\\"", "\""),
        Some(Err(_)) => format!("(not text) {}", bytes.unwrap_or_default().escape_ascii()),
    }
}
