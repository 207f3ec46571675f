//! A position in a partition, with the state to continue from it.

use crate::dead_letters::stats::DeadLetterStats;
use crate::pipeline::write_timestamp::MaxSeen;

/// A position between two records of a partition, with the state to continue from it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Position {
    /// The offset of the next record.
    pub next_offset: i64,
    /// The epoch of the leader that appended the record before, or that reported an end behind markers; `None` if it is
    /// unknown.
    pub leader_epoch: Option<i32>,
    /// The write timestamp of the record before.
    pub last_write_timestamp: Option<i64>,
    /// The largest values seen before the position.
    pub max_seen: MaxSeen,
    /// The dead letters before the position.
    pub dead_letters: DeadLetterStats,
}
