//! A row to write or to delete, and its form in a batch.

use crate::cassandra::statements::PreparedStatements;
use crate::cassandra::wire::{BatchRequest, push_value};
use crate::pipeline::remaining_ttl::{RemainingTtl, RowTtl};
use crate::pipeline::row::{Row, RowKey, partition_key};

/// A row to write, or rows to delete, with the write timestamp.
#[derive(Debug)]
pub struct RowWrite {
    pub(super) change: RowChange,
    pub(super) write_timestamp: i64,
    pub(super) row_ttl: RowTtl,
}

/// What is changed.
#[derive(Debug)]
pub(super) enum RowChange {
    Upsert(Row),
    DeleteRow(RowKey),
    DeletePartition(RowKey),
}

impl RowWrite {
    /// When the publisher accepted the record of an upsert, in milliseconds since 1970.
    pub fn accepted_at(&self) -> Option<i64> {
        match &self.change {
            RowChange::Upsert(row) => Some(row.ingested_at()),
            RowChange::DeleteRow(_) | RowChange::DeletePartition(_) => None,
        }
    }

    /// Whether the row has expired and is written as a deletion. `now` in milliseconds since 1970.
    pub fn is_expired(&self, now: i64) -> bool {
        self.accepted_at().is_some() && self.remaining_ttl(now) == RemainingTtl::Expired
    }

    /// Adds the write to a request, as an upsert or a deletion.
    pub(super) fn add_to(&self, batch: &mut BatchRequest, prepared: &PreparedStatements, now: i64) {
        let write_timestamp = self.write_timestamp.to_be_bytes();
        match (&self.change, self.remaining_ttl(now)) {
            (RowChange::Upsert(row), RemainingTtl::Unlimited) => batch.add(&prepared.upsert, |wire| {
                wire.extend_from_slice(row.wire());
                push_value(wire, &write_timestamp);
            }),
            (RowChange::Upsert(row), RemainingTtl::Seconds(seconds)) => batch.add(&prepared.upsert, |wire| {
                wire.extend_from_slice(row.wire());
                push_value(wire, &seconds.to_be_bytes());
                push_value(wire, &write_timestamp);
            }),
            // The other rows of the partition may live on.
            (RowChange::Upsert(row), RemainingTtl::Expired) => {
                batch.add(&prepared.delete_row, |wire| {
                    push_value(wire, &write_timestamp);
                    wire.extend_from_slice(row.key_wire());
                });
            }
            (RowChange::DeleteRow(key), _) => batch.add(&prepared.delete_row, |wire| {
                push_value(wire, &write_timestamp);
                wire.extend_from_slice(key.wire());
            }),
            (RowChange::DeletePartition(key), _) => batch.add(&prepared.delete_partition, |wire| {
                push_value(wire, &write_timestamp);
                wire.extend_from_slice(key.wire());
            }),
        }
    }

    fn remaining_ttl(&self, now: i64) -> RemainingTtl {
        let accepted_at = self.accepted_at();
        accepted_at.map_or(RemainingTtl::Expired, |accepted_at| {
            self.row_ttl.remaining(accepted_at, now)
        })
    }

    /// The primary key of an upsert. Nothing but values can be a row's fault, so a deletion has none.
    pub(super) fn row_key(&self) -> Option<&[u8]> {
        match &self.change {
            RowChange::Upsert(row) => Some(row.key_wire()),
            RowChange::DeleteRow(_) | RowChange::DeletePartition(_) => None,
        }
    }

    /// The partition key.
    pub(super) fn partition_key(&self) -> &[u8] {
        match &self.change {
            RowChange::Upsert(row) => partition_key(row.wire()),
            RowChange::DeleteRow(key) | RowChange::DeletePartition(key) => partition_key(key.wire()),
        }
    }

    /// The estimated size in a batch, never less than the server's own estimate.
    ///
    /// It counts the values, and for each cell and the row a timestamp, a time to live and a deletion time (8, 4 and
    /// 8 bytes).
    pub(super) fn estimated_size(&self) -> usize {
        const CELL: usize = 20;
        match &self.change {
            RowChange::Upsert(row) => row.wire().len() + (row.columns() + 1) * CELL,
            RowChange::DeleteRow(key) | RowChange::DeletePartition(key) => key.wire().len() + 2 * CELL,
        }
    }
}
