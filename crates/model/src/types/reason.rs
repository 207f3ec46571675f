//! The rules that a field can break, as errors.

use std::fmt;

/// The broken rule. Its text follows the field's name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Reason {
    /// The bytes are not UTF-8.
    #[error("is not valid UTF-8 from byte {offset} on")]
    NotUtf8 {
        /// The number of valid bytes before the first invalid one.
        offset: usize,
    },
    /// The text is not JSON, or continues after the record.
    #[error("is not valid JSON: {cause} at line {line} column {column}")]
    Malformed {
        /// Counted from 1.
        line: usize,
        /// In bytes, counted from 1; 0 is before a line's first byte.
        column: usize,
        /// The JSON parser's error, one of its constant texts.
        cause: String,
    },
    /// The JSON value is not an object.
    #[error("is not a JSON object")]
    NotAnObject,
    /// The record has no such field.
    #[error("is not a field of the record")]
    UnknownField,
    /// The field is given more than once.
    #[error("is given more than once")]
    DuplicateField,
    /// The field is absent but [required](crate::Field::is_required).
    #[error("is missing")]
    Missing,
    /// The JSON value has another type than the field.
    #[error("must be {expected}, not {found}")]
    WrongType {
        /// The type of the field, such as "a string".
        expected: &'static str,
        /// The type of the value.
        found: JsonKind,
    },
    /// An element of a list, or a key or value of a map, breaks a rule.
    #[error("element {index} {reason}")]
    Element {
        /// Counted from 0.
        index: usize,
        /// The broken rule.
        reason: Box<Reason>,
    },
    /// A map has a key more than once.
    #[error("has a key more than once")]
    DuplicateMapKey,
    /// An escape in the string is not a character, such as half a surrogate pair.
    #[error("has an escape that is not a character")]
    BadEscape,
    /// The string is empty or white space only.
    #[error("is blank")]
    Blank,
    /// The string has too many characters.
    #[error("is longer than {limit} characters")]
    TooLong {
        /// The maximum.
        limit: u32,
    },
    /// The string has the character U+0000.
    #[error("has a NUL character")]
    NulCharacter,
    /// The text is not a uuid in its hyphenated form.
    #[error("is not a hyphenated uuid")]
    NotAUuid,
    /// The uuid is the nil uuid.
    #[error("is the nil uuid")]
    NilUuid,
    /// The text does not have exactly one `@` between two non-empty parts.
    #[error("is not an e-mail address: one @ between two non-empty parts")]
    NotAnEmail,
    /// The text is not an RFC 3339 instant.
    #[error("is not an RFC 3339 instant such as 2024-02-29T23:59:59.123Z")]
    NotAnInstant,
    /// The instant is outside the range of the contract's type.
    #[error("is outside the years 0001 to 9999 UTC")]
    OutOfRange,
    /// The text is not an integer.
    #[error("is not an integer: decimal digits without a fraction or an exponent")]
    NotAnInteger,
    /// The integer has leading zeros, or is -0.
    #[error("is not an integer in its shortest form")]
    NotShortestInteger,
    /// The number is outside the range of its type.
    #[error("is outside the range of {of}")]
    NumberOutOfRange {
        /// The type in the contract.
        of: Box<str>,
    },
    /// The text is not base64, or has spare bits that are not zero.
    #[error("is not base64")]
    NotBase64,
    /// The text is not a name of the enum.
    #[error("is not a name of the enum")]
    UnknownEnumName,
}

impl Reason {
    /// All labels, so that a metric can be registered with all its series.
    pub const LABELS: [&'static str; 21] = [
        "not_utf8",
        "malformed",
        "not_an_object",
        "unknown_field",
        "duplicate_field",
        "missing",
        "wrong_type",
        "bad_escape",
        "blank",
        "too_long",
        "nul_character",
        "not_a_uuid",
        "nil_uuid",
        "not_an_email",
        "not_an_instant",
        "out_of_range",
        "not_an_integer",
        "not_shortest_integer",
        "not_base64",
        "unknown_enum_name",
        "duplicate_map_key",
    ];

    /// A short stable name from [`Reason::LABELS`], for metrics and responses.
    #[must_use]
    pub fn label(&self) -> &'static str {
        match self {
            Self::NotUtf8 { .. } => "not_utf8",
            Self::Malformed { .. } => "malformed",
            Self::NotAnObject => "not_an_object",
            Self::UnknownField => "unknown_field",
            Self::DuplicateField => "duplicate_field",
            Self::Missing => "missing",
            Self::WrongType { .. } => "wrong_type",
            Self::BadEscape => "bad_escape",
            Self::Blank => "blank",
            Self::TooLong { .. } => "too_long",
            Self::NulCharacter => "nul_character",
            Self::NotAUuid => "not_a_uuid",
            Self::NilUuid => "nil_uuid",
            Self::NotAnEmail => "not_an_email",
            Self::NotAnInstant => "not_an_instant",
            Self::OutOfRange | Self::NumberOutOfRange { .. } => "out_of_range",
            Self::Element { reason, .. } => reason.label(),
            Self::DuplicateMapKey => "duplicate_map_key",
            Self::NotAnInteger => "not_an_integer",
            Self::NotShortestInteger => "not_shortest_integer",
            Self::NotBase64 => "not_base64",
            Self::UnknownEnumName => "unknown_enum_name",
        }
    }

    pub(crate) fn wrong_type(expected: &'static str, found: JsonKind) -> Self {
        Self::WrongType { expected, found }
    }

    pub(crate) fn of_element(self, index: usize) -> Self {
        Self::Element {
            index,
            reason: Box::new(self),
        }
    }

    /// Whether the value can't be read at all; the others are rules of values that were read.
    pub(crate) fn is_type(&self) -> bool {
        match self {
            Self::Missing | Self::WrongType { .. } | Self::BadEscape => true,
            Self::Element { reason, .. } => reason.is_type(),
            _ => false,
        }
    }
}

/// The type of a JSON value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs, reason = "they are JSON's own")]
pub enum JsonKind {
    Null,
    Boolean,
    Number,
    String,
    Array,
    Object,
}

impl fmt::Display for JsonKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Null => "null",
            Self::Boolean => "a boolean",
            Self::Number => "a number",
            Self::String => "a string",
            Self::Array => "an array",
            Self::Object => "an object",
        })
    }
}
