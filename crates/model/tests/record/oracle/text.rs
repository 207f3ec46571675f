//! The type of the record's strings. The text is kept as it is: not trimmed, not normalized.

use std::{borrow::Cow, fmt, ops::Deref};

use serde::{Serialize, Serializer};

use super::reason::{MAX_CHARACTERS, Reason};

/// A string of the record: not blank, at most [`Text::LONGEST`] characters, free of NUL.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Text<'a>(Cow<'a, str>);

impl<'a> Text<'a> {
    /// The maximum length, in Unicode scalar values.
    pub const LONGEST: usize = MAX_CHARACTERS;

    /// Validates a text.
    ///
    /// # Errors
    /// [`Reason::Blank`], [`Reason::TooLong`] or [`Reason::NulCharacter`].
    pub fn new(text: impl Into<Cow<'a, str>>) -> Result<Self, Reason> {
        let text = text.into();
        if text.chars().all(char::is_whitespace) {
            return Err(Reason::Blank);
        }
        // A character has at least one byte, so most texts don't have to be counted.
        if text.len() > Self::LONGEST && text.chars().count() > Self::LONGEST {
            return Err(Reason::TooLong);
        }
        if text.as_bytes().contains(&0) {
            return Err(Reason::NulCharacter);
        }
        Ok(Self(text))
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Copies a borrowed text.
    #[must_use]
    pub fn into_owned(self) -> Text<'static> {
        Text(Cow::Owned(self.0.into_owned()))
    }
}

impl Deref for Text<'_> {
    type Target = str;

    fn deref(&self) -> &str {
        self.as_str()
    }
}

impl fmt::Display for Text<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.as_str().fmt(f)
    }
}

/// Shows only the length: the text is personal data.
impl fmt::Debug for Text<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Text({} bytes)", self.0.len())
    }
}

impl Serialize for Text<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self)
    }
}
