//! Prepares a session's statements.

use crate::cassandra::error_class::ErrorClass;
use crate::cassandra::schema::replication;
use crate::cassandra::session::Session;
use crate::cassandra::statements::PreparedStatements;
use crate::cassandra::wire::BatchStatement;
use crate::config::CassandraSettings;
use crate::pipeline::row::COLUMNS;

/// The values of [`COLUMNS`] and the write timestamp.
const ROW_VALUES: u16 = 14;
const _: () = assert!(ROW_VALUES as usize == COLUMNS.len() + 1);
/// The write timestamp and the id.
const DELETE_VALUES: u16 = 2;

/// Returns the session's statements. The first call prepares them, because the tables may not exist earlier.
///
/// # Errors
/// As [`Session::execute`].
pub async fn statements<'a>(
    session: &'a Session,
    settings: &CassandraSettings,
) -> Result<&'a PreparedStatements, ErrorClass> {
    session
        .statements()
        .get_or_try_init(|| prepare(session, settings))
        .await
}

async fn prepare(session: &Session, settings: &CassandraSettings) -> Result<PreparedStatements, ErrorClass> {
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
    let upsert = session
        .prepare(&format!(
            "INSERT INTO {keyspace}.{table} ({columns}) VALUES ({markers}) USING {ttl}TIMESTAMP ?"
        ))
        .await?;
    let delete = session
        .prepare(&format!(
            "DELETE FROM {keyspace}.{table} USING TIMESTAMP ? WHERE id = ?"
        ))
        .await?;
    let upsert_values = ROW_VALUES + u16::from(settings.row_ttl.is_some());
    Ok(PreparedStatements {
        upsert: BatchStatement::new(&upsert.id, upsert_values),
        delete: BatchStatement::new(&delete.id, DELETE_VALUES),
        row_statements: [upsert, delete],
        save_checkpoint: session
            .prepare(&format!(
                "INSERT INTO {keyspace}.{checkpoint_table} (group_id, topic, partition, next_offset, last_stamp, \
                 high_offset, high_stamp, ceiling, epoch, topic_id, table_id, consecutive_dead_letters, \
                 dead_letter_share, updated_at, instance) \
                 VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) USING TIMESTAMP ?"
            ))
            .await?,
        shared_replica_set: replication::shared_replica_set(session, settings).await?,
    })
}
