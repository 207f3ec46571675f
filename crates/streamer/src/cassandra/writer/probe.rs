//! Asks whether the table accepts any row now.
//!
//! A server also refuses rows for reasons that are not the row's: `cassandra.row_ttl` ends after the last instant that it
//! can store, a guardrail forbids writes, a node lags behind the schema. The probe is a row without values and its deletion,
//! both in one batch and under the oldest write timestamp: it is never read and hides nothing.

use model::{Contract, CqlType};

use crate::cassandra::error_class::ErrorClass;
use crate::cassandra::session::Session;
use crate::cassandra::statements::PreparedStatements;
use crate::cassandra::wire::{BatchRequest, push_null, push_value};
use crate::pipeline::remaining_ttl::{RemainingTtl, RowTtl};
use crate::pipeline::row::{RowKey, partition_key};

/// In microseconds since 1970, before any record.
const WRITE_TIMESTAMP: i64 = 1;

/// Writes a probe under the primary key `key`. Keys and time to live are as those of rows accepted now.
///
/// # Errors
/// [`ErrorClass::Invalid`] if the server refuses it; others if there is no answer now.
pub async fn probe(
    session: &Session,
    statements: &PreparedStatements,
    contract: &Contract,
    key: &[u8],
    row_ttl: RowTtl,
) -> Result<(), ErrorClass> {
    let values = contract.fields().len() + 1 - contract.primary_key().count();
    let write_timestamp = WRITE_TIMESTAMP.to_be_bytes();
    let mut batch = BatchRequest::with_capacity(2, 2 * key.len() + 4 * values + 64);
    batch.add(&statements.upsert, |wire| {
        wire.extend_from_slice(key);
        (0..values).for_each(|_| push_null(wire));
        if let RemainingTtl::Seconds(seconds) = row_ttl.remaining(0, 0) {
            push_value(wire, &seconds.to_be_bytes());
        }
        push_value(wire, &write_timestamp);
    });
    batch.add(&statements.delete_row, |wire| {
        push_value(wire, &write_timestamp);
        wire.extend_from_slice(key);
    });
    session.batch(batch, Some(partition_key(key)), statements).await
}

/// A primary key for a probe when there is no row yet.
pub fn unused_key(contract: &Contract) -> RowKey {
    let value = |slot: usize| match contract.fields()[slot].cql() {
        CqlType::Uuid => vec![0; 16],
        CqlType::Int => vec![0; 4],
        CqlType::Bigint | CqlType::Timestamp => vec![0; 8],
        _ => b"-".to_vec(),
    };
    let values: Vec<_> = contract.primary_key().map(value).collect();
    RowKey::of_values(values.iter().map(Vec::as_slice))
}
