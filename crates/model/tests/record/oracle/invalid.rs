//! Validation errors of a record: the field and the rule it breaks.
//!
//! No text here quotes a value: records are personal data, and errors end up in logs, responses and dead letters.

use std::fmt;

use super::field::{Field, FieldName};
use super::reason::Reason;
use super::user_id::UserId;

/// A validation error: the field, the rule it breaks, and the record's id if it is known.
///
/// Only one of several errors is reported: first an unknown or duplicate field, in the order of the JSON; then a missing
/// field or a wrong type; then a broken rule, both in the contract's order.
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

    /// The invalid field; `None` if the JSON as a whole is invalid.
    #[must_use]
    pub fn field_name(&self) -> Option<&FieldName> {
        self.field.as_ref()
    }

    /// The broken rule.
    #[must_use]
    pub fn reason(&self) -> &Reason {
        &self.reason
    }

    /// The record's id, if it is valid and given once.
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

impl Reason {
    /// The error of `field` with this reason.
    pub(crate) fn of(self, field: Field) -> Invalid {
        Invalid::field(field, self)
    }
}
