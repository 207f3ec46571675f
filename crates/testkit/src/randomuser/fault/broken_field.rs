//! Invalid records. Knows nothing of pages or HTTP.

use std::fmt;

use clap::ValueEnum;
use serde_json::{Value, json};

/// The invalid field of a broken record, written in snake case.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
#[value(rename_all = "snake_case")]
#[allow(missing_docs, reason = "the name says it")]
pub enum BrokenField {
    MissingEmail,
    EmailWithoutAt,
    /// No `login` object at all.
    MissingLogin,
    /// `login.uuid` is null.
    NullUuid,
    /// `login.uuid` is all zeros.
    NilUuid,
    /// `login.uuid` is a text of another form.
    BadUuid,
    /// `name.first` is blanks.
    BlankName,
    /// `name.first` is a number.
    NumericName,
    /// `name.first` contains U+0000.
    NulInName,
    /// `name.first` has 513 characters.
    LongName,
    /// `dob.date` is the 31st of February.
    BadDate,
    /// `registered.date` is null.
    NullDate,
    /// `location.postcode` is an object.
    ObjectPostcode,
    /// The record is null.
    NullRecord,
}

impl BrokenField {
    /// All of them.
    pub fn all() -> impl Iterator<Item = Self> {
        Self::value_variants().iter().copied()
    }

    /// Breaks a valid record.
    pub(crate) fn apply(self, record: &mut Value) {
        match self {
            Self::MissingEmail => remove(record, "email"),
            Self::MissingLogin => remove(record, "login"),
            Self::EmailWithoutAt => record["email"] = json!("someone.example.com"),
            Self::NullUuid => record["login"]["uuid"] = Value::Null,
            Self::NilUuid => record["login"]["uuid"] = json!("00000000-0000-0000-0000-000000000000"),
            Self::BadUuid => record["login"]["uuid"] = json!("not-a-uuid"),
            Self::BlankName => record["name"]["first"] = json!("  "),
            Self::NumericName => record["name"]["first"] = json!(42),
            Self::NulInName => record["name"]["first"] = json!("Ro\u{0}b"),
            Self::LongName => record["name"]["first"] = json!("x".repeat(513)),
            Self::BadDate => record["dob"]["date"] = json!("1990-02-31T00:00:00.000Z"),
            Self::NullDate => record["registered"]["date"] = Value::Null,
            Self::ObjectPostcode => record["location"]["postcode"] = json!({"code": 1}),
            Self::NullRecord => *record = Value::Null,
        }
    }
}

impl fmt::Display for BrokenField {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.to_possible_value()
            .map_or(Ok(()), |value| out.write_str(value.get_name()))
    }
}

fn remove(record: &mut Value, field: &str) {
    if let Value::Object(fields) = record {
        fields.remove(field);
    }
}
