//! `streamer redrive`: writes dead letters to the table, each under its own write timestamp, unless a later record of
//! the same user is in the log. Never back to the topic, whose order would be another one then.
//!
//! It may run beside a streamer, and twice: the same write changes nothing.

mod log;

use std::collections::{HashMap, HashSet};
use std::fmt;

use clap::Args;
use uuid::Uuid;

use crate::cassandra::schema::{self, Verified};
use crate::cassandra::writer::{Write, Writer};
use crate::clock::wall_micros;
use crate::commands::dead_letters;
use crate::commands::error::CommandError;
use crate::commands::letter::{Letter, Origin};
use crate::commands::redrive::log::{Log, Overtaken};
use crate::commands::say;
use crate::commands::servers::Servers;
use crate::kafka::scan::Scanned;
use crate::record::{Change, Decoder, Incoming, Refusal};

/// Which, and whether at all.
#[derive(Debug, Args)]
pub struct Arguments {
    /// Say what would become of each letter and write nothing
    #[arg(long)]
    dry_run: bool,
    /// Write at most so many rows
    #[arg(long, value_name = "N")]
    limit: Option<usize>,
    /// Letters with this reason alone
    #[arg(long, value_name = "REASON")]
    reason: Option<String>,
}

/// # Errors
/// When a server refuses, or has not answered in time; rows that were told before are written.
pub(super) async fn redrive(servers: &Servers, arguments: &Arguments) -> Result<(), CommandError> {
    let Some(verified) = servers.table().await? else {
        return Err(servers.no_table());
    };
    let judge = Judge::new(servers, verified).await?;
    let mut found = find(servers, arguments, &judge).await?;
    let users: HashSet<_> = found.values().filter_map(|found| found.user).collect();
    let origins = found.keys().copied();
    let user = |record: &Scanned| judge.read(record.partition, record.timestamp, record).user();
    let log = log::read(servers, verified.table_id, origins, &users, user).await?;
    let mut redrive = Redrive {
        judge,
        log,
        writer: servers.writer(verified),
        servers,
        arguments,
        batch: Vec::new(),
        counts: Counts::default(),
    };
    dead_letters::read(servers, async |letter| match found.remove(&letter.origin) {
        Some(found) => redrive.take(&letter, found).await,
        // Another reason, or told already.
        None => Ok(()),
    })
    .await?;
    redrive.flush().await?;
    say(&redrive.counts)
}

/// What the letters of one record say: one that was replayed may have more than one.
#[derive(Clone, Copy)]
struct Found {
    /// The highest write timestamp, which no earlier record's row can have, whichever reading of the log wrote it.
    stamp: i64,
    /// The earliest time that any of them names.
    since: i64,
    /// When it was first set aside.
    at: jiff::Timestamp,
    /// Whose record it is, as it is read today.
    user: Option<Uuid>,
}

impl Found {
    fn of(letter: &Letter, judge: &Judge) -> Self {
        Self {
            stamp: letter.stamp,
            // A stamp may lie ahead of the clock that set it.
            since: letter.stamp.min(letter.at.as_microsecond()),
            at: letter.at,
            user: judge.change(letter, letter.stamp).user(),
        }
    }

    fn and(self, other: Self) -> Self {
        Self {
            stamp: self.stamp.max(other.stamp),
            since: self.since.min(other.since),
            at: self.at.min(other.at),
            user: self.user,
        }
    }
}

async fn find(
    servers: &Servers,
    arguments: &Arguments,
    judge: &Judge,
) -> Result<HashMap<Origin, Found>, CommandError> {
    let mut all: HashMap<_, Found> = HashMap::new();
    dead_letters::read(servers, async |letter| {
        if arguments
            .reason
            .as_ref()
            .is_none_or(|reason| *reason == letter.reason)
        {
            let found = Found::of(&letter, judge);
            let before = all.get(&letter.origin).copied();
            all.insert(letter.origin, before.map_or(found, |before| before.and(found)));
        }
        Ok(())
    })
    .await?;
    Ok(all)
}

struct Redrive<'a> {
    servers: &'a Servers,
    arguments: &'a Arguments,
    judge: Judge,
    log: Log,
    writer: Writer,
    batch: Vec<(Origin, Write)>,
    counts: Counts,
}

impl Redrive<'_> {
    async fn take(&mut self, letter: &Letter, found: Found) -> Result<(), CommandError> {
        let change = match self.judge.judge(letter, found) {
            Fate::Write(change) => change,
            fate => return self.leave(letter.origin, &fate),
        };
        let stamp = found.stamp;
        let overtaken = found
            .user
            .and_then(|user| self.log.overtaken(letter.origin, user, found.at));
        if let Some(overtaken) = overtaken {
            return self.leave(letter.origin, &Fate::Overtaken(overtaken));
        }
        let limit = self.arguments.limit.unwrap_or(usize::MAX);
        if self.counts.written + self.batch.len() >= limit {
            self.counts.over_the_limit += 1;
            return Ok(());
        }
        let write = match change {
            _ if self.arguments.dry_run => {
                self.counts.written += 1;
                return say(format_args!("{:<16} would be written", letter.origin.place));
            }
            Change::Upsert(row) => self.writer.upsert(row, stamp),
            Change::Delete(id) => self.writer.delete(id, stamp),
            Change::Refuse(refusal) => return self.leave(letter.origin, &Fate::Refused(refusal)),
        };
        self.batch.push((letter.origin, write));
        if self.batch.len() >= self.servers.settings().batch().max_rows {
            self.flush().await?;
        }
        Ok(())
    }

    fn leave(&mut self, origin: Origin, fate: &Fate) -> Result<(), CommandError> {
        match fate {
            Fate::TooOld => self.counts.too_old += 1,
            Fate::OtherTopic => self.counts.of_another_topic += 1,
            Fate::Overtaken(_) => self.counts.overtaken += 1,
            Fate::Refused(_) | Fate::Write(_) => self.counts.still_refused += 1,
        }
        say(format_args!("{:<16} {fate}", origin.place))
    }

    async fn flush(&mut self) -> Result<(), CommandError> {
        let (origins, writes): (Vec<_>, Vec<_>) = std::mem::take(&mut self.batch).into_iter().unzip();
        let mut refused: HashMap<_, _> = self
            .servers
            .write(&self.writer, &writes)
            .await?
            .into_iter()
            .map(|refused| (refused.index, refused.error))
            .collect();
        for (index, origin) in origins.into_iter().enumerate() {
            if let Some(error) = refused.remove(&index) {
                let reason = "refused_by_cassandra";
                self.leave(origin, &Fate::Refused(Refusal { reason, error }))?;
            } else {
                self.counts.written += 1;
                say(format_args!("{:<16} written", origin.place))?;
            }
        }
        Ok(())
    }
}

#[derive(Debug, Default)]
struct Counts {
    written: usize,
    still_refused: usize,
    too_old: usize,
    overtaken: usize,
    of_another_topic: usize,
    over_the_limit: usize,
}

impl fmt::Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            written,
            still_refused,
            too_old,
            overtaken,
            of_another_topic,
            over_the_limit,
        } = self;
        write!(
            f,
            "written: {written}, still refused: {still_refused}, too old: {too_old}, overtaken: {overtaken}, of \
             another topic: {of_another_topic}, over the limit: {over_the_limit}"
        )
    }
}

/// Decides what becomes of a letter, as the streamer of today reads it.
struct Judge {
    topic: String,
    decoder: Decoder,
    /// In microseconds since 1970: a deletion of before may be forgotten by the table.
    oldest: i64,
}

#[derive(Debug)]
enum Fate {
    Write(Change),
    OtherTopic,
    TooOld,
    Overtaken(Overtaken),
    Refused(Refusal),
}

impl Judge {
    async fn new(servers: &Servers, verified: Verified) -> Result<Self, CommandError> {
        let settings = servers.settings();
        let grace = servers
            .cassandra(async |live| schema::gc_grace_seconds(live, &settings.cassandra).await)
            .await?;
        Ok(Self {
            topic: settings.kafka.topic.clone(),
            decoder: Decoder {
                shape: verified.shape,
                tombstones: settings.tombstones,
                // Whether a record lies where murmur2 says was counted when it was read.
                partitions: 1,
            },
            oldest: wall_micros() - i64::from(grace) * 1_000_000,
        })
    }

    fn judge(&self, letter: &Letter, found: Found) -> Fate {
        if letter.topic != self.topic {
            return Fate::OtherTopic;
        }
        if found.since <= self.oldest {
            return Fate::TooOld;
        }
        match self.change(letter, found.stamp) {
            Change::Refuse(refusal) => Fate::Refused(refusal),
            change => Fate::Write(change),
        }
    }

    /// What the record asks for. Its own timestamp is not kept; the write timestamp follows it.
    fn change(&self, letter: &Letter, stamp: i64) -> Change {
        self.read(letter.origin.place.partition, stamp / 1_000, &letter.record)
    }

    fn read(&self, partition: i32, timestamp: i64, record: &Scanned) -> Change {
        let incoming = Incoming {
            partition,
            timestamp,
            key: record.raw.key(),
            value: record.raw.value(),
        };
        self.decoder.decode(&incoming, record.raw.headers()).0
    }
}

impl fmt::Display for Fate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Write(_) => f.write_str("can be written"),
            Self::OtherTopic => f.write_str("is of another topic"),
            Self::TooOld => f.write_str(
                "is older than the table's gc_grace_seconds: a deletion that came after it may be forgotten",
            ),
            Self::Overtaken(Overtaken::By(place)) => {
                write!(f, "is overtaken: the record {place} of the same user came after it")
            }
            Self::Overtaken(Overtaken::Unknown) => f.write_str(
                "may be overtaken: the topic no longer holds what came after it, and the table is younger than it",
            ),
            Self::Refused(Refusal { reason, error }) => write!(f, "is still refused: {reason}: {error}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::letter::tests::letter;
    use crate::row::Shape;
    use crate::settings::Tombstones;

    const VALID: &[u8] = br#"{"id":"0195d0b1-7a4c-7f3e-9b1a-2c3d4e5f6071","first_name":"Ada","last_name":"L","gender":"f","address":"a","post_code":"1","email":"a@b","username":"u","dob":"1970-01-01T00:00:00.000Z","phone":"1","picture":"p"}"#;

    fn today() -> Judge {
        Judge {
            topic: "users_created".to_owned(),
            decoder: Decoder {
                shape: Shape::default(),
                tombstones: Tombstones::Delete,
                partitions: 1,
            },
            oldest: 1_000_000,
        }
    }

    fn judge(judge: &Judge, letter: &Letter) -> Fate {
        judge.judge(letter, Found::of(letter, judge))
    }

    #[test]
    fn what_can_be_read_today_is_written() {
        let fate = judge(&today(), &letter(Some(VALID), 1_000_001));
        assert!(matches!(fate, Fate::Write(Change::Upsert(_))), "{fate:?}");
        let fate = judge(&today(), &letter(None, 1_000_001));
        assert!(matches!(fate, Fate::Write(Change::Delete(_))), "{fate:?}");
    }

    #[test]
    fn what_a_forgotten_deletion_could_not_hold_back_is_left() {
        let fate = judge(&today(), &letter(Some(VALID), 1_000_000));
        assert!(matches!(fate, Fate::TooOld), "{fate:?}");
        let late = Judge {
            oldest: i64::MAX / 2,
            ..today()
        };
        let fate = judge(&late, &letter(Some(VALID), i64::MAX));
        assert!(
            matches!(fate, Fate::TooOld),
            "set aside long ago, whatever its stamp says: {fate:?}"
        );
    }

    #[test]
    fn what_is_still_wrong_and_what_is_foreign_is_left() {
        let fate = judge(&today(), &letter(Some(b"garbage"), 2_000_000));
        assert!(matches!(fate, Fate::Refused(_)), "{fate:?}");
        let other = Judge {
            topic: "another".to_owned(),
            ..today()
        };
        let fate = judge(&other, &letter(Some(VALID), 2_000_000));
        assert!(matches!(fate, Fate::OtherTopic), "{fate:?}");
    }
}
