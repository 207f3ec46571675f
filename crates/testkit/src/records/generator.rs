//! Generates records of any contract from a seed: valid ones in several versions and spellings, invalid ones, and
//! tombstones. The same seed gives the same records.

mod invalid;
mod value;

use std::sync::Arc;

use model::{Contract, Field, Key, Presence};
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};

use self::value::Spelling;
use crate::kafka_client::ProducerRecord;
use crate::rows::RowId;

/// Records with consecutive numbers that share a key, if the contract has clustering fields.
pub const ROWS_PER_KEY: u64 = 4;

/// Generates the records of a contract.
#[derive(Debug, Clone)]
pub struct Generator {
    contract: Arc<Contract>,
    seed: u64,
}

/// A valid record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GeneratedRecord {
    /// The primary key of its row.
    pub id: RowId,
    /// JSON in one line; not always canonical.
    pub json: Vec<u8>,
}

impl GeneratedRecord {
    /// The record as the publisher writes it, without headers.
    pub fn producer_record(&self) -> ProducerRecord {
        ProducerRecord {
            value: Some(self.json.clone()),
            ..tombstone(&self.id.key)
        }
    }
}

/// The tombstone of a key.
pub fn tombstone(key: &Key) -> ProducerRecord {
    ProducerRecord {
        key: Some(key.text().as_bytes().to_vec()),
        ..ProducerRecord::default()
    }
}

impl Generator {
    /// Other seeds give records with other keys.
    pub fn new(contract: Arc<Contract>, seed: u64) -> Self {
        Self { contract, seed }
    }

    /// The contract.
    pub fn contract(&self) -> &Arc<Contract> {
        &self.contract
    }

    /// Generates a version of the record with this number. Versions have the same primary key, and differ in every text.
    pub fn record(&self, number: u64, version: u64) -> GeneratedRecord {
        let mut rng = self.rng(&[number, version]);
        let spelling = Spelling::random(&mut rng);
        let values = self.values(number, spelling, &mut rng);
        let json = self.json(&values, spelling);
        let record = self.contract.parse_strict(&json);
        let record = record.unwrap_or_else(|invalid| panic!("a generated record is invalid: {invalid}"));
        GeneratedRecord {
            id: RowId::of(&record),
            json,
        }
    }

    /// The key of the record with this number.
    pub fn key(&self, number: u64) -> Key {
        self.record(number, 0).id.key
    }

    /// The raw JSON of each field, by slot; `None` if it is absent.
    fn values(&self, number: u64, spelling: Spelling, rng: &mut StdRng) -> Vec<Option<String>> {
        let clustering = self.contract.clustering();
        let of_key = if clustering.is_empty() {
            number
        } else {
            number / ROWS_PER_KEY
        };
        let (mut key_rng, mut row_rng) = (self.rng(&[of_key]), self.rng(&[number]));
        let fields = self.contract.fields().iter().enumerate();
        let values = fields.map(|(slot, field)| {
            if slot == self.contract.key() {
                Some(value::of_key(field, spelling, &mut key_rng))
            } else if clustering.contains(&slot) {
                Some(value::of_key(field, spelling, &mut row_rng))
            } else {
                is_given(field, spelling, rng).then(|| value::of(field, spelling, rng))
            }
        });
        values.collect()
    }

    /// Joins the given values to an object.
    fn json(&self, values: &[Option<String>], spelling: Spelling) -> Vec<u8> {
        let fields = self.contract.fields().iter().zip(values);
        let mut members: Vec<_> = fields
            .filter_map(|(field, value)| Some((field.name(), value.as_deref()?)))
            .collect();
        if spelling == Spelling::Varied {
            members.reverse();
        }
        object(&members, spelling)
    }

    /// Random numbers of this place in the series.
    fn rng(&self, place: &[u64]) -> StdRng {
        let parts = [self.seed].into_iter().chain(place.iter().copied());
        let seed = parts.fold(0, |state: u64, part| mix(state.wrapping_add(part)));
        StdRng::seed_from_u64(seed)
    }
}

/// A step of SplitMix64, which spreads its input over all bits.
fn mix(state: u64) -> u64 {
    let mut mixed = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

fn object(members: &[(&str, &str)], spelling: Spelling) -> Vec<u8> {
    let space = if spelling == Spelling::Varied { " " } else { "" };
    let members = members
        .iter()
        .map(|(name, value)| format!("\"{name}\":{space}{value}"));
    let members = members.collect::<Vec<_>>().join(&format!(",{space}"));
    format!("{{{members}}}").into_bytes()
}

fn is_given(field: &Field, spelling: Spelling, rng: &mut StdRng) -> bool {
    match field.presence() {
        Presence::Required => true,
        Presence::Optional => rng.random_ratio(3, 4),
        // The canonical encoding has empty ones.
        Presence::List | Presence::Map => spelling == Spelling::Canonical || rng.random_ratio(1, 2),
    }
}

#[cfg(test)]
#[path = "generator/tests.rs"]
mod tests;
