//! Creates and verifies the table of the run ledger.

use super::{ColumnRole, RequiredColumn, SchemaError, columns, differences, not_agreed, require_none, run};
use crate::cassandra::session::Session;
use crate::config::CassandraSettings;

/// The table of the run ledger, in the keyspace of the records' table.
pub const LEDGER_TABLE: &str = "run_ledger";

/// The remedy for a table of that name that can't be changed.
const OTHER_LEDGER: &str = "Rename or drop that table: the streamer creates its own";

const COLUMNS: [(&str, &str, ColumnRole); 14] = [
    ("group_id", "text", ColumnRole::PartitionKey(0)),
    ("topic", "text", ColumnRole::PartitionKey(1)),
    ("run_id", "uuid", ColumnRole::PartitionKey(2)),
    ("chunk", "bigint", ColumnRole::PartitionKey(3)),
    ("chunks", "set<bigint>", ColumnRole::Static),
    ("topic_id", "uuid", ColumnRole::Clustering(0)),
    ("partition", "int", ColumnRole::Clustering(1)),
    ("from_offset", "bigint", ColumnRole::Clustering(2)),
    ("to_offset", "bigint", ColumnRole::Clustering(3)),
    ("instance", "text", ColumnRole::Clustering(4)),
    ("table_id", "uuid", ColumnRole::Regular),
    ("stored", "blob", ColumnRole::Regular),
    ("dead_lettered", "blob", ColumnRole::Regular),
    ("latencies", "blob", ColumnRole::Regular),
];

/// Creates the run ledger if it does not exist. The keyspace must exist.
///
/// # Errors
/// [`SchemaError::Failed`], or [`SchemaError::Different`] for another table of that name.
pub async fn ensure_ledger(session: &Session, settings: &CassandraSettings) -> Result<(), SchemaError> {
    // Checked first, because a role that may write need not have the permission to create.
    if !has_ledger(session, settings).await? {
        let definitions: Vec<_> = required().iter().map(RequiredColumn::definition).collect();
        let create = format!(
            "CREATE TABLE IF NOT EXISTS {}.{LEDGER_TABLE} ({}, PRIMARY KEY ((group_id, topic, run_id, chunk), topic_id, \
             partition, from_offset, to_offset, instance))",
            settings.keyspace,
            definitions.join(", ")
        );
        run(session, "create the run ledger", &create).await?;
    }
    verify_ledger(session, settings).await
}

/// Whether the run ledger exists.
///
/// # Errors
/// [`SchemaError::Failed`].
pub async fn has_ledger(session: &Session, settings: &CassandraSettings) -> Result<bool, SchemaError> {
    let found = columns(session, &settings.keyspace, LEDGER_TABLE).await?;
    Ok(!found.is_empty())
}

/// Verifies the run ledger.
///
/// # Errors
/// As [`ensure_ledger`].
pub async fn verify_ledger(session: &Session, settings: &CassandraSettings) -> Result<(), SchemaError> {
    let found = columns(session, &settings.keyspace, LEDGER_TABLE).await?;
    if found.is_empty() {
        return Err(not_agreed("query the run ledger"));
    }
    let table = format!("{}.{LEDGER_TABLE}", settings.keyspace);
    let differences = differences(&table, &required(), &found);
    require_none(table, differences, OTHER_LEDGER)
}

fn required() -> [RequiredColumn; COLUMNS.len()] {
    COLUMNS.map(|(name, cql, role)| RequiredColumn::new(name, cql, role))
}
