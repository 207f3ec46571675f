//! A segment: the records of one chunk of a run that one partition has stored between two checkpoints.
//!
//! Pure. The sorted numbers are encoded as the differences between them, about one byte each. Ranges would not be shorter:
//! the partitions of a topic share a run's numbers, so hardly any two neighbours are in one of them.

use std::ops::Range;

use uuid::Uuid;

use crate::ledger::latencies::Latencies;
use crate::ledger::run_number::{CHUNK, RunNumber};
use crate::ledger::varint::{InvalidSegment, push_varint, take_varint};

/// The records of one chunk of a run, in one partition, between two checkpoints.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Segment {
    /// The run.
    pub run: Uuid,
    /// The run's numbers from `chunk × 10^6` on.
    pub chunk: u64,
    /// Kafka's topic id.
    pub topic_id: Uuid,
    /// The id of the table that has the rows.
    pub table_id: Uuid,
    /// The partition.
    pub partition: i32,
    /// The offsets from the checkpoint before to the one that follows.
    pub offsets: Range<i64>,
    /// The records.
    pub numbers: Numbers,
}

/// The numbers of a segment, relative to its chunk, each set sorted and without duplicates.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Numbers {
    /// Those of rows and deletions.
    pub stored: Vec<u32>,
    /// Those of dead letters. A number in both sets counts as stored: it was sent twice.
    pub dead_lettered: Vec<u32>,
    /// The times from fetching to storing.
    pub latencies: Latencies,
}

impl Segment {
    /// Creates the segment of one stored record.
    pub fn of_row(
        number: RunNumber,
        (topic_id, partition, offset): (Uuid, i32, i64),
        table_id: Uuid,
    ) -> Self {
        Self {
            run: number.run,
            chunk: number.sequence / CHUNK,
            topic_id,
            table_id,
            partition,
            offsets: offset..offset + 1,
            numbers: Numbers {
                stored: vec![number.place()],
                ..Numbers::default()
            },
        }
    }
}

/// Appends sorted numbers without duplicates.
pub fn encode(numbers: &[u32], bytes: &mut Vec<u8>) {
    let mut next = 0;
    for number in numbers {
        push_varint(bytes, u64::from(number - next));
        next = number + 1;
    }
}

/// Decodes numbers below [`CHUNK`].
///
/// # Errors
/// When the bytes are not of [`encode`].
pub fn decode(mut bytes: &[u8]) -> Result<Vec<u32>, InvalidSegment> {
    let mut numbers = Vec::with_capacity(bytes.len());
    let mut next = 0_u64;
    while !bytes.is_empty() {
        let number = next
            .checked_add(take_varint(&mut bytes)?)
            .filter(|number| *number < CHUNK)
            .ok_or(InvalidSegment)?;
        numbers.push(u32::try_from(number).map_err(|_| InvalidSegment)?);
        next = number + 1;
    }
    Ok(numbers)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    fn encoded(numbers: &[u32]) -> Vec<u8> {
        let mut bytes = Vec::new();
        encode(numbers, &mut bytes);
        bytes
    }

    #[test]
    fn neighbours_of_six_partitions_take_a_byte_each() {
        let numbers: Vec<_> = (0..1_000_000).step_by(6).collect();
        assert_eq!(encoded(&numbers).len(), numbers.len());
    }

    #[test]
    fn number_beyond_the_chunk_is_refused() {
        assert_eq!(decode(&encoded(&[999_999])).unwrap(), [999_999]);
        assert!(decode(&encoded(&[1_000_000])).is_err());
    }

    proptest! {
        #[test]
        fn numbers_are_decoded_as_encoded(numbers in proptest::collection::btree_set(0_u32..1_000_000, 0..200)) {
            let numbers: Vec<_> = BTreeSet::into_iter(numbers).collect();
            prop_assert_eq!(decode(&encoded(&numbers)).unwrap(), numbers);
        }

        #[test]
        fn any_bytes_are_decoded_or_refused(bytes: Vec<u8>) {
            if let Ok(numbers) = decode(&bytes) {
                prop_assert!(numbers.is_sorted());
            }
        }
    }
}
