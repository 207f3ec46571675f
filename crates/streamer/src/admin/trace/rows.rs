//! Reads the rows of a key with their write timestamps and times to live.

use std::collections::BTreeMap;
use std::fmt;

use cdrs_tokio::types::CBytes;
use model::{Contract, Key};
use serde::Serialize;
use serde_json::{Map, Value};

use crate::admin::clients::Clients;
use crate::admin::error::CommandError;
use crate::admin::row_reader::select_partition;
use crate::admin::trace::events::Event;
use crate::cassandra::error_class::ErrorClass;
use crate::cassandra::schema::SchemaError;
use crate::cassandra::statements::{conditions, quoted};
use crate::dead_letters::dead_letter::PartitionOffset;
use crate::pipeline::row::{INGESTED_AT, bind_order};

/// A row of the key.
#[derive(Debug, Default, Serialize)]
pub(in crate::admin) struct TracedRow {
    /// The columns of the primary key.
    primary_key: Map<String, Value>,
    /// The write timestamp of `ingested_at`, in microseconds since 1970; `None` if no streamer has written the row.
    write_timestamp: Option<i64>,
    /// The event with that write timestamp.
    event: Option<PartitionOffset>,
    /// The columns with another write timestamp: another writer has changed them.
    other_write_timestamps: BTreeMap<String, i64>,
    /// Seconds until the row expires; `None`: never.
    ttl_seconds: Option<i32>,
    /// The values that may be shown.
    pub(in crate::admin) fields: Map<String, Value>,
}

/// What a value of a result is.
enum Selected<'a> {
    PrimaryKey(&'a str),
    Field(&'a str),
    WriteTimestamp(&'a str),
    Ttl,
}

/// Reads the rows of a key.
///
/// # Errors
/// When Cassandra rejects the request, or does not respond in time.
pub(in crate::admin) async fn read(
    clients: &Clients,
    key: &Key,
    shows_values: bool,
    events: &[Event],
) -> Result<Vec<TracedRow>, CommandError> {
    let contract = clients.contract();
    let columns = columns(contract, shows_values);
    let terms = columns.iter().map(Selected::cql);
    let select = format!(
        "SELECT {} FROM {} WHERE {}",
        terms.collect::<Vec<_>>().join(", "),
        clients.table_name(),
        conditions(contract, &[contract.key()])
    );
    let failed = |error| SchemaError::Failed {
        operation: "read the rows of the key",
        error,
    };
    let rows = clients
        .cassandra(async |session| {
            let select = session.prepare(&select).await.map_err(failed)?;
            let read = |values: &[CBytes]| TracedRow::read(&columns, values);
            let rows = select_partition(session, &select, &key.cql(), read).await;
            rows.map_err(failed)
        })
        .await?;
    Ok(rows.into_iter().map(|row| row.written_by(events)).collect())
}

fn columns(contract: &Contract, shows_values: bool) -> Vec<Selected<'_>> {
    let field = |slot: usize| &contract.fields()[slot];
    let key = contract
        .primary_key()
        .map(|slot| Selected::PrimaryKey(field(slot).name()));
    let others = || {
        bind_order(contract)
            .skip(contract.primary_key().count())
            .map(field)
    };
    let shown = others().filter(|field| shows_values || !field.is_personal());
    let shown = shown.map(|field| Selected::Field(field.name()));
    let written = others().map(|field| Selected::WriteTimestamp(field.name()));
    key.chain(shown)
        .chain(written)
        .chain([
            Selected::Field(INGESTED_AT),
            Selected::WriteTimestamp(INGESTED_AT),
            Selected::Ttl,
        ])
        .collect()
}

impl Selected<'_> {
    fn cql(&self) -> String {
        match self {
            Self::PrimaryKey(name) | Self::Field(name) => format!("toJson({})", quoted(name)),
            Self::WriteTimestamp(name) => format!("WRITETIME({})", quoted(name)),
            Self::Ttl => format!("TTL({})", quoted(INGESTED_AT)),
        }
    }
}

impl TracedRow {
    fn read(columns: &[Selected<'_>], values: &[CBytes]) -> Result<Self, ErrorClass> {
        let invalid = || ErrorClass::Invalid("a row does not have the requested columns".to_owned());
        let mut row = Self::default();
        for (column, value) in columns.iter().zip(values) {
            let Some(value) = value.as_slice() else { continue };
            match column {
                Selected::PrimaryKey(name) | Selected::Field(name) => {
                    let value = serde_json::from_slice(value).map_err(|_| invalid())?;
                    let values = match column {
                        Selected::PrimaryKey(_) => &mut row.primary_key,
                        _ => &mut row.fields,
                    };
                    values.insert((*name).to_owned(), value);
                }
                Selected::WriteTimestamp(name) => {
                    let micros = i64::from_be_bytes(value.try_into().map_err(|_| invalid())?);
                    row.other_write_timestamps.insert((*name).to_owned(), micros);
                }
                Selected::Ttl => {
                    row.ttl_seconds = Some(i32::from_be_bytes(value.try_into().map_err(|_| invalid())?));
                }
            }
        }
        row.write_timestamp = row.other_write_timestamps.remove(INGESTED_AT);
        row.other_write_timestamps
            .retain(|_, micros| Some(*micros) != row.write_timestamp);
        Ok(row)
    }

    fn written_by(self, events: &[Event]) -> Self {
        let mut events = events.iter();
        let event = events.find(|event| Some(event.write_timestamp) == self.write_timestamp);
        Self {
            event: event.map(|event| event.position),
            ..self
        }
    }
}

impl fmt::Display for TracedRow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let key = self.primary_key.values().map(Value::to_string);
        write!(f, "row          {}", key.collect::<Vec<_>>().join(" "))?;
        match self.write_timestamp {
            Some(micros) => write!(f, ", write timestamp {micros}")?,
            None => f.write_str(", not written by a streamer")?,
        }
        if let Some(event) = self.event {
            write!(f, " of event {event}")?;
        }
        if let Some(seconds) = self.ttl_seconds {
            write!(f, ", expires in {seconds} s")?;
        }
        for (name, micros) in &self.other_write_timestamps {
            write!(f, ", {name} written at {micros}")?;
        }
        Ok(())
    }
}
