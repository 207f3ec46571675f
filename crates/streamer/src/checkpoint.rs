//! A partition's checkpoint, and the start offset that follows from it.
//!
//! Pure. [`store`] reads and writes checkpoints.

pub mod admin;
pub mod start_offset_resolver;
pub mod store;

use std::ops::Range;

use ::kafka::same_topic;
use service::failpoint;
use thiserror::Error;
use uuid::Uuid;

use crate::config::{CheckpointSettings, OnMissing, OnOutOfRange};
use crate::consumer::rebalance::StartOffset;
use crate::dead_letters::stats::DeadLetterStats;
use crate::pipeline::position::Position;
use crate::pipeline::write_timestamp::MaxSeen;

/// The stored state of one partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Checkpoint {
    /// The partition.
    pub partition: i32,
    /// The durable position.
    pub position: Position,
    /// The base of the write timestamps of this partition's checkpoints, in microseconds since 1970.
    pub epoch: i64,
    /// Kafka's topic id. A recreated topic has another one. Nil: unknown.
    pub topic_id: Uuid,
    /// Cassandra's table id. A recreated table has another one, and lacks the rows.
    pub table_id: Uuid,
}

/// How many offsets a fenced member of the old epoch may still advance: the records that it holds in memory. They are
/// about ten thousand, limited by `kafka.fetch_buffer`. Epochs are in microseconds, so the margin is one second.
const EPOCH_MARGIN: i64 = 1_000_000;

impl Checkpoint {
    /// Returns the checkpoint's write timestamp. Of two members of one epoch the one with the larger offset wins, so
    /// a fenced consumer cannot move a checkpoint backwards.
    pub fn write_timestamp(&self) -> i64 {
        if failpoint::inject("zombie_not_fenced") {
            return crate::pipeline::write_timestamp::wall_micros();
        }
        self.epoch + self.position.next_offset
    }

    /// Where the partition is read from.
    pub fn start_offset(&self) -> StartOffset {
        StartOffset {
            partition: self.partition,
            offset: self.position.next_offset,
            leader_epoch: self.position.leader_epoch,
        }
    }

    /// Whether the checkpoint belongs to the topic with this id, as far as both ids are known.
    pub fn is_of_topic(&self, topic_id: Uuid) -> bool {
        same_topic(self.topic_id, topic_id)
    }

    /// Returns an epoch that supersedes this checkpoint and all that a fenced member may still write, regardless of
    /// clock skew.
    pub fn next_epoch(&self, now: i64) -> i64 {
        now.max(self.write_timestamp() + EPOCH_MARGIN)
    }
}

/// What is known of an assigned partition.
#[derive(Clone, Copy, Debug)]
pub struct PartitionInfo {
    /// The partition.
    pub partition: i32,
    /// Its checkpoint, if it has one.
    pub checkpoint: Option<Checkpoint>,
    /// The group has a checkpoint of any partition of this topic, or of an earlier one of its name.
    pub group_has_checkpoints: bool,
    /// The largest write timestamp in the checkpoints of all partitions, if any of them is of an earlier topic.
    pub earlier_write_timestamp: Option<i64>,
    /// The current topic id. Nil: unknown.
    pub topic_id: Uuid,
    /// The current table id.
    pub table_id: Uuid,
    /// The first offset in the log.
    pub beginning: i64,
    /// The end offset of the log.
    pub end: i64,
    /// The log was truncated below the checkpoint, and may have other records there now.
    pub truncated: bool,
    /// The group's committed offset; requested only if the policy needs it.
    pub committed: Option<i64>,
}

impl PartitionInfo {
    /// The current topic id, or the one of the checkpoint while brokers report none.
    fn known_topic_id(&self) -> Uuid {
        match self.checkpoint {
            Some(checkpoint) if self.topic_id.is_nil() => checkpoint.topic_id,
            _ => self.topic_id,
        }
    }

    /// Returns the durable range of the log, according to the checkpoint.
    pub fn durable_range(&self) -> Range<i64> {
        let checkpoint = self.checkpoint.filter(|it| it.is_of_topic(self.topic_id));
        let end = checkpoint.map_or(self.beginning, |it| it.position.next_offset.min(self.end));
        self.beginning..end
    }
}

/// Why a partition starts at its offset.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StartReason {
    /// The checkpoint is valid.
    Checkpoint,
    /// There is no checkpoint.
    Missing(OnMissing),
    /// The checkpoint belongs to an earlier topic of the same name.
    Recreated,
    /// The checkpoint is outside the log.
    OutOfRange(OnOutOfRange),
}

/// The start of a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ResolvedStart {
    /// The state to continue from. It must be stored unless it is the existing checkpoint.
    pub checkpoint: Checkpoint,
    /// The reason.
    pub reason: StartReason,
}

/// Why a partition can't start. Only the operator can fix it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum StartError {
    /// `checkpoint.on_missing` is `fail`.
    #[error(
        "partition {partition} has no checkpoint, and checkpoint.on_missing is `fail`: set it to `earliest`, `latest` or `group`"
    )]
    Missing {
        /// The partition.
        partition: i32,
    },
    /// `checkpoint.on_missing` is `group`, and the group has no committed offset.
    #[error(
        "partition {partition} has no checkpoint, and the group has no committed offset for checkpoint.on_missing = `group`"
    )]
    NothingCommitted {
        /// The partition.
        partition: i32,
    },
    /// Records that were never read are deleted, or the log lost its end.
    #[error(
        "partition {partition} must continue at offset {next_offset}, but the topic holds offsets {beginning} to {end}: \
         records are lost. Set checkpoint.on_out_of_range to `earliest` or `latest` to continue without them"
    )]
    OutOfRange {
        /// The partition.
        partition: i32,
        /// The offset to continue at.
        next_offset: i64,
        /// The first offset in the log.
        beginning: i64,
        /// The end offset of the log.
        end: i64,
    },
    /// The log lost its end and grew again.
    #[error(
        "partition {partition} must continue at offset {next_offset}, but its log was truncated below that and has other \
         records there: its leader was a replica that lacked acknowledged records. Set checkpoint.on_out_of_range to \
         `earliest` or `latest` to continue"
    )]
    Truncated {
        /// The partition.
        partition: i32,
        /// The offset to continue at.
        next_offset: i64,
    },
    /// The table was dropped and recreated.
    #[error(
        "partition {partition} has a checkpoint of an earlier table of this name, whose rows are not in the present one. \
         Run `streamer replay` to write them again, or `streamer accept-table` to continue without them"
    )]
    OtherTable {
        /// The partition.
        partition: i32,
    },
}

/// Resolves the start of a partition. `now` in microseconds since 1970.
///
/// # Errors
/// [`StartError`], when records would be skipped silently or the policy forbids the start.
pub fn resolve_start(
    info: &PartitionInfo,
    settings: &CheckpointSettings,
    now: i64,
) -> Result<ResolvedStart, StartError> {
    let partition = info.partition;
    let Some(found) = info.checkpoint else {
        return missing(info, settings, now);
    };
    if found.table_id != info.table_id {
        return Err(StartError::OtherTable { partition });
    }
    if !found.is_of_topic(info.topic_id) {
        // Write timestamps continue above those of the old topic. Otherwise its rows would win over the new records. With
        // another number of partitions a key moves, so those of all partitions count.
        let max_seen = MaxSeen {
            offset: 0,
            write_timestamp: found
                .position
                .max_seen
                .write_timestamp
                .max(info.earlier_write_timestamp),
            ceiling: None,
        };
        let checkpoint = new_checkpoint(info, info.beginning, max_seen, found.next_epoch(now));
        return Ok(ResolvedStart {
            checkpoint,
            reason: StartReason::Recreated,
        });
    }
    let next_offset = found.position.next_offset;
    if (info.beginning..=info.end).contains(&next_offset) && !info.truncated {
        return Ok(ResolvedStart {
            checkpoint: Checkpoint {
                topic_id: info.known_topic_id(),
                ..found
            },
            reason: StartReason::Checkpoint,
        });
    }
    let policy = settings.on_out_of_range;
    let to = match policy {
        OnOutOfRange::Fail if info.truncated => {
            return Err(StartError::Truncated {
                partition,
                next_offset,
            });
        }
        OnOutOfRange::Fail => {
            let PartitionInfo { beginning, end, .. } = *info;
            return Err(StartError::OutOfRange {
                partition,
                next_offset,
                beginning,
                end,
            });
        }
        OnOutOfRange::Earliest => info.beginning,
        OnOutOfRange::Latest => info.end,
    };
    let max_seen = found.position.max_seen;
    // A truncated log has other records below its old end, which must win over the lost ones.
    let max_seen = MaxSeen {
        offset: max_seen.offset.min(to),
        ..max_seen
    };
    let checkpoint = new_checkpoint(info, to, max_seen, found.next_epoch(now));
    Ok(ResolvedStart {
        checkpoint,
        reason: StartReason::OutOfRange(policy),
    })
}

fn missing(
    info: &PartitionInfo,
    settings: &CheckpointSettings,
    now: i64,
) -> Result<ResolvedStart, StartError> {
    let partition = info.partition;
    // The records of a partition that was added later, or of a recreated topic, were never read, and `latest` would skip
    // them.
    let policy = match settings.on_missing {
        OnMissing::Latest if info.group_has_checkpoints => OnMissing::Earliest,
        policy => policy,
    };
    let next_offset = match policy {
        OnMissing::Earliest => info.beginning,
        OnMissing::Latest => info.end,
        OnMissing::Group => match info.committed {
            Some(committed) if (info.beginning..=info.end).contains(&committed) => committed,
            Some(next_offset) => {
                let PartitionInfo { beginning, end, .. } = *info;
                return Err(StartError::OutOfRange {
                    partition,
                    next_offset,
                    beginning,
                    end,
                });
            }
            None => return Err(StartError::NothingCommitted { partition }),
        },
        OnMissing::Fail => return Err(StartError::Missing { partition }),
    };
    // The other consumer wrote rows with real-time timestamps, some after the next records: the next records must win.
    let taken_over = (policy == OnMissing::Group).then_some(now);
    let max_seen = MaxSeen {
        offset: next_offset,
        write_timestamp: taken_over.max(info.earlier_write_timestamp),
        ceiling: None,
    };
    Ok(ResolvedStart {
        checkpoint: new_checkpoint(info, next_offset, max_seen, now),
        reason: StartReason::Missing(policy),
    })
}

/// Returns the largest write timestamp in all checkpoints of the group, if any of them is of an earlier topic than
/// `topic_id`.
pub fn earlier_write_timestamp(found: &[Checkpoint], topic_id: Uuid) -> Option<i64> {
    let is_recreated = found.iter().any(|checkpoint| !checkpoint.is_of_topic(topic_id));
    let write_timestamps = found
        .iter()
        .filter_map(|checkpoint| checkpoint.position.max_seen.write_timestamp);
    write_timestamps.max().filter(|_| is_recreated)
}

fn new_checkpoint(info: &PartitionInfo, next_offset: i64, max_seen: MaxSeen, epoch: i64) -> Checkpoint {
    let position = Position {
        next_offset,
        leader_epoch: None,
        last_write_timestamp: None,
        max_seen,
        dead_letters: DeadLetterStats::default(),
    };
    Checkpoint {
        partition: info.partition,
        position,
        epoch,
        topic_id: info.known_topic_id(),
        table_id: info.table_id,
    }
}

#[cfg(test)]
#[path = "checkpoint/tests.rs"]
mod tests;
