//! Parses a record from JSON: finds each field's raw JSON and decodes it to a text. [`User::new`] checks the rules.
//!
//! Values are raw slices at first, which `serde_json` skips without recursion. So an invalid value neither hides the id
//! after it nor costs a copy.

use std::{borrow::Cow, fmt};

use serde::{
    Deserialize, Deserializer as _,
    de::{self, IgnoredAny, MapAccess, Visitor},
};
use serde_json::{error::Category, value::RawValue};

use super::field::{Field, FieldName};
use super::invalid::Invalid;
use super::reason::{JsonKind, Reason};
use super::user::{User, UserFields};
use super::user_id::UserId;

impl<'a> User<'a> {
    /// Parses one JSON object from a caller: the record's fields and no others, each a string.
    ///
    /// # Errors
    /// See [`Invalid`] for which of several errors is reported.
    pub fn parse_strict(json: &'a [u8]) -> Result<Self, Invalid> {
        parse(json, Policy::Strict)
    }

    /// Parses one JSON object from a topic. Ignores unknown fields, and converts an integer `post_code` to decimal text.
    ///
    /// # Errors
    /// See [`Invalid`] for which of several errors is reported.
    pub fn parse_lenient(json: &'a [u8]) -> Result<Self, Invalid> {
        parse(json, Policy::Lenient)
    }
}

/// How strictly a record is parsed.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Policy {
    /// From a caller, who can correct it: exactly the contract.
    Strict,
    /// From a topic with other producers: everything unambiguous.
    Lenient,
}

fn parse(json: &[u8], policy: Policy) -> Result<User<'_>, Invalid> {
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

/// The raw JSON of each field, and the first unknown and duplicate names.
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
        scanned.map_err(|error| Invalid::record(reason(&error)))
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

    /// Null is a value of the wrong type: a producer without a value omits the field.
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

    /// The id, if it is given once and valid.
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

/// An object's key, borrowed unless it has an escape.
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

/// Decodes a raw JSON value that is a string. The scan has checked everything except the meaning of escapes.
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

/// The reason of a text that is not a JSON object. Quotes only the parser's constant texts: those of serde for a wrong
/// type quote the value.
fn reason(error: &serde_json::Error) -> Reason {
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
