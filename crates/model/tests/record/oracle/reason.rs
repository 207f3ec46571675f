//! The rules that a field can break, as errors.

use std::fmt;

/// The maximum length of a text, in Unicode scalar values.
pub(crate) const MAX_CHARACTERS: usize = 512;

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
    /// The field is absent but required.
    #[error("is missing")]
    Missing,
    /// The value is not a string, nor an integer where one is accepted.
    #[error("must be a string, not {found}")]
    WrongType {
        /// The type of the value.
        found: JsonKind,
    },
    /// An escape in the string is not a character, such as half a surrogate pair.
    #[error("has an escape that is not a character")]
    BadEscape,
    /// The string is empty or white space only.
    #[error("is blank")]
    Blank,
    /// The string has more than 512 characters.
    #[error("is longer than {} characters", MAX_CHARACTERS)]
    TooLong,
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
}

impl Reason {
    /// All labels, so that a metric can be registered with all its series.
    pub const LABELS: [&'static str; 16] = [
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
    ];

    /// A short stable name from [`Reason::LABELS`], for metrics and responses.
    #[must_use]
    pub const fn label(&self) -> &'static str {
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
            Self::TooLong => "too_long",
            Self::NulCharacter => "nul_character",
            Self::NotAUuid => "not_a_uuid",
            Self::NilUuid => "nil_uuid",
            Self::NotAnEmail => "not_an_email",
            Self::NotAnInstant => "not_an_instant",
            Self::OutOfRange => "out_of_range",
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
    Array,
    Object,
}

impl fmt::Display for JsonKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Null => "null",
            Self::Boolean => "a boolean",
            Self::Number => "a number",
            Self::Array => "an array",
            Self::Object => "an object",
        })
    }
}
