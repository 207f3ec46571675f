//! New people, new versions of people, and bodies that are no record, from a seed.

use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use uuid::Uuid;

use testkit::people::Person;

/// A body for the publisher.
#[derive(Clone, Debug)]
pub(super) struct Minted {
    /// Whose record it is; none, when it is no valid one.
    pub(super) id: Option<Uuid>,
    pub(super) json: String,
}

/// Makes them.
pub(super) struct Mint {
    seed: u64,
    people: u64,
    versions: u64,
    chance: StdRng,
}

impl Mint {
    pub(super) fn new(seed: u64) -> Self {
        Self {
            seed,
            people: 0,
            versions: 0,
            chance: StdRng::seed_from_u64(seed),
        }
    }

    pub(super) fn once_in(&mut self, times: u32) -> bool {
        self.chance.random_range(0..times) == 0
    }

    /// One in twenty is bad, half of the others are new versions.
    pub(super) fn draw(&mut self) -> Minted {
        if self.once_in(20) {
            let json = super::bad::body(&mut self.chance);
            return Minted { id: None, json };
        }
        if self.people > 0 && self.once_in(2) {
            let number = self.chance.random_range(0..self.people);
            return self.version(number);
        }
        self.person()
    }

    /// Somebody new.
    pub(super) fn person(&mut self) -> Minted {
        self.people += 1;
        self.version(self.people - 1)
    }

    /// Somebody who was minted before.
    pub(super) fn known(&mut self) -> Option<Uuid> {
        if self.people == 0 {
            return None;
        }
        let number = self.chance.random_range(0..self.people);
        Some(Person::new(self.seed, number).id)
    }

    /// Every text differs from that of any other version, so that a row of two versions is seen.
    fn version(&mut self, number: u64) -> Minted {
        self.versions += 1;
        let mut person = Person::new(self.seed, number);
        for text in &mut person.texts {
            text.push_str(&format!("v{}", self.versions));
        }
        person.dob += i64::try_from(self.versions).unwrap_or(0);
        Minted {
            id: Some(person.id),
            json: String::from_utf8_lossy(&person.json()).into_owned(),
        }
    }
}
