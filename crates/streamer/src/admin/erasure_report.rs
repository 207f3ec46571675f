//! `streamer erasure-report`: says where a key still is, and by when Kafka will have deleted it. Changes nothing.
//!
//! It reads all records of both topics, and the rows of the key. It can't see what is outside of them: [`OUTSIDE`].

use std::time::Duration;

use clap::Args;
use jiff::Timestamp;
use rdkafka::message::Message as _;
use serde::Serialize;

use crate::admin::clients::{self, Clients};
use crate::admin::error::CommandError;
use crate::admin::key_search::{KeySearch, Occurrence};
use crate::admin::output::print_line;
use crate::admin::trace::events::{record_time, text};
use crate::admin::trace::rows::{self, TracedRow};
use crate::consumer::scan::ScannedRecord;
use crate::dead_letters::dead_letter::{DeadLetter, PartitionOffset};
use ::kafka::TopicRetention;
use ::kafka::headers::headers;

/// The arguments of `erasure-report`.
#[derive(Debug, Args)]
pub struct ErasureReportArgs {
    /// The key, as in the URL of the publisher
    key: String,
    /// One line of JSON
    #[arg(long)]
    json: bool,
}

/// Places of rows and records that the report can't see.
const OUTSIDE: [&str; 4] = [
    "snapshots and backups of Cassandra",
    "commit logs, until Cassandra discards their segments",
    "SSTables, until gc_grace_seconds after the deletion or expiry, and a compaction",
    "other readers of the topics and of the table, and the source of the records",
];

/// Where the key is.
#[derive(Debug, Serialize)]
struct ErasureReport {
    key: String,
    /// Records of both topics that have more than the key, or have it in another place.
    copies: Vec<RecordCopy>,
    /// Records that delete the key. They have nothing but the key.
    tombstones: Vec<RecordCopy>,
    rows: Vec<TracedRow>,
    /// `None`: the table does not exist.
    gc_grace_seconds: Option<i32>,
    /// The earliest time at which the nodes may drop the deleted rows; `None` if no tombstone is in the topic.
    on_disk_until_at_least: Option<Timestamp>,
    /// What decides about the dates.
    notes: Vec<String>,
    outside: [&'static str; 4],
    /// Nothing but the key of tombstones is left.
    erased: bool,
}

/// A record of one of the topics.
#[derive(Debug, Serialize)]
struct RecordCopy {
    topic: String,
    #[serde(flatten)]
    position: PartitionOffset,
    #[serde(rename = "kind")]
    occurrence: Occurrence,
    /// Kafka's timestamp; `None` if there is none.
    time: Option<Timestamp>,
    /// When Kafka has deleted the record at the latest; `None`: never by its age, or not known.
    deleted_by: Option<Timestamp>,
}

/// # Errors
/// [`CommandError::NotErased`] if the key is left anywhere. When the text is no key, and when a server rejects a request or
/// does not respond in time.
pub(super) async fn erasure_report(
    clients: &Clients,
    arguments: &ErasureReportArgs,
) -> Result<(), CommandError> {
    let search = KeySearch::parse(clients.contract(), &arguments.key)?;
    let mut report = ErasureReport {
        key: search.key().to_string(),
        copies: Vec::new(),
        tombstones: Vec::new(),
        rows: Vec::new(),
        gc_grace_seconds: None,
        on_disk_until_at_least: None,
        notes: Vec::new(),
        outside: OUTSIDE,
        erased: false,
    };
    read_topic(clients, &search, &mut report).await?;
    // Only tombstones of the topic delete rows.
    let deleted_at = report.tombstones.iter().filter_map(|it| it.time).max();
    read_dead_letters(clients, &search, &mut report).await?;
    if clients.table().await?.is_some() {
        report.rows = rows::read(clients, search.key(), false, &[]).await?;
        let grace = clients.gc_grace_seconds().await?;
        report.gc_grace_seconds = Some(grace);
        report.on_disk_until_at_least = deleted_at.and_then(|at| after(at, seconds(grace)));
    }
    let places = report.places(Timestamp::now());
    report.erased = places == 0;
    if arguments.json {
        print_line(serde_json::to_string(&report).expect("plain data, which JSON can hold"))?;
    } else {
        show(&report)?;
    }
    match places {
        0 => Ok(()),
        places => Err(CommandError::NotErased(places)),
    }
}

async fn read_topic(
    clients: &Clients,
    search: &KeySearch,
    report: &mut ErasureReport,
) -> Result<(), CommandError> {
    let topic = clients.settings().kafka.topic();
    let (_, watermarks) = clients.kafka(clients::watermarks).await?;
    let retention = clients.retention().await?;
    report.add_notes(topic, retention);
    let ranges = (0..).zip(watermarks.into_iter().map(|(beginning, end)| beginning..end));
    let taken = search.clone();
    let mut scan = clients.scan_with(ranges, move |message| {
        let occurrence = taken.occurrence(message.key(), message.payload(), headers(message))?;
        Some((ScannedRecord::copy(message), occurrence))
    })?;
    while let Some(records) = clients.next(&mut scan).await? {
        for (record, occurrence) in records {
            report.add(topic, retention, &record, occurrence);
        }
    }
    Ok(())
}

async fn read_dead_letters(
    clients: &Clients,
    search: &KeySearch,
    report: &mut ErasureReport,
) -> Result<(), CommandError> {
    let topic = clients.settings().kafka.dead_letter_topic();
    let retention = clients.dead_letter_retention().await?;
    report.add_notes(topic, retention);
    let mut scan = clients.scan_dead_letters().await?;
    while let Some(records) = clients.next(&mut scan).await? {
        for record in records {
            let raw = &record.raw;
            let Some(occurrence) = search.occurrence(raw.key(), raw.value(), raw.headers()) else {
                continue;
            };
            // A dead letter whose value did not fit is no tombstone.
            let occurrence = match occurrence {
                Occurrence::Tombstone if DeadLetter::omits_a_part(raw) => Occurrence::Record,
                occurrence => occurrence,
            };
            report.add(topic, retention, &record, occurrence);
        }
    }
    Ok(())
}

impl ErasureReport {
    fn add(
        &mut self,
        topic: &str,
        retention: Option<TopicRetention>,
        record: &ScannedRecord,
        occurrence: Occurrence,
    ) {
        let ScannedRecord {
            partition, offset, ..
        } = *record;
        let time = record_time(record.timestamp);
        let deleted_after = retention.and_then(|retention| retention.deleted_after());
        let copy = RecordCopy {
            topic: topic.to_owned(),
            position: PartitionOffset { partition, offset },
            occurrence,
            time,
            deleted_by: time
                .zip(deleted_after)
                .and_then(|(time, deleted_after)| after(time, deleted_after)),
        };
        match occurrence {
            Occurrence::Tombstone => self.tombstones.push(copy),
            Occurrence::Record | Occurrence::Mention => self.copies.push(copy),
        }
    }

    fn add_notes(&mut self, topic: &str, retention: Option<TopicRetention>) {
        let Some(retention) = retention else {
            self.notes.push(format!(
                "the retention of topic {topic} is not known to this client"
            ));
            return;
        };
        if retention.is_compacted {
            self.notes.push(format!(
                "topic {topic} is compacted: a tombstone removes earlier records of its Kafka key at a compaction, and \
                 records with another Kafka key or without one remain"
            ));
        }
        if retention.retention.is_none() {
            self.notes
                .push(format!("topic {topic} deletes no record by its age"));
        }
    }

    /// The number of places where the key is left at `now`, without the tombstones.
    fn places(&self, now: Timestamp) -> usize {
        let is_on_disk = self.on_disk_until_at_least.is_some_and(|until| until > now);
        self.copies.len() + self.rows.len() + usize::from(is_on_disk)
    }
}

fn after(time: Timestamp, duration: Duration) -> Option<Timestamp> {
    time.checked_add(duration).ok()
}

fn seconds(seconds: i32) -> Duration {
    Duration::from_secs(u64::try_from(seconds).unwrap_or(0))
}

fn show(report: &ErasureReport) -> Result<(), CommandError> {
    print_line(format_args!("key        {}", report.key.escape_debug()))?;
    for copy in report.copies.iter().chain(&report.tombstones) {
        print_line(format_args!(
            "{:<10} {:<12} {:<24}  in {}, deleted by {}",
            copy.occurrence.name(),
            copy.position,
            text(copy.time.as_ref()),
            copy.topic,
            text(copy.deleted_by.as_ref())
        ))?;
    }
    for row in &report.rows {
        print_line(row)?;
    }
    if let Some(until) = report.on_disk_until_at_least {
        print_line(format_args!(
            "on disk    deleted rows until {until} at least, and a compaction"
        ))?;
    }
    for note in &report.notes {
        print_line(format_args!("note       {note}"))?;
    }
    for place in report.outside {
        print_line(format_args!("not seen   {place}"))?;
    }
    let (rows, tombstones) = (report.rows.len(), report.tombstones.len());
    print_line(format_args!(
        "copies: {}, rows: {rows}, tombstones: {tombstones}, erased: {}",
        report.copies.len(),
        if report.erased { "yes" } else { "no" }
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dead_letters::dead_letter::tests::scanned;

    const DAY: Duration = Duration::from_secs(86_400);

    fn report() -> ErasureReport {
        ErasureReport {
            key: "7".to_owned(),
            copies: Vec::new(),
            tombstones: Vec::new(),
            rows: Vec::new(),
            gc_grace_seconds: Some(0),
            on_disk_until_at_least: None,
            notes: Vec::new(),
            outside: OUTSIDE,
            erased: false,
        }
    }

    fn week(is_compacted: bool) -> TopicRetention {
        TopicRetention {
            retention: Some(7 * DAY),
            segment: DAY,
            delete_delay: Duration::from_secs(60),
            is_compacted,
        }
    }

    #[test]
    fn date_is_record_time_plus_retention_segment_and_check() {
        let mut report = report();
        let record = ScannedRecord {
            timestamp: 1_767_225_600_000,
            ..scanned(Some(b"x"), &[])
        };
        report.add("t", Some(week(false)), &record, Occurrence::Record);
        let unlimited = TopicRetention {
            retention: None,
            ..week(false)
        };
        report.add("t", Some(unlimited), &record, Occurrence::Record);
        report.add("t", None, &record, Occurrence::Mention);
        let untimed = ScannedRecord {
            timestamp: -1,
            ..scanned(Some(b"x"), &[])
        };
        report.add("t", Some(week(false)), &untimed, Occurrence::Record);
        let dates: Vec<_> = report.copies.iter().map(|copy| copy.deleted_by).collect();
        let date = Some("2026-01-09T00:06:00Z".parse().unwrap());
        assert_eq!(dates, [date, None, None, None]);
    }

    #[test]
    fn tombstones_alone_are_no_place() {
        let mut report = report();
        let now: Timestamp = "2026-01-09T00:06:00Z".parse().unwrap();
        report.add("t", None, &scanned(None, &[]), Occurrence::Tombstone);
        assert_eq!(report.places(now), 0);
        report.on_disk_until_at_least = Some(now);
        assert_eq!(report.places(now), 0);
        report.on_disk_until_at_least = after(now, DAY);
        report.add("t", None, &scanned(None, &[]), Occurrence::Mention);
        report.rows.push(TracedRow::default());
        assert_eq!(report.places(now), 3);
    }

    #[test]
    fn notes_say_what_a_compacted_topic_keeps() {
        let mut report = report();
        report.add_notes("a", Some(week(false)));
        assert_eq!(report.notes, Vec::<String>::new());
        report.add_notes("b", Some(week(true)));
        report.add_notes("c", None);
        let starts: Vec<_> = report.notes.iter().map(|note| &note[..20]).collect();
        assert_eq!(starts, ["topic b is compacted", "the retention of top"]);
    }
}
