//! Generates new users, new versions of users, and invalid bodies from a seed.

use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use testkit::people::Person;
use uuid::Uuid;

use super::invalid;

/// A body for the publisher.
#[derive(Clone, Debug)]
pub(super) struct Body {
    /// The user, if the body is valid.
    pub(super) id: Option<Uuid>,
    pub(super) json: String,
}

pub(super) struct UserGenerator {
    seed: u64,
    users: u64,
    versions: u64,
    rng: StdRng,
}

impl UserGenerator {
    pub(super) fn new(seed: u64) -> Self {
        Self {
            seed,
            users: 0,
            versions: 0,
            rng: StdRng::seed_from_u64(seed),
        }
    }

    /// True with a probability of one in `times`.
    pub(super) fn one_in(&mut self, times: u32) -> bool {
        self.rng.random_range(0..times) == 0
    }

    /// One in twenty is invalid; half of the others are new versions.
    pub(super) fn draw(&mut self) -> Body {
        if self.one_in(20) {
            let json = invalid::body(&mut self.rng);
            return Body { id: None, json };
        }
        if self.users > 0 && self.one_in(2) {
            let number = self.rng.random_range(0..self.users);
            return self.version(number);
        }
        self.new_user()
    }

    pub(super) fn new_user(&mut self) -> Body {
        self.users += 1;
        self.version(self.users - 1)
    }

    /// The id of a user that was generated before.
    pub(super) fn known_id(&mut self) -> Option<Uuid> {
        if self.users == 0 {
            return None;
        }
        let number = self.rng.random_range(0..self.users);
        Some(Person::new(self.seed, number).id)
    }

    /// Every text differs between versions, which reveals a row that mixes two of them.
    fn version(&mut self, number: u64) -> Body {
        self.versions += 1;
        let mut person = Person::new(self.seed, number);
        for text in &mut person.texts {
            text.push_str(&format!("v{}", self.versions));
        }
        person.dob += i64::try_from(self.versions).unwrap_or(0);
        Body {
            id: Some(person.id),
            json: String::from_utf8_lossy(&person.json()).into_owned(),
        }
    }
}
