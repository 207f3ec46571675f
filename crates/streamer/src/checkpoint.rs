//! What is remembered of a partition beside the data, and where reading starts because of it.
//!
//! Pure: reading and writing checkpoints is [`checkpoints`](crate::cassandra::checkpoints)' work.

pub mod deliberate;

use service::failpoint;
use thiserror::Error;
use uuid::Uuid;

use crate::clock::HighMark;
use crate::progress::Position;
use crate::settings::{CheckpointSettings, OnMissing, OnOutOfRange};
use crate::tally::Tally;

/// The remembered state of one partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Checkpoint {
    /// The partition.
    pub partition: i32,
    /// How far it is durable.
    pub position: Position,
    /// The base of the write timestamps of this partition's checkpoints, in microseconds since 1970.
    pub epoch: i64,
    /// The topic's id in Kafka: another one under the same name has other records.
    pub topic_id: Uuid,
    /// The table's id in Cassandra: another one under the same name lacks the rows.
    pub table_id: Uuid,
}

/// How many records beyond the checkpoint that is found a member of the old epoch may still get to: what it holds in
/// memory (some ten thousand, bounded by `kafka.fetch_buffer`), with room. Epochs are in microseconds, so this is a second.
const LEAD: i64 = 1_000_000;

impl Checkpoint {
    /// The write timestamp under which it is stored: of two members that write one epoch, the one that is further
    /// wins, so a fenced member never moves a checkpoint back.
    pub fn write_timestamp(&self) -> i64 {
        if failpoint::inject("zombie_not_fenced") {
            return crate::clock::wall_micros();
        }
        self.epoch + self.position.next_offset
    }

    /// The epoch that supersedes this checkpoint and what a fenced member may still store above it, whatever clock is
    /// wrong.
    pub fn next_epoch(&self, now: i64) -> i64 {
        now.max(self.write_timestamp() + LEAD)
    }
}

/// What is known of a partition when it is assigned.
#[derive(Clone, Copy, Debug)]
pub struct Known {
    /// The partition.
    pub partition: i32,
    /// Its checkpoint, if it has one.
    pub checkpoint: Option<Checkpoint>,
    /// The group has a checkpoint for some partition of this very topic.
    pub group_has_checkpoints: bool,
    /// The topic's id now.
    pub topic_id: Uuid,
    /// The table's id now.
    pub table_id: Uuid,
    /// The offset of the first record that is still there.
    pub beginning: i64,
    /// The offset after the last one.
    pub end: i64,
    /// What the group has committed in Kafka; asked only where the policy needs it.
    pub committed: Option<i64>,
}

/// Why a partition starts where it starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Because {
    /// The checkpoint says so.
    Checkpoint,
    /// There is no checkpoint.
    Missing(OnMissing),
    /// The topic is another one than the checkpoint's.
    Recreated,
    /// The checkpoint lies outside what the topic holds.
    OutOfRange(OnOutOfRange),
}

/// A partition's start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Start {
    /// The state to go on from; it is to be stored unless it was there already.
    pub checkpoint: Checkpoint,
    /// The reason.
    pub because: Because,
}

/// Why a partition can't start. Only the operator can mend it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum NoStart {
    /// `checkpoint.on_missing = fail`.
    #[error("partition {partition} has no checkpoint, and checkpoint.on_missing is `fail`")]
    Missing {
        /// The partition.
        partition: i32,
    },
    /// `checkpoint.on_missing = group`, and the group has committed nothing.
    #[error("partition {partition} has no checkpoint, and the group has committed no offset to take over")]
    NothingCommitted {
        /// The partition.
        partition: i32,
    },
    /// Records that were never read are gone, or the topic lost its end.
    #[error(
        "partition {partition} is to go on at offset {next_offset}, but the topic holds {beginning} to {end}: \
         records are gone. Set checkpoint.on_out_of_range to `earliest` or `latest` to go on without them"
    )]
    OutOfRange {
        /// The partition.
        partition: i32,
        /// Where it would go on.
        next_offset: i64,
        /// The first offset there is.
        beginning: i64,
        /// The offset after the last one.
        end: i64,
    },
    /// The table was dropped and created anew.
    #[error(
        "partition {partition} has a checkpoint for another table of this name: rows written before are not in \
         this one. Run `streamer replay` to write them again, or `streamer accept-table` to go on without them"
    )]
    OtherTable {
        /// The partition.
        partition: i32,
    },
}

/// Decides where a partition starts. `now` in microseconds since 1970.
///
/// # Errors
/// [`NoStart`], when going on would leave a quiet gap or the policy forbids it.
pub fn start(known: &Known, settings: &CheckpointSettings, now: i64) -> Result<Start, NoStart> {
    let partition = known.partition;
    let Some(found) = known.checkpoint else {
        return missing(known, settings, now);
    };
    if found.table_id != known.table_id {
        return Err(NoStart::OtherTable { partition });
    }
    if found.topic_id != known.topic_id {
        // Stamps continue above those of the old topic, or its rows would beat the new records.
        let high = HighMark {
            offset: 0,
            stamp: found.position.high.stamp,
            ceiling: None,
        };
        let checkpoint = fresh(known, known.beginning, high, found.next_epoch(now));
        return Ok(Start {
            checkpoint,
            because: Because::Recreated,
        });
    }
    let next_offset = found.position.next_offset;
    if (known.beginning..=known.end).contains(&next_offset) {
        return Ok(Start {
            checkpoint: found,
            because: Because::Checkpoint,
        });
    }
    let policy = settings.on_out_of_range;
    let to = match policy {
        OnOutOfRange::Fail => {
            let Known { beginning, end, .. } = *known;
            return Err(NoStart::OutOfRange {
                partition,
                next_offset,
                beginning,
                end,
            });
        }
        OnOutOfRange::Earliest => known.beginning,
        OnOutOfRange::Latest => known.end,
    };
    let high = found.position.high;
    // Below the old end a truncated log has other records than before: they must win over the lost ones.
    let high = HighMark {
        offset: high.offset.min(to),
        ..high
    };
    let checkpoint = fresh(known, to, high, found.next_epoch(now));
    Ok(Start {
        checkpoint,
        because: Because::OutOfRange(policy),
    })
}

fn missing(known: &Known, settings: &CheckpointSettings, now: i64) -> Result<Start, NoStart> {
    let partition = known.partition;
    // A partition that was added later has records that nobody read: `latest` would skip them.
    let policy = match settings.on_missing {
        OnMissing::Latest if known.group_has_checkpoints => OnMissing::Earliest,
        policy => policy,
    };
    let next_offset = match policy {
        OnMissing::Earliest => known.beginning,
        OnMissing::Latest => known.end,
        OnMissing::Group => match known.committed {
            Some(committed) if (known.beginning..=known.end).contains(&committed) => committed,
            Some(next_offset) => {
                let Known { beginning, end, .. } = *known;
                return Err(NoStart::OutOfRange {
                    partition,
                    next_offset,
                    beginning,
                    end,
                });
            }
            None => return Err(NoStart::NothingCommitted { partition }),
        },
        OnMissing::Fail => return Err(NoStart::Missing { partition }),
    };
    let high = HighMark {
        offset: next_offset,
        // Whoever committed wrote rows by real time, late ones after the records that come now: these must win.
        stamp: (policy == OnMissing::Group).then_some(now),
        ceiling: None,
    };
    Ok(Start {
        checkpoint: fresh(known, next_offset, high, now),
        because: Because::Missing(policy),
    })
}

fn fresh(known: &Known, next_offset: i64, high: HighMark, epoch: i64) -> Checkpoint {
    let position = Position {
        next_offset,
        last_stamp: None,
        high,
        tally: Tally::default(),
    };
    Checkpoint {
        partition: known.partition,
        position,
        epoch,
        topic_id: known.topic_id,
        table_id: known.table_id,
    }
}

#[cfg(test)]
#[path = "checkpoint/tests.rs"]
mod tests;
