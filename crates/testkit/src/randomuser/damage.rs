//! Single records made wrong. Knows nothing of pages or HTTP.

use std::fmt;

use serde_json::{Value, json};

/// What is wrong with a broken record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BrokenField {
    /// `missing_email`
    MissingEmail,
    /// `email_without_at`
    EmailWithoutAt,
    /// `missing_login`: no `login` object at all.
    MissingLogin,
    /// `null_uuid`: `login.uuid` is JSON's null.
    NullUuid,
    /// `nil_uuid`: `login.uuid` is all zeros.
    NilUuid,
    /// `bad_uuid`: `login.uuid` is text that is none.
    BadUuid,
    /// `blank_name`: `name.first` is blanks.
    BlankName,
    /// `numeric_name`: `name.first` is a number.
    NumericName,
    /// `nul_in_name`: `name.first` holds U+0000.
    NulInName,
    /// `long_name`: `name.first` has 513 characters.
    LongName,
    /// `bad_date`: `dob.date` is the 31st of February.
    BadDate,
    /// `null_date`: `registered.date` is JSON's null.
    NullDate,
    /// `object_postcode`: `location.postcode` is an object.
    ObjectPostcode,
    /// `null_record`: JSON's null in place of the record.
    NullRecord,
}

const WORDS: [(&str, BrokenField); 14] = [
    ("missing_email", BrokenField::MissingEmail),
    ("email_without_at", BrokenField::EmailWithoutAt),
    ("missing_login", BrokenField::MissingLogin),
    ("null_uuid", BrokenField::NullUuid),
    ("nil_uuid", BrokenField::NilUuid),
    ("bad_uuid", BrokenField::BadUuid),
    ("blank_name", BrokenField::BlankName),
    ("numeric_name", BrokenField::NumericName),
    ("nul_in_name", BrokenField::NulInName),
    ("long_name", BrokenField::LongName),
    ("bad_date", BrokenField::BadDate),
    ("null_date", BrokenField::NullDate),
    ("object_postcode", BrokenField::ObjectPostcode),
    ("null_record", BrokenField::NullRecord),
];

impl BrokenField {
    /// All of them.
    pub fn all() -> impl Iterator<Item = Self> {
        WORDS.into_iter().map(|(_, field)| field)
    }

    pub(super) fn of_word(word: &str) -> Option<Self> {
        WORDS
            .into_iter()
            .find_map(|(known, field)| (known == word).then_some(field))
    }

    /// Breaks a whole record.
    pub(super) fn apply(self, record: &mut Value) {
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
        WORDS
            .into_iter()
            .filter(|(_, field)| field == self)
            .try_for_each(|(word, _)| out.write_str(word))
    }
}

fn remove(record: &mut Value, field: &str) {
    if let Value::Object(fields) = record {
        fields.remove(field);
    }
}
