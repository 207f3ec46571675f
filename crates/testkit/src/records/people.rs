//! Users for tests and benches: about 420 bytes of JSON each, generated from a number, so that two processes generate
//! the same rows.

use std::borrow::Cow;
use std::ops::Range;

use model::{Contract, CqlType, Scalar};
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use uuid::{Builder, Uuid};

/// Maximum length of a text by the contract, in characters.
const MAX_TEXT: usize = 512;

/// A generated user.
pub struct Person {
    /// The id.
    pub id: Uuid,
    /// The text fields, in the contract's order.
    pub texts: [String; 9],
    /// The instants in the contract's order, in milliseconds since 1970.
    pub instants: [i64; 2],
}

/// Returns the names of the text columns, in the order of [`Person::texts`].
pub fn text_columns() -> Vec<String> {
    let contract = Contract::user();
    let texts = contract
        .fields()
        .iter()
        .filter(|field| field.cql() == CqlType::Text);
    texts.map(|field| field.name().to_owned()).collect()
}

impl Person {
    /// Generates the user with this number of the series `seed`.
    pub fn new(seed: u64, number: u64) -> Self {
        let mut rng = StdRng::seed_from_u64(seed ^ number.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let id = Builder::from_random_bytes(rng.random()).into_uuid();
        let tag: u32 = rng.random();
        Self {
            id,
            texts: [
                format!("Firstname{}", tag % 1000),
                format!("Lastname{}", tag % 10_000),
                "female".to_owned(),
                format!(
                    "{} Some Street, A Town Of Size, Its Own State, The Country",
                    tag % 10_000
                ),
                format!("{:05}", tag % 100_000),
                format!("firstname.lastname{tag}@example.com"),
                format!("heavyswan{}", tag % 1000),
                format!("({:03})-555-{:04}", tag % 1000, tag % 10_000),
                format!(
                    "https://pictures.example.com/portraits/med/women/{}.jpg",
                    tag % 100
                ),
            ],
            instants: [i64::from(tag) * 100, 1_000_000_000_000 + i64::from(tag) * 100],
        }
    }

    /// Lengthens the texts until the record has about `bytes`, at most nine columns of 512 characters. The added letters
    /// are random, so that they do not compress.
    #[must_use]
    pub fn padded(mut self, bytes: usize) -> Self {
        let mut missing = bytes.saturating_sub(self.json().len());
        let mut letters = StdRng::seed_from_u64(self.id.as_u64_pair().0);
        for text in &mut self.texts {
            let more = missing.min(MAX_TEXT.saturating_sub(text.len()));
            let filling = (0..more).map(|_| char::from(letters.random_range(b'a'..=b'z')));
            text.insert_str(0, &filling.collect::<String>());
            missing -= more;
        }
        self
    }

    /// The record as JSON.
    pub fn json(&self) -> Vec<u8> {
        let (mut texts, mut instants) = (self.texts.iter(), self.instants.iter());
        let mut json = String::with_capacity(480);
        for field in Contract::user().fields() {
            let value: Option<Cow<'_, str>> = match field.scalar() {
                Scalar::Uuid => Some(self.id.to_string().into()),
                Scalar::Timestamp => instants.next().map(|millis| instant(*millis).into()),
                _ => texts.next().map(Into::into),
            };
            // A field that was added to the contract is optional.
            let Some(value) = value else { continue };
            json.push(if json.is_empty() { '{' } else { ',' });
            for part in ["\"", field.name(), "\":\"", &value, "\""] {
                json.push_str(part);
            }
        }
        json.push('}');
        json.into_bytes()
    }
}

/// Generates a range of the series `seed`.
pub fn people(seed: u64, numbers: Range<u64>) -> impl Iterator<Item = Person> {
    numbers.map(move |number| Person::new(seed, number))
}

fn instant(millis: i64) -> String {
    jiff::Timestamp::from_millisecond(millis)
        .map_or_else(|_| String::new(), |instant| format!("{instant:.3}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn person_is_a_valid_record_of_about_420_bytes() {
        let json = Person::new(1, 7).json();
        assert!(Contract::user().parse_strict(&json).is_ok());
        assert!((380..460).contains(&json.len()), "{}", json.len());
        assert_ne!(Person::new(1, 7).id, Person::new(1, 8).id);
    }

    #[test]
    fn padded_person_is_a_valid_record_of_the_given_size() {
        for bytes in [1_024, 4_096] {
            let json = Person::new(1, 7).padded(bytes).json();
            assert_eq!(json.len(), bytes);
            assert!(Contract::user().parse_strict(&json).is_ok());
        }
        assert_eq!(Person::new(1, 7).padded(0).json(), Person::new(1, 7).json());
    }
}
