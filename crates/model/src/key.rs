//! The key of a record: of its rows and of its Kafka records. Its text is the same everywhere.

use std::borrow::Cow;
use std::fmt;
use std::ops::Deref;

use serde::{Serialize, Serializer};
use uuid::Uuid;

/// The value of a contract's key field.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Key {
    /// A uuid that is not nil.
    Uuid(Uuid),
    /// An `int32`.
    Int(i32),
    /// An `int64` or `uint32`.
    Bigint(i64),
    /// A string: not blank, free of NUL.
    Text(Box<str>),
}

impl Key {
    /// The maximum length of a text key, in characters: four bytes each are within Cassandra's limit of 65,535 bytes.
    pub const MAX_CHARACTERS: u32 = 16_383;

    /// The canonical text: a uuid hyphenated in lower case, the shortest decimal digits of an integer.
    #[must_use]
    pub fn text(&self) -> KeyText<'_> {
        match self {
            Self::Uuid(uuid) => {
                let mut bytes = [0; KeyText::CAPACITY];
                let length = uuid.hyphenated().encode_lower(&mut bytes).len();
                KeyText(Repr::Inline(bytes, length))
            }
            Self::Int(number) => KeyText::of_integer((*number).into()),
            Self::Bigint(number) => KeyText::of_integer(*number),
            Self::Text(text) => KeyText(Repr::Borrowed(text)),
        }
    }

    /// The bytes of the CQL value.
    #[must_use]
    pub fn cql(&self) -> Cow<'_, [u8]> {
        match self {
            Self::Uuid(uuid) => Cow::Borrowed(uuid.as_bytes()),
            Self::Int(number) => Cow::Owned(number.to_be_bytes().to_vec()),
            Self::Bigint(number) => Cow::Owned(number.to_be_bytes().to_vec()),
            Self::Text(text) => Cow::Borrowed(text.as_bytes()),
        }
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.text().fmt(f)
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Key({self})")
    }
}

impl Serialize for Key {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.text())
    }
}

/// The canonical text of a [`Key`], without an allocation.
#[derive(Clone, Copy)]
pub struct KeyText<'a>(Repr<'a>);

#[derive(Clone, Copy)]
enum Repr<'a> {
    Inline([u8; KeyText::CAPACITY], usize),
    Borrowed(&'a str),
}

impl KeyText<'_> {
    const CAPACITY: usize = uuid::fmt::Hyphenated::LENGTH;

    fn of_integer(number: i64) -> Self {
        let mut digits = itoa::Buffer::new();
        let digits = digits.format(number).as_bytes();
        let mut bytes = [0; Self::CAPACITY];
        bytes[..digits.len()].copy_from_slice(digits);
        Self(Repr::Inline(bytes, digits.len()))
    }
}

impl Deref for KeyText<'_> {
    type Target = str;

    fn deref(&self) -> &str {
        match &self.0 {
            Repr::Inline(bytes, length) => std::str::from_utf8(&bytes[..*length]).expect("it is ASCII"),
            Repr::Borrowed(text) => text,
        }
    }
}

impl fmt::Display for KeyText<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_canonical() {
        let uuid = Uuid::try_parse("0195D0B1-7A4C-7F3E-9B1A-2C3D4E5F6071").unwrap();
        assert_eq!(
            Key::Uuid(uuid).to_string(),
            "0195d0b1-7a4c-7f3e-9b1a-2c3d4e5f6071"
        );
        assert_eq!(Key::Int(i32::MIN).to_string(), "-2147483648");
        assert_eq!(Key::Bigint(i64::MIN).to_string(), "-9223372036854775808");
        assert_eq!(Key::Text("a b".into()).to_string(), "a b");
    }

    #[test]
    fn cql_value_has_the_width_of_its_type() {
        assert_eq!(*Key::Int(7).cql(), [0, 0, 0, 7]);
        assert_eq!(*Key::Bigint(7).cql(), [0, 0, 0, 0, 0, 0, 0, 7]);
        assert_eq!(*Key::Text("é".into()).cql(), [0xc3, 0xa9]);
    }
}
