//! The statements that a session prepares once, and the parameters of each.

use cdrs_tokio::consistency::Consistency;
use cdrs_tokio::query::{PreparedQuery, QueryValues};
use cdrs_tokio::statement::{StatementParams, StatementParamsBuilder};
use cdrs_tokio::types::value::Value;

use crate::cassandra::fault::Fault;
use crate::cassandra::placement;
use crate::cassandra::session::Live;
use crate::cassandra::wire::Prepared;
use crate::row::COLUMNS;
use crate::settings::CassandraSettings;

/// Those of [`COLUMNS`] and the write timestamp.
const ROW_VALUES: u16 = 14;
const _: () = assert!(ROW_VALUES as usize == COLUMNS.len() + 1);

/// Prepared on one session.
pub struct Statements {
    /// Writes a row: the values of [`COLUMNS`], where rows have an end their time to live, and the write timestamp.
    pub upsert: Prepared,
    /// Deletes a row: the write timestamp and the id.
    pub delete: Prepared,
    /// The two, as they are prepared on a node that does not know them.
    pub of_rows: [PreparedQuery; 2],
    /// Writes a checkpoint under a write timestamp.
    pub save_checkpoint: PreparedQuery,
    /// Any two rows have the same replicas, so they may share an unlogged batch.
    pub one_replica_set: bool,
}

impl Statements {
    pub(super) async fn prepare(live: &Live, settings: &CassandraSettings) -> Result<Self, Fault> {
        let CassandraSettings {
            keyspace,
            table,
            checkpoint_table,
            ..
        } = settings;
        let columns = COLUMNS.map(|column| column.name).join(", ");
        let markers = COLUMNS.map(|_| "?").join(", ");
        let ttl = if settings.row_ttl.is_some() {
            "TTL ? AND "
        } else {
            ""
        };
        let upsert = live
            .prepare(&format!(
                "INSERT INTO {keyspace}.{table} ({columns}) VALUES ({markers}) USING {ttl}TIMESTAMP ?"
            ))
            .await?;
        let delete = live
            .prepare(&format!(
                "DELETE FROM {keyspace}.{table} USING TIMESTAMP ? WHERE id = ?"
            ))
            .await?;
        let of_row = ROW_VALUES + u16::from(settings.row_ttl.is_some());
        Ok(Self {
            upsert: Prepared::new(&upsert.id, of_row),
            delete: Prepared::new(&delete.id, 2),
            of_rows: [upsert, delete],
            save_checkpoint: live
                .prepare(&format!(
                    "INSERT INTO {keyspace}.{checkpoint_table} (group_id, topic, partition, next_offset, last_stamp, \
                     high_offset, high_stamp, ceiling, epoch, topic_id, table_id, consecutive_dead_letters, \
                     dead_letter_share, updated_at, instance) \
                     VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) USING TIMESTAMP ?"
                ))
                .await?,
            one_replica_set: placement::one_replica_set(live, settings).await?,
        })
    }
}

/// Positional values; every statement of ours may be sent twice.
pub fn parameters(values: Vec<Value>, consistency: Consistency) -> StatementParams {
    StatementParamsBuilder::new()
        .with_consistency(consistency)
        .with_values(QueryValues::SimpleValues(values))
        .idempotent(true)
        .build()
}
