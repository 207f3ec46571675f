//! The record: twelve fields, of which one is optional.

use std::{borrow::Cow, fmt, str::FromStr};

use serde::Serialize;

use super::field::Field;
use super::invalid::Invalid;
use model::Instant;

use super::email::Email;
use super::reason::Reason;
use super::text::Text;
use super::user_id::UserId;

/// A user, valid by construction. Its strings borrow from the parsed JSON where possible.
#[derive(Clone, PartialEq, Eq, Serialize)]
pub struct User<'a> {
    id: UserId,
    first_name: Text<'a>,
    last_name: Text<'a>,
    gender: Text<'a>,
    address: Text<'a>,
    post_code: Text<'a>,
    email: Email<'a>,
    username: Text<'a>,
    dob: Instant,
    #[serde(skip_serializing_if = "Option::is_none")]
    registered_date: Option<Instant>,
    phone: Text<'a>,
    picture: Text<'a>,
}

/// The texts of a record before validation, the input of [`User::new`]. `None` is an absent field; an empty text is
/// invalid.
#[derive(Clone, Default)]
#[allow(missing_docs, reason = "each is documented in the contract, user.proto")]
pub struct UserFields<'a> {
    pub id: Cow<'a, str>,
    pub first_name: Cow<'a, str>,
    pub last_name: Cow<'a, str>,
    pub gender: Cow<'a, str>,
    pub address: Cow<'a, str>,
    pub post_code: Cow<'a, str>,
    pub email: Cow<'a, str>,
    pub username: Cow<'a, str>,
    pub dob: Cow<'a, str>,
    pub registered_date: Option<Cow<'a, str>>,
    pub phone: Cow<'a, str>,
    pub picture: Cow<'a, str>,
}

impl<'a> User<'a> {
    /// Validates the texts of a record.
    ///
    /// # Errors
    /// The first field, in the contract's order, that is invalid.
    pub fn new(fields: UserFields<'a>) -> Result<Self, Invalid> {
        let id = UserId::from_str(&fields.id);
        let known = id.as_ref().ok().copied();
        Self::with_id(id, fields).map_err(|invalid| invalid.of(known))
    }

    fn with_id(id: Result<UserId, Reason>, fields: UserFields<'a>) -> Result<Self, Invalid> {
        Ok(Self {
            id: id.map_err(|reason| reason.of(Field::Id))?,
            first_name: text(Field::FirstName, fields.first_name)?,
            last_name: text(Field::LastName, fields.last_name)?,
            gender: text(Field::Gender, fields.gender)?,
            address: text(Field::Address, fields.address)?,
            post_code: text(Field::PostCode, fields.post_code)?,
            email: Email::new(fields.email).map_err(|reason| reason.of(Field::Email))?,
            username: text(Field::Username, fields.username)?,
            dob: instant(Field::Dob, &fields.dob)?,
            registered_date: fields
                .registered_date
                .map(|text| instant(Field::RegisteredDate, &text))
                .transpose()?,
            phone: text(Field::Phone, fields.phone)?,
            picture: text(Field::Picture, fields.picture)?,
        })
    }

    /// Copies the borrowed strings.
    #[must_use]
    pub fn into_owned(self) -> User<'static> {
        User {
            id: self.id,
            first_name: self.first_name.into_owned(),
            last_name: self.last_name.into_owned(),
            gender: self.gender.into_owned(),
            address: self.address.into_owned(),
            post_code: self.post_code.into_owned(),
            email: self.email.into_owned(),
            username: self.username.into_owned(),
            dob: self.dob,
            registered_date: self.registered_date,
            phone: self.phone.into_owned(),
            picture: self.picture.into_owned(),
        }
    }
}

fn text(field: Field, text: Cow<'_, str>) -> Result<Text<'_>, Invalid> {
    Text::new(text).map_err(|reason| reason.of(field))
}

fn instant(field: Field, text: &str) -> Result<Instant, Invalid> {
    text.parse().map_err(|reason: model::Reason| match reason {
        model::Reason::OutOfRange => Reason::OutOfRange.of(field),
        _ => Reason::NotAnInstant.of(field),
    })
}

#[allow(missing_docs, reason = "each is documented in the contract, user.proto")]
impl<'a> User<'a> {
    #[must_use]
    pub const fn id(&self) -> UserId {
        self.id
    }

    #[must_use]
    pub const fn first_name(&self) -> &Text<'a> {
        &self.first_name
    }

    #[must_use]
    pub const fn last_name(&self) -> &Text<'a> {
        &self.last_name
    }

    #[must_use]
    pub const fn gender(&self) -> &Text<'a> {
        &self.gender
    }

    #[must_use]
    pub const fn address(&self) -> &Text<'a> {
        &self.address
    }

    #[must_use]
    pub const fn post_code(&self) -> &Text<'a> {
        &self.post_code
    }

    #[must_use]
    pub const fn email(&self) -> &Email<'a> {
        &self.email
    }

    #[must_use]
    pub const fn username(&self) -> &Text<'a> {
        &self.username
    }

    #[must_use]
    pub const fn dob(&self) -> Instant {
        self.dob
    }

    #[must_use]
    pub const fn registered_date(&self) -> Option<Instant> {
        self.registered_date
    }

    #[must_use]
    pub const fn phone(&self) -> &Text<'a> {
        &self.phone
    }

    #[must_use]
    pub const fn picture(&self) -> &Text<'a> {
        &self.picture
    }
}

/// Shows the id only: the rest is personal data.
impl fmt::Debug for User<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("User")
            .field("id", &self.id)
            .finish_non_exhaustive()
    }
}
