//! A record's number within its run.

use uuid::Uuid;

/// The numbers of a chunk. It limits the size of a partition of the table.
pub const CHUNK: u64 = 1_000_000;

/// Sequence numbers are below this, so a run has at most a million chunks.
pub const SEQUENCE_LIMIT: u64 = 1_000_000_000_000;

/// A record's number within its run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct RunNumber {
    /// The run.
    pub run: Uuid,
    /// The number, below [`SEQUENCE_LIMIT`].
    pub sequence: u64,
}

impl RunNumber {
    /// The number relative to its chunk.
    pub(super) fn place(self) -> u32 {
        u32::try_from(self.sequence % CHUNK).expect("a chunk has fewer numbers than a u32")
    }
}
