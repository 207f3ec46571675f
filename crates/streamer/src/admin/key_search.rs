//! Finds the records of one key, also those that other producers wrote in another form. Pure.

use std::sync::Arc;

use ::kafka::headers::Header;
use model::{Contract, Key};
use serde::Serialize;

use crate::admin::error::CommandError;

/// A key that an operator searches for.
#[derive(Clone)]
pub(super) struct KeySearch {
    contract: Arc<Contract>,
    key: Key,
    text: Box<[u8]>,
}

/// What a record has of the key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Occurrence {
    /// It is a record of the key, valid or not.
    Record,
    /// It deletes the key, and has nothing but the key.
    Tombstone,
    /// It is no record of the key, but has its text.
    Mention,
}

impl Occurrence {
    /// The name for operators.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Record => "record",
            Self::Tombstone => "tombstone",
            Self::Mention => "mention",
        }
    }
}

impl KeySearch {
    /// Parses the text of a key, also one that is not canonical.
    ///
    /// # Errors
    /// [`CommandError::Key`].
    pub(super) fn parse(contract: &Arc<Contract>, text: &str) -> Result<Self, CommandError> {
        let key = contract.parse_key(text.as_bytes());
        let key = key.map_err(|reason| CommandError::Key {
            text: text.escape_debug().to_string(),
            reason,
        })?;
        Ok(Self {
            contract: Arc::clone(contract),
            text: key.text().as_bytes().into(),
            key,
        })
    }

    /// The key.
    pub(super) fn key(&self) -> &Key {
        &self.key
    }

    /// The canonical text of the key, which is the Kafka key of its records.
    pub(super) fn text(&self) -> &[u8] {
        &self.text
    }

    /// Whether a Kafka key is the key, in any form.
    pub(super) fn is_key(&self, key: Option<&[u8]>) -> bool {
        key.is_some_and(|key| *key == *self.text || self.contract.parse_key(key).as_ref() == Ok(&self.key))
    }

    /// Whether a record has the key as its Kafka key or in its value.
    pub(super) fn is_record(&self, key: Option<&[u8]>, value: Option<&[u8]>) -> bool {
        self.is_key(key)
            || value.is_some_and(|value| match self.contract.parse_lenient(value) {
                Ok(record) => record.key() == self.key,
                Err(invalid) => invalid.key() == Some(&self.key),
            })
    }

    /// Returns what a record has of the key, by its parsed keys and by the bytes of its parts.
    pub(super) fn occurrence<'a>(
        &self,
        key: Option<&[u8]>,
        value: Option<&[u8]>,
        mut headers: impl Iterator<Item = Header<'a>>,
    ) -> Option<Occurrence> {
        if self.is_record(key, value) {
            let occurrence = if value.is_none() {
                Occurrence::Tombstone
            } else {
                Occurrence::Record
            };
            return Some(occurrence);
        }
        let mentions = |part: Option<&[u8]>| part.is_some_and(|part| self.is_mentioned(part));
        let is_mentioned = mentions(key) || mentions(value) || headers.any(|(_, value)| mentions(value));
        is_mentioned.then_some(Occurrence::Mention)
    }

    /// Whether the bytes have the text of the key, in upper or lower case, as a word of its own: `7` is not in `17`.
    fn is_mentioned(&self, bytes: &[u8]) -> bool {
        let length = self.text.len();
        let is_word = |byte: Option<&u8>| byte.is_some_and(u8::is_ascii_alphanumeric);
        let mut windows = bytes.windows(length).enumerate();
        windows.any(|(start, window)| {
            window.eq_ignore_ascii_case(&self.text)
                && !is_word(start.checked_sub(1).and_then(|before| bytes.get(before)))
                && !is_word(bytes.get(start + length))
        })
    }
}

#[cfg(test)]
mod tests {
    use testkit::people::Person;

    use super::*;

    const KEY: &str = "0195d0b1-7a4c-7f3e-9b1a-2c3d4e5f6071";

    fn search() -> KeySearch {
        KeySearch::parse(&Contract::user(), KEY).unwrap()
    }

    fn found(key: Option<&str>, value: Option<&str>, header: &str) -> Option<Occurrence> {
        let header = [(b"h".as_slice(), Some(header.as_bytes()))];
        search().occurrence(
            key.map(str::as_bytes),
            value.map(str::as_bytes),
            header.into_iter(),
        )
    }

    #[test]
    fn record_is_found_by_its_kafka_key_or_the_key_in_its_value() {
        let upper = KEY.to_ascii_uppercase();
        assert_eq!(found(Some(KEY), Some("garbage"), ""), Some(Occurrence::Record));
        assert_eq!(found(Some(&upper), Some("garbage"), ""), Some(Occurrence::Record));
        assert_eq!(found(Some(&upper), None, ""), Some(Occurrence::Tombstone));
        let person = Person::new(7, 1);
        let escaped = KEY.replace('-', "\\u002d");
        let value = String::from_utf8(person.json()).unwrap();
        let value = value.replace(&person.id.to_string(), &escaped);
        assert_eq!(found(None, Some(&value), ""), Some(Occurrence::Record));
    }

    #[test]
    fn bytes_of_the_key_are_a_mention() {
        let malformed = format!("{{\"id\":\"{KEY}");
        assert_eq!(found(None, Some(&malformed), ""), Some(Occurrence::Mention));
        assert_eq!(found(None, Some("garbage"), KEY), Some(Occurrence::Mention));
        let longer = format!("a{KEY}");
        assert_eq!(found(Some(&longer), Some("garbage"), &format!("{KEY}1")), None);
        assert_eq!(found(None, Some("garbage"), "0195d0b1"), None);
    }

    #[test]
    fn text_that_is_no_key_is_refused() {
        let Err(error) = KeySearch::parse(&Contract::user(), "7\n") else {
            panic!("a user's key is a uuid")
        };
        assert!(error.to_string().starts_with("`7\\n` is not a key"), "{error}");
    }
}
