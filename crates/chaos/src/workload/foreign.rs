//! Invalid records of another producer, which must become dead letters.

use rand::RngExt as _;
use rand::rngs::StdRng;
use testkit::generator::Generator;
use testkit::kafka_client::ProducerRecord;

/// A record that breaks the contract.
pub(super) fn record(generator: &Generator, rng: &mut StdRng) -> ProducerRecord {
    let value = match rng.random_range(0..6) {
        0 => Some(vec![0xff, 0xfe, 0x00]),
        1 => Some(Vec::new()),
        // A tombstone without a key.
        2 => None,
        _ => Some(generator.invalid(rng)),
    };
    ProducerRecord {
        // No text, uuid or number is a key with NUL.
        key: rng.random_bool(0.5).then(|| b"no\0body".to_vec()),
        value,
        headers: vec![("origin".to_owned(), b"elsewhere".to_vec())],
        ..ProducerRecord::default()
    }
}
