//! Records for the tests: a valid one, and a strategy for arbitrary valid ones.

use model::{Field, Instant, User, UserFields};
use proptest::{collection::vec, prelude::*};
use serde_json::Value;

/// The texts of a record in the contract's order, `None` for an absent one. Unlike [`User`], `Debug` shows them.
#[derive(Clone, Debug)]
pub(crate) struct RawRecord([Option<String>; 12]);

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

    pub(crate) fn with(mut self, field: Field, text: impl Into<String>) -> Self {
        self.0[field as usize] = Some(text.into());
        self
    }

    pub(crate) fn without(mut self, field: Field) -> Self {
        self.0[field as usize] = None;
        self
    }

    pub(crate) fn get(&self, field: Field) -> Option<&str> {
        self.0[field as usize].as_deref()
    }

    pub(crate) fn fields(&self) -> UserFields<'_> {
        let text = |field| self.get(field).expect("the field is required").into();
        UserFields {
            id: text(Field::Id),
            first_name: text(Field::FirstName),
            last_name: text(Field::LastName),
            gender: text(Field::Gender),
            address: text(Field::Address),
            post_code: text(Field::PostCode),
            email: text(Field::Email),
            username: text(Field::Username),
            dob: text(Field::Dob),
            registered_date: self.get(Field::RegisteredDate).map(Into::into),
            phone: text(Field::Phone),
            picture: text(Field::Picture),
        }
    }

    pub(crate) fn user(&self) -> User<'_> {
        User::new(self.fields()).unwrap()
    }

    /// The keys and values as JSON texts, in the contract's order.
    pub(crate) fn members(&self) -> Vec<(String, String)> {
        let member = |field: Field| Some((quoted(field.name()), quoted(self.get(field)?)));
        Field::ALL.into_iter().filter_map(member).collect()
    }

    /// The JSON of the record, with another JSON text as the value of one field.
    pub(crate) fn json_with(&self, field: Field, value: &str) -> String {
        let mut members = self.members();
        let key = quoted(field.name());
        let member = members.iter_mut().find(|member| member.0 == key);
        member.expect("the record has the field").1 = value.to_owned();
        object(&members)
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
            Field::FirstName,
            Field::LastName,
            Field::Gender,
            Field::Address,
            Field::PostCode,
            Field::Username,
            Field::Phone,
            Field::Picture,
        ];
        let record = RawRecord::plain()
            .with(Field::Id, id)
            .with(Field::Email, email)
            .with(Field::Dob, dob.to_string());
        let record = match registered {
            Some(registered) => record.with(Field::RegisteredDate, registered.to_string()),
            None => record.without(Field::RegisteredDate),
        };
        fields
            .into_iter()
            .zip(texts)
            .fold(record, |record, (field, text)| record.with(field, text))
    })
}
