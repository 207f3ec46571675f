//! Rows as the body of a BATCH request of the native protocol, version 5, encoded into one buffer.
//!
//! The driver takes a row as thirteen owned values, an allocation each, and copies them twice on their way. Ours are
//! kept as the protocol has them, so a request is one buffer and one copy of each row. What the driver makes of the
//! same values is what the test holds this against. Nothing is sent from here.

use std::io::Cursor;

use cdrs_tokio::consistency::Consistency;
use cdrs_tokio::frame::message_batch::BatchType;
use cdrs_tokio::frame::{Serialize as _, Version};
use cdrs_tokio::types::CBytesShort;

/// The version that sessions speak.
pub const VERSION: Version = Version::V5;

/// Marks a statement of a batch as prepared; 0 would be its text.
const PREPARED: u8 = 1;
/// No serial consistency, no default timestamp, no keyspace, no time of our own.
const NO_FLAGS: u32 = 0;
const NULL: i32 = -1;

/// Appends a value: its length and its bytes.
///
/// # Panics
/// When it has 2 GiB; a record has at most 64 KiB.
pub fn push_value(wire: &mut Vec<u8>, value: &[u8]) {
    let len = i32::try_from(value.len()).expect("a value is a field of a record");
    wire.extend_from_slice(&len.to_be_bytes());
    wire.extend_from_slice(value);
}

/// Appends a null, which writes a tombstone; an unset value would leave the column alone.
pub fn push_null(wire: &mut Vec<u8>) {
    wire.extend_from_slice(&NULL.to_be_bytes());
}

/// A prepared statement as a batch names it.
#[derive(Debug)]
pub struct Prepared {
    /// Its kind, its id and how many values follow.
    head: Vec<u8>,
}

impl Prepared {
    /// The statement of this id, which binds `values` values.
    pub fn new(id: &CBytesShort, values: u16) -> Self {
        let mut head = vec![PREPARED];
        let mut end = Cursor::new(&mut head);
        end.set_position(1);
        id.serialize(&mut end, VERSION);
        head.extend_from_slice(&values.to_be_bytes());
        Self { head }
    }
}

/// An unlogged batch that is being encoded.
#[derive(Debug)]
pub struct Batch {
    body: Vec<u8>,
    statements: u16,
}

impl Batch {
    const TYPE_AND_COUNT: usize = 3;
    const CONSISTENCY_AND_FLAGS: usize = 6;
    /// Kind, an MD5 as id, the number of values.
    const HEAD: usize = 1 + 2 + 16 + 2;

    /// An empty one, with room for `statements` statements whose values take `bytes` bytes.
    pub fn with_capacity(statements: usize, bytes: usize) -> Self {
        let room = Self::TYPE_AND_COUNT + statements * Self::HEAD + bytes + Self::CONSISTENCY_AND_FLAGS;
        let mut body = Vec::with_capacity(room);
        body.extend_from_slice(&[u8::from(BatchType::Unlogged), 0, 0]);
        Self { body, statements: 0 }
    }

    /// Adds a statement; `values` appends as many values as it was prepared for.
    ///
    /// # Panics
    /// When there are 65,535 already, which is more than a micro-batch may have.
    pub fn add(&mut self, prepared: &Prepared, values: impl FnOnce(&mut Vec<u8>)) {
        self.statements = self
            .statements
            .checked_add(1)
            .expect("a micro-batch has fewer records");
        self.body.extend_from_slice(&prepared.head);
        values(&mut self.body);
    }

    /// The request's body.
    pub fn finish(mut self, consistency: Consistency) -> Vec<u8> {
        self.body[1..Self::TYPE_AND_COUNT].copy_from_slice(&self.statements.to_be_bytes());
        self.body.extend_from_slice(&i16::from(consistency).to_be_bytes());
        self.body.extend_from_slice(&NO_FLAGS.to_be_bytes());
        self.body
    }
}

#[cfg(test)]
mod tests {
    use cdrs_tokio::frame::message_batch::{BatchQuery, BatchQuerySubj, BodyReqBatch};
    use cdrs_tokio::query::QueryValues;
    use cdrs_tokio::types::value::Value;
    use proptest::prelude::*;

    use super::*;

    fn by_the_driver(id: &CBytesShort, rows: &[Vec<Option<Vec<u8>>>], consistency: Consistency) -> Vec<u8> {
        let queries = rows.iter().map(|row| {
            let values = row
                .iter()
                .map(|value| value.clone().map_or(Value::Null, Value::Some));
            let subject = BatchQuerySubj::PreparedId(id.clone());
            BatchQuery::new(subject, QueryValues::SimpleValues(values.collect()))
        });
        let queries = queries.collect();
        BodyReqBatch::new(BatchType::Unlogged, queries, consistency, None, None, None, None)
            .serialize_to_vec(VERSION)
    }

    proptest! {
        #[test]
        fn it_is_what_the_driver_makes_of_the_same_values(
            id in any::<[u8; 16]>(),
            rows in prop::collection::vec(
                prop::collection::vec(prop::option::of(prop::collection::vec(any::<u8>(), 0..40)), 3),
                0..20,
            ),
        ) {
            let id = CBytesShort::new(id.to_vec());
            let prepared = Prepared::new(&id, 3);
            let mut batch = Batch::with_capacity(rows.len(), 0);
            for row in &rows {
                batch.add(&prepared, |wire| {
                    for value in row {
                        match value {
                            Some(value) => push_value(wire, value),
                            None => push_null(wire),
                        }
                    }
                });
            }
            let expected = by_the_driver(&id, &rows, Consistency::LocalQuorum);
            prop_assert_eq!(batch.finish(Consistency::LocalQuorum), expected);
        }
    }
}
