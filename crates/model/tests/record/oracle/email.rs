//! The type of an e-mail address: strict enough to catch a swapped field, lenient enough for the API's addresses.

use std::{borrow::Cow, fmt, ops::Deref};

use serde::{Serialize, Serializer};

use super::reason::Reason;
use super::text::Text;

/// A [`Text`] with exactly one `@` between two non-empty parts.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Email<'a>(Text<'a>);

impl<'a> Email<'a> {
    /// Validates an address.
    ///
    /// # Errors
    /// Those of [`Text::new`], and [`Reason::NotAnEmail`].
    pub fn new(text: impl Into<Cow<'a, str>>) -> Result<Self, Reason> {
        let text = Text::new(text)?;
        let (local, domain) = text.split_once('@').ok_or(Reason::NotAnEmail)?;
        if local.is_empty() || domain.is_empty() || domain.contains('@') {
            return Err(Reason::NotAnEmail);
        }
        Ok(Self(text))
    }

    /// The address.
    #[must_use]
    pub fn as_str(&self) -> &str {
        self.0.as_str()
    }

    /// Copies a borrowed address.
    #[must_use]
    pub fn into_owned(self) -> Email<'static> {
        Email(self.0.into_owned())
    }
}

impl Deref for Email<'_> {
    type Target = str;

    fn deref(&self) -> &str {
        self.as_str()
    }
}

impl fmt::Display for Email<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Shows only the length: the address is personal data.
impl fmt::Debug for Email<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Email({} bytes)", self.len())
    }
}

impl Serialize for Email<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self)
    }
}
