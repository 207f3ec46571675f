//! Users for tests and benches: about 420 bytes of JSON each, generated from a number, so that two processes generate
//! the same rows.

use std::ops::Range;

use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use uuid::{Builder, Uuid};

/// Maximum length of a text by the contract, in characters.
const MAX_TEXT: usize = 512;

/// A generated user.
pub struct Person {
    /// The id.
    pub id: Uuid,
    /// The text columns, in the order of [`TEXT_COLUMNS`](crate::cassandra_client::TEXT_COLUMNS).
    pub texts: [String; 9],
    /// Milliseconds since 1970.
    pub dob: i64,
    /// Milliseconds since 1970.
    pub registered: i64,
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
            dob: i64::from(tag) * 100,
            registered: 1_000_000_000_000 + i64::from(tag) * 100,
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
        let [
            first,
            last,
            gender,
            address,
            post_code,
            email,
            username,
            phone,
            picture,
        ] = &self.texts;
        let (dob, registered) = (instant(self.dob), instant(self.registered));
        format!(
            r#"{{"id":"{}","first_name":"{first}","last_name":"{last}","gender":"{gender}","address":"{address}","post_code":"{post_code}","email":"{email}","username":"{username}","dob":"{dob}","registered_date":"{registered}","phone":"{phone}","picture":"{picture}"}}"#,
            self.id
        )
        .into_bytes()
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
        assert!(model::User::parse_strict(&json).is_ok());
        assert!((380..460).contains(&json.len()), "{}", json.len());
        assert_ne!(Person::new(1, 7).id, Person::new(1, 8).id);
    }

    #[test]
    fn padded_person_is_a_valid_record_of_the_given_size() {
        for bytes in [1_024, 4_096] {
            let json = Person::new(1, 7).padded(bytes).json();
            assert_eq!(json.len(), bytes);
            assert!(model::User::parse_strict(&json).is_ok());
        }
        assert_eq!(Person::new(1, 7).padded(0).json(), Person::new(1, 7).json());
    }
}
