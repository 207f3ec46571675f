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

    /// The uuid.
    #[must_use]
    pub const fn as_uuid(&self) -> &Uuid {
        &self.0
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn id_is_parsed_in_any_case_and_formatted_in_lower_case() {
        let id: UserId = "0195D0B1-7a4c-7F3E-9B1a-2C3D4E5F6071".parse().unwrap();
        assert_eq!(id.to_string(), "0195d0b1-7a4c-7f3e-9b1a-2c3d4e5f6071");
        assert_eq!(UserId::parse(id.text().as_bytes()), Ok(id));
    }

    #[test]
    fn only_the_hyphenated_form_is_parsed() {
        for text in [
            "",
            "0195d0b17a4c7f3e9b1a2c3d4e5f6071",
            "{0195d0b1-7a4c-7f3e-9b1a-2c3d4e5f6071}",
            "urn:uuid:0195d0b1-7a4c-7f3e-9b1a-2c3d4e5f6071",
            " 195d0b1-7a4c-7f3e-9b1a-2c3d4e5f6071",
            "0195d0b17-a4c-7f3e-9b1a-2c3d4e5f6071",
            "0195d0b1-7a4c-7f3e-9b1a-2c3d4e5f607g",
            "0195d0b1-7a4c-7f3e-9b1a-2c3d4e5f607é",
            "{195d0b1-7a4c-7f3e-9b1a-2c3d4e5f607}",
        ] {
            assert_eq!(text.parse::<UserId>(), Err(Reason::NotAUuid), "{text}");
        }
    }

    #[test]
    fn nil_uuid_is_refused() {
        assert_eq!(
            "00000000-0000-0000-0000-000000000000".parse::<UserId>(),
            Err(Reason::NilUuid)
        );
    }
}
