//! Prepares a session's statements.

use cdrs_tokio::query::PreparedQuery;
use model::Contract;

use crate::cassandra::error_class::ErrorClass;
use crate::cassandra::session::Session;
use crate::cassandra::statements::{PreparedStatements, conditions, quoted};
use crate::cassandra::wire::BatchStatement;
use crate::config::CassandraSettings;
use crate::pipeline::row::{INGESTED_AT, bind_order};

/// Returns the session's statements. The first call prepares them, because the tables may not exist earlier.
///
/// # Errors
/// As [`Session::execute`].
pub async fn statements<'a>(
    session: &'a Session,
    settings: &CassandraSettings,
    contract: &Contract,
) -> Result<&'a PreparedStatements, ErrorClass> {
    session
        .statements()
        .get_or_try_init(|| prepare(session, settings, contract))
        .await
}

async fn prepare(
    session: &Session,
    settings: &CassandraSettings,
    contract: &Contract,
) -> Result<PreparedStatements, ErrorClass> {
    let CassandraSettings {
        keyspace,
        checkpoint_table,
        ..
    } = settings;
    let table = settings.qualified_table();
    let names = bind_order(contract).map(|slot| contract.fields()[slot].name());
    let columns: Vec<_> = names.chain([INGESTED_AT]).map(quoted).collect();
    let markers = vec!["?"; columns.len()].join(", ");
    let ttl = if settings.row_ttl.is_some() {
        "TTL ? AND "
    } else {
        ""
    };
    let upsert = session
        .prepare(&format!(
            "INSERT INTO {table} ({}) VALUES ({markers}) USING {ttl}TIMESTAMP ?",
            columns.join(", ")
        ))
        .await?;
    let delete = async |columns: &[usize]| {
        let conditions = conditions(contract, columns);
        let cql = format!("DELETE FROM {table} USING TIMESTAMP ? WHERE {conditions}");
        session.prepare(&cql).await
    };
    let primary_key: Vec<_> = contract.primary_key().collect();
    let delete_row = delete(&primary_key).await?;
    let delete_partition = delete(&primary_key[..1]).await?;
    let upsert_values = columns.len() + 1 + usize::from(settings.row_ttl.is_some());
    Ok(PreparedStatements {
        upsert: in_batch(&upsert, upsert_values),
        delete_row: in_batch(&delete_row, primary_key.len() + 1),
        delete_partition: in_batch(&delete_partition, 2),
        row_statements: [upsert, delete_row, delete_partition],
        save_checkpoint: session
            .prepare(&format!(
                "INSERT INTO {keyspace}.{checkpoint_table} (group_id, topic, partition, next_offset, leader_epoch, \
                 leader_epoch_offset, last_stamp, high_offset, high_stamp, ceiling, epoch, topic_id, table_id, consecutive_dead_letters, \
                 dead_letter_share, updated_at, instance) \
                 VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) USING TIMESTAMP ?"
            ))
            .await?,
    })
}

/// The form of a statement in batches. `values`: how many it binds.
pub(crate) fn in_batch(statement: &PreparedQuery, values: usize) -> BatchStatement {
    let values = u16::try_from(values).expect("a contract has at most 256 fields");
    BatchStatement::new(&statement.id, values)
}
