//! The statements that a session prepares once, and the parameters of each.

use cdrs_tokio::consistency::Consistency;
use cdrs_tokio::query::{PreparedQuery, QueryValues};
use cdrs_tokio::statement::{StatementParams, StatementParamsBuilder};
use cdrs_tokio::types::value::Value;

use crate::cassandra::fault::Fault;
use crate::cassandra::placement;
use crate::cassandra::session::Live;
use crate::row::COLUMNS;
use crate::settings::CassandraSettings;

/// Prepared on one session.
pub struct Statements {
    /// Writes a row, with a time to live where rows have an end, under a write timestamp.
    pub upsert: PreparedQuery,
    /// Deletes a row under a write timestamp.
    pub delete: PreparedQuery,
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
        Ok(Self {
            upsert: live
                .prepare(&format!(
                    "INSERT INTO {keyspace}.{table} ({columns}) VALUES ({markers}) USING {ttl}TIMESTAMP ?"
                ))
                .await?,
            delete: live.prepare(&format!("DELETE FROM {keyspace}.{table} USING TIMESTAMP ? WHERE id = ?")).await?,
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
