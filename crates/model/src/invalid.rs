//! Why something is not a record: which field, which rule. No text made here ever quotes a value; a record is about a
//! person, and these texts end in logs, answers and dead letters.

use std::fmt;

use crate::{Field, FieldName, UserId};

/// A refusal: the field if one is at fault, the rule it broke, and the record's id if that much could be read.
///
/// Of several faults one is reported: first what cannot be placed in the record at all (unknown and duplicate fields,
/// in the order of the text), then missing fields and wrong types, then the rules, both in the contract's order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Invalid {
    field: Option<FieldName>,
    reason: Reason,
    id: Option<UserId>,
}

impl Invalid {
    pub(crate) fn record(reason: Reason) -> Self {
        Self {
            field: None,
            reason,
            id: None,
        }
    }

    pub(crate) fn field(field: impl Into<FieldName>, reason: Reason) -> Self {
        Self {
            field: Some(field.into()),
            reason,
            id: None,
        }
    }

    pub(crate) fn of(self, id: Option<UserId>) -> Self {
        Self { id, ..self }
    }

    /// The field at fault; `None` when the text as a whole is.
    #[must_use]
    pub fn field_name(&self) -> Option<&FieldName> {
        self.field.as_ref()
    }

    /// The rule that was broken.
    #[must_use]
    pub fn reason(&self) -> &Reason {
        &self.reason
    }

    /// The id of the refused record, when it was given once and is itself valid, wherever in the text it stood.
    #[must_use]
    pub fn id(&self) -> Option<UserId> {
        self.id
    }
}

impl fmt::Display for Invalid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.field {
            Some(field) => write!(f, "{field}: {}", self.reason),
            None => self.reason.fmt(f),
        }
    }
}

impl std::error::Error for Invalid {}

/// The rule that was broken, worded so that it can follow the field's name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Reason {
    /// The bytes are not UTF-8.
    #[error("is not valid UTF-8 from byte {offset} on")]
    NotUtf8 {
        /// How many bytes before the first wrong one are valid.
        offset: usize,
    },
    /// The text is not JSON, or goes on behind the record.
    #[error("is not valid JSON: {cause} at line {line} column {column}")]
    Malformed {
        /// Counted from 1.
        line: usize,
        /// In bytes, counted from 1; 0 is the place before a line's first byte.
        column: usize,
        /// What the JSON parser missed; one of its constant texts.
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
    /// The field is not given, and is one that [is required](Field::is_required).
    #[error("is missing")]
    Missing,
    /// The value is no string (and, where one is welcome, no integer).
    #[error("must be a string, not {found}")]
    WrongType {
        /// What it is instead.
        found: JsonKind,
    },
    /// An escape in the string stands for no character, such as half a surrogate pair.
    #[error("holds an escape that stands for no character")]
    BadEscape,
    /// The string is empty or white space only.
    #[error("is blank")]
    Blank,
    /// The string has more than 512 characters.
    #[error("is longer than {} characters", crate::Text::LONGEST)]
    TooLong,
    /// The string has the character U+0000 in it.
    #[error("holds a NUL character")]
    NulCharacter,
    /// The text is not a uuid in its hyphenated form.
    #[error("is not a hyphenated uuid")]
    NotAUuid,
    /// The uuid is the nil uuid.
    #[error("is the nil uuid")]
    NilUuid,
    /// The text has not exactly one `@` with something on either side.
    #[error("is not an e-mail address: one @ between two non-empty parts")]
    NotAnEmail,
    /// The text is not an instant as RFC 3339 writes it.
    #[error("is not an RFC 3339 instant such as 2024-02-29T23:59:59.123Z")]
    NotAnInstant,
    /// The instant lies outside the years the contract's type can hold.
    #[error("lies outside the years 0001 to 9999 of UTC")]
    OutOfRange,
}

impl Reason {
    /// Every label, so that a metric can be registered with all its series.
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

    /// A short stable name from [`Reason::LABELS`], for metrics and machine-readable answers.
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

    /// The refusal of `field` for this reason.
    pub(crate) fn of(self, field: Field) -> Invalid {
        Invalid::field(field, self)
    }
}

/// What a JSON value is, when it is not what it should be.
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
