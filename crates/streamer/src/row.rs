//! A user as a row: the columns of the table, their types, and a record's values bound to them.

use cdrs_tokio::types::value::Value;
use model::{Instant, User};
use uuid::Uuid;

/// The columns in the order in which their values are bound.
pub const COLUMNS: [Column; 13] = [
    Column {
        name: "id",
        kind: Kind::Uuid,
    },
    Column {
        name: "first_name",
        kind: Kind::Text,
    },
    Column {
        name: "last_name",
        kind: Kind::Text,
    },
    Column {
        name: "gender",
        kind: Kind::Text,
    },
    Column {
        name: "address",
        kind: Kind::Text,
    },
    Column {
        name: "post_code",
        kind: Kind::Text,
    },
    Column {
        name: "email",
        kind: Kind::Text,
    },
    Column {
        name: "username",
        kind: Kind::Text,
    },
    Column {
        name: "dob",
        kind: Kind::Instant,
    },
    Column {
        name: "registered_date",
        kind: Kind::Instant,
    },
    Column {
        name: "phone",
        kind: Kind::Text,
    },
    Column {
        name: "picture",
        kind: Kind::Text,
    },
    Column {
        name: "ingested_at",
        kind: Kind::Timestamp,
    },
];

/// A column of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Column {
    /// Its name.
    pub name: &'static str,
    /// What it holds.
    pub kind: Kind,
}

/// What a column holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A `uuid`.
    Uuid,
    /// A `text`.
    Text,
    /// A `timestamp`, or a `text` in the record's own form in a table that was there before.
    Instant,
    /// A `timestamp`.
    Timestamp,
}

impl Kind {
    /// The CQL type that a new table gets.
    pub fn cql(self) -> &'static str {
        match self {
            Self::Uuid => "uuid",
            Self::Text => "text",
            Self::Instant | Self::Timestamp => "timestamp",
        }
    }

    /// Whether a column of CQL type `cql` can hold it.
    pub fn fits(self, cql: &str) -> bool {
        cql == self.cql() || (self == Self::Instant && cql == "text")
    }
}

/// How the table that is written holds the two instants of a record.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Shape {
    /// `dob` is a `text`.
    pub dob_is_text: bool,
    /// `registered_date` is a `text`.
    pub registered_date_is_text: bool,
}

/// The values of [`COLUMNS`], encoded one behind the other in one allocation: a row may be sent more than once, and a
/// value of the driver's own is an allocation each.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    bytes: Vec<u8>,
    /// Where each column's value ends; none: null.
    ends: [Option<u32>; COLUMNS.len()],
    ingested_at: i64,
}

impl Row {
    /// Binds a record that was accepted at `ingested_at` (milliseconds since 1970).
    pub fn bind(user: &User<'_>, ingested_at: i64, shape: Shape) -> Self {
        let mut row = Encoder::default();
        row.push(user.id().as_uuid().as_bytes());
        for text in [
            user.first_name(),
            user.last_name(),
            user.gender(),
            user.address(),
            user.post_code(),
        ] {
            row.push(text.as_str().as_bytes());
        }
        row.push(user.email().as_str().as_bytes());
        row.push(user.username().as_str().as_bytes());
        row.push_instant(Some(user.dob()), shape.dob_is_text);
        row.push_instant(user.registered_date(), shape.registered_date_is_text);
        row.push(user.phone().as_str().as_bytes());
        row.push(user.picture().as_str().as_bytes());
        row.push(&ingested_at.to_be_bytes());
        Self {
            bytes: row.bytes,
            ends: row.ends,
            ingested_at,
        }
    }

    /// The values in the order of [`COLUMNS`], with room for what a statement appends.
    pub fn values(&self) -> Vec<Value> {
        let mut values = Vec::with_capacity(COLUMNS.len() + 1);
        let mut start = 0;
        for end in self.ends {
            values.push(match end {
                Some(end) => Value::Some(self.bytes[start..end as usize].to_vec()),
                None => Value::Null,
            });
            start = end.map_or(start, |end| end as usize);
        }
        values
    }

    /// The user's id.
    pub fn id(&self) -> Uuid {
        let id = self.bytes.first_chunk().expect("the id is bound first");
        Uuid::from_bytes(*id)
    }

    /// How many bytes the values have.
    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    /// A row has an id at least.
    pub fn is_empty(&self) -> bool {
        false
    }

    /// When the publisher took it, in milliseconds since 1970.
    pub fn ingested_at(&self) -> i64 {
        self.ingested_at
    }
}

#[derive(Default)]
struct Encoder {
    bytes: Vec<u8>,
    ends: [Option<u32>; COLUMNS.len()],
    column: usize,
}

impl Encoder {
    fn push(&mut self, value: &[u8]) {
        if self.bytes.capacity() == 0 {
            // The API's records take 300 to 400 bytes so.
            self.bytes.reserve(448);
        }
        self.bytes.extend_from_slice(value);
        let end = u32::try_from(self.bytes.len()).expect("thirteen values of at most 2 KiB");
        self.ends[self.column] = Some(end);
        self.column += 1;
    }

    /// Absent is null and not "unset": a row is the last event in every column, so what an earlier one had must go.
    fn push_instant(&mut self, instant: Option<Instant>, as_text: bool) {
        match instant {
            Some(instant) if as_text => self.push(instant.to_string().as_bytes()),
            Some(instant) => self.push(&instant.as_millis().to_be_bytes()),
            None => self.column += 1,
        }
    }
}

/// A CQL `bigint` or `timestamp`.
pub(crate) fn bind_i64(number: i64) -> Value {
    Value::Some(number.to_be_bytes().to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bind_text(text: &str) -> Value {
        Value::Some(text.as_bytes().to_vec())
    }

    const RECORD: &[u8] = br#"{"id":"0195d0b1-7a4c-7f3e-9b1a-2c3d4e5f6071","first_name":"Ada","last_name":"L","gender":"female","address":"1 A, B, C, D","post_code":"0378","email":"a@b","username":"ada","dob":"1969-12-31T23:59:59.999Z","registered_date":"2010-01-01T00:00:00.000Z","phone":"1","picture":"http://p"}"#;

    #[test]
    fn every_column_gets_its_value_in_its_place() {
        let user = User::parse_lenient(RECORD).unwrap();
        let values = Row::bind(&user, 7, Shape::default()).values();
        assert_eq!(values.len(), COLUMNS.len());
        assert_eq!(Row::bind(&user, 7, Shape::default()).id(), *user.id().as_uuid());
        let at = |name| &values[COLUMNS.iter().position(|column| column.name == name).unwrap()];
        assert_eq!(*at("post_code"), bind_text("0378"));
        assert_eq!(*at("dob"), bind_i64(-1));
        assert_eq!(*at("picture"), bind_text("http://p"));
        assert_eq!(*at("ingested_at"), bind_i64(7));
    }

    #[test]
    fn a_text_column_gets_the_instant_in_the_records_own_form() {
        let user = User::parse_lenient(RECORD).unwrap();
        let shape = Shape {
            dob_is_text: true,
            ..Shape::default()
        };
        let values = Row::bind(&user, 7, shape).values();
        assert_eq!(values[8], bind_text("1969-12-31T23:59:59.999Z"));
        assert_eq!(values[9], bind_i64(user.registered_date().unwrap().as_millis()));
    }

    #[test]
    fn an_absent_instant_clears_its_column() {
        let record = String::from_utf8(RECORD.to_vec())
            .unwrap()
            .replace(r#""registered_date":"2010-01-01T00:00:00.000Z","#, "");
        let user = User::parse_lenient(record.as_bytes()).unwrap();
        for registered_date_is_text in [false, true] {
            let shape = Shape {
                registered_date_is_text,
                ..Shape::default()
            };
            let values = Row::bind(&user, 7, shape).values();
            assert_eq!(values.len(), COLUMNS.len());
            assert_eq!(values[9], Value::Null);
            assert_eq!(values[10], bind_text("1"));
        }
    }

    #[test]
    fn only_the_instants_may_lie_in_a_text_column() {
        assert!(Kind::Instant.fits("text") && Kind::Instant.fits("timestamp"));
        assert!(!Kind::Timestamp.fits("text") && !Kind::Uuid.fits("text") && !Kind::Text.fits("ascii"));
    }
}
