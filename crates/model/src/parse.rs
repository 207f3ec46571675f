//! JSON → record. Finds each field's raw JSON, decodes it to a text and leaves the rules to [`User::new`].
//!
//! The values are taken as raw slices first (`serde_json` skips over them without recursion), so that one wrong value
//! neither hides the id that follows it nor costs a copy.

use std::{borrow::Cow, fmt};

use serde::{
    Deserialize, Deserializer as _,
    de::{self, IgnoredAny, MapAccess, Visitor},
};
use serde_json::{error::Category, value::RawValue};

use crate::{Field, FieldName, Invalid, JsonKind, Reason, User, UserFields, UserId};

/// Whom the record comes from.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Policy {
    /// A caller who can be told: nothing but the contract.
    Strict,
    /// A topic that other producers write to as well: what can be understood without doubt.
    Lenient,
}

pub(crate) fn parse(json: &[u8], policy: Policy) -> Result<User<'_>, Invalid> {
    let text = std::str::from_utf8(json).map_err(|error| {
        Invalid::record(Reason::NotUtf8 {
            offset: error.valid_up_to(),
        })
    })?;
    let mut found = Found::default();
    let scanned = found.scan(text);
    let fields = scanned.and_then(|()| found.fields(policy));
    User::new(fields.map_err(|invalid| invalid.of(found.id()))?)
}

/// What the text holds for each field, as raw JSON, and the first names that have no place in the record.
#[derive(Default)]
struct Found<'a> {
    values: [Option<&'a str>; Field::ALL.len()],
    unknown: Option<FieldName>,
    duplicate: Option<Field>,
}

impl<'a> Found<'a> {
    fn scan(&mut self, text: &'a str) -> Result<(), Invalid> {
        let mut deserializer = serde_json::Deserializer::from_str(text);
        let scanned = deserializer
            .deserialize_map(&mut *self)
            .and_then(|()| deserializer.end());
        scanned.map_err(|error| Invalid::record(refusal(&error)))
    }

    fn keep(&mut self, field: Field, value: &'a str) {
        if self.values[field as usize].replace(value).is_some() {
            self.duplicate.get_or_insert(field);
        }
    }

    fn fields(&self, policy: Policy) -> Result<UserFields<'a>, Invalid> {
        if let (Policy::Strict, Some(name)) = (policy, &self.unknown) {
            return Err(Invalid::field(name.clone(), Reason::UnknownField));
        }
        if let Some(field) = self.duplicate {
            return Err(Reason::DuplicateField.of(field));
        }
        Ok(UserFields {
            id: self.text(Field::Id)?,
            first_name: self.text(Field::FirstName)?,
            last_name: self.text(Field::LastName)?,
            gender: self.text(Field::Gender)?,
            address: self.text(Field::Address)?,
            post_code: self.post_code(policy)?,
            email: self.text(Field::Email)?,
            username: self.text(Field::Username)?,
            dob: self.text(Field::Dob)?,
            registered_date: self.optional_text(Field::RegisteredDate)?,
            phone: self.text(Field::Phone)?,
            picture: self.text(Field::Picture)?,
        })
    }

    fn text(&self, field: Field) -> Result<Cow<'a, str>, Invalid> {
        let value = self.values[field as usize].ok_or(Reason::Missing);
        value.and_then(decode).map_err(|reason| reason.of(field))
    }

    /// Null is a value of the wrong type here too: a producer that has nothing to say leaves the field out.
    fn optional_text(&self, field: Field) -> Result<Option<Cow<'a, str>>, Invalid> {
        let value = self.values[field as usize];
        value.map(decode).transpose().map_err(|reason| reason.of(field))
    }

    fn post_code(&self, policy: Policy) -> Result<Cow<'a, str>, Invalid> {
        match self.values[Field::PostCode as usize] {
            Some(value) if policy == Policy::Lenient && is_integer(value) => Ok(value.into()),
            _ => self.text(Field::PostCode),
        }
    }

    /// The id, if the text leaves no doubt about it.
    fn id(&self) -> Option<UserId> {
        let unambiguous = self.duplicate != Some(Field::Id);
        self.text(Field::Id).ok().filter(|_| unambiguous)?.parse().ok()
    }
}

impl<'de> Visitor<'de> for &mut Found<'de> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<(), M::Error> {
        while let Some(Key(name)) = map.next_key()? {
            if let Some(field) = Field::from_name(&name) {
                self.keep(field, map.next_value::<&RawValue>()?.get());
            } else {
                map.next_value::<IgnoredAny>()?;
                self.unknown.get_or_insert_with(|| FieldName::unknown(&name));
            }
        }
        Ok(())
    }
}

/// An object's key, borrowed unless it holds an escape.
struct Key<'a>(Cow<'a, str>);

impl<'de> Deserialize<'de> for Key<'de> {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_str(KeyVisitor)
    }
}

struct KeyVisitor;

impl<'de> Visitor<'de> for KeyVisitor {
    type Value = Key<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a key")
    }

    fn visit_borrowed_str<E: de::Error>(self, name: &'de str) -> Result<Key<'de>, E> {
        Ok(Key(Cow::Borrowed(name)))
    }

    fn visit_str<E: de::Error>(self, name: &str) -> Result<Key<'de>, E> {
        Ok(Key(Cow::Owned(name.to_owned())))
    }
}

/// The text of a raw JSON value that is a string. The scan has proved it well-formed but for the meaning of escapes.
fn decode(value: &str) -> Result<Cow<'_, str>, Reason> {
    let found = match value.as_bytes().first() {
        Some(b'"') => return unescape(value),
        Some(b'{') => JsonKind::Object,
        Some(b'[') => JsonKind::Array,
        Some(b't' | b'f') => JsonKind::Boolean,
        Some(b'n') => JsonKind::Null,
        _ => JsonKind::Number,
    };
    Err(Reason::WrongType { found })
}

fn unescape(quoted: &str) -> Result<Cow<'_, str>, Reason> {
    let inner = &quoted[1..quoted.len() - 1];
    if inner.contains('\\') {
        serde_json::from_str(quoted)
            .map(Cow::Owned)
            .map_err(|_| Reason::BadEscape)
    } else {
        Ok(Cow::Borrowed(inner))
    }
}

fn is_integer(value: &str) -> bool {
    let digits = value.strip_prefix('-').unwrap_or(value);
    digits.bytes().all(|byte| byte.is_ascii_digit())
}

/// The refusal of a text in which no record can be found. Only the parser's own constant texts are quoted: those that
/// serde makes of a value of the wrong type hold the value.
fn refusal(error: &serde_json::Error) -> Reason {
    if error.classify() == Category::Data {
        return Reason::NotAnObject;
    }
    let (line, column) = (error.line(), error.column());
    let mut cause = error.to_string();
    if let Some(end) = cause.rfind(" at line ") {
        cause.truncate(end);
    }
    Reason::Malformed { line, column, cause }
}
