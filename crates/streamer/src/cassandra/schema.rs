//! Keyspace and tables: created where they are absent, compared with what is needed where they are present.

use std::collections::BTreeMap;
use std::fmt;

use cdrs_tokio::types::ByName as _;
use cdrs_tokio::types::rows::Row;
use cdrs_tokio::types::value::Value;
use thiserror::Error;
use uuid::Uuid;

use crate::cassandra::agreement::wait_for_agreement;
use crate::cassandra::fault::Fault;
use crate::cassandra::session::Live;
use crate::row::{COLUMNS, Shape};
use crate::settings::CassandraSettings;

/// The table as it was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Verified {
    /// `system_schema.tables.id`: another one after the table was dropped and created anew.
    pub table_id: Uuid,
    /// How it holds instants.
    pub shape: Shape,
}

/// Why the tables can't be used.
#[derive(Debug, Error)]
pub enum SchemaError {
    /// Asking or creating failed.
    #[error("{operation}: {fault:?}")]
    Failed {
        /// What was done.
        operation: &'static str,
        /// What came of it.
        fault: Fault,
    },
    /// A table is not what is needed.
    #[error("table {table} can't be written: {differences}")]
    Different {
        /// Keyspace and name.
        table: String,
        /// All of them.
        differences: Differences,
    },
    /// The table is gone, and checkpoints say that it held rows.
    #[error(
        "table {table} does not exist, but there are checkpoints of an earlier one: its rows are gone. Run `streamer \
         replay`, which creates it anew and writes them again; or create it and run `streamer accept-table`, to go \
         on without them. It is: {create}"
    )]
    Gone {
        /// Keyspace and name.
        table: String,
        /// The statement that creates it.
        create: String,
    },
}

/// What a table lacks, column by column, each with the statement that mends it.
#[derive(Debug, PartialEq, Eq)]
pub struct Differences(Vec<String>);

impl fmt::Display for Differences {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.join("; "))
    }
}

const CHECKPOINT_COLUMNS: [(&str, &str); 15] = [
    ("group_id", "text"),
    ("topic", "text"),
    ("partition", "int"),
    ("next_offset", "bigint"),
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

/// Waits until the nodes agree on the schema, for a few seconds at most.
///
/// # Errors
/// [`SchemaError::Failed`].
pub async fn settle(live: &Live) -> Result<(), SchemaError> {
    let operation = "ask for the schema's version";
    let agreed = wait_for_agreement(live).await;
    agreed.map_err(|fault| SchemaError::Failed { operation, fault })
}

/// Creates the keyspace and the table of the checkpoints if they are absent.
///
/// # Errors
/// [`SchemaError::Failed`], or [`SchemaError::Different`] for a foreign table of that name.
pub async fn ensure_checkpoints(live: &Live, settings: &CassandraSettings) -> Result<(), SchemaError> {
    let CassandraSettings {
        keyspace,
        checkpoint_table,
        replication,
        ..
    } = settings;
    // Asked first: a role that may write need not be allowed to create.
    if !keyspace_exists(live, keyspace).await? {
        let create = format!("CREATE KEYSPACE IF NOT EXISTS {keyspace} WITH replication = {replication}");
        run(live, "create the keyspace", &create).await?;
    }
    if columns(live, keyspace, checkpoint_table).await?.is_empty() {
        let definitions = CHECKPOINT_COLUMNS
            .map(|(name, cql)| format!("{name} {cql}"))
            .join(", ");
        let create = format!(
            "CREATE TABLE IF NOT EXISTS {keyspace}.{checkpoint_table} \
             ({definitions}, PRIMARY KEY ((group_id, topic), partition))"
        );
        run(live, "create the checkpoint table", &create).await?;
    }
    let found = columns(live, keyspace, checkpoint_table).await?;
    if found.is_empty() {
        return Err(unsettled("ask for the checkpoint table"));
    }
    let needed = CHECKPOINT_COLUMNS.map(|(name, cql)| Needed {
        name,
        cql,
        key: match name {
            "group_id" | "topic" => "partition_key",
            "partition" => "clustering",
            _ => "regular",
        },
        fits: Box::new(move |found| found == cql),
    });
    refuse_differences(keyspace, checkpoint_table, &needed, &found)
}

/// Whether the table of the checkpoints is there.
///
/// # Errors
/// [`SchemaError::Failed`].
pub async fn has_checkpoint_table(live: &Live, settings: &CassandraSettings) -> Result<bool, SchemaError> {
    let found = columns(live, &settings.keyspace, &settings.checkpoint_table).await?;
    Ok(!found.is_empty())
}

/// Creates the table of the users, if it is absent and no checkpoint says that there was one, and verifies it.
///
/// # Errors
/// Each [`SchemaError`].
pub async fn ensure_table(
    live: &Live,
    settings: &CassandraSettings,
    checkpoints_exist: bool,
) -> Result<Verified, SchemaError> {
    let CassandraSettings { keyspace, table, .. } = settings;
    if columns(live, keyspace, table).await?.is_empty() {
        let create = create_table(settings);
        if checkpoints_exist {
            return Err(SchemaError::Gone {
                table: format!("{keyspace}.{table}"),
                create,
            });
        }
        run(live, "create the table", &create).await?;
    }
    match verify(live, settings).await {
        Err(SchemaError::Gone { .. }) => Err(unsettled("ask for the table")),
        verified => verified,
    }
}

/// A table that one node has and another has not, so short after it was created.
fn unsettled(operation: &'static str) -> SchemaError {
    let fault = Fault::Invalid("not every node knows the table yet".to_owned());
    SchemaError::Failed { operation, fault }
}

/// The statement that creates the table of the users.
pub fn create_table(settings: &CassandraSettings) -> String {
    let CassandraSettings { keyspace, table, .. } = settings;
    let columns = COLUMNS
        .map(|column| format!("{} {}", column.name, column.kind.cql()))
        .join(", ");
    format!("CREATE TABLE IF NOT EXISTS {keyspace}.{table} ({columns}, PRIMARY KEY (id))")
}

/// Compares the table of the users with what is needed.
///
/// # Errors
/// [`SchemaError::Different`] or [`SchemaError::Gone`], and [`SchemaError::Failed`] when it can't be asked for.
pub async fn verify(live: &Live, settings: &CassandraSettings) -> Result<Verified, SchemaError> {
    let CassandraSettings { keyspace, table, .. } = settings;
    let found = columns(live, keyspace, table).await?;
    let gone = || SchemaError::Gone {
        table: format!("{keyspace}.{table}"),
        create: create_table(settings),
    };
    if found.is_empty() {
        return Err(gone());
    }
    let needed = COLUMNS.map(|column| Needed {
        name: column.name,
        cql: column.kind.cql(),
        key: if column.name == "id" {
            "partition_key"
        } else {
            "regular"
        },
        fits: Box::new(move |found| column.kind.fits(found)),
    });
    refuse_differences(keyspace, table, &needed, &found)?;
    let is_text = |name: &str| found.get(name).is_some_and(|column| column.cql == "text");
    let shape = Shape {
        dob_is_text: is_text("dob"),
        registered_date_is_text: is_text("registered_date"),
    };
    let table_id = table_id(live, settings).await?;
    Ok(Verified {
        table_id: table_id.ok_or_else(gone)?,
        shape,
    })
}

/// The id of the table of the users, if there is one.
///
/// # Errors
/// [`SchemaError::Failed`].
pub async fn table_id(live: &Live, settings: &CassandraSettings) -> Result<Option<Uuid>, SchemaError> {
    let cql = "SELECT id FROM system_schema.tables WHERE keyspace_name = ? AND table_name = ?";
    let rows = ask(
        live,
        "ask for the table's id",
        cql,
        &[&settings.keyspace, &settings.table],
    )
    .await?;
    Ok(rows
        .first()
        .and_then(|row| row.by_name::<Uuid>("id").ok().flatten()))
}

/// After how many seconds the table may forget a deletion.
///
/// # Errors
/// [`SchemaError::Failed`].
pub async fn gc_grace_seconds(live: &Live, settings: &CassandraSettings) -> Result<i32, SchemaError> {
    let cql = "SELECT gc_grace_seconds FROM system_schema.tables WHERE keyspace_name = ? AND table_name = ?";
    let operation = "ask for the table's gc_grace_seconds";
    let rows = ask(live, operation, cql, &[&settings.keyspace, &settings.table]).await?;
    let found = rows
        .first()
        .and_then(|row| row.by_name::<i32>("gc_grace_seconds").ok().flatten());
    found.ok_or(SchemaError::Failed {
        operation,
        fault: Fault::Invalid("the table is gone".to_owned()),
    })
}

struct Needed {
    name: &'static str,
    cql: &'static str,
    key: &'static str,
    fits: Box<dyn Fn(&str) -> bool + Send + Sync>,
}

struct Found {
    cql: String,
    key: String,
}

async fn keyspace_exists(live: &Live, keyspace: &str) -> Result<bool, SchemaError> {
    let cql = "SELECT keyspace_name FROM system_schema.keyspaces WHERE keyspace_name = ?";
    Ok(!ask(live, "ask for the keyspace", cql, &[keyspace])
        .await?
        .is_empty())
}

async fn columns(live: &Live, keyspace: &str, table: &str) -> Result<BTreeMap<String, Found>, SchemaError> {
    let cql = "SELECT column_name, type, kind FROM system_schema.columns WHERE keyspace_name = ? AND table_name = ?";
    let rows = ask(live, "ask for the columns", cql, &[keyspace, table]).await?;
    let text = |row: &Row, name| row.by_name::<String>(name).ok().flatten().unwrap_or_default();
    Ok(rows
        .iter()
        .map(|row| {
            (
                text(row, "column_name"),
                Found {
                    cql: text(row, "type"),
                    key: text(row, "kind"),
                },
            )
        })
        .collect())
}

fn refuse_differences(
    keyspace: &str,
    table: &str,
    needed: &[Needed],
    found: &BTreeMap<String, Found>,
) -> Result<(), SchemaError> {
    let table = format!("{keyspace}.{table}");
    let mut differences: Vec<_> = needed
        .iter()
        .filter_map(|needed| difference(&table, needed, found.get(needed.name)))
        .collect();
    let strange = found.iter().filter(|(name, found)| {
        found.key != "regular" && found.key != "static" && !needed.iter().any(|needed| needed.name == *name)
    });
    differences.extend(strange.map(|(name, found)| {
        format!(
            "column {name} is part of its primary key ({}): a table with another key is needed",
            found.key
        )
    }));
    if differences.is_empty() {
        return Ok(());
    }
    Err(SchemaError::Different {
        table,
        differences: Differences(differences),
    })
}

fn difference(table: &str, needed: &Needed, found: Option<&Found>) -> Option<String> {
    let Needed { name, cql, key, fits } = needed;
    match found {
        None if *key == "regular" => Some(format!(
            "column {name} is missing: ALTER TABLE {table} ADD {name} {cql}"
        )),
        None => Some(format!(
            "column {name} is missing from its primary key: a table with another key is needed"
        )),
        Some(found) if found.key != *key => Some(format!(
            "column {name} is a {} column and has to be a {key} column",
            found.key
        )),
        Some(found) if !fits(&found.cql) => Some(format!(
            "column {name} is of type {} and has to be {cql}: ALTER TABLE {table} DROP {name}, then \
             ALTER TABLE {table} ADD {name} {cql} under another name or in another table, for a dropped column's \
             type can't change",
            found.cql
        )),
        Some(_) => None,
    }
}

/// Creates something, and waits until all nodes know it: the next question may go to another one.
async fn run(live: &Live, operation: &'static str, cql: &str) -> Result<(), SchemaError> {
    live.query(cql, Vec::new())
        .await
        .map_err(|fault| SchemaError::Failed { operation, fault })?;
    settle(live).await
}

async fn ask(
    live: &Live,
    operation: &'static str,
    cql: &str,
    values: &[&str],
) -> Result<Vec<Row>, SchemaError> {
    let values = values
        .iter()
        .map(|value| Value::Some(value.as_bytes().to_vec()))
        .collect();
    live.query(cql, values)
        .await
        .map_err(|fault| SchemaError::Failed { operation, fault })
}
