//! The fields of the record in the contract: names, order, and which of them are required.

use std::fmt;

/// A field of the record. The variants are in the contract's order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[allow(missing_docs, reason = "each is documented in the contract, user.proto")]
pub enum Field {
    Id,
    FirstName,
    LastName,
    Gender,
    Address,
    PostCode,
    Email,
    Username,
    Dob,
    RegisteredDate,
    Phone,
    Picture,
}

impl Field {
    /// Every field, in the contract's order.
    pub const ALL: [Self; 12] = [
        Self::Id,
        Self::FirstName,
        Self::LastName,
        Self::Gender,
        Self::Address,
        Self::PostCode,
        Self::Email,
        Self::Username,
        Self::Dob,
        Self::RegisteredDate,
        Self::Phone,
        Self::Picture,
    ];

    /// The contract's name, which is also the JSON key and the column.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Id => "id",
            Self::FirstName => "first_name",
            Self::LastName => "last_name",
            Self::Gender => "gender",
            Self::Address => "address",
            Self::PostCode => "post_code",
            Self::Email => "email",
            Self::Username => "username",
            Self::Dob => "dob",
            Self::RegisteredDate => "registered_date",
            Self::Phone => "phone",
            Self::Picture => "picture",
        }
    }

    /// Whether a record must have the field. Only `registered_date` is optional: some responses of the API lack it. An
    /// absent field is omitted; null is invalid.
    #[must_use]
    pub const fn is_required(self) -> bool {
        !matches!(self, Self::RegisteredDate)
    }

    /// The field with that name, compared by case, if there is one.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Some(match name {
            "id" => Self::Id,
            "first_name" => Self::FirstName,
            "last_name" => Self::LastName,
            "gender" => Self::Gender,
            "address" => Self::Address,
            "post_code" => Self::PostCode,
            "email" => Self::Email,
            "username" => Self::Username,
            "dob" => Self::Dob,
            "registered_date" => Self::RegisteredDate,
            "phone" => Self::Phone,
            "picture" => Self::Picture,
            _ => return None,
        })
    }
}

impl fmt::Display for Field {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The name of a field in an error: of the record, or unknown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FieldName {
    /// A field of the record.
    Known(Field),
    /// Another name, sanitized: at most 64 letters, digits, ASCII punctuation and spaces, with an ellipsis if truncated.
    Unknown(Box<str>),
}

impl FieldName {
    const MAX_CHARACTERS: usize = 64;

    pub(crate) fn unknown(name: &str) -> Self {
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
            Self::Known(field) => field.name(),
            Self::Unknown(name) => name,
        }
    }
}

/// Replaces marks, joiners and directional overrides, which can forge log lines.
fn printable(character: char) -> char {
    let is_safe = character.is_ascii_graphic() || character == ' ' || character.is_alphanumeric();
    if is_safe { character } else { '?' }
}

impl From<Field> for FieldName {
    fn from(field: Field) -> Self {
        Self::Known(field)
    }
}

impl fmt::Display for FieldName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
