//! The fields of the record: their names, their order and which of them may be absent, as the contract has them. The
//! rules of the values are in their types.

use std::fmt;

/// A field of the record. The variants stand in the contract's order.
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

    /// Whether a record must have the field. `registered_date` alone may be absent, because some replies of the API do
    /// not hold it. Absent is left out: a field that is given must keep its rule, and null keeps none.
    #[must_use]
    pub const fn is_required(self) -> bool {
        !matches!(self, Self::RegisteredDate)
    }

    /// The field of that name, if there is one. Names are compared exactly.
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

/// The name of a field in a refusal: one of ours, or one that a caller made up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FieldName {
    /// A field of the record.
    Known(Field),
    /// Another name, made safe to print: letters, digits, ASCII punctuation and spaces, at most 64 of them; what is
    /// cut off is shown by an ellipsis.
    Unknown(Box<str>),
}

impl FieldName {
    const LONGEST: usize = 64;

    pub(crate) fn unknown(name: &str) -> Self {
        let mut characters = name.chars();
        let mut shown: String = characters.by_ref().take(Self::LONGEST).map(printable).collect();
        if characters.next().is_some() {
            shown.push('…');
        }
        Self::Unknown(shown.into())
    }

    /// The name as text. Only that of a [`FieldName::Known`] is from a bounded set, fit for a metric's label.
    #[must_use]
    pub fn as_str(&self) -> &str {
        match self {
            Self::Known(field) => field.name(),
            Self::Unknown(name) => name,
        }
    }
}

/// Marks, joiners and directional overrides can falsify a line of a log, so only what stands for itself is kept.
fn printable(character: char) -> char {
    let harmless = character.is_ascii_graphic() || character == ' ' || character.is_alphanumeric();
    if harmless { character } else { '?' }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_field_is_found_by_its_name_alone() {
        for (place, field) in Field::ALL.into_iter().enumerate() {
            assert_eq!(Field::from_name(field.name()), Some(field));
            assert_eq!(
                field as usize, place,
                "the order of the variants is the order of ALL"
            );
        }
        assert_eq!(Field::from_name("ID"), None);
        assert_eq!(Field::from_name("firstName"), None);
    }

    #[test]
    fn an_unknown_name_is_cut_and_made_printable() {
        let name = FieldName::unknown(&"é\u{202e}\n\0x".repeat(20));
        assert_eq!(name.as_str().chars().count(), FieldName::LONGEST + 1);
        assert!(name.as_str().starts_with("é???x"));
        assert!(name.as_str().ends_with('…'));
        assert_eq!(FieldName::unknown("frist_name").as_str(), "frist_name");
    }
}
