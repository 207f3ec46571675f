//! Checks whether the table accepts any row now.
//!
//! A server also refuses rows for reasons that are not the row's: `cassandra.row_ttl` ends after the last instant that it
//! can store, a guardrail forbids writes, a node lags behind the schema. The probe is a row without values and its deletion,
//! both in one batch and under the oldest write timestamp: it is never read and hides nothing.

use model::{Contract, CqlType};

use crate::cassandra::error_class::ErrorClass;
use crate::cassandra::session::Session;
use crate::cassandra::statements::PreparedStatements;
use crate::cassandra::wire::BatchRequest;
use crate::cassandra::writer::row_write::{RowChange, RowWrite};
use crate::pipeline::remaining_ttl::RowTtl;
use crate::pipeline::row::{Row, RowKey};

/// In microseconds since 1970, before any record.
const WRITE_TIMESTAMP: i64 = 1;

/// Writes a probe under the primary key `key`. Keys and time to live are as those of rows accepted now.
///
/// # Errors
/// [`ErrorClass::Invalid`] if the server refuses it; others if there is no response now.
pub async fn probe(
    session: &Session,
    statements: &PreparedStatements,
    contract: &Contract,
    key: &[u8],
    row_ttl: RowTtl,
) -> Result<(), ErrorClass> {
    let row = Row::without_values(contract, key);
    let accepted_at = row.ingested_at();
    let deletion = RowChange::DeleteRow(row.key());
    let mut batch = BatchRequest::with_capacity(2, 2 * row.wire().len() + 64);
    for change in [RowChange::Upsert(row), deletion] {
        let write = RowWrite {
            change,
            write_timestamp: WRITE_TIMESTAMP,
            row_ttl,
        };
        // The row is accepted now, so that its time to live is that of a new row.
        write.add_to(&mut batch, statements, accepted_at);
    }
    session.batch(batch, &statements.row_statements).await
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
