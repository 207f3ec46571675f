//! Creates missing keyspaces and tables, and verifies existing ones.

pub mod agreement;
pub mod columns;
mod ledger;
pub mod truncation;

use std::fmt;

use cdrs_tokio::types::ByName as _;
use cdrs_tokio::types::rows::Row;
use cdrs_tokio::types::value::Value;
use model::Contract;
use thiserror::Error;
use uuid::Uuid;

use crate::cassandra::error_class::ErrorClass;
use crate::cassandra::schema::columns::{
    ColumnRole, Difference, ExistingColumn, ExistingColumns, RequiredColumn, differences, primary_key,
    required, shape,
};
pub use crate::cassandra::schema::ledger::{LEDGER_TABLE, ensure_ledger, has_ledger, verify_ledger};
use crate::cassandra::session::Session;
use crate::config::CassandraSettings;
use crate::pipeline::row::TableShape;

/// The verified table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TableInfo {
    /// `system_schema.tables.id`, which changes when the table is recreated.
    pub table_id: Uuid,
    /// How it differs from a new table.
    pub shape: TableShape,
}

/// Why the tables can't be used.
#[derive(Debug, Error)]
pub enum SchemaError {
    /// A query or a statement failed.
    #[error("failed to {operation}: {error}")]
    Failed {
        /// The operation, as an infinitive.
        operation: &'static str,
        /// The class of the error.
        error: ErrorClass,
    },
    /// `cassandra.consistency` can't work with the replication of the keyspace.
    #[error("cassandra.consistency can't work: {0}")]
    Consistency(String),
    /// The server refuses rows with `cassandra.row_ttl`.
    #[error("cassandra refuses cassandra.row_ttl: {0}")]
    RowTtl(String),
    /// A table lacks required columns.
    #[error("table {table} does not fit: {differences}")]
    Different {
        /// Keyspace and name.
        table: String,
        /// The differences.
        differences: Differences,
    },
    /// The table does not exist, and checkpoints show that it held rows.
    #[error(
        "table {table} does not exist, but checkpoints of an earlier table exist: its rows are lost. Run `streamer replay` \
         to create the table and write its rows again, or create it and run `streamer accept-table` to continue without \
         them: {create}"
    )]
    Missing {
        /// Keyspace and name.
        table: String,
        /// The statement that creates it.
        create: String,
    },
}

/// The differences of a table, one per column.
#[derive(Debug, PartialEq, Eq)]
pub struct Differences {
    found: Vec<Difference>,
    /// What helps if no statement can change the table.
    remedy: &'static str,
}

impl fmt::Display for Differences {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let texts: Vec<_> = self.found.iter().map(ToString::to_string).collect();
        f.write_str(&texts.join("; "))?;
        if self
            .found
            .iter()
            .any(|difference| matches!(difference, Difference::Incompatible(_)))
        {
            write!(f, ". {}", self.remedy)?;
        }
        Ok(())
    }
}

/// The remedy for a table of rows that can't be changed. The present table stays as it is.
const OTHER_TABLE: &str = "Set cassandra.table to a new name, run `streamer replay --from-offset 0` if the group has \
                           checkpoints, and start the streamer: it creates the table and writes the rows of the topic";
/// The remedy for a checkpoint table that can't be changed.
const OTHER_CHECKPOINT_TABLE: &str = "Set cassandra.checkpoint_table to a new name";

const CHECKPOINT_COLUMNS: [(&str, &str); 17] = [
    ("group_id", "text"),
    ("topic", "text"),
    ("partition", "int"),
    ("next_offset", "bigint"),
    ("leader_epoch", "int"),
    ("leader_epoch_offset", "bigint"),
    ("last_stamp", "bigint"),
    ("high_offset", "bigint"),
    ("high_stamp", "bigint"),
    ("ceiling", "bigint"),
    ("epoch", "bigint"),
    ("topic_id", "uuid"),
    ("table_id", "uuid"),
    ("consecutive_dead_letters", "int"),
    ("dead_letter_share", "int"),
    ("updated_at", "timestamp"),
    ("instance", "text"),
];

/// Columns that an earlier version did not have. They may be null.
const ADDED_CHECKPOINT_COLUMNS: [&str; 2] = ["leader_epoch", "leader_epoch_offset"];

/// Waits a few seconds for the nodes to agree on the schema. Returns whether they do.
///
/// # Errors
/// [`SchemaError::Failed`].
pub async fn wait_for_agreement(session: &Session) -> Result<bool, SchemaError> {
    let operation = "query the schema version";
    let agreed = agreement::wait_for_agreement(session).await;
    agreed.map_err(|error| SchemaError::Failed { operation, error })
}

/// Creates the keyspace and the checkpoint table if they do not exist.
///
/// # Errors
/// [`SchemaError::Failed`], or [`SchemaError::Different`] for another table of that name.
pub async fn ensure_checkpoints(session: &Session, settings: &CassandraSettings) -> Result<(), SchemaError> {
    let CassandraSettings {
        keyspace,
        checkpoint_table,
        replication,
        ..
    } = settings;
    // Checked first, because a role that may write need not have the permission to create.
    if !keyspace_exists(session, keyspace).await? {
        let create = format!("CREATE KEYSPACE IF NOT EXISTS {keyspace} WITH replication = {replication}");
        run(session, "create the keyspace", &create).await?;
    }
    if columns(session, keyspace, checkpoint_table).await?.is_empty() {
        let definitions = CHECKPOINT_COLUMNS
            .map(|(name, cql)| format!("{name} {cql}"))
            .join(", ");
        let create = format!(
            "CREATE TABLE IF NOT EXISTS {keyspace}.{checkpoint_table} \
             ({definitions}, PRIMARY KEY ((group_id, topic), partition))"
        );
        run(session, "create the checkpoint table", &create).await?;
    }
    add_checkpoint_columns(session, settings).await?;
    verify_checkpoints(session, settings).await
}

/// Adds the columns that a checkpoint table of an earlier version lacks.
async fn add_checkpoint_columns(session: &Session, settings: &CassandraSettings) -> Result<(), SchemaError> {
    let CassandraSettings {
        keyspace,
        checkpoint_table,
        ..
    } = settings;
    let found = columns(session, keyspace, checkpoint_table).await?;
    if found.is_empty() {
        return Ok(());
    }
    let added =
        |(name, _): &(&str, &str)| ADDED_CHECKPOINT_COLUMNS.contains(name) && !found.contains_key(*name);
    for (name, cql) in CHECKPOINT_COLUMNS.into_iter().filter(added) {
        let add = format!("ALTER TABLE {keyspace}.{checkpoint_table} ADD {name} {cql}");
        match run(session, "add a column to the checkpoint table", &add).await {
            // The role may not alter the table, and the verification names the statement.
            Err(SchemaError::Failed {
                error: ErrorClass::Fatal(_),
                ..
            }) => {}
            added => added?,
        }
    }
    Ok(())
}

/// Verifies the checkpoint table.
///
/// # Errors
/// As [`ensure_checkpoints`].
pub async fn verify_checkpoints(session: &Session, settings: &CassandraSettings) -> Result<(), SchemaError> {
    let CassandraSettings {
        keyspace,
        checkpoint_table,
        ..
    } = settings;
    let found = columns(session, keyspace, checkpoint_table).await?;
    if found.is_empty() {
        return Err(not_agreed("query the checkpoint table"));
    }
    let required = CHECKPOINT_COLUMNS.map(|(name, cql)| {
        let role = match name {
            "group_id" => ColumnRole::PartitionKey(0),
            "topic" => ColumnRole::PartitionKey(1),
            "partition" => ColumnRole::Clustering(0),
            _ => ColumnRole::Regular,
        };
        RequiredColumn::new(name, cql, role)
    });
    let table = format!("{keyspace}.{checkpoint_table}");
    let differences = differences(&table, &required, &found);
    require_none(table, differences, OTHER_CHECKPOINT_TABLE)
}

/// Whether the checkpoint table exists.
///
/// # Errors
/// [`SchemaError::Failed`].
pub async fn has_checkpoint_table(
    session: &Session,
    settings: &CassandraSettings,
) -> Result<bool, SchemaError> {
    let found = columns(session, &settings.keyspace, &settings.checkpoint_table).await?;
    Ok(!found.is_empty())
}

/// Creates the table if it does not exist and no checkpoint exists, and verifies it.
///
/// # Errors
/// Any [`SchemaError`].
pub async fn ensure_table(
    session: &Session,
    settings: &CassandraSettings,
    contract: &Contract,
    checkpoints_exist: bool,
) -> Result<TableInfo, SchemaError> {
    if columns(session, &settings.keyspace, settings.table())
        .await?
        .is_empty()
    {
        if checkpoints_exist {
            return Err(missing(settings, contract));
        }
        let create = create_table(settings, contract);
        run(session, "create the table", &create).await?;
    }
    match verify(session, settings, contract).await {
        Err(SchemaError::Missing { .. }) => Err(not_agreed("query the table")),
        table => table,
    }
}

/// The error for a new table that one node does not know yet.
fn not_agreed(operation: &'static str) -> SchemaError {
    let error = ErrorClass::Invalid("not all nodes know the table yet".to_owned());
    SchemaError::Failed { operation, error }
}

/// Returns the statement that creates the table.
pub fn create_table(settings: &CassandraSettings, contract: &Contract) -> String {
    let columns = required(contract);
    let columns: Vec<_> = columns.iter().map(RequiredColumn::definition).collect();
    format!(
        "CREATE TABLE IF NOT EXISTS {} ({}, {})",
        settings.qualified_table(),
        columns.join(", "),
        primary_key(contract)
    )
}

fn missing(settings: &CassandraSettings, contract: &Contract) -> SchemaError {
    SchemaError::Missing {
        table: settings.qualified_table(),
        create: create_table(settings, contract),
    }
}

/// Compares the table with the contract.
///
/// # Errors
/// [`SchemaError::Different`] or [`SchemaError::Missing`], and [`SchemaError::Failed`] when the query fails.
pub async fn verify(
    session: &Session,
    settings: &CassandraSettings,
    contract: &Contract,
) -> Result<TableInfo, SchemaError> {
    let found = columns(session, &settings.keyspace, settings.table()).await?;
    if found.is_empty() {
        return Err(missing(settings, contract));
    }
    let table = settings.qualified_table();
    let differences = differences(&table, &required(contract), &found);
    require_none(table, differences, OTHER_TABLE)?;
    let table_id = table_id(session, settings).await?;
    Ok(TableInfo {
        table_id: table_id.ok_or_else(|| missing(settings, contract))?,
        shape: shape(contract, &found),
    })
}

/// Returns how the table differs from the contract; `None` if it does not exist.
///
/// # Errors
/// [`SchemaError::Failed`].
pub async fn compare(
    session: &Session,
    settings: &CassandraSettings,
    contract: &Contract,
) -> Result<Option<Vec<Difference>>, SchemaError> {
    let found = columns(session, &settings.keyspace, settings.table()).await?;
    let compare = || differences(&settings.qualified_table(), &required(contract), &found);
    Ok((!found.is_empty()).then(compare))
}

fn require_none(table: String, found: Vec<Difference>, remedy: &'static str) -> Result<(), SchemaError> {
    if found.is_empty() {
        return Ok(());
    }
    let differences = Differences { found, remedy };
    Err(SchemaError::Different { table, differences })
}

/// Returns the id of the table, if it exists.
///
/// # Errors
/// [`SchemaError::Failed`].
pub async fn table_id(session: &Session, settings: &CassandraSettings) -> Result<Option<Uuid>, SchemaError> {
    let cql = "SELECT id FROM system_schema.tables WHERE keyspace_name = ? AND table_name = ?";
    let rows = select(
        session,
        "query the table's id",
        cql,
        &[&settings.keyspace, settings.table()],
    )
    .await?;
    Ok(rows
        .first()
        .and_then(|row| row.by_name::<Uuid>("id").ok().flatten()))
}

/// Returns the table's `gc_grace_seconds`, after which Cassandra may drop tombstones.
///
/// # Errors
/// [`SchemaError::Failed`].
pub async fn gc_grace_seconds(session: &Session, settings: &CassandraSettings) -> Result<i32, SchemaError> {
    let cql = "SELECT gc_grace_seconds FROM system_schema.tables WHERE keyspace_name = ? AND table_name = ?";
    let operation = "query the table's gc_grace_seconds";
    let rows = select(session, operation, cql, &[&settings.keyspace, settings.table()]).await?;
    let found = rows
        .first()
        .and_then(|row| row.by_name::<i32>("gc_grace_seconds").ok().flatten());
    found.ok_or(SchemaError::Failed {
        operation,
        error: ErrorClass::Invalid("the table does not exist".to_owned()),
    })
}

/// Returns the columns of the table whose values are masked for roles without the permission UNMASK.
///
/// # Errors
/// [`SchemaError::Failed`].
pub async fn masked_columns(
    session: &Session,
    settings: &CassandraSettings,
) -> Result<Vec<String>, SchemaError> {
    let operation = "query the masked columns";
    let cql = "SELECT table_name FROM system_schema.tables \
               WHERE keyspace_name = 'system_schema' AND table_name = 'column_masks'";
    if select(session, operation, cql, &[]).await?.is_empty() {
        // Masks exist from Cassandra 5.0 on.
        return Ok(Vec::new());
    }
    let cql = "SELECT column_name FROM system_schema.column_masks WHERE keyspace_name = ? AND table_name = ?";
    let rows = select(session, operation, cql, &[&settings.keyspace, settings.table()]).await?;
    let names = rows
        .iter()
        .filter_map(|row| row.by_name::<String>("column_name").ok().flatten());
    Ok(names.collect())
}

async fn keyspace_exists(session: &Session, keyspace: &str) -> Result<bool, SchemaError> {
    let cql = "SELECT keyspace_name FROM system_schema.keyspaces WHERE keyspace_name = ?";
    Ok(!select(session, "query the keyspace", cql, &[keyspace])
        .await?
        .is_empty())
}

async fn columns(session: &Session, keyspace: &str, table: &str) -> Result<ExistingColumns, SchemaError> {
    let cql = "SELECT column_name, type, kind, position, clustering_order FROM system_schema.columns \
               WHERE keyspace_name = ? AND table_name = ?";
    let rows = select(session, "query the columns", cql, &[keyspace, table]).await?;
    let text = |row: &Row, name| row.by_name::<String>(name).ok().flatten().unwrap_or_default();
    let columns = rows.iter().map(|row| {
        let column = ExistingColumn {
            cql: text(row, "type"),
            kind: text(row, "kind"),
            position: row.by_name("position").ok().flatten().unwrap_or(-1),
            clustering_order: text(row, "clustering_order"),
        };
        (text(row, "column_name"), column)
    });
    Ok(columns.collect())
}

/// Runs a schema change and waits until all nodes know it, because the next query may reach another one.
///
/// # Errors
/// [`SchemaError::Failed`].
pub async fn run(session: &Session, operation: &'static str, cql: &str) -> Result<(), SchemaError> {
    session
        .query(cql, Vec::new())
        .await
        .map_err(|error| SchemaError::Failed { operation, error })?;
    wait_for_agreement(session).await?;
    Ok(())
}

async fn select(
    session: &Session,
    operation: &'static str,
    cql: &str,
    values: &[&str],
) -> Result<Vec<Row>, SchemaError> {
    let values = values
        .iter()
        .map(|value| Value::Some(value.as_bytes().to_vec()))
        .collect();
    // Only system tables are read here, of which each node has its own.
    session
        .query_node(cql, values)
        .await
        .map_err(|error| SchemaError::Failed { operation, error })
}
