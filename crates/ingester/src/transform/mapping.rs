//! Maps a user of the API to a record of the contract: the only file that knows a field. Pure. `api_user` reads the values,
//! `model` validates the record.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

use model::{Contract, Field, FieldName, Invalid, Reason, Record, Scalar as FieldType};
use thiserror::Error;

use crate::transform::api_user::{ApiUser, ApiValue, Paths};
use crate::transform::scalar::Scalar;
use Source::{Joined, Text, TextOrInteger};

/// How each field of the contract is read from a user, as versions 1.3 and 1.4 of the API return it.
const SOURCES: &[(&str, Source)] = &[
    ("id", Text("login.uuid")),
    ("first_name", Text("name.first")),
    ("last_name", Text("name.last")),
    ("gender", Text("gender")),
    (
        "address",
        Joined(&[
            ("", TextOrInteger("location.street.number")),
            (" ", Text("location.street.name")),
            (", ", Text("location.city")),
            (", ", Text("location.state")),
            (", ", Text("location.country")),
        ]),
    ),
    ("post_code", TextOrInteger("location.postcode")),
    ("email", Text("email")),
    ("username", Text("login.username")),
    ("dob", Text("dob.date")),
    ("registered_date", Text("registered.date")),
    ("phone", Text("phone")),
    ("picture", Text("picture.medium")),
];

/// Where the text of a field is in a user.
#[derive(Clone, Copy, Debug)]
enum Source {
    /// The text at this path. If the user lacks its first part, an optional field is absent.
    Text(&'static str),
    /// The text at this path, or the decimal digits of the integer there.
    TextOrInteger(&'static str),
    /// Several parts, each after a separator. A part is trimmed and must not be blank.
    Joined(&'static [(&'static str, Source)]),
}

/// A [`Source`] with indices of [`ApiUser`] instead of paths.
#[derive(Debug)]
enum MappingReader {
    Text(usize),
    TextOrInteger(usize),
    Joined(Vec<(&'static str, MappingReader)>),
}

/// Maps users of the API to records of a contract. Compiled once, at the start.
#[derive(Debug)]
pub struct Mapping {
    contract: Arc<Contract>,
    paths: Paths,
    /// By slot; `None` for an optional field that is never given.
    readers: Vec<Option<MappingReader>>,
}

/// Why the table of sources does not fit the contract.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum MappingTableError {
    /// Every record would be invalid.
    #[error(
        "the required field `{field}` of {contract} has no source; add it to the table in transform/mapping.rs"
    )]
    NoSource {
        /// The contract's name.
        contract: String,
        /// The field.
        field: String,
    },
    /// The state file stores keys as uuids.
    #[error("the key of {contract} must be a uuid")]
    Key {
        /// The contract's name.
        contract: String,
    },
}

/// Why a user can't be mapped: field and rule, both from a bounded set; never a value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MappingError {
    /// The field of the record, or [`MappingError::USER`].
    pub field: FieldName,
    /// One of [`Reason::LABELS`](model::Reason::LABELS), or [`MappingError::OLD_STREET`].
    pub rule: &'static str,
}

impl MappingError {
    /// The street is one string, as before version 1.3 of the API.
    pub const OLD_STREET: &'static str = "street_as_before_1_3";
    /// Stands for a field if the user as a whole can't be read.
    pub const USER: &'static str = "user";

    /// The user contains bytes that are not UTF-8.
    #[must_use]
    pub fn not_utf8() -> Self {
        Self::of_user("not_utf8")
    }

    /// The user's JSON can't be read, for example a lone surrogate or a number out of range.
    #[must_use]
    pub fn malformed() -> Self {
        Self::of_user("malformed")
    }

    fn of_user(rule: &'static str) -> Self {
        Self {
            field: FieldName::Known(Self::USER.into()),
            rule,
        }
    }

    fn new(field: &Field, rule: &'static str) -> Self {
        Self {
            field: FieldName::Known(field.name().into()),
            rule,
        }
    }
}

impl fmt::Display for MappingError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.field, self.rule)
    }
}

impl From<Invalid> for MappingError {
    fn from(invalid: Invalid) -> Self {
        let field = invalid.field_name().cloned();
        Self {
            field: field.expect("an error of a record from texts has a field"),
            rule: invalid.reason().label(),
        }
    }
}

impl Mapping {
    /// Compiles the mapping to the contract of users.
    ///
    /// # Errors
    /// Returns a [`MappingTableError`].
    pub fn user() -> Result<Self, MappingTableError> {
        Self::new(Contract::user(), SOURCES)
    }

    fn new(contract: Arc<Contract>, sources: &[(&str, Source)]) -> Result<Self, MappingTableError> {
        if *contract.fields()[contract.key()].scalar() != FieldType::Uuid {
            return Err(MappingTableError::Key {
                contract: contract.name().to_owned(),
            });
        }
        let mut paths = Paths::default();
        let readers = contract.fields().iter().map(|field| {
            let source = sources.iter().find(|(name, _)| *name == field.name());
            match source {
                None if field.is_required() => Err(MappingTableError::NoSource {
                    contract: contract.name().to_owned(),
                    field: field.name().to_owned(),
                }),
                source => Ok(source.map(|(_, source)| source.compile(&mut paths))),
            }
        });
        let readers = readers.collect::<Result<_, _>>()?;
        Ok(Self {
            contract,
            paths,
            readers,
        })
    }

    /// Returns the paths of the values that [`Mapping::map`] needs.
    #[must_use]
    pub fn paths(&self) -> &Paths {
        &self.paths
    }

    /// Maps `user` to a record. Borrows every string that stays unchanged.
    ///
    /// # Errors
    /// Returns the first field that can't be filled. Wrong types precede broken rules.
    pub fn map<'a>(&'a self, user: &ApiUser<'a>) -> Result<Record<'a>, MappingError> {
        let mut texts = Vec::with_capacity(self.readers.len());
        for (field, reader) in self.contract.fields().iter().zip(&self.readers) {
            let text = match reader {
                Some(reader) => reader.read(user).map_err(|rule| MappingError::new(field, rule))?,
                None => None,
            };
            if text.is_none() && field.is_required() {
                return Err(MappingError::new(field, Reason::Missing.label()));
            }
            texts.push(text);
        }
        // The texts are in the contract's order, in which they are requested.
        let mut texts = texts.into_iter();
        Ok(self.contract.record_from_texts(|_| texts.next().flatten())?)
    }
}

/// The label of [`Reason::WrongType`], which can't be built without the type that was found.
const WRONG_TYPE: &str = "wrong_type";

impl Source {
    fn compile(self, paths: &mut Paths) -> MappingReader {
        match self {
            Text(path) => MappingReader::Text(paths.add(path)),
            TextOrInteger(path) => MappingReader::TextOrInteger(paths.add(path)),
            Joined(parts) => {
                let parts = parts.iter();
                MappingReader::Joined(
                    parts
                        .map(|(separator, part)| (*separator, part.compile(paths)))
                        .collect(),
                )
            }
        }
    }
}

impl MappingReader {
    /// Reads the text, or the rule that the user breaks; `None` if the user lacks it.
    fn read<'a>(&self, user: &ApiUser<'a>) -> Result<Option<Cow<'a, str>>, &'static str> {
        match self {
            Self::Text(index) => match &user.0[*index] {
                ApiValue::Absent => Ok(None),
                ApiValue::Given(Scalar::Text(text)) => Ok(Some(text.clone())),
                ApiValue::Given(Scalar::Missing) => Err(Reason::Missing.label()),
                ApiValue::Duplicate => Err(Reason::DuplicateField.label()),
                ApiValue::Given(_) | ApiValue::TextForObject => Err(WRONG_TYPE),
            },
            Self::TextOrInteger(index) => match &user.0[*index] {
                ApiValue::Given(Scalar::Integer(number)) => Ok(Some(number.to_string().into())),
                _ => Self::Text(*index).read(user),
            },
            Self::Joined(parts) => {
                let mut joined = String::with_capacity(96);
                for (separator, part) in parts {
                    if part.is_in_text(user) {
                        return Err(MappingError::OLD_STREET);
                    }
                    let text = part.read(user)?.ok_or(Reason::Missing.label())?;
                    let text = text.trim();
                    if text.is_empty() {
                        return Err(Reason::Blank.label());
                    }
                    joined.push_str(separator);
                    joined.push_str(text);
                }
                Ok(Some(joined.into()))
            }
        }
    }

    fn is_in_text(&self, user: &ApiUser<'_>) -> bool {
        match self {
            Self::Text(index) | Self::TextOrInteger(index) => user.0[*index] == ApiValue::TextForObject,
            Self::Joined(parts) => parts.iter().any(|(_, part)| part.is_in_text(user)),
        }
    }
}

#[cfg(test)]
mod tests;
