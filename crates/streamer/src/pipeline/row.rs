//! A record's values in wire format, and the keys of rows.

use std::collections::BTreeMap;

use cdrs_tokio::types::value::Value;
use model::{Contract, Instant, Key, Record, Scalar};
use uuid::Uuid;

use crate::cassandra::wire::{push_null, push_value};

/// The column with the time of acceptance, in addition to the contract's fields.
pub const INGESTED_AT: &str = "ingested_at";

/// The slots of the contract's fields in the order in which they are bound: the primary key, then the others. After
/// them comes [`INGESTED_AT`].
pub fn bind_order(contract: &Contract) -> impl Iterator<Item = usize> + '_ {
    contract.primary_key().chain(other_slots(contract))
}

fn other_slots(contract: &Contract) -> impl Iterator<Item = usize> + '_ {
    let is_other = |slot: &usize| *slot != contract.key() && !contract.clustering().contains(slot);
    (0..contract.fields().len()).filter(is_other)
}

/// How an existing table differs from a new one: which instants are in `text` columns, in the record's format.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TableShape {
    /// A bit for each slot. A contract has at most 256 fields.
    text_instants: [u64; 4],
}

impl TableShape {
    /// The shape of a table whose instants in `slots` are text.
    pub fn with_text_instants(slots: impl IntoIterator<Item = usize>) -> Self {
        let mut shape = Self::default();
        for slot in slots {
            shape.text_instants[slot / 64] |= 1 << (slot % 64);
        }
        shape
    }

    /// Whether the column of a slot has instants as text.
    pub fn is_text_instant(&self, slot: usize) -> bool {
        self.text_instants[slot / 64] & (1 << (slot % 64)) != 0
    }
}

/// The values of a row in wire format, in one allocation.
///
/// A row may be sent more than once, and each value of the driver would be an allocation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    wire: Vec<u8>,
    /// The number of values.
    columns: usize,
    /// The number of bytes of the primary key's values, which come first.
    primary_key: usize,
    ingested_at: i64,
}

impl Row {
    /// Users of the API take 330 to 460 bytes.
    const CAPACITY: usize = 480;

    /// Binds the values of a record that was accepted at `ingested_at`, in milliseconds since 1970.
    pub fn bind(record: &Record<'_>, ingested_at: i64, shape: &TableShape) -> Self {
        let mut wire = Vec::with_capacity(Self::CAPACITY);
        for slot in record.contract().primary_key() {
            record.bind(slot, shape.is_text_instant(slot), &mut wire);
        }
        let primary_key = wire.len();
        for slot in other_slots(record.contract()) {
            record.bind(slot, shape.is_text_instant(slot), &mut wire);
        }
        push_value(&mut wire, &ingested_at.to_be_bytes());
        Self {
            wire,
            columns: record.contract().fields().len() + 1,
            primary_key,
            ingested_at,
        }
    }

    /// A row with the values `key` of the primary key and nulls, accepted in 1970.
    pub fn without_values(contract: &Contract, key: &[u8]) -> Self {
        let columns = contract.fields().len() + 1;
        let mut wire = key.to_vec();
        (contract.primary_key().count()..columns).for_each(|_| push_null(&mut wire));
        Self {
            wire,
            columns,
            primary_key: key.len(),
            ingested_at: 0,
        }
    }

    /// The values in the order of [`bind_order`] and [`INGESTED_AT`], each after its length.
    pub fn wire(&self) -> &[u8] {
        &self.wire
    }

    /// The number of values.
    pub fn columns(&self) -> usize {
        self.columns
    }

    /// The values of the fields, without [`INGESTED_AT`].
    pub fn fields(&self) -> &[u8] {
        let ingested_at = LENGTH + size_of::<i64>();
        &self.wire[..self.wire.len() - ingested_at]
    }

    /// The values of the primary key.
    pub fn key(&self) -> RowKey {
        RowKey(self.key_wire().into())
    }

    /// The values of the primary key in wire format.
    pub fn key_wire(&self) -> &[u8] {
        &self.wire[..self.primary_key]
    }

    /// When the publisher accepted the record, in milliseconds since 1970.
    pub fn ingested_at(&self) -> i64 {
        self.ingested_at
    }
}

/// The number of bytes of a value's length.
const LENGTH: usize = size_of::<i32>();

/// The primary key of a row in wire format, or the key of all rows of a partition.
///
/// In order, the key of a partition comes before those of its rows, which are next to each other. In a table without
/// clustering columns both are equal.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RowKey(Box<[u8]>);

impl RowKey {
    /// The key of a partition.
    pub fn of_partition(key: &Key) -> Self {
        let mut wire = Vec::with_capacity(Self::CAPACITY);
        push_value(&mut wire, &key.cql());
        Self(wire.into())
    }

    /// The key with these values, which are not null.
    pub fn of_values<'a>(values: impl IntoIterator<Item = &'a [u8]>) -> Self {
        let mut wire = Vec::with_capacity(Self::CAPACITY);
        for value in values {
            push_value(&mut wire, value);
        }
        Self(wire.into())
    }

    /// A uuid and its length.
    const CAPACITY: usize = 20;

    /// The values, each after its length.
    pub fn wire(&self) -> &[u8] {
        &self.0
    }

    /// The key of the row's partition.
    #[must_use]
    pub fn partition(&self) -> Self {
        Self(self.0[..LENGTH + partition_key(&self.0).len()].into())
    }

    /// Whether this is the key of a row in the partition `other`, or `other` itself.
    pub fn is_in(&self, other: &Self) -> bool {
        self.0.starts_with(&other.0)
    }

    /// The values as text, for operators. A contract has no personal data in its keys.
    pub fn text(&self, contract: &Contract, shape: &TableShape) -> String {
        let slots = contract.primary_key();
        let texts = slots.zip(values(&self.0)).map(|(slot, value)| {
            let value = value.unwrap_or_default();
            let field = &contract.fields()[slot];
            text(field.scalar(), shape.is_text_instant(slot), value)
        });
        texts.collect::<Vec<_>>().join(" ")
    }
}

/// The entries of a partition of the table, or of one row.
pub fn in_partition<'a, T>(
    rows: &'a BTreeMap<RowKey, T>,
    key: &RowKey,
) -> impl Iterator<Item = (&'a RowKey, &'a T)> {
    rows.range(key..).take_while(|(row, _)| row.is_in(key))
}

/// The value of the partition key, which comes first in wire format.
pub fn partition_key(wire: &[u8]) -> &[u8] {
    values(wire).next().flatten().unwrap_or_default()
}

/// Reads values in wire format; `None` is null.
pub fn values(wire: &[u8]) -> impl Iterator<Item = Option<&[u8]>> {
    let mut rest = wire;
    std::iter::from_fn(move || {
        let (length, after) = rest.split_first_chunk()?;
        let length = usize::try_from(i32::from_be_bytes(*length)).ok();
        let (value, after) = after.split_at(length.unwrap_or(0));
        rest = after;
        Some(length.map(|_| value))
    })
}

/// The text of a value of a primary key. A value of another type than the contract's is shown as bytes.
fn text(scalar: &Scalar, is_text: bool, value: &[u8]) -> String {
    let text = match scalar {
        Scalar::Uuid => Uuid::from_slice(value).ok().map(|uuid| uuid.to_string()),
        Scalar::Int32 => value.try_into().ok().map(|it| i32::from_be_bytes(it).to_string()),
        Scalar::Uint32 | Scalar::Int64 => value.try_into().ok().map(|it| i64::from_be_bytes(it).to_string()),
        Scalar::Timestamp if !is_text => value
            .try_into()
            .ok()
            .and_then(|it| Instant::from_millis(i64::from_be_bytes(it)).ok())
            .map(|instant| instant.to_string()),
        _ => std::str::from_utf8(value)
            .ok()
            .map(|text| text.escape_debug().to_string()),
    };
    text.unwrap_or_else(|| value.escape_ascii().to_string())
}

/// Binds a CQL `bigint` or `timestamp`.
pub(crate) fn bind_i64(number: i64) -> Value {
    Value::Some(number.to_be_bytes().to_vec())
}

#[cfg(test)]
#[path = "row/tests.rs"]
pub(crate) mod tests;
