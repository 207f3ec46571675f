//! Writes values as the CQL native protocol has them.

use super::{Record, Value};
use crate::contract::Scalar;

impl Record<'_> {
    /// Appends the CQL value in a slot: its length as a big-endian `i32`, -1 for null, then its bytes.
    /// `timestamp_as_text` writes instants as text, for a `text` column of an existing table.
    ///
    /// An absent value is null and not "unset", because a row is its last record in every column.
    ///
    /// # Panics
    /// If the contract has no such slot.
    pub fn bind(&self, slot: usize, timestamp_as_text: bool, wire: &mut Vec<u8>) {
        let scalar = self.contract.fields()[slot].scalar();
        bind(&self.values[slot], scalar, timestamp_as_text, wire);
    }
}

fn bind(value: &Value<'_>, scalar: &Scalar, timestamp_as_text: bool, wire: &mut Vec<u8>) {
    match value {
        Value::Absent => wire.extend_from_slice(&(-1_i32).to_be_bytes()),
        Value::Text(text) => push(wire, text.as_bytes()),
        Value::Uuid(uuid) => push(wire, uuid.as_bytes()),
        Value::Bool(flag) => push(wire, &[u8::from(*flag)]),
        Value::Int(number) => push(wire, &number.to_be_bytes()),
        Value::Bigint(number) => push(wire, &number.to_be_bytes()),
        Value::Float(number) => push(wire, &number.to_be_bytes()),
        Value::Double(number) => push(wire, &number.to_be_bytes()),
        Value::Bytes(bytes) => push(wire, bytes),
        Value::Enum(index) => {
            let Scalar::Enum(names) = scalar else {
                unreachable!("the value has the field's type")
            };
            push(wire, names[*index].as_bytes());
        }
        Value::Timestamp(instant) if timestamp_as_text => push(wire, instant.to_string().as_bytes()),
        Value::Timestamp(instant) => push(wire, &instant.as_millis().to_be_bytes()),
        Value::List(elements) => push_nested(wire, elements.len(), |wire| {
            for element in elements {
                bind(element, scalar, timestamp_as_text, wire);
            }
        }),
        Value::Map(entries) => push_nested(wire, entries.len(), |wire| {
            for (key, value) in entries {
                push(wire, key.as_bytes());
                bind(value, scalar, timestamp_as_text, wire);
            }
        }),
    }
}

fn push(wire: &mut Vec<u8>, bytes: &[u8]) {
    wire.extend_from_slice(&length(bytes.len()));
    wire.extend_from_slice(bytes);
}

/// Appends a value that consists of a count and of values.
fn push_nested(wire: &mut Vec<u8>, count: usize, values: impl FnOnce(&mut Vec<u8>)) {
    let start = wire.len();
    wire.extend_from_slice(&[0; 4]);
    wire.extend_from_slice(&length(count));
    values(wire);
    let nested = length(wire.len() - start - 4);
    wire[start..start + 4].copy_from_slice(&nested);
}

fn length(length: usize) -> [u8; 4] {
    i32::try_from(length)
        .expect("a record has less than 2 GiB")
        .to_be_bytes()
}
