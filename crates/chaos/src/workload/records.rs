//! Generates new records, new versions of records, and invalid bodies from a seed.

use std::sync::Arc;

use model::{Contract, Key};
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use testkit::generator::Generator;
use testkit::rows::RowId;

/// A body for the publisher.
#[derive(Clone, Debug)]
pub(super) struct Body {
    /// The row, if the body is valid.
    pub(super) id: Option<RowId>,
    /// One line.
    pub(super) json: Vec<u8>,
}

pub(super) struct RecordGenerator {
    generator: Generator,
    records: u64,
    versions: u64,
    rng: StdRng,
}

impl RecordGenerator {
    pub(super) fn new(contract: Arc<Contract>, seed: u64) -> Self {
        Self {
            generator: Generator::new(contract, seed),
            records: 0,
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
            let json = self.generator.invalid(&mut self.rng);
            return Body { id: None, json };
        }
        if self.records > 0 && self.one_in(2) {
            let number = self.rng.random_range(0..self.records);
            return self.version(number);
        }
        self.new_record()
    }

    pub(super) fn new_record(&mut self) -> Body {
        self.records += 1;
        self.version(self.records - 1)
    }

    /// The key of a record that was generated before.
    pub(super) fn known_key(&mut self) -> Option<Key> {
        if self.records == 0 {
            return None;
        }
        let number = self.rng.random_range(0..self.records);
        Some(self.generator.key(number))
    }

    /// Every text differs between versions, which reveals a row that mixes two of them.
    fn version(&mut self, number: u64) -> Body {
        self.versions += 1;
        let record = self.generator.record(number, self.versions);
        Body {
            id: Some(record.id),
            json: record.json,
        }
    }
}
