//! Maps a user of the API to a record of the contract. Pure. Deserializes only the fields that a record needs, so
//! passwords, hashes and national ids never exist as values. `model` validates the record.

use std::borrow::Cow;
use std::fmt;

use model::{Field, FieldName, Invalid, Reason, User, UserFields};
use serde::Deserialize;

use crate::transform::scalar::{Object, Scalar};

/// A user as versions 1.3 and 1.4 of the API return it.
#[derive(Debug, Deserialize)]
pub struct ApiUser<'a> {
    #[serde(borrow, default)]
    gender: Scalar<'a>,
    #[serde(borrow, default)]
    name: Object<Name<'a>>,
    #[serde(borrow, default)]
    location: Object<Location<'a>>,
    #[serde(borrow, default)]
    email: Scalar<'a>,
    #[serde(borrow, default)]
    login: Object<Login<'a>>,
    #[serde(borrow, default)]
    dob: Object<DateField<'a>>,
    #[serde(borrow, default)]
    registered: Object<DateField<'a>>,
    #[serde(borrow, default)]
    phone: Scalar<'a>,
    #[serde(borrow, default)]
    picture: Object<Picture<'a>>,
}

#[derive(Debug, Deserialize)]
struct Name<'a> {
    #[serde(borrow, default)]
    first: Scalar<'a>,
    #[serde(borrow, default)]
    last: Scalar<'a>,
}

#[derive(Debug, Deserialize)]
struct Location<'a> {
    #[serde(borrow, default)]
    street: Object<Street<'a>>,
    #[serde(borrow, default)]
    city: Scalar<'a>,
    #[serde(borrow, default)]
    state: Scalar<'a>,
    #[serde(borrow, default)]
    country: Scalar<'a>,
    #[serde(borrow, default)]
    postcode: Scalar<'a>,
}

#[derive(Debug, Deserialize)]
struct Street<'a> {
    #[serde(borrow, default)]
    number: Scalar<'a>,
    #[serde(borrow, default)]
    name: Scalar<'a>,
}

#[derive(Debug, Deserialize)]
struct Login<'a> {
    #[serde(borrow, default)]
    uuid: Scalar<'a>,
    #[serde(borrow, default)]
    username: Scalar<'a>,
}

#[derive(Debug, Deserialize)]
struct DateField<'a> {
    #[serde(borrow, default)]
    date: Scalar<'a>,
}

#[derive(Debug, Deserialize)]
struct Picture<'a> {
    #[serde(borrow, default)]
    medium: Scalar<'a>,
}

/// Why a user can't be mapped: field and rule, both from a bounded set; never a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct MappingError {
    /// The field of the record.
    pub field: Field,
    /// One of [`Reason::LABELS`], or [`MappingError::OLD_STREET`].
    pub rule: &'static str,
}

impl MappingError {
    /// The street is one string, as before version 1.3 of the API.
    pub const OLD_STREET: &'static str = "street_as_before_1_3";

    fn new(field: Field, reason: &Reason) -> Self {
        Self {
            field,
            rule: reason.label(),
        }
    }

    /// Returns the error for a wrong type; [`Reason::WrongType`] can't be built without the type that was found.
    fn wrong_type(field: Field) -> Self {
        Self {
            field,
            rule: "wrong_type",
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
        let field = match invalid.field_name() {
            Some(FieldName::Known(field)) => *field,
            // `User::new` receives every field by name, so it reports no other.
            _ => Field::Id,
        };
        Self::new(field, invalid.reason())
    }
}

/// Maps `user` to a record. Borrows every string that stays unchanged. A user that isn't an object lacks an id.
///
/// # Errors
/// Returns the first field that can't be filled. Wrong types precede broken rules.
pub fn map_user(user: Object<ApiUser<'_>>) -> Result<User<'_>, MappingError> {
    let user = given(user, Field::Id)?;
    let login = given(user.login, Field::Id)?;
    let name = given(user.name, Field::FirstName)?;
    let location = given(user.location, Field::Address)?;
    let fields = UserFields {
        id: text(login.uuid, Field::Id)?,
        first_name: text(name.first, Field::FirstName)?,
        last_name: text(name.last, Field::LastName)?,
        gender: text(user.gender, Field::Gender)?,
        address: address(location.street, [location.city, location.state, location.country])?.into(),
        post_code: text_or_integer(location.postcode, Field::PostCode)?,
        email: text(user.email, Field::Email)?,
        username: text(login.username, Field::Username)?,
        dob: text(given(user.dob, Field::Dob)?.date, Field::Dob)?,
        registered_date: registered_date(user.registered)?,
        phone: text(user.phone, Field::Phone)?,
        picture: text(given(user.picture, Field::Picture)?.medium, Field::Picture)?,
    };
    User::new(fields).map_err(MappingError::from)
}

/// Maps `registered`, which some replies omit. If present, it must be complete.
fn registered_date(registered: Object<DateField<'_>>) -> Result<Option<Cow<'_, str>>, MappingError> {
    match registered {
        Object::Missing => Ok(None),
        registered => text(
            given(registered, Field::RegisteredDate)?.date,
            Field::RegisteredDate,
        )
        .map(Some),
    }
}

/// Formats `"{number} {name}, {city}, {state}, {country}"`. Each part is trimmed and must not be blank.
fn address(street: Object<Street<'_>>, places: [Scalar<'_>; 3]) -> Result<String, MappingError> {
    let street = match street {
        Object::Text => {
            return Err(MappingError {
                field: Field::Address,
                rule: MappingError::OLD_STREET,
            });
        }
        street => given(street, Field::Address)?,
    };
    let mut address = String::with_capacity(96);
    push_part(&mut address, "", &text_or_integer(street.number, Field::Address)?)?;
    push_part(&mut address, " ", &text(street.name, Field::Address)?)?;
    for place in places {
        push_part(&mut address, ", ", &text(place, Field::Address)?)?;
    }
    Ok(address)
}

fn push_part(address: &mut String, separator: &str, part: &str) -> Result<(), MappingError> {
    let part = part.trim();
    if part.is_empty() {
        return Err(MappingError::new(Field::Address, &Reason::Blank));
    }
    address.push_str(separator);
    address.push_str(part);
    Ok(())
}

fn given<T>(object: Object<T>, field: Field) -> Result<T, MappingError> {
    match object {
        Object::Given(value) => Ok(value),
        Object::Missing => Err(MappingError::new(field, &Reason::Missing)),
        Object::Text | Object::Other => Err(MappingError::wrong_type(field)),
    }
}

fn text(value: Scalar<'_>, field: Field) -> Result<Cow<'_, str>, MappingError> {
    match value {
        Scalar::Text(text) => Ok(text),
        Scalar::Missing => Err(MappingError::new(field, &Reason::Missing)),
        Scalar::Integer(_) | Scalar::Other => Err(MappingError::wrong_type(field)),
    }
}

fn text_or_integer(value: Scalar<'_>, field: Field) -> Result<Cow<'_, str>, MappingError> {
    match value {
        Scalar::Integer(number) => Ok(number.to_string().into()),
        value => text(value, field),
    }
}

#[cfg(test)]
#[path = "mapping/tests.rs"]
mod tests;
