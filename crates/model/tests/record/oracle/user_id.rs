//! The type of a user's id: the key of its row and of its Kafka records.

use std::{fmt, str::FromStr};

use serde::{Serialize, Serializer};
use uuid::Uuid;

use super::reason::Reason;

/// A uuid that is not nil. Parsed in its hyphenated form in any case, formatted in lower case.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct UserId(Uuid);

impl UserId {
    const TEXT_LENGTH: usize = uuid::fmt::Hyphenated::LENGTH;

    /// Parses the text of an id, for example a Kafka key.
    ///
    /// # Errors
    /// [`Reason::NotAUuid`], also for the braced, the simple and the URN form, and [`Reason::NilUuid`].
    pub fn parse(text: &[u8]) -> Result<Self, Reason> {
        if text.len() != Self::TEXT_LENGTH {
            return Err(Reason::NotAUuid); // The other forms of a uuid are longer or shorter.
        }
        let uuid = Uuid::try_parse_ascii(text).map_err(|_| Reason::NotAUuid)?;
        Self::try_from(uuid)
    }

    /// The canonical text: hyphenated, lower case. Does not allocate.
    #[must_use]
    pub fn text(self) -> UserIdText {
        let mut bytes = [0; Self::TEXT_LENGTH];
        self.0.hyphenated().encode_lower(&mut bytes);
        UserIdText(bytes)
    }
}

impl TryFrom<Uuid> for UserId {
    type Error = Reason;

    fn try_from(uuid: Uuid) -> Result<Self, Reason> {
        if uuid.is_nil() {
            Err(Reason::NilUuid)
        } else {
            Ok(Self(uuid))
        }
    }
}

impl FromStr for UserId {
    type Err = Reason;

    fn from_str(text: &str) -> Result<Self, Reason> {
        Self::parse(text.as_bytes())
    }
}

impl fmt::Display for UserId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.text().as_str().fmt(f)
    }
}

impl fmt::Debug for UserId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "UserId({self})")
    }
}

impl Serialize for UserId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.text().as_str())
    }
}

/// The canonical text of a [`UserId`] on the stack.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct UserIdText([u8; UserId::TEXT_LENGTH]);

impl UserIdText {
    /// The text as bytes: the key of the user's Kafka records.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).expect("the text of a uuid is ASCII")
    }
}

impl fmt::Debug for UserIdText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.as_str().fmt(f)
    }
}
