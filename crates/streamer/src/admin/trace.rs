//! `streamer trace`: shows the events of a key, their dead letters and the rows that they left. Changes nothing.
//!
//! It reads the partition of the key, compares the bytes of each Kafka key, and decodes the key's own records only. Values
//! of personal fields are shown only on request.

pub(super) mod events;
pub(super) mod rows;

use std::collections::{BTreeMap, HashSet};
use std::ops::Range;

use clap::Args;
use rdkafka::message::Message as _;
use serde::Serialize;
use serde_json::{Map, Value};

use crate::admin::clients::{self, Clients};
use crate::admin::dead_letters;
use crate::admin::error::CommandError;
use crate::admin::key_search::KeySearch;
use crate::admin::output::print_line;
use crate::admin::trace::events::{Event, TracedLetter};
use crate::admin::trace::rows::TracedRow;
use crate::consumer::scan::ScannedRecord;
use crate::dead_letters::dead_letter::SourceRecordId;
use crate::pipeline::write_timestamp::{HybridClock, MaxSeen, wall_micros};
use ::kafka::{TopicInfo, same_topic};

/// The arguments of `trace`.
#[derive(Debug, Args)]
pub struct TraceArgs {
    /// The key, as in the URL of the publisher
    key: String,
    /// One line of JSON
    #[arg(long)]
    json: bool,
    /// Also show the values of personal fields
    #[arg(long)]
    values: bool,
    /// Read all partitions, and find records of the key under other Kafka keys
    #[arg(long)]
    all_partitions: bool,
}

/// Where a key is.
#[derive(Debug, Serialize)]
struct Trace {
    key: String,
    topic: String,
    /// The partitions that were read.
    partitions: Vec<i32>,
    events: Vec<Event>,
    dead_letters: Vec<TracedLetter>,
    /// `None`: the table does not exist.
    rows: Option<Vec<TracedRow>>,
}

/// # Errors
/// When the text is no key, and when a server rejects a request or does not respond in time.
pub(super) async fn trace(clients: &Clients, arguments: &TraceArgs) -> Result<(), CommandError> {
    let search = KeySearch::parse(clients.contract(), &arguments.key)?;
    let table = clients.table().await?;
    let (topic, watermarks) = clients.kafka(clients::watermarks).await?;
    let partitions: Vec<_> = if arguments.all_partitions {
        (0..topic.partitions).collect()
    } else {
        search.key().partition(topic.partitions).into_iter().collect()
    };
    let ranges = (0..).zip(watermarks).filter_map(|(partition, (beginning, end))| {
        partitions
            .contains(&partition)
            .then_some((partition, beginning..end))
    });
    let records = find_records(clients, &search, ranges, arguments.all_partitions).await?;
    let decoder = clients.decoder(table.map(|table| table.shape).unwrap_or_default());
    let events = records.iter().map(|(record, write_timestamp)| {
        let event = Event::new(&decoder, record, *write_timestamp);
        event.with_fields(fields(clients, record.raw.value(), arguments.values))
    });
    let events: Vec<_> = events.collect();
    let dead_letters = find_letters(clients, &search, topic, &events, arguments.values).await?;
    let rows = match table {
        Some(_) => Some(rows::read(clients, search.key(), arguments.values, &events).await?),
        None => None,
    };
    let trace = Trace {
        key: search.key().to_string(),
        topic: clients.settings().kafka.topic().to_owned(),
        partitions,
        events,
        dead_letters,
        rows,
    };
    if arguments.json {
        return print_line(serde_json::to_string(&trace).expect("plain data, which JSON can hold"));
    }
    show(clients, &trace)
}

/// Returns the records of the key with their write timestamps.
///
/// The write timestamps are computed from the log, as a streamer does. They differ from those of the rows if the log no
/// longer has the records before, if the topic was recreated, or after record timestamps more than an hour ahead.
async fn find_records(
    clients: &Clients,
    search: &KeySearch,
    ranges: impl Iterator<Item = (i32, Range<i64>)>,
    in_any_form: bool,
) -> Result<Vec<(ScannedRecord, i64)>, CommandError> {
    let (search, now) = (search.clone(), wall_micros());
    let mut clocks: BTreeMap<i32, HybridClock> = BTreeMap::new();
    let mut scan = clients.scan_with(ranges, move |message| {
        let clock = clocks
            .entry(message.partition())
            .or_insert_with(|| HybridClock::resume(None, MaxSeen::default()));
        let timestamp = message.timestamp().to_millis().unwrap_or(-1);
        let stamped = clock.next(message.offset(), timestamp.saturating_mul(1_000), now);
        let is_found = if in_any_form {
            search.is_record(message.key(), message.payload())
        } else {
            message.key() == Some(search.text())
        };
        is_found.then(|| (ScannedRecord::copy(message), stamped.micros))
    })?;
    let mut found = Vec::new();
    while let Some(records) = clients.next(&mut scan).await? {
        found.extend(records);
    }
    found.sort_by_key(|(record, _)| (record.partition, record.offset));
    Ok(found)
}

/// Returns the dead letters of the key, and those of its records that lack the key.
async fn find_letters(
    clients: &Clients,
    search: &KeySearch,
    topic: TopicInfo,
    events: &[Event],
    shows_values: bool,
) -> Result<Vec<TracedLetter>, CommandError> {
    let events: HashSet<_> = events.iter().map(|event| event.position).collect();
    let is_event =
        |origin: &SourceRecordId| same_topic(origin.topic_id, topic.id) && events.contains(&origin.position);
    let mut found = Vec::new();
    dead_letters::read(clients, async |letter| {
        let raw = &letter.record.raw;
        if is_event(&letter.origin) || search.is_record(raw.key(), raw.value()) {
            found.push(TracedLetter::new(&letter, shows_values));
        }
        Ok(())
    })
    .await?;
    Ok(found)
}

/// Returns the fields of a valid record, without personal ones unless `shows_values`.
fn fields(clients: &Clients, value: Option<&[u8]>, shows_values: bool) -> Option<Map<String, Value>> {
    let contract = clients.contract();
    let record = contract.parse_lenient(value?).ok()?;
    let mut fields: Map<String, Value> = serde_json::from_slice(&record.to_json()).ok()?;
    fields.retain(|name, _| {
        let slot = contract.slot(name);
        shows_values || slot.is_some_and(|slot| !contract.fields()[slot].is_personal())
    });
    Some(fields)
}

fn show(clients: &Clients, trace: &Trace) -> Result<(), CommandError> {
    print_line(format_args!("key          {}", trace.key.escape_debug()))?;
    let partitions: Vec<_> = trace.partitions.iter().map(i32::to_string).collect();
    print_line(format_args!(
        "topic        {}, partitions {}",
        trace.topic,
        partitions.join(", ")
    ))?;
    for event in &trace.events {
        print_line(event)?;
        show_fields(event.fields.as_ref())?;
    }
    for letter in &trace.dead_letters {
        print_line(letter)?;
    }
    for row in trace.rows.iter().flatten() {
        print_line(row)?;
        show_fields(Some(&row.fields))?;
    }
    let rows = match &trace.rows {
        Some(rows) => format!("rows: {}", rows.len()),
        None => format!("table {} does not exist", clients.table_name()),
    };
    print_line(format_args!(
        "events: {}, dead letters: {}, {rows}",
        trace.events.len(),
        trace.dead_letters.len()
    ))
}

fn show_fields(fields: Option<&Map<String, Value>>) -> Result<(), CommandError> {
    for (name, value) in fields.into_iter().flatten() {
        print_line(format_args!("             {name} = {value}"))?;
    }
    Ok(())
}
