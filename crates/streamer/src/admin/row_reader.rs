//! Reads the row that a record expects and the rows in the table, in a form that allows comparison.

use std::hash::{DefaultHasher, Hasher as _};

use cdrs_tokio::query::PreparedQuery;
use cdrs_tokio::types::CBytes;
use cdrs_tokio::types::value::Value;
use futures::{StreamExt as _, TryStreamExt as _, stream};

use crate::admin::clients::Clients;
use crate::admin::error::CommandError;
use crate::cassandra::error_class::ErrorClass;
use crate::cassandra::schema::SchemaError;
use crate::cassandra::session::Session;
use crate::cassandra::statements::{self, conditions, quoted};
use crate::cassandra::wire::{push_null, push_value};
use crate::consumer::scan::ScannedRecord;
use crate::pipeline::consumed_record::{Change, ConsumedRecord, Decoder};
use crate::pipeline::remaining_ttl::RowTtl;
use crate::pipeline::row::{INGESTED_AT, RowKey, TableShape, bind_order, partition_key};

/// The row that a record expects.
#[derive(Clone, Copy, Debug)]
pub(super) struct ExpectedRow {
    pub(super) state: RowState,
    /// When the row expires, in milliseconds since 1970; `None`: never.
    expires_at: Option<i64>,
}

/// The assumed clock skew between this host and the Cassandra nodes, in milliseconds.
const MAX_CLOCK_SKEW_MS: i64 = 5_000;

impl ExpectedRow {
    /// No row.
    pub(super) const ABSENT: Self = Self {
        state: RowState::Absent,
        expires_at: None,
    };

    /// A row that never expires.
    #[cfg(test)]
    pub(super) fn row(fingerprint: u64) -> Self {
        Self {
            state: RowState::Row(fingerprint),
            ..Self::ABSENT
        }
    }

    /// Whether the row in the table may be `found` at `now`, in milliseconds since 1970.
    pub(super) fn accepts(&self, found: RowState, now: i64) -> bool {
        let expired = self
            .expires_at
            .is_some_and(|expires_at| expires_at < now + MAX_CLOCK_SKEW_MS);
        let long_expired = self
            .expires_at
            .is_some_and(|expires_at| expires_at + MAX_CLOCK_SKEW_MS < now);
        (found == self.state && !long_expired) || (found == RowState::Absent && expired)
    }

    /// Whether no row is expected at `now`.
    pub(super) fn is_absent(&self, now: i64) -> bool {
        self.state == RowState::Absent || self.expires_at.is_some_and(|expires_at| expires_at < now)
    }
}

/// The state of a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum RowState {
    /// A row with the fingerprint of its values. Two different rows have the same one in 1 of 2^64 cases.
    Row(u64),
    /// No row.
    Absent,
}

/// A row in the table.
#[derive(Clone, Debug)]
pub(super) struct FoundRow {
    pub(super) key: RowKey,
    pub(super) state: RowState,
    /// The write timestamp of `ingested_at`, in microseconds since 1970; `None` if the streamer did not write the row.
    pub(super) written: Option<i64>,
}

/// Reads rows from records and from the table.
pub(super) struct RowReader {
    select: String,
    decoder: Decoder,
    /// The number of columns in the primary key.
    keys: usize,
    row_ttl: RowTtl,
}

/// Keys that share one timeout.
const KEYS_PER_REQUEST: usize = 500;
/// Concurrent reads.
const MAX_CONCURRENT_READS: usize = 64;

impl RowReader {
    /// Creates a reader for the verified table.
    ///
    /// # Errors
    /// When the role reads masks instead of values, and as [`Clients::cassandra`].
    pub(super) async fn new(clients: &Clients, shape: TableShape) -> Result<Self, CommandError> {
        clients.require_unmasked_values().await?;
        let contract = clients.contract();
        let columns = bind_order(contract).map(|slot| quoted(contract.fields()[slot].name()));
        let written = format!("WRITETIME({})", quoted(INGESTED_AT));
        let columns: Vec<_> = columns.chain([written]).collect();
        Ok(Self {
            select: format!(
                "SELECT {} FROM {} WHERE {}",
                columns.join(", "),
                clients.table_name(),
                conditions(contract, &[contract.key()])
            ),
            decoder: clients.decoder(shape),
            keys: contract.primary_key().count(),
            row_ttl: RowTtl::new(clients.settings().cassandra.row_ttl),
        })
    }

    /// Returns the row that a record expects, unless the record can't be a row. A deletion expects no row in the partition
    /// whose key it returns.
    pub(super) fn read(&self, record: &ScannedRecord) -> Option<(RowKey, ExpectedRow)> {
        let consumed = ConsumedRecord {
            partition: record.partition,
            timestamp: record.timestamp,
            key: record.raw.key(),
            value: record.raw.value(),
        };
        let (change, _) = self.decoder.decode(&consumed, record.raw.headers());
        let key = change.row_key()?;
        let expected = match change {
            Change::Upsert(row) => ExpectedRow {
                state: RowState::Row(fingerprint(row.fields())),
                expires_at: self.row_ttl.expires_at(row.ingested_at()),
            },
            Change::DeletePartition(_) | Change::Reject(_) => ExpectedRow::ABSENT,
        };
        Some((key, expected))
    }

    /// Reads the rows of the partitions of `keys`, and passes them to `each` in groups. A key may be that of any row of its
    /// partition.
    ///
    /// # Errors
    /// When Cassandra rejects a request, or does not respond in time.
    pub(super) async fn read_table<'a>(
        &self,
        clients: &Clients,
        keys: &[&'a RowKey],
        mut each: impl FnMut(&[(&'a RowKey, Vec<FoundRow>)]),
    ) -> Result<(), CommandError> {
        for keys in keys.chunks(KEYS_PER_REQUEST) {
            let rows = clients
                .cassandra(async |session| {
                    let read = self.read_chunk(session, keys).await;
                    read.map_err(|error| SchemaError::Failed {
                        operation: "read rows",
                        error,
                    })
                })
                .await?;
            let rows: Vec<_> = keys.iter().copied().zip(rows).collect();
            each(&rows);
        }
        Ok(())
    }

    async fn read_chunk(
        &self,
        session: &Session,
        keys: &[&RowKey],
    ) -> Result<Vec<Vec<FoundRow>>, ErrorClass> {
        let select = &session.prepare(&self.select).await?;
        stream::iter(keys)
            .map(|key| self.read_partition(session, select, key))
            .buffered(MAX_CONCURRENT_READS)
            .try_collect()
            .await
    }

    async fn read_partition(
        &self,
        session: &Session,
        select: &PreparedQuery,
        key: &RowKey,
    ) -> Result<Vec<FoundRow>, ErrorClass> {
        let key = partition_key(key.wire());
        select_partition(session, select, key, |row| self.found(row)).await
    }

    fn found(&self, row: &[CBytes]) -> Result<FoundRow, ErrorClass> {
        let invalid = || ErrorClass::Invalid("a row does not have the requested columns".to_owned());
        let (written, columns) = row.split_last().ok_or_else(invalid)?;
        let key = columns.iter().take(self.keys).map(CBytes::as_slice);
        let key: Vec<_> = key.collect::<Option<_>>().ok_or_else(invalid)?;
        let mut wire = Vec::new();
        for column in columns {
            match column.as_slice() {
                Some(value) => push_value(&mut wire, value),
                None => push_null(&mut wire),
            }
        }
        let written = written
            .as_slice()
            .map(|bytes| bytes.try_into().map(i64::from_be_bytes));
        Ok(FoundRow {
            key: RowKey::of_values(key),
            state: RowState::Row(fingerprint(&wire)),
            written: written.transpose().map_err(|_| invalid())?,
        })
    }
}

/// Returns what `read` returns for each row that a prepared query selects by the value of the partition key.
///
/// # Errors
/// Those of `read`, and as [`Session::execute`].
pub(super) async fn select_partition<T>(
    session: &Session,
    select: &PreparedQuery,
    key: &[u8],
    read: impl Fn(&[CBytes]) -> Result<T, ErrorClass>,
) -> Result<Vec<T>, ErrorClass> {
    let mut rows = Vec::new();
    let mut paging_state = None;
    loop {
        let key = vec![Value::Some(key.to_vec())];
        let parameters = statements::page(key, session.consistency(), paging_state);
        let page = session.execute_for_rows(select, &parameters).await?;
        for row in &page.rows_content {
            rows.push(read(row)?);
        }
        paging_state = page.metadata.paging_state;
        if paging_state.is_none() {
            return Ok(rows);
        }
    }
}

fn fingerprint(wire: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    hasher.write(wire);
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn expired_row_must_be_absent_after_the_clock_skew() {
        let row = RowState::Row(7);
        let expected = ExpectedRow {
            state: row,
            expires_at: Some(100_000),
        };
        assert!(expected.accepts(row, 0) && !expected.accepts(RowState::Absent, 0));
        assert!(expected.accepts(row, 100_000) && expected.accepts(RowState::Absent, 100_000));
        assert!(!expected.accepts(row, 200_000) && expected.accepts(RowState::Absent, 200_000));
        assert!(!expected.accepts(RowState::Row(8), 100_000));
        let endless = ExpectedRow {
            expires_at: None,
            ..expected
        };
        assert!(endless.accepts(row, i64::MAX) && !endless.accepts(RowState::Absent, i64::MAX));
    }
}
