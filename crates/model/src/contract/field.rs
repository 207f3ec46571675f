//! A field of a contract: its name, presence, type and rules.

use std::fmt;
use std::sync::Arc;

use super::cql::CqlType;

/// The default of the rule `max_length`, in characters.
pub(crate) const MAX_CHARACTERS: u32 = 512;

/// A field of a contract.
#[derive(Clone, Debug)]
pub struct Field {
    pub(crate) name: Arc<str>,
    pub(crate) number: u32,
    pub(crate) presence: Presence,
    pub(crate) scalar: Scalar,
    pub(crate) rules: Rules,
    /// `"name":`, as the canonical encoding has it.
    pub(crate) prefix: Box<str>,
}

/// The rules of a field.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rules {
    /// Of a string, in characters.
    pub(crate) max_length: u32,
    pub(crate) email: bool,
    pub(crate) integer_accepted: bool,
    pub(crate) personal: bool,
}

/// Whether a field may be absent, and whether it has one value or several.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Presence {
    /// One value, always given.
    Required,
    /// One value, or absent. An absent value clears the column.
    Optional,
    /// A list; absent means empty.
    List,
    /// A map from strings; absent means empty.
    Map,
}

/// The type of a value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Scalar {
    /// A string: not blank, at most `max_length` characters, free of NUL.
    Text,
    /// A string with the format of a hyphenated uuid, not the nil uuid.
    Uuid,
    /// A boolean.
    Bool,
    /// A signed integer of 32 bits.
    Int32,
    /// An unsigned integer of 32 bits.
    Uint32,
    /// A signed integer of 64 bits; a string in the canonical encoding.
    Int64,
    /// A finite number of 32 bits.
    Float,
    /// A finite number of 64 bits.
    Double,
    /// Bytes; base64 in JSON.
    Bytes,
    /// One of these names.
    Enum(Box<[Box<str>]>),
    /// An instant in milliseconds; RFC 3339 in JSON.
    Timestamp,
}

impl Scalar {
    /// The CQL type of one value.
    #[must_use]
    pub fn cql(&self) -> CqlType {
        match self {
            Self::Text | Self::Enum(_) => CqlType::Text,
            Self::Uuid => CqlType::Uuid,
            Self::Bool => CqlType::Boolean,
            Self::Int32 => CqlType::Int,
            Self::Uint32 | Self::Int64 => CqlType::Bigint,
            Self::Float => CqlType::Float,
            Self::Double => CqlType::Double,
            Self::Bytes => CqlType::Blob,
            Self::Timestamp => CqlType::Timestamp,
        }
    }

    /// Whether the canonical encoding writes the value in quotes.
    pub(crate) fn is_quoted(&self) -> bool {
        match self {
            Self::Text | Self::Uuid | Self::Int64 | Self::Bytes | Self::Enum(_) | Self::Timestamp => true,
            Self::Bool | Self::Int32 | Self::Uint32 | Self::Float | Self::Double => false,
        }
    }
}

impl Field {
    pub(crate) fn new(name: &str, number: u32, presence: Presence, scalar: Scalar, rules: Rules) -> Self {
        Self {
            name: name.into(),
            number,
            presence,
            scalar,
            rules,
            prefix: format!("\"{name}\":").into(),
        }
    }

    /// The contract's name, which is also the JSON key and the column.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The field's number in the message.
    #[must_use]
    pub fn number(&self) -> u32 {
        self.number
    }

    /// Whether the field may be absent, and whether it has several values.
    #[must_use]
    pub fn presence(&self) -> Presence {
        self.presence
    }

    /// The type of the value, of a list's elements, or of a map's values.
    #[must_use]
    pub fn scalar(&self) -> &Scalar {
        &self.scalar
    }

    /// The type of the column.
    #[must_use]
    pub fn cql(&self) -> CqlType {
        let scalar = self.scalar.cql();
        match self.presence {
            Presence::Required | Presence::Optional => scalar,
            Presence::List => CqlType::List(Box::new(scalar)),
            Presence::Map => CqlType::Map(Box::new(scalar)),
        }
    }

    /// Whether the values are personal data, which no log, metric, error or span may show.
    #[must_use]
    pub fn is_personal(&self) -> bool {
        self.rules.personal
    }

    /// The maximum length of a string, in characters.
    #[must_use]
    pub fn max_length(&self) -> u32 {
        self.rules.max_length
    }

    /// Whether a string must be an e-mail address.
    #[must_use]
    pub fn is_email(&self) -> bool {
        self.rules.email
    }

    /// Whether a record without the field is invalid.
    #[must_use]
    pub fn is_required(&self) -> bool {
        self.presence == Presence::Required
    }

    /// What a reader has to know of the field, as text.
    pub(super) fn signature(&self) -> String {
        let Rules {
            max_length,
            email,
            integer_accepted,
            ..
        } = self.rules;
        let (number, name, presence, scalar) = (self.number, self.name(), self.presence, &self.scalar);
        format!("{number} {name} {presence:?} {scalar:?} {max_length} {email} {integer_accepted}")
    }
}

/// The type of a value in the contract's words: `int32`, `bytes`.
impl fmt::Display for Scalar {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Text => "string",
            Self::Uuid => "uuid",
            Self::Bool => "bool",
            Self::Int32 => "int32",
            Self::Uint32 => "uint32",
            Self::Int64 => "int64",
            Self::Float => "float",
            Self::Double => "double",
            Self::Bytes => "bytes",
            Self::Enum(_) => "enum",
            Self::Timestamp => "google.protobuf.Timestamp",
        })
    }
}
