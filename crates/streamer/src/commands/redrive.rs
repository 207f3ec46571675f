//! `streamer redrive`: writes dead letters to the table, each under its own write timestamp, so that what came after
//! it in the log stays. Never back to the topic, whose order would be another one then.
//!
//! It may run beside a streamer, and twice: the same write changes nothing.

use std::collections::HashMap;
use std::fmt;

use clap::Args;

use crate::cassandra::schema::{self, Verified};
use crate::cassandra::writer::{Write, Writer};
use crate::clock::wall_micros;
use crate::commands::dead_letters;
use crate::commands::error::CommandError;
use crate::commands::letter::{Letter, Origin};
use crate::commands::say;
use crate::commands::servers::Servers;
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
    let mut stamps = lowest_stamps(servers, arguments).await?;
    let mut redrive = Redrive {
        judge: Judge::new(servers, verified).await?,
        writer: servers.writer(verified),
        servers,
        arguments,
        batch: Vec::new(),
        counts: Counts::default(),
    };
    dead_letters::read(servers, async |letter| match stamps.remove(&letter.origin) {
        Some(stamp) => redrive.take(&letter, stamp).await,
        // Another reason, or told already.
        None => Ok(()),
    })
    .await?;
    redrive.flush().await?;
    say(&redrive.counts)
}

/// A record that was replayed may have more than one letter. The lowest write timestamp is the one that no later
/// record's can be below, whichever reading of the log wrote that one's row.
async fn lowest_stamps(
    servers: &Servers,
    arguments: &Arguments,
) -> Result<HashMap<Origin, i64>, CommandError> {
    let mut stamps = HashMap::new();
    dead_letters::read(servers, async |letter| {
        if arguments
            .reason
            .as_ref()
            .is_none_or(|reason| *reason == letter.reason)
        {
            let lowest = stamps.entry(letter.origin).or_insert(letter.stamp);
            *lowest = letter.stamp.min(*lowest);
        }
        Ok(())
    })
    .await?;
    Ok(stamps)
}

struct Redrive<'a> {
    servers: &'a Servers,
    arguments: &'a Arguments,
    judge: Judge,
    writer: Writer,
    batch: Vec<(Origin, Write)>,
    counts: Counts,
}

impl Redrive<'_> {
    async fn take(&mut self, letter: &Letter, stamp: i64) -> Result<(), CommandError> {
        let change = match self.judge.judge(letter, stamp) {
            Fate::Write(change) => change,
            fate => return self.leave(letter.origin, &fate),
        };
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
    of_another_topic: usize,
    over_the_limit: usize,
}

impl fmt::Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            written,
            still_refused,
            too_old,
            of_another_topic,
            over_the_limit,
        } = self;
        write!(
            f,
            "written: {written}, still refused: {still_refused}, too old: {too_old}, of another topic: \
             {of_another_topic}, over the limit: {over_the_limit}"
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

    fn judge(&self, letter: &Letter, stamp: i64) -> Fate {
        if letter.topic != self.topic {
            return Fate::OtherTopic;
        }
        // A stamp may lie ahead of the clock that set it.
        if stamp.min(letter.at.as_microsecond()) <= self.oldest {
            return Fate::TooOld;
        }
        let raw = &letter.record.raw;
        let incoming = Incoming {
            partition: letter.origin.place.partition,
            // The record's own timestamp is not kept; the write timestamp follows it.
            timestamp: stamp / 1_000,
            key: raw.key(),
            value: raw.value(),
        };
        match self.decoder.decode(&incoming, raw.headers()).0 {
            Change::Refuse(refusal) => Fate::Refused(refusal),
            change => Fate::Write(change),
        }
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

    fn judge() -> Judge {
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

    #[test]
    fn what_can_be_read_today_is_written() {
        let fate = judge().judge(&letter(Some(VALID), 1_000_001), 1_000_001);
        assert!(matches!(fate, Fate::Write(Change::Upsert(_))), "{fate:?}");
        let fate = judge().judge(&letter(None, 1_000_001), 1_000_001);
        assert!(matches!(fate, Fate::Write(Change::Delete(_))), "{fate:?}");
    }

    #[test]
    fn what_a_forgotten_deletion_could_not_hold_back_is_left() {
        let fate = judge().judge(&letter(Some(VALID), 1_000_000), 1_000_000);
        assert!(matches!(fate, Fate::TooOld), "{fate:?}");
        let late = Judge {
            oldest: i64::MAX / 2,
            ..judge()
        };
        let fate = late.judge(&letter(Some(VALID), i64::MAX), i64::MAX);
        assert!(
            matches!(fate, Fate::TooOld),
            "set aside long ago, whatever its stamp says: {fate:?}"
        );
    }

    #[test]
    fn what_is_still_wrong_and_what_is_foreign_is_left() {
        let fate = judge().judge(&letter(Some(b"garbage"), 2_000_000), 2_000_000);
        assert!(matches!(fate, Fate::Refused(_)), "{fate:?}");
        let other = Judge {
            topic: "another".to_owned(),
            ..judge()
        };
        let fate = other.judge(&letter(Some(VALID), 2_000_000), 2_000_000);
        assert!(matches!(fate, Fate::OtherTopic), "{fate:?}");
    }
}
