//! Encodes rows into the body of a BATCH request of native protocol version 5, in one buffer.
//!
//! The driver takes a row as owned values, each an allocation, and copies them twice. Here a row is kept in
//! wire format, so a request is one buffer and one copy of each row. The test compares the result with the driver's.
//! Sends nothing.

use std::io::Cursor;

use cdrs_tokio::consistency::Consistency;
use cdrs_tokio::frame::message_batch::BatchType;
use cdrs_tokio::frame::{Serialize as _, Version};
use cdrs_tokio::types::CBytesShort;

/// The protocol version of all sessions.
pub const VERSION: Version = Version::V5;

/// The kind of a prepared statement. 0 is the kind of a query string.
const PREPARED: u8 = 1;
/// No serial consistency, default timestamp, keyspace or current time.
const NO_FLAGS: u32 = 0;
const NULL: i32 = -1;

/// Appends a value: its length and its bytes.
///
/// # Panics
/// When the value has 2 GiB. A record has at most 64 KiB.
pub fn push_value(wire: &mut Vec<u8>, value: &[u8]) {
    let len = i32::try_from(value.len()).expect("a value is a field of a record");
    wire.extend_from_slice(&len.to_be_bytes());
    wire.extend_from_slice(value);
}

/// Appends the value that `encode` appends.
///
/// # Panics
/// As [`push_value`].
pub fn push_encoded(wire: &mut Vec<u8>, encode: impl FnOnce(&mut Vec<u8>)) {
    let head = wire.len();
    push_null(wire);
    encode(wire);
    let value = head + NULL.to_be_bytes().len();
    let len = i32::try_from(wire.len() - value).expect("a value has less than 2 GiB");
    wire[head..value].copy_from_slice(&len.to_be_bytes());
}

/// Appends a null, which writes a tombstone. An unset value would keep the column's old value.
pub fn push_null(wire: &mut Vec<u8>) {
    wire.extend_from_slice(&NULL.to_be_bytes());
}

/// A prepared statement in wire format.
#[derive(Debug)]
pub struct BatchStatement {
    /// Kind, statement id and number of values.
    head: Vec<u8>,
}

impl BatchStatement {
    /// Encodes the statement with this id, which binds `values` values.
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
pub struct BatchRequest {
    body: Vec<u8>,
    statements: u16,
}

impl BatchRequest {
    const TYPE_AND_COUNT: usize = 3;
    const CONSISTENCY_AND_FLAGS: usize = 6;
    /// Kind, MD5 of the statement as its id, number of values.
    const HEAD: usize = 1 + 2 + 16 + 2;

    /// Creates an empty batch with capacity for `statements` statements whose values take `bytes` bytes.
    pub fn with_capacity(statements: usize, bytes: usize) -> Self {
        let capacity = Self::TYPE_AND_COUNT + statements * Self::HEAD + bytes + Self::CONSISTENCY_AND_FLAGS;
        let mut body = Vec::with_capacity(capacity);
        body.extend_from_slice(&[u8::from(BatchType::Unlogged), 0, 0]);
        Self { body, statements: 0 }
    }

    /// Adds a statement. `values` appends as many values as the statement binds.
    ///
    /// # Panics
    /// When the batch holds 65,535 statements, more than a micro-batch may have.
    pub fn add(&mut self, prepared: &BatchStatement, values: impl FnOnce(&mut Vec<u8>)) {
        self.statements = self
            .statements
            .checked_add(1)
            .expect("a micro-batch has fewer records");
        self.body.extend_from_slice(&prepared.head);
        values(&mut self.body);
    }

    /// Returns the body of the request.
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

    fn driver_encoding(id: &CBytesShort, rows: &[Vec<Option<Vec<u8>>>], consistency: Consistency) -> Vec<u8> {
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
        fn encoding_equals_the_drivers(
            id in any::<[u8; 16]>(),
            rows in prop::collection::vec(
                prop::collection::vec(prop::option::of(prop::collection::vec(any::<u8>(), 0..40)), 3),
                0..20,
            ),
        ) {
            let id = CBytesShort::new(id.to_vec());
            let prepared = BatchStatement::new(&id, 3);
            let mut batch = BatchRequest::with_capacity(rows.len(), 0);
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
            let expected = driver_encoding(&id, &rows, Consistency::LocalQuorum);
            prop_assert_eq!(batch.finish(Consistency::LocalQuorum), expected);
        }
    }
}
