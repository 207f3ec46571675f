//! The columns of the table and a user's values in wire format.

use cdrs_tokio::types::value::Value;
use model::{Instant, User};
use uuid::Uuid;

use crate::cassandra::wire::{push_null, push_value};

/// The columns in binding order.
pub const COLUMNS: [Column; 13] = [
    Column {
        name: "id",
        kind: ColumnKind::Uuid,
    },
    Column {
        name: "first_name",
        kind: ColumnKind::Text,
    },
    Column {
        name: "last_name",
        kind: ColumnKind::Text,
    },
    Column {
        name: "gender",
        kind: ColumnKind::Text,
    },
    Column {
        name: "address",
        kind: ColumnKind::Text,
    },
    Column {
        name: "post_code",
        kind: ColumnKind::Text,
    },
    Column {
        name: "email",
        kind: ColumnKind::Text,
    },
    Column {
        name: "username",
        kind: ColumnKind::Text,
    },
    Column {
        name: "dob",
        kind: ColumnKind::Instant,
    },
    Column {
        name: "registered_date",
        kind: ColumnKind::Instant,
    },
    Column {
        name: "phone",
        kind: ColumnKind::Text,
    },
    Column {
        name: "picture",
        kind: ColumnKind::Text,
    },
    Column {
        name: "ingested_at",
        kind: ColumnKind::Timestamp,
    },
];

/// A column of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Column {
    /// Its name.
    pub name: &'static str,
    /// The kind of its values.
    pub kind: ColumnKind,
}

/// The kind of a column's values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ColumnKind {
    /// A `uuid`.
    Uuid,
    /// A `text`.
    Text,
    /// A `timestamp`, or a `text` in the record's format in an existing table.
    Instant,
    /// A `timestamp`.
    Timestamp,
}

impl ColumnKind {
    /// The CQL type in a new table.
    pub fn cql(self) -> &'static str {
        match self {
            Self::Uuid => "uuid",
            Self::Text => "text",
            Self::Instant | Self::Timestamp => "timestamp",
        }
    }

    /// Whether a column of CQL type `cql` can hold the values.
    pub fn accepts(self, cql: &str) -> bool {
        cql == self.cql() || (self == Self::Instant && cql == "text")
    }
}

/// The types of the two columns that hold instants of the record.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ColumnTypes {
    /// `dob` is a `text`.
    pub dob_is_text: bool,
    /// `registered_date` is a `text`.
    pub registered_date_is_text: bool,
}

/// The values of [`COLUMNS`] in wire format, in one allocation.
///
/// A row may be sent more than once, and each value of the driver would be an allocation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UserRow {
    wire: Vec<u8>,
    ingested_at: i64,
}

impl UserRow {
    /// Records of the API take 330 to 460 bytes.
    const CAPACITY: usize = 480;

    /// Binds the values of a record that was accepted at `ingested_at`, in milliseconds since 1970.
    pub fn bind(user: &User<'_>, ingested_at: i64, types: ColumnTypes) -> Self {
        let mut wire = Vec::with_capacity(Self::CAPACITY);
        push_value(&mut wire, user.id().as_uuid().as_bytes());
        for text in [
            user.first_name(),
            user.last_name(),
            user.gender(),
            user.address(),
            user.post_code(),
        ] {
            push_value(&mut wire, text.as_str().as_bytes());
        }
        push_value(&mut wire, user.email().as_str().as_bytes());
        push_value(&mut wire, user.username().as_str().as_bytes());
        push_instant(&mut wire, Some(user.dob()), types.dob_is_text);
        push_instant(&mut wire, user.registered_date(), types.registered_date_is_text);
        push_value(&mut wire, user.phone().as_str().as_bytes());
        push_value(&mut wire, user.picture().as_str().as_bytes());
        push_value(&mut wire, &ingested_at.to_be_bytes());
        Self { wire, ingested_at }
    }

    /// The values in the order of [`COLUMNS`], each after its length.
    pub fn wire(&self) -> &[u8] {
        &self.wire
    }

    /// The user's id.
    pub fn id(&self) -> Uuid {
        Uuid::from_bytes(*self.key())
    }

    /// The partition key: the bytes of the id.
    pub fn key(&self) -> &[u8; 16] {
        const LENGTH: usize = 4;
        self.wire[LENGTH..].first_chunk().expect("the id is bound first")
    }

    /// When the publisher accepted the record, in milliseconds since 1970.
    pub fn ingested_at(&self) -> i64 {
        self.ingested_at
    }
}

/// A missing value is null and not "unset", because the last record of a user replaces all columns.
fn push_instant(wire: &mut Vec<u8>, instant: Option<Instant>, as_text: bool) {
    match instant {
        Some(instant) if as_text => push_value(wire, instant.to_string().as_bytes()),
        Some(instant) => push_value(wire, &instant.as_millis().to_be_bytes()),
        None => push_null(wire),
    }
}

/// Binds a CQL `bigint` or `timestamp`.
pub(crate) fn bind_i64(number: i64) -> Value {
    Value::Some(number.to_be_bytes().to_vec())
}

#[cfg(test)]
impl UserRow {
    /// Decodes the values as the server does.
    pub(crate) fn values(&self) -> Vec<Value> {
        let mut values = Vec::new();
        let mut rest = self.wire.as_slice();
        while let Some((len, after)) = rest.split_first_chunk() {
            let len = usize::try_from(i32::from_be_bytes(*len)).ok();
            values.push(len.map_or(Value::Null, |len| Value::Some(after[..len].to_vec())));
            rest = &after[len.unwrap_or(0)..];
        }
        values
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bind_text(text: &str) -> Value {
        Value::Some(text.as_bytes().to_vec())
    }

    const RECORD: &[u8] = br#"{"id":"0195d0b1-7a4c-7f3e-9b1a-2c3d4e5f6071","first_name":"Ada","last_name":"L","gender":"female","address":"1 A, B, C, D","post_code":"0378","email":"a@b","username":"ada","dob":"1969-12-31T23:59:59.999Z","registered_date":"2010-01-01T00:00:00.000Z","phone":"1","picture":"http://p"}"#;

    #[test]
    fn each_value_is_bound_to_its_column() {
        let user = User::parse_lenient(RECORD).unwrap();
        let values = UserRow::bind(&user, 7, ColumnTypes::default()).values();
        assert_eq!(values.len(), COLUMNS.len());
        assert_eq!(values[0], Value::Some(user.id().as_uuid().as_bytes().to_vec()));
        assert_eq!(
            UserRow::bind(&user, 7, ColumnTypes::default()).id(),
            *user.id().as_uuid()
        );
        assert_eq!(
            UserRow::bind(&user, 7, ColumnTypes::default()).key(),
            user.id().as_uuid().as_bytes()
        );
        let at = |name| &values[COLUMNS.iter().position(|column| column.name == name).unwrap()];
        assert_eq!(*at("post_code"), bind_text("0378"));
        assert_eq!(*at("dob"), bind_i64(-1));
        assert_eq!(*at("picture"), bind_text("http://p"));
        assert_eq!(*at("ingested_at"), bind_i64(7));
    }

    #[test]
    fn text_column_gets_the_instant_in_record_format() {
        let user = User::parse_lenient(RECORD).unwrap();
        let types = ColumnTypes {
            dob_is_text: true,
            ..ColumnTypes::default()
        };
        let values = UserRow::bind(&user, 7, types).values();
        assert_eq!(values[8], bind_text("1969-12-31T23:59:59.999Z"));
        assert_eq!(values[9], bind_i64(user.registered_date().unwrap().as_millis()));
    }

    #[test]
    fn missing_instant_is_bound_as_null() {
        let record = String::from_utf8(RECORD.to_vec())
            .unwrap()
            .replace(r#""registered_date":"2010-01-01T00:00:00.000Z","#, "");
        let user = User::parse_lenient(record.as_bytes()).unwrap();
        for registered_date_is_text in [false, true] {
            let types = ColumnTypes {
                registered_date_is_text,
                ..ColumnTypes::default()
            };
            let values = UserRow::bind(&user, 7, types).values();
            assert_eq!(values.len(), COLUMNS.len());
            assert_eq!(values[9], Value::Null);
            assert_eq!(values[10], bind_text("1"));
        }
    }

    #[test]
    fn only_instants_accept_a_text_column() {
        assert!(ColumnKind::Instant.accepts("text") && ColumnKind::Instant.accepts("timestamp"));
        assert!(
            !ColumnKind::Timestamp.accepts("text")
                && !ColumnKind::Uuid.accepts("text")
                && !ColumnKind::Text.accepts("ascii")
        );
    }
}
