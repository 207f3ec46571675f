//! `streamer redrive`: writes dead letters to the table, each under its original write timestamp, unless the log
//! holds a later record of the same user.
//!
//! It never writes to the topic, because that would change the order of the log. It may run next to a streamer, and
//! twice: the same write changes nothing.

mod latest_records;

use std::collections::{HashMap, HashSet};
use std::fmt;

use clap::Args;
use uuid::Uuid;

use crate::admin::clients::Clients;
use crate::admin::dead_letters;
use crate::admin::error::CommandError;
use crate::admin::output::print_line;
use crate::admin::redrive::latest_records::{LatestRecords, Superseded};
use crate::cassandra::schema::{self, TableInfo};
use crate::cassandra::writer::{RowWrite, RowWriter};
use crate::consumer::scan::ScannedRecord;
use crate::dead_letters::dead_letter::{DeadLetter, SourceRecordId};
use crate::pipeline::consumed_record::{Change, ConsumedRecord, Decoder, Rejection};
use crate::pipeline::write_timestamp::wall_micros;

/// The arguments of `redrive`.
#[derive(Debug, Args)]
pub struct RedriveArgs {
    /// Show the decision for each dead letter and write nothing
    #[arg(long)]
    dry_run: bool,
    /// Write at most N rows
    #[arg(long, value_name = "N")]
    limit: Option<usize>,
    /// Only dead letters with this reason
    #[arg(long, value_name = "REASON")]
    reason: Option<String>,
}

/// # Errors
/// When a server rejects a request, or does not respond in time. Rows that were printed before are written.
pub(super) async fn redrive(clients: &Clients, arguments: &RedriveArgs) -> Result<(), CommandError> {
    let Some(table) = clients.table().await? else {
        return Err(clients.no_table());
    };
    let filter = RedriveFilter::new(clients, table).await?;
    let mut found = find(clients, arguments, &filter).await?;
    let users: HashSet<_> = found.values().filter_map(|found| found.user).collect();
    let origins = found.keys().copied();
    let user = |record: &ScannedRecord| filter.read(record.partition, record.timestamp, record).user();
    let latest = latest_records::read(clients, table.table_id, origins, &users, user).await?;
    let mut redrive = Redrive {
        filter,
        latest,
        writer: clients.writer(table),
        clients,
        arguments,
        batch: Vec::new(),
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
#[derive(Clone, Copy)]
struct LetterSummary {
    /// The largest write timestamp. No earlier record's row has a larger one, in any replay.
    write_timestamp: i64,
    /// The earliest time in any of them.
    since: i64,
    /// When the first one was written.
    at: jiff::Timestamp,
    /// The user of the record, as decoded now.
    user: Option<Uuid>,
}

impl LetterSummary {
    fn new(letter: &DeadLetter, filter: &RedriveFilter) -> Self {
        Self {
            write_timestamp: letter.write_timestamp,
            // A write timestamp may be ahead of the clock that assigned it.
            since: letter.write_timestamp.min(letter.at.as_microsecond()),
            at: letter.at,
            user: filter.change(letter, letter.write_timestamp).user(),
        }
    }

    fn merge(self, other: Self) -> Self {
        Self {
            write_timestamp: self.write_timestamp.max(other.write_timestamp),
            since: self.since.min(other.since),
            at: self.at.min(other.at),
            user: self.user,
        }
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
            let before = all.get(&letter.origin).copied();
            all.insert(letter.origin, before.map_or(found, |before| before.merge(found)));
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
    batch: Vec<(SourceRecordId, RowWrite)>,
    summary: RedriveSummary,
}

impl Redrive<'_> {
    async fn take(&mut self, letter: &DeadLetter, found: LetterSummary) -> Result<(), CommandError> {
        let change = match self.filter.decide(letter, found) {
            RedriveDecision::Write(change) => change,
            decision => return self.skip(letter.origin, &decision),
        };
        let write_timestamp = found.write_timestamp;
        let superseded = found
            .user
            .and_then(|user| self.latest.superseded(letter.origin, user, found.at));
        if let Some(superseded) = superseded {
            return self.skip(letter.origin, &RedriveDecision::Superseded(superseded));
        }
        let limit = self.arguments.limit.unwrap_or(usize::MAX);
        if self.summary.written + self.batch.len() >= limit {
            self.summary.over_the_limit += 1;
            return Ok(());
        }
        let write = match change {
            _ if self.arguments.dry_run => {
                self.summary.written += 1;
                return print_line(format_args!("{:<16} would be written", letter.origin.position));
            }
            Change::Upsert(row) => self.writer.upsert(row, write_timestamp),
            Change::Delete(id) => self.writer.delete(id, write_timestamp),
            Change::Reject(rejection) => {
                return self.skip(letter.origin, &RedriveDecision::Rejected(rejection));
            }
        };
        self.batch.push((letter.origin, write));
        if self.batch.len() >= self.clients.settings().batch().max_rows {
            self.flush().await?;
        }
        Ok(())
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
        let (origins, writes): (Vec<_>, Vec<_>) = std::mem::take(&mut self.batch).into_iter().unzip();
        let mut rejected: HashMap<_, _> = self
            .clients
            .write(&self.writer, &writes)
            .await?
            .into_iter()
            .map(|rejected| (rejected.index, rejected.error))
            .collect();
        for (index, origin) in origins.into_iter().enumerate() {
            if let Some(error) = rejected.remove(&index) {
                let reason = "refused_by_cassandra";
                self.skip(origin, &RedriveDecision::Rejected(Rejection { reason, error }))?;
            } else {
                self.summary.written += 1;
                print_line(format_args!("{:<16} written", origin.position))?;
            }
        }
        Ok(())
    }
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
        let grace = clients
            .cassandra(async |session| schema::gc_grace_seconds(session, &settings.cassandra).await)
            .await?;
        Ok(Self {
            topic: settings.kafka.topic.clone(),
            decoder: Decoder {
                types: table.types,
                tombstones: settings.tombstones,
                // Partition mismatches were counted when the record was consumed.
                partitions: 1,
            },
            oldest: wall_micros() - i64::from(grace) * 1_000_000,
        })
    }

    fn decide(&self, letter: &DeadLetter, found: LetterSummary) -> RedriveDecision {
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
                write!(f, "is superseded by the later record {position} of the same user")
            }
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
    use crate::pipeline::row::ColumnTypes;

    const VALID: &[u8] = br#"{"id":"0195d0b1-7a4c-7f3e-9b1a-2c3d4e5f6071","first_name":"Ada","last_name":"L","gender":"f","address":"a","post_code":"1","email":"a@b","username":"u","dob":"1970-01-01T00:00:00.000Z","phone":"1","picture":"p"}"#;

    fn today() -> RedriveFilter {
        RedriveFilter {
            topic: "users_created".to_owned(),
            decoder: Decoder {
                types: ColumnTypes::default(),
                tombstones: Tombstones::Delete,
                partitions: 1,
            },
            oldest: 1_000_000,
        }
    }

    fn filter(filter: &RedriveFilter, letter: &DeadLetter) -> RedriveDecision {
        filter.decide(letter, LetterSummary::new(letter, filter))
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
            matches!(decision, RedriveDecision::Write(Change::Delete(_))),
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
