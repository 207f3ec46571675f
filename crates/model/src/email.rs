//! The rule of an e-mail address: enough to catch a wrong field, lenient enough for every address the API makes up.

use std::{borrow::Cow, fmt, ops::Deref};

use serde::{Serialize, Serializer};

use crate::{Reason, Text};

/// A [`Text`] with exactly one `@`, which has something on either side.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Email<'a>(Text<'a>);

impl<'a> Email<'a> {
    /// Takes an address that keeps the rule.
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

    /// The address itself.
    #[must_use]
    pub fn as_str(&self) -> &str {
        self.0.as_str()
    }

    /// The same address, free of what it was parsed from.
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

/// Shows no character of the address, which is about a person.
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_at_sign_between_two_parts_is_an_address() {
        for text in ["a@b", "مهدی.یاسمی@example.com", "o'neill+x@[::1]"] {
            assert_eq!(Email::new(text).unwrap().as_str(), text);
        }
        for text in ["a", "@", "a@", "@b", "a@@b", "a@b@c"] {
            assert_eq!(Email::new(text), Err(Reason::NotAnEmail), "{text}");
        }
        assert_eq!(Email::new(" "), Err(Reason::Blank));
        assert_eq!(Email::new(format!("a@{}", "b".repeat(511))), Err(Reason::TooLong));
    }
}
