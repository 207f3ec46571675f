//! Rows as the bytes of their columns: those that a record implies, and those that a table has.

use std::collections::BTreeMap;
use std::fmt;

use model::{Contract, CqlType, Instant, Key, Record, Scalar};
use uuid::Uuid;

/// The column that the streamer adds to a record's fields.
pub const INGESTED_AT: &str = "ingested_at";

/// The bytes of each column that is not null, those of the primary key included.
pub type Row = BTreeMap<String, Vec<u8>>;

/// Rows by primary key.
pub type Rows = BTreeMap<RowId, Row>;

/// A row with the write timestamps of its non-null columns outside of the primary key, in microseconds since 1970.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StampedRow {
    /// The columns.
    pub columns: Row,
    /// Their write timestamps.
    pub stamps: BTreeMap<String, i64>,
}

/// The primary key of a row. It is no personal data.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RowId {
    /// The partition key.
    pub key: Key,
    /// The clustering columns as texts.
    pub clustering: Vec<String>,
}

impl RowId {
    /// The primary key of a record's row.
    pub fn of(record: &Record<'_>) -> Self {
        let contract = record.contract();
        let clustering = contract.clustering().iter().map(|slot| {
            let bytes = bytes(record, *slot).expect("a clustering field is required");
            text(&contract.fields()[*slot].cql(), &bytes)
        });
        Self {
            key: record.key(),
            clustering: clustering.collect(),
        }
    }

    /// The primary key of a row of the contract's table, if it has all columns of it.
    pub fn of_row(contract: &Contract, row: &Row) -> Option<Self> {
        let field = &contract.fields()[contract.key()];
        let key = key(field.scalar(), row.get(field.name())?)?;
        let clustering = contract.clustering().iter().map(|slot| {
            let field = &contract.fields()[*slot];
            Some(text(&field.cql(), row.get(field.name())?))
        });
        Some(Self {
            key,
            clustering: clustering.collect::<Option<_>>()?,
        })
    }
}

/// A row without clustering columns.
impl From<Key> for RowId {
    fn from(key: Key) -> Self {
        Self {
            key,
            clustering: Vec::new(),
        }
    }
}

/// A row without clustering columns.
impl From<Uuid> for RowId {
    fn from(id: Uuid) -> Self {
        Key::Uuid(id).into()
    }
}

impl fmt::Display for RowId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.key.fmt(f)?;
        self.clustering.iter().try_for_each(|text| write!(f, "/{text}"))
    }
}

/// Returns the row of a record, without [`INGESTED_AT`].
pub fn row(record: &Record<'_>) -> Row {
    let fields = record.contract().fields().iter().enumerate();
    fields
        .filter_map(|(slot, field)| Some((field.name().to_owned(), bytes(record, slot)?)))
        .collect()
}

/// The bytes of the value in a slot; `None` if it is null.
fn bytes(record: &Record<'_>, slot: usize) -> Option<Vec<u8>> {
    let mut wire = Vec::new();
    record.bind(slot, false, &mut wire);
    let (length, value) = wire.split_first_chunk().expect("a bound value has a length");
    (i32::from_be_bytes(*length) >= 0).then(|| value.to_vec())
}

fn key(scalar: &Scalar, bytes: &[u8]) -> Option<Key> {
    Some(match scalar {
        Scalar::Uuid => Key::Uuid(Uuid::from_slice(bytes).ok()?),
        Scalar::Int32 => Key::Int(i32::from_be_bytes(bytes.try_into().ok()?)),
        Scalar::Uint32 | Scalar::Int64 => Key::Bigint(i64::from_be_bytes(bytes.try_into().ok()?)),
        Scalar::Text => Key::Text(std::str::from_utf8(bytes).ok()?.into()),
        _ => return None,
    })
}

/// A readable text of a column's bytes. Bytes that do not fit the type are shown in hexadecimal.
pub fn text(kind: &CqlType, bytes: &[u8]) -> String {
    readable(kind, bytes).unwrap_or_else(|| bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

fn readable(kind: &CqlType, bytes: &[u8]) -> Option<String> {
    Some(match kind {
        CqlType::Text => std::str::from_utf8(bytes).ok()?.to_owned(),
        CqlType::Uuid => Uuid::from_slice(bytes).ok()?.to_string(),
        CqlType::Boolean => (bytes != [0]).to_string(),
        CqlType::Int => i32::from_be_bytes(bytes.try_into().ok()?).to_string(),
        CqlType::Bigint => i64::from_be_bytes(bytes.try_into().ok()?).to_string(),
        CqlType::Float => f32::from_be_bytes(bytes.try_into().ok()?).to_string(),
        CqlType::Double => f64::from_be_bytes(bytes.try_into().ok()?).to_string(),
        CqlType::Timestamp => {
            let millis = i64::from_be_bytes(bytes.try_into().ok()?);
            Instant::from_millis(millis).ok()?.to_string()
        }
        CqlType::Blob => return None,
        CqlType::List(element) => {
            let elements = nested(bytes, 1)?;
            let elements: Vec<_> = elements.iter().map(|bytes| text(element, bytes)).collect();
            format!("[{}]", elements.join(", "))
        }
        CqlType::Map(value) => {
            let entries = nested(bytes, 2)?;
            let entries = entries.chunks(2);
            let entries =
                entries.map(|it| format!("{}: {}", text(&CqlType::Text, it[0]), text(value, it[1])));
            format!("{{{}}}", entries.collect::<Vec<_>>().join(", "))
        }
    })
}

/// The values of a frozen collection with `width` values for each element.
fn nested(bytes: &[u8], width: usize) -> Option<Vec<&[u8]>> {
    let (count, mut rest) = length(bytes)?;
    let mut values = Vec::new();
    for _ in 0..count * width {
        let (length, after) = length(rest)?;
        let (value, after) = after.split_at_checked(length)?;
        values.push(value);
        rest = after;
    }
    rest.is_empty().then_some(values)
}

fn length(bytes: &[u8]) -> Option<(usize, &[u8])> {
    let (length, rest) = bytes.split_first_chunk()?;
    Some((usize::try_from(i32::from_be_bytes(*length)).ok()?, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    const ORDER: &str = r#"
        syntax = "proto3";
        package test.v1;
        import "affluent/options/v1/options.proto";
        import "google/protobuf/timestamp.proto";
        enum Level { LEVEL_LOW = 0; LEVEL_HIGH = 1; }
        message Reading {
          option (affluent.options.v1.record) = { resource: "readings" key: "device" clustering: ["level", "at"] };
          int32 device = 1;
          Level level = 2;
          google.protobuf.Timestamp at = 3;
          repeated float values = 4;
          map<string, int64> counters = 5;
          optional bool final = 6;
          bytes raw = 7;
        }"#;

    #[test]
    fn row_has_the_bytes_of_every_given_field() {
        let contract = Contract::from_source(ORDER).unwrap();
        let json = br#"{"device":7,"level":"LEVEL_HIGH","at":"2024-02-29T12:00:00Z","values":[1.5],"counters":{"b":2,"a":"1"},"raw":"AQI="}"#;
        let record = contract.parse_strict(json).unwrap();
        let row = row(&record);
        assert_eq!(
            row.keys().collect::<Vec<_>>(),
            ["at", "counters", "device", "level", "raw", "values"]
        );
        assert_eq!(row["device"], 7_i32.to_be_bytes());
        let texts: Vec<_> = contract
            .fields()
            .iter()
            .filter_map(|field| Some(text(&field.cql(), row.get(field.name())?)))
            .collect();
        assert_eq!(
            texts,
            [
                "7",
                "LEVEL_HIGH",
                "2024-02-29T12:00:00.000Z",
                "[1.5]",
                "{a: 1, b: 2}",
                "0102"
            ]
        );
        let id = RowId::of(&record);
        assert_eq!(id.to_string(), "7/LEVEL_HIGH/2024-02-29T12:00:00.000Z");
        assert_eq!(RowId::of_row(&contract, &row), Some(id));
    }
}
