//! `streamer redrive`: writes dead letters to the table, each under its original write timestamp, unless the log
//! holds a later record of the same row or a later deletion of its key.
//!
//! A dead letter that deletes a key with several rows deletes each of them alone, except those with a later record: in a
//! refilled table their write timestamps may be lower than the deletion's.
//!
//! The run ledger then counts them as stored. It never writes to the topic, because that would change the order of the log. It may run next to a streamer, and
//! twice: the same write changes nothing.

mod latest_records;

use std::collections::{HashMap, HashSet};
use std::fmt;

use clap::Args;
use uuid::Uuid;

use crate::admin::clients::Clients;
use crate::admin::dead_letters::{self, known_reason};
use crate::admin::error::CommandError;
use crate::admin::output::print_line;
use crate::admin::redrive::latest_records::{FoundLetter, LatestRecords, Superseded};
use crate::admin::row_reader::RowReader;
use crate::cassandra::schema::TableInfo;
use crate::cassandra::writer::{RowWrite, RowWriter};
use crate::consumer::scan::ScannedRecord;
use crate::dead_letters::dead_letter::{DeadLetter, PartitionOffset, SourceRecordId, reasons};
use crate::ledger::run_headers::RunHeaders;
use crate::ledger::run_number::RunNumber;
use crate::ledger::segment::Segment;
use crate::pipeline::consumed_record::{Change, ConsumedRecord, Decoder, Rejection};
use crate::pipeline::row::RowKey;
use crate::pipeline::write_timestamp::wall_micros;

/// The arguments of `redrive`.
#[derive(Debug, Args)]
pub struct RedriveArgs {
    /// Show the decision for each dead letter and write nothing
    #[arg(long)]
    dry_run: bool,
    /// Write at most N dead letters
    #[arg(long, value_name = "N")]
    limit: Option<usize>,
    /// Only dead letters with this reason
    #[arg(long, value_name = "REASON", value_parser = known_reason())]
    reason: Option<String>,
}

/// # Errors
/// When a server rejects a request, or does not respond in time. Rows that were printed before are written.
pub(super) async fn redrive(clients: &Clients, arguments: &RedriveArgs) -> Result<(), CommandError> {
    let Some(table) = clients.table().await? else {
        return Err(clients.no_table());
    };
    let filter = RedriveFilter::new(clients, table).await?;
    let has_several_rows = !clients.contract().clustering().is_empty();
    let reader = if has_several_rows {
        Some(RowReader::new(clients, table.shape).await?)
    } else {
        None
    };
    let mut found = find(clients, arguments, &filter).await?;
    let keys = found.values().filter_map(|found| found.key.as_ref());
    let partitions: HashSet<_> = keys.map(RowKey::partition).collect();
    let letters = found.iter().map(|(origin, found)| FoundLetter {
        origin: *origin,
        deletes_rows: has_several_rows && found.deletes,
    });
    let key = |record: &ScannedRecord| filter.read(record.partition, record.timestamp, record).row_key();
    let latest = latest_records::read(clients, table.table_id, letters, &partitions, key).await?;
    let mut redrive = Redrive {
        filter,
        latest,
        writer: clients.writer(table),
        table_id: table.table_id,
        reader,
        clients,
        arguments,
        batch: Vec::new(),
        writes: Vec::new(),
        summary: RedriveSummary::default(),
    };
    dead_letters::read(clients, async |letter| match found.remove(&letter.origin) {
        Some(found) => redrive.take(&letter, found).await,
        // Filtered by reason, or a duplicate.
        None => Ok(()),
    })
    .await?;
    redrive.flush().await?;
    print_line(&redrive.summary)
}

/// The combined dead letters of one record. A record that was replayed may have several.
#[derive(Clone)]
struct LetterSummary {
    /// The largest write timestamp. No earlier record's row has a larger one, in any replay.
    write_timestamp: i64,
    /// The earliest time in any of them.
    since: i64,
    /// When the first one was written.
    at: jiff::Timestamp,
    /// The row of the record, or the key that it deletes, as decoded now.
    key: Option<RowKey>,
    /// The record deletes the key.
    deletes: bool,
}

impl LetterSummary {
    fn new(letter: &DeadLetter, filter: &RedriveFilter) -> Self {
        let change = filter.change(letter, letter.write_timestamp);
        Self {
            write_timestamp: letter.write_timestamp,
            // A write timestamp may be ahead of the clock that assigned it.
            since: letter.write_timestamp.min(letter.at.as_microsecond()),
            at: letter.at,
            key: change.row_key(),
            deletes: matches!(change, Change::DeletePartition(_)),
        }
    }

    fn merge(&mut self, other: &Self) {
        self.write_timestamp = self.write_timestamp.max(other.write_timestamp);
        self.since = self.since.min(other.since);
        self.at = self.at.min(other.at);
    }
}

async fn find(
    clients: &Clients,
    arguments: &RedriveArgs,
    filter: &RedriveFilter,
) -> Result<HashMap<SourceRecordId, LetterSummary>, CommandError> {
    let mut all: HashMap<_, LetterSummary> = HashMap::new();
    dead_letters::read(clients, async |letter| {
        if arguments
            .reason
            .as_ref()
            .is_none_or(|reason| *reason == letter.reason)
        {
            let found = LetterSummary::new(&letter, filter);
            let merge = |before: &mut LetterSummary| before.merge(&found);
            all.entry(letter.origin).and_modify(merge).or_insert(found);
        }
        Ok(())
    })
    .await?;
    Ok(all)
}

struct Redrive<'a> {
    clients: &'a Clients,
    arguments: &'a RedriveArgs,
    filter: RedriveFilter,
    latest: LatestRecords,
    writer: RowWriter,
    table_id: Uuid,
    /// Reads the rows of a key, if it may have several.
    reader: Option<RowReader>,
    batch: Vec<PendingLetter>,
    writes: Vec<RowWrite>,
    summary: RedriveSummary,
}

impl Redrive<'_> {
    async fn take(&mut self, letter: &DeadLetter, found: LetterSummary) -> Result<(), CommandError> {
        let change = match self.filter.decide(letter, &found) {
            RedriveDecision::Write(change) => change,
            decision => return self.skip(letter.origin, &decision),
        };
        let writes = match self.writes(letter.origin, change, &found).await? {
            Ok(writes) => writes,
            Err(superseded) => return self.skip(letter.origin, &RedriveDecision::Superseded(superseded)),
        };
        let limit = self.arguments.limit.unwrap_or(usize::MAX);
        if self.summary.written + self.batch.len() >= limit {
            self.summary.over_the_limit += 1;
            return Ok(());
        }
        if self.arguments.dry_run {
            self.summary.written += 1;
            return print_line(format_args!("{:<16} would be written", letter.origin.position));
        }
        self.batch.push(PendingLetter {
            origin: letter.origin,
            writes: writes.len(),
            run: RunHeaders::read(letter.record.raw.headers(), -1).number,
        });
        self.writes.extend(writes);
        if self.writes.len() >= self.clients.settings().batch().max_rows {
            self.flush().await?;
        }
        Ok(())
    }

    /// Returns the writes of a change, unless it is superseded.
    async fn writes(
        &self,
        origin: SourceRecordId,
        change: Change,
        found: &LetterSummary,
    ) -> Result<Result<Vec<RowWrite>, Superseded>, CommandError> {
        let write_timestamp = found.write_timestamp;
        let Some(key) = &found.key else {
            return Ok(Ok(Vec::new()));
        };
        if let (Change::DeletePartition(_), Some(reader)) = (&change, &self.reader) {
            let mut table = Vec::new();
            reader
                .read_table(self.clients, &[key], |partitions| {
                    let rows = partitions.iter().flat_map(|(_, rows)| rows);
                    table.extend(rows.map(|row| row.key.clone()));
                })
                .await?;
            let rows = self.latest.deleted_rows(origin, key, table);
            let delete = |row| self.writer.delete_row(row, write_timestamp);
            return Ok(rows.map(|rows| rows.into_iter().map(delete).collect()));
        }
        if let Some(superseded) = self.latest.superseded(origin, key, found.at) {
            return Ok(Err(superseded));
        }
        Ok(Ok(match change {
            Change::Upsert(row) => vec![self.writer.upsert(row, write_timestamp)],
            Change::DeletePartition(key) => vec![self.writer.delete_partition(&key, write_timestamp)],
            Change::Reject(_) => Vec::new(),
        }))
    }

    fn skip(&mut self, origin: SourceRecordId, decision: &RedriveDecision) -> Result<(), CommandError> {
        match decision {
            RedriveDecision::TooOld => self.summary.too_old += 1,
            RedriveDecision::OtherTopic => self.summary.other_topic += 1,
            RedriveDecision::Superseded(_) => self.summary.superseded += 1,
            RedriveDecision::Rejected(_) | RedriveDecision::Write(_) => self.summary.still_rejected += 1,
        }
        print_line(format_args!("{:<16} {decision}", origin.position))
    }

    async fn flush(&mut self) -> Result<(), CommandError> {
        let writes = std::mem::take(&mut self.writes);
        let rejected = self.clients.write(&self.writer, &writes).await?;
        let mut rejected: HashMap<_, _> = rejected.into_iter().map(|it| (it.index, it.error)).collect();
        let mut next = 0;
        let mut segments = Vec::new();
        for PendingLetter { origin, writes, run } in std::mem::take(&mut self.batch) {
            let error = (next..next + writes).find_map(|index| rejected.remove(&index));
            next += writes;
            if let Some(error) = error {
                let reason = reasons::REFUSED_BY_CASSANDRA;
                self.skip(origin, &RedriveDecision::Rejected(Rejection { reason, error }))?;
            } else {
                let PartitionOffset { partition, offset } = origin.position;
                let source = (origin.topic_id, partition, offset);
                segments.extend(run.map(|number| Segment::of_row(number, source, self.table_id)));
                self.summary.written += 1;
                print_line(format_args!("{:<16} written", origin.position))?;
            }
        }
        self.clients.store_segments(&segments).await
    }
}

/// A dead letter that is being written.
struct PendingLetter {
    origin: SourceRecordId,
    /// The number of its writes.
    writes: usize,
    /// Its number, if it belongs to a run.
    run: Option<RunNumber>,
}

#[derive(Debug, Default)]
struct RedriveSummary {
    written: usize,
    still_rejected: usize,
    too_old: usize,
    superseded: usize,
    other_topic: usize,
    over_the_limit: usize,
}

impl fmt::Display for RedriveSummary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            written,
            still_rejected,
            too_old,
            superseded,
            other_topic,
            over_the_limit,
        } = self;
        write!(
            f,
            "written: {written}, still rejected: {still_rejected}, too old: {too_old}, superseded: {superseded}, \
             other topic: {other_topic}, over the limit: {over_the_limit}"
        )
    }
}

/// Decides whether a dead letter is written, with the present rules of the decoder.
struct RedriveFilter {
    topic: String,
    decoder: Decoder,
    /// In microseconds since 1970. The table may have dropped tombstones that are older.
    oldest: i64,
}

#[derive(Debug)]
enum RedriveDecision {
    Write(Change),
    OtherTopic,
    TooOld,
    Superseded(Superseded),
    Rejected(Rejection),
}

impl RedriveFilter {
    async fn new(clients: &Clients, table: TableInfo) -> Result<Self, CommandError> {
        let settings = clients.settings();
        let grace = clients.gc_grace_seconds().await?;
        Ok(Self {
            topic: settings.kafka.topic().to_owned(),
            decoder: clients.decoder(table.shape),
            oldest: wall_micros() - i64::from(grace) * 1_000_000,
        })
    }

    fn decide(&self, letter: &DeadLetter, found: &LetterSummary) -> RedriveDecision {
        if letter.topic != self.topic {
            return RedriveDecision::OtherTopic;
        }
        if found.since <= self.oldest {
            return RedriveDecision::TooOld;
        }
        match self.change(letter, found.write_timestamp) {
            Change::Reject(rejection) => RedriveDecision::Rejected(rejection),
            change => RedriveDecision::Write(change),
        }
    }

    /// Decodes the record. Its Kafka timestamp is not kept, so the write timestamp replaces it.
    fn change(&self, letter: &DeadLetter, write_timestamp: i64) -> Change {
        // Without its value a record would be read as a deletion.
        if let Some(omitted) = &letter.omitted {
            return Change::Reject(Rejection {
                reason: "incomplete",
                error: format!(
                    "the dead letter lacks {omitted}, which did not fit: read the record in its topic"
                ),
            });
        }
        self.read(
            letter.origin.position.partition,
            write_timestamp / 1_000,
            &letter.record,
        )
    }

    fn read(&self, partition: i32, timestamp: i64, record: &ScannedRecord) -> Change {
        let consumed = ConsumedRecord {
            partition,
            timestamp,
            key: record.raw.key(),
            value: record.raw.value(),
        };
        self.decoder.decode(&consumed, record.raw.headers()).0
    }
}

impl fmt::Display for RedriveDecision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Write(_) => f.write_str("can be written"),
            Self::OtherTopic => f.write_str("belongs to another topic"),
            Self::TooOld => f.write_str(
                "is older than the table's gc_grace_seconds: the tombstone of a later deletion may have been dropped",
            ),
            Self::Superseded(Superseded::By(position)) => {
                write!(f, "is superseded by the later record {position} of the same row or key")
            }
            Self::Superseded(Superseded::UnknownRows) => f.write_str(
                "deletes rows that are not known: the topic does not have all records of the key from its beginning",
            ),
            Self::Superseded(Superseded::Unknown) => f.write_str(
                "may be superseded: later records are deleted from the topic, and the table was created after it",
            ),
            Self::Rejected(Rejection { reason, error }) => write!(f, "is still rejected: {reason}: {error}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Tombstones;
    use crate::dead_letters::dead_letter::tests::letter;
    use crate::pipeline::row::TableShape;
    use model::Contract;

    const VALID: &[u8] = include_bytes!("../../../../proto-schema/examples/plain.json");

    fn today() -> RedriveFilter {
        RedriveFilter {
            topic: "users_created".to_owned(),
            decoder: Decoder {
                contract: Contract::user(),
                shape: TableShape::default(),
                tombstones: Tombstones::Delete,
                partitions: 1,
            },
            oldest: 1_000_000,
        }
    }

    fn filter(filter: &RedriveFilter, letter: &DeadLetter) -> RedriveDecision {
        filter.decide(letter, &LetterSummary::new(letter, filter))
    }

    #[test]
    fn valid_dead_letter_is_written() {
        let decision = filter(&today(), &letter(Some(VALID), 1_000_001));
        assert!(
            matches!(decision, RedriveDecision::Write(Change::Upsert(_))),
            "{decision:?}"
        );
        let decision = filter(&today(), &letter(None, 1_000_001));
        assert!(
            matches!(decision, RedriveDecision::Write(Change::DeletePartition(_))),
            "{decision:?}"
        );
    }

    #[test]
    fn dead_letter_older_than_gc_grace_is_skipped() {
        let decision = filter(&today(), &letter(Some(VALID), 1_000_000));
        assert!(matches!(decision, RedriveDecision::TooOld), "{decision:?}");
        let late = RedriveFilter {
            oldest: i64::MAX / 2,
            ..today()
        };
        let decision = filter(&late, &letter(Some(VALID), i64::MAX));
        assert!(
            matches!(decision, RedriveDecision::TooOld),
            "written long ago, regardless of its write timestamp: {decision:?}"
        );
    }

    #[test]
    fn invalid_and_foreign_dead_letters_are_skipped() {
        let decision = filter(&today(), &letter(Some(b"garbage"), 2_000_000));
        assert!(matches!(decision, RedriveDecision::Rejected(_)), "{decision:?}");
        let other = RedriveFilter {
            topic: "another".to_owned(),
            ..today()
        };
        let decision = filter(&other, &letter(Some(VALID), 2_000_000));
        assert!(matches!(decision, RedriveDecision::OtherTopic), "{decision:?}");
    }
}
