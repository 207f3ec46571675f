//! Validation errors of a record: the fields and the rules that they break.
//!
//! No text here quotes a value: records are personal data, and errors end up in logs, responses and dead letters.

use std::fmt;
use std::sync::Arc;

use crate::Key;
use crate::contract::Field;
use crate::types::Reason;

/// The errors of a record, at most [`Invalid::MAX_ERRORS`], and its key if it is known.
///
/// They are in this order: unknown fields and then fields given twice, in the order of the JSON; missing fields and wrong
/// types, then broken rules, in the contract's order. An error of the JSON as a whole stands alone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Invalid {
    /// Not empty.
    errors: Vec<FieldError>,
    key: Option<Key>,
}

/// One error of a record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FieldError {
    /// The invalid field; `None` if the JSON as a whole is invalid.
    pub field: Option<FieldName>,
    /// The broken rule.
    pub reason: Reason,
}

impl Invalid {
    /// The maximum number of errors that are reported.
    pub const MAX_ERRORS: usize = 8;

    pub(super) fn new(mut errors: Vec<FieldError>, key: Option<Key>) -> Self {
        assert!(!errors.is_empty(), "an invalid record has an error");
        errors.truncate(Self::MAX_ERRORS);
        Self { errors, key }
    }

    /// The errors; the first is the one to report if only one can be.
    #[must_use]
    pub fn errors(&self) -> &[FieldError] {
        &self.errors
    }

    /// The field of the first error; `None` if the JSON as a whole is invalid.
    #[must_use]
    pub fn field_name(&self) -> Option<&FieldName> {
        self.errors[0].field.as_ref()
    }

    /// The rule of the first error.
    #[must_use]
    pub fn reason(&self) -> &Reason {
        &self.errors[0].reason
    }

    /// The record's key, if it is valid and given once.
    #[must_use]
    pub fn key(&self) -> Option<&Key> {
        self.key.as_ref()
    }
}

impl FieldError {
    pub(super) fn record(reason: Reason) -> Self {
        Self { field: None, reason }
    }

    pub(super) fn of(field: &Field, reason: Reason) -> Self {
        Self {
            field: Some(FieldName::Known(field.name.clone())),
            reason,
        }
    }
}

impl fmt::Display for FieldError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.field {
            Some(field) => write!(f, "{field}: {}", self.reason),
            None => self.reason.fmt(f),
        }
    }
}

impl fmt::Display for Invalid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, error) in self.errors.iter().enumerate() {
            if index > 0 {
                f.write_str("; ")?;
            }
            error.fmt(f)?;
        }
        Ok(())
    }
}

impl std::error::Error for Invalid {}

/// The name of a field in an error: of the contract, or unknown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FieldName {
    /// A field of the contract.
    Known(Arc<str>),
    /// Another name, sanitized: at most 64 letters, digits, ASCII punctuation and spaces, with an ellipsis if truncated.
    Unknown(Box<str>),
}

impl FieldName {
    const MAX_CHARACTERS: usize = 64;

    pub(super) fn unknown(name: &str) -> Self {
        let mut characters = name.chars();
        let mut shown: String = characters
            .by_ref()
            .take(Self::MAX_CHARACTERS)
            .map(printable)
            .collect();
        if characters.next().is_some() {
            shown.push('…');
        }
        Self::Unknown(shown.into())
    }

    /// The name as text. Only a [`FieldName::Known`] is from a bounded set, which a metric's label needs.
    #[must_use]
    pub fn as_str(&self) -> &str {
        match self {
            Self::Known(name) => name,
            Self::Unknown(name) => name,
        }
    }
}

/// Replaces marks, joiners and directional overrides, which can forge log lines.
fn printable(character: char) -> char {
    let is_safe = character.is_ascii_graphic() || character == ' ' || character.is_alphanumeric();
    if is_safe { character } else { '?' }
}

impl fmt::Display for FieldName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unknown_name_is_truncated_and_sanitized() {
        let name = FieldName::unknown(&"é\u{202e}\n\0x".repeat(20));
        assert_eq!(name.as_str().chars().count(), FieldName::MAX_CHARACTERS + 1);
        assert!(name.as_str().starts_with("é???x"));
        assert!(name.as_str().ends_with('…'));
        assert_eq!(FieldName::unknown("frist_name").as_str(), "frist_name");
    }
}
