//! The value of a field: read from JSON, from a text, or from the canonical encoding, by the field's type and rules.

use std::borrow::Cow;
use std::fmt;

use base64::Engine as _;
use base64::alphabet::{STANDARD, URL_SAFE};
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use serde::de::{self, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;
use uuid::Uuid;

use super::json_name::Name;
use crate::Key;
use crate::contract::{Field, Presence, Scalar};
use crate::types::{Instant, JsonKind, Reason};

/// The value of a field.
#[derive(Clone, PartialEq)]
pub enum Value<'a> {
    /// An optional field that is not given.
    Absent,
    /// Of a string.
    Text(Cow<'a, str>),
    /// Of a string with the format `UUID`.
    Uuid(Uuid),
    /// Of a `bool`.
    Bool(bool),
    /// Of an `int32`.
    Int(i32),
    /// Of an `int64` or `uint32`.
    Bigint(i64),
    /// Of a `float`; finite, not -0.
    Float(f32),
    /// Of a `double`; finite, not -0.
    Double(f64),
    /// Of `bytes`.
    Bytes(Cow<'a, [u8]>),
    /// The index of an enum's name in [`Scalar::Enum`].
    Enum(usize),
    /// Of a `google.protobuf.Timestamp`.
    Timestamp(Instant),
    /// The elements of a list.
    List(Vec<Value<'a>>),
    /// The entries of a map, in the order of the bytes of their keys.
    Map(Vec<(Cow<'a, str>, Value<'a>)>),
}

/// Shows the type only: the value may be personal data.
impl fmt::Debug for Value<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Absent => "Absent",
            Self::Text(_) => "Text(..)",
            Self::Uuid(_) => "Uuid(..)",
            Self::Bool(_) => "Bool(..)",
            Self::Int(_) => "Int(..)",
            Self::Bigint(_) => "Bigint(..)",
            Self::Float(_) => "Float(..)",
            Self::Double(_) => "Double(..)",
            Self::Bytes(_) => "Bytes(..)",
            Self::Enum(_) => "Enum(..)",
            Self::Timestamp(_) => "Timestamp(..)",
            Self::List(_) => "List(..)",
            Self::Map(_) => "Map(..)",
        })
    }
}

/// The text of a value: without its quotes, if it has some.
pub(super) enum Raw<'a> {
    One(&'a str),
    List(Vec<&'a str>),
    Map(Vec<(&'a str, &'a str)>),
}

/// How strictly a record is parsed.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Policy {
    /// From a caller, who can correct it: exactly the contract.
    Strict,
    /// From a topic with other producers: everything unambiguous.
    Lenient,
}

/// The key with this value, if it has one of the types of keys.
pub(super) fn key(value: &Value<'_>) -> Option<Key> {
    Some(match value {
        Value::Uuid(uuid) => Key::Uuid(*uuid),
        Value::Int(number) => Key::Int(*number),
        Value::Bigint(number) => Key::Bigint(*number),
        Value::Text(text) => Key::Text(text.as_ref().into()),
        _ => return None,
    })
}

/// Reads a key from its text.
pub(crate) fn key_from_text(field: &Field, text: &[u8], policy: Policy) -> Result<Key, Reason> {
    let not_utf8 = |error: std::str::Utf8Error| Reason::NotUtf8 {
        offset: error.valid_up_to(),
    };
    let text = std::str::from_utf8(text).map_err(not_utf8)?;
    let value = scalar_from_text(field, Cow::Borrowed(text), policy)?;
    Ok(key(&value).expect("the key has a type that the contract accepts"))
}

/// Reads a field with one value from a text.
pub(super) fn from_text<'a>(field: &Field, text: Cow<'a, str>, policy: Policy) -> Result<Value<'a>, Reason> {
    match field.presence() {
        Presence::Required | Presence::Optional => scalar_from_text(field, text, policy),
        Presence::List => Err(Reason::wrong_type("an array", JsonKind::String)),
        Presence::Map => Err(Reason::wrong_type("an object", JsonKind::String)),
    }
}

/// Reads a field from raw JSON, which is well-formed except for the meaning of escapes.
pub(super) fn from_json<'a>(field: &Field, raw: &'a str, policy: Policy) -> Result<Value<'a>, Reason> {
    match field.presence() {
        Presence::Required | Presence::Optional => scalar_from_json(field, raw, policy),
        Presence::List => list(field, raw, policy),
        Presence::Map => map(field, raw, policy),
    }
}

fn list<'a>(field: &Field, raw: &'a str, policy: Policy) -> Result<Value<'a>, Reason> {
    let kind = kind(raw);
    if kind != JsonKind::Array {
        return Err(Reason::wrong_type("an array", kind));
    }
    let elements: Vec<&RawValue> = serde_json::from_str(raw).map_err(|_| Reason::BadEscape)?;
    let elements = elements.into_iter().enumerate().map(|(index, raw)| {
        scalar_from_json(field, raw.get(), policy).map_err(|reason| reason.of_element(index))
    });
    Ok(Value::List(elements.collect::<Result<_, _>>()?))
}

fn map<'a>(field: &Field, raw: &'a str, policy: Policy) -> Result<Value<'a>, Reason> {
    let kind = kind(raw);
    if kind != JsonKind::Object {
        return Err(Reason::wrong_type("an object", kind));
    }
    // The object was parsed once. Only a name with an escape that is no character fails now.
    let MapEntries(raw) = serde_json::from_str(raw).map_err(|_| Reason::BadEscape)?;
    let mut entries = Vec::with_capacity(raw.len());
    for (index, (name, raw)) in raw.into_iter().enumerate() {
        let entry = broken_text_rule(field, &name).map_or_else(|| scalar_from_json(field, raw, policy), Err);
        entries.push((name, entry.map_err(|reason| reason.of_element(index))?));
    }
    entries.sort_by(|(left, _), (right, _)| left.cmp(right));
    if entries.windows(2).any(|pair| pair[0].0 == pair[1].0) {
        return Err(Reason::DuplicateMapKey);
    }
    Ok(Value::Map(entries))
}

/// The raw entries of an object, in its order.
struct MapEntries<'a>(Vec<(Cow<'a, str>, &'a str)>);

impl<'de> Deserialize<'de> for MapEntries<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(EntriesVisitor)
    }
}

struct EntriesVisitor;

impl<'de> Visitor<'de> for EntriesVisitor {
    type Value = MapEntries<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<MapEntries<'de>, M::Error> {
        let mut entries = Vec::new();
        while let Some(Name(name)) = map.next_key()? {
            let value: &RawValue = map.next_value().map_err(de::Error::custom)?;
            entries.push((name, value.get()));
        }
        Ok(MapEntries(entries))
    }
}

fn scalar_from_json<'a>(field: &Field, raw: &'a str, policy: Policy) -> Result<Value<'a>, Reason> {
    let found = kind(raw);
    let wrong_type = |expected| Err(Reason::wrong_type(expected, found));
    match (field.scalar(), found) {
        (Scalar::Bool, JsonKind::Boolean) => Ok(Value::Bool(raw == "true")),
        (Scalar::Bool, _) => wrong_type("a boolean"),
        (Scalar::Float | Scalar::Double, JsonKind::Number) => number(field.scalar(), raw),
        (Scalar::Float | Scalar::Double, _) => wrong_type("a number"),
        (Scalar::Int32 | Scalar::Uint32 | Scalar::Int64, JsonKind::Number) => {
            integer(field.scalar(), raw, policy)
        }
        (Scalar::Text, JsonKind::Number)
            if field.rules.integer_accepted && policy == Policy::Lenient && is_integer(raw) =>
        {
            scalar_from_text(field, Cow::Borrowed(raw), policy)
        }
        (_, JsonKind::String) => scalar_from_text(field, unescape(raw)?, policy),
        (Scalar::Int32 | Scalar::Uint32 | Scalar::Int64, _) => wrong_type("an integer"),
        _ => wrong_type("a string"),
    }
}

/// Reads one value from a text; a number, a boolean as JSON writes it.
fn scalar_from_text<'a>(field: &Field, text: Cow<'a, str>, policy: Policy) -> Result<Value<'a>, Reason> {
    match field.scalar() {
        Scalar::Text => broken_rule(field, &text).map_or(Ok(Value::Text(text)), Err),
        Scalar::Uuid => uuid(&text).map(Value::Uuid),
        Scalar::Int32 | Scalar::Uint32 | Scalar::Int64 => integer(field.scalar(), &text, policy),
        Scalar::Bytes => bytes(&text).map(|bytes| Value::Bytes(Cow::Owned(bytes))),
        Scalar::Enum(names) => {
            let index = names.iter().position(|name| **name == *text);
            index.map(Value::Enum).ok_or(Reason::UnknownEnumName)
        }
        Scalar::Timestamp => text.parse().map(Value::Timestamp),
        Scalar::Bool => Err(Reason::wrong_type("a boolean", JsonKind::String)),
        Scalar::Float | Scalar::Double => Err(Reason::wrong_type("a number", JsonKind::String)),
    }
}

/// The rule of a string that is broken, if any.
fn broken_rule(field: &Field, text: &str) -> Option<Reason> {
    let broken = broken_text_rule(field, text);
    if broken.is_none() && field.rules.email {
        let is_email = text
            .split_once('@')
            .is_some_and(|(local, domain)| !local.is_empty() && !domain.is_empty() && !domain.contains('@'));
        return (!is_email).then_some(Reason::NotAnEmail);
    }
    broken
}

/// The rule of any text that is broken, if any; also for the keys of a map, which have no format.
fn broken_text_rule(field: &Field, text: &str) -> Option<Reason> {
    if text.chars().all(char::is_whitespace) {
        return Some(Reason::Blank);
    }
    // A character has at least one byte, so most texts don't have to be counted.
    let limit = usize::try_from(field.rules.max_length).unwrap_or(usize::MAX);
    if text.len() > limit && text.chars().count() > limit {
        return Some(Reason::TooLong {
            limit: field.rules.max_length,
        });
    }
    text.as_bytes().contains(&0).then_some(Reason::NulCharacter)
}

fn uuid(text: &str) -> Result<Uuid, Reason> {
    if text.len() != uuid::fmt::Hyphenated::LENGTH {
        return Err(Reason::NotAUuid); // The other forms of a uuid are longer or shorter.
    }
    let uuid = Uuid::try_parse(text).map_err(|_| Reason::NotAUuid)?;
    if uuid.is_nil() {
        Err(Reason::NilUuid)
    } else {
        Ok(uuid)
    }
}

fn integer(scalar: &Scalar, digits: &str, policy: Policy) -> Result<Value<'static>, Reason> {
    let magnitude = digits.strip_prefix('-').unwrap_or(digits);
    if magnitude.is_empty() || !magnitude.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(Reason::NotAnInteger);
    }
    if policy == Policy::Strict && !is_shortest_integer(digits) {
        return Err(Reason::NotShortestInteger);
    }
    let out_of_range = || Reason::NumberOutOfRange {
        of: scalar.to_string().into(),
    };
    match scalar {
        Scalar::Int32 => digits.parse().map(Value::Int).map_err(|_| out_of_range()),
        _ => {
            let number: i64 = digits.parse().map_err(|_| out_of_range())?;
            if *scalar == Scalar::Uint32 && u32::try_from(number).is_err() {
                return Err(out_of_range());
            }
            Ok(Value::Bigint(number))
        }
    }
}

/// Whether a text of digits, with or without a sign, is an integer's shortest form.
fn is_shortest_integer(digits: &str) -> bool {
    digits == "0" || !digits.strip_prefix('-').unwrap_or(digits).starts_with('0')
}

/// Reads a JSON number, rounded to the nearest one of the type. -0 becomes 0.
fn number(scalar: &Scalar, text: &str) -> Result<Value<'static>, Reason> {
    let value = match scalar {
        Scalar::Float => text
            .parse()
            .ok()
            .filter(|number: &f32| number.is_finite())
            .map(|it| Value::Float(it + 0.0)),
        _ => text
            .parse()
            .ok()
            .filter(|number: &f64| number.is_finite())
            .map(|it| Value::Double(it + 0.0)),
    };
    value.ok_or_else(|| Reason::NumberOutOfRange {
        of: scalar.to_string().into(),
    })
}

/// Decodes base64 with either alphabet, with or without padding. Spare bits must be zero.
fn bytes(text: &str) -> Result<Vec<u8>, Reason> {
    const CONFIG: GeneralPurposeConfig =
        GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent);
    let is_url_safe = text.contains(['-', '_']);
    let engine = GeneralPurpose::new(if is_url_safe { &URL_SAFE } else { &STANDARD }, CONFIG);
    engine.decode(text).map_err(|_| Reason::NotBase64)
}

/// Writes a finite number in its shortest form, or an instant in quotes.
pub(super) fn write_number(value: &impl serde::Serialize, json: &mut Vec<u8>) {
    serde_json::to_writer(json, value).expect("writing a number to memory does not fail");
}

/// Adds a value of the canonical encoding to `values`; `None` if it is invalid or not canonical. `raw` has no escape.
pub(super) fn push_canonical<'a>(field: &Field, raw: Raw<'a>, values: &mut Vec<Value<'a>>) -> Option<()> {
    match raw {
        Raw::One(raw) => push_canonical_scalar(field, raw, values)?,
        Raw::List(raw) => {
            let mut elements = Vec::with_capacity(raw.len());
            for raw in raw {
                push_canonical_scalar(field, raw, &mut elements)?;
            }
            values.push(Value::List(elements));
        }
        Raw::Map(raw) => {
            if !raw.windows(2).all(|pair| pair[0].0 < pair[1].0) {
                return None;
            }
            let mut elements = Vec::with_capacity(raw.len());
            for (name, raw) in &raw {
                if broken_text_rule(field, name).is_some() {
                    return None;
                }
                push_canonical_scalar(field, raw, &mut elements)?;
            }
            let names = raw.into_iter().map(|(name, _)| Cow::Borrowed(name));
            values.push(Value::Map(names.zip(elements).collect()));
        }
    }
    Some(())
}

/// Like [`scalar_from_text`], but only for canonical texts. Each value is built where it stays: this is the hot path, and
/// to pass values through results takes as long as to read them.
fn push_canonical_scalar<'a>(field: &Field, raw: &'a str, values: &mut Vec<Value<'a>>) -> Option<()> {
    match field.scalar() {
        Scalar::Text => {
            if broken_rule(field, raw).is_some() {
                return None;
            }
            values.push(Value::Text(Cow::Borrowed(raw)));
        }
        Scalar::Uuid => {
            let uuid = uuid(raw).ok()?;
            let is_canonical = !raw.bytes().any(|byte| byte.is_ascii_uppercase());
            values.push(is_canonical.then_some(Value::Uuid(uuid))?);
        }
        Scalar::Timestamp => {
            let instant = Instant::has_canonical_form(raw).then(|| raw.parse())?;
            values.push(Value::Timestamp(instant.ok()?));
        }
        Scalar::Bool => values.push(Value::Bool(raw == "true")),
        Scalar::Float | Scalar::Double => {
            let value = number(field.scalar(), raw).ok()?;
            let mut shortest = Vec::with_capacity(raw.len());
            match &value {
                Value::Float(number) => write_number(number, &mut shortest),
                Value::Double(number) => write_number(number, &mut shortest),
                _ => return None,
            }
            values.push((shortest == raw.as_bytes()).then_some(value)?);
        }
        Scalar::Bytes => {
            // Standard base64 with padding has whole groups of four.
            let is_canonical = raw.len().is_multiple_of(4) && !raw.contains(['-', '_']);
            let bytes = is_canonical.then(|| bytes(raw))?;
            values.push(Value::Bytes(Cow::Owned(bytes.ok()?)));
        }
        Scalar::Int32 | Scalar::Uint32 | Scalar::Int64 | Scalar::Enum(_) => {
            values.push(scalar_from_text(field, Cow::Borrowed(raw), Policy::Strict).ok()?);
        }
    }
    Some(())
}

/// The type of a raw JSON value, by its first byte.
fn kind(raw: &str) -> JsonKind {
    match raw.as_bytes().first() {
        Some(b'"') => JsonKind::String,
        Some(b'{') => JsonKind::Object,
        Some(b'[') => JsonKind::Array,
        Some(b't' | b'f') => JsonKind::Boolean,
        Some(b'n') => JsonKind::Null,
        _ => JsonKind::Number,
    }
}

/// Decodes a raw JSON string. The scan has checked everything except the meaning of escapes.
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

fn is_integer(raw: &str) -> bool {
    let digits = raw.strip_prefix('-').unwrap_or(raw);
    digits.bytes().all(|byte| byte.is_ascii_digit())
}
