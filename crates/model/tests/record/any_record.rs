//! Records for the tests: a valid one, and a strategy for arbitrary valid ones.

use std::sync::{Arc, LazyLock};

use model::{Contract, Instant, Invalid, Record};
use proptest::{collection::vec, prelude::*};
use serde_json::Value;

/// The names of the user's fields, in the contract's order.
pub(crate) const FIELDS: [&str; 12] = [
    "id",
    "first_name",
    "last_name",
    "gender",
    "address",
    "post_code",
    "email",
    "username",
    "dob",
    "registered_date",
    "phone",
    "picture",
];

/// The user's contract, for as long as the tests run.
pub(crate) fn contract() -> &'static Contract {
    static CONTRACT: LazyLock<Arc<Contract>> = LazyLock::new(Contract::user);
    &CONTRACT
}

/// The texts of a user in the contract's order, `None` for an absent one. Unlike [`Record`], `Debug` shows them.
#[derive(Clone, Debug)]
pub(crate) struct RawRecord([Option<String>; FIELDS.len()]);

impl RawRecord {
    /// A typical record.
    pub(crate) fn plain() -> Self {
        Self(
            [
                "0195d0b1-7a4c-7f3e-9b1a-2c3d4e5f6071",
                "Margaret",
                "Okafor",
                "female",
                "4821 Orchard Lane, Cedar Falls, Iowa, United States",
                "50613",
                "margaret@example.com",
                "silverheron417",
                "1984-11-02T07:15:42.318Z",
                "2016-05-19T22:04:11.907Z",
                "(319) 555-0142",
                "https://pictures.example.com/17.jpg",
            ]
            .map(|text| Some(text.to_owned())),
        )
    }

    pub(crate) fn with(mut self, field: &str, text: impl Into<String>) -> Self {
        self.0[slot(field)] = Some(text.into());
        self
    }

    pub(crate) fn without(mut self, field: &str) -> Self {
        self.0[slot(field)] = None;
        self
    }

    pub(crate) fn get(&self, field: &str) -> Option<&str> {
        self.0[slot(field)].as_deref()
    }

    pub(crate) fn try_record(&self) -> Result<Record<'_>, Invalid> {
        contract().record_from_texts(|field| self.get(field.name()).map(Into::into))
    }

    pub(crate) fn record(&self) -> Record<'_> {
        self.try_record().unwrap()
    }

    /// The keys and values as JSON texts, in the contract's order.
    pub(crate) fn members(&self) -> Vec<(String, String)> {
        let member = |field: &str| Some((quoted(field), quoted(self.get(field)?)));
        FIELDS.into_iter().filter_map(member).collect()
    }

    /// The JSON of the record, with another JSON text as the value of one field.
    pub(crate) fn json_with(&self, field: &str, value: &str) -> String {
        let mut members = self.members();
        let key = quoted(field);
        let member = members.iter_mut().find(|member| member.0 == key);
        member.expect("the record has the field").1 = value.to_owned();
        object(&members)
    }
}

pub(crate) fn slot(field: &str) -> usize {
    FIELDS
        .iter()
        .position(|name| *name == field)
        .expect("it is a field of the user")
}

/// The text of a field.
pub(crate) fn text<'a>(record: &'a Record<'_>, field: &str) -> &'a str {
    match record.value(slot(field)) {
        model::Value::Text(text) => text,
        other => panic!("{field} is {other:?}"),
    }
}

pub(crate) fn quoted(text: &str) -> String {
    Value::from(text).to_string()
}

/// A JSON object of members that are JSON texts.
pub(crate) fn object(members: &[(String, String)]) -> String {
    let members: Vec<_> = members
        .iter()
        .map(|(key, value)| format!("{key}:{value}"))
        .collect();
    format!("{{{}}}", members.join(","))
}

/// Valid texts: half of them typical, half with any characters and any length.
pub(crate) fn any_text(longest: usize) -> impl Strategy<Value = String> {
    // Mapped instead of filtered, so that proptest's limit of rejects is never reached.
    let no_nul = |character| if character == '\0' { '0' } else { character };
    let no_blank = |character: char| if character.is_whitespace() { '_' } else { character };
    let solid = any::<char>().prop_map(no_nul).prop_map(no_blank);
    let arbitrary = vec(any::<char>().prop_map(no_nul), 0..longest);
    let arbitrary =
        (arbitrary, solid, any::<prop::sample::Index>()).prop_map(|(mut characters, solid, index)| {
            characters.insert(index.index(characters.len() + 1), solid);
            String::from_iter(characters)
        });
    prop_oneof!["[a-zA-Z0-9.,'-]{1,40}", arbitrary]
}

pub(crate) fn any_instant() -> impl Strategy<Value = Instant> {
    let millis = prop_oneof![
        -62_135_596_800_000..=253_402_300_799_999_i64,
        0..2_000_000_000_000_i64
    ];
    millis.prop_map(|millis| Instant::from_millis(millis).unwrap())
}

/// Any valid record in canonical form; half of them have a `registered_date`.
pub(crate) fn any_record() -> impl Strategy<Value = RawRecord> {
    let id = (1..=u128::MAX).prop_map(|id| uuid::Uuid::from_u128(id).to_string());
    let part = || any_text(250).prop_map(|text| text.replace('@', "a"));
    let email = (part(), part()).prop_map(|(local, domain)| format!("{local}@{domain}"));
    let texts = vec(any_text(512), 8);
    let registered = prop::option::of(any_instant());
    (id, texts, email, any_instant(), registered).prop_map(|(id, texts, email, dob, registered)| {
        let fields = [
            "first_name",
            "last_name",
            "gender",
            "address",
            "post_code",
            "username",
            "phone",
            "picture",
        ];
        let record = RawRecord::plain()
            .with("id", id)
            .with("email", email)
            .with("dob", dob.to_string());
        let record = match registered {
            Some(registered) => record.with("registered_date", registered.to_string()),
            None => record.without("registered_date"),
        };
        fields
            .into_iter()
            .zip(texts)
            .fold(record, |record, (field, text)| record.with(field, text))
    })
}
