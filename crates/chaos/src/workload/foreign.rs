//! Records of another producer: invalid ones, which must become dead letters, and expired ones, which must delete their row.

use std::time::Duration;

use jiff::Timestamp;
use model::headers::kafka::ACCEPTED_AT_US;
use rand::RngExt as _;
use rand::rngs::StdRng;
use testkit::generator::Generator;
use testkit::kafka_client::ProducerRecord;

/// Rows that expire: those of a few keys, which the client writes from the start.
const ROWS: u64 = 12;

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

/// A valid record that was accepted two lifetimes ago.
pub(super) fn expired(generator: &Generator, row_ttl: Duration, rng: &mut StdRng) -> ProducerRecord {
    let record = generator.record(rng.random_range(0..ROWS), rng.random());
    let ttl = i64::try_from(row_ttl.as_micros()).unwrap_or(i64::MAX);
    let accepted = Timestamp::now()
        .as_microsecond()
        .saturating_sub(ttl.saturating_mul(2));
    ProducerRecord {
        headers: vec![(ACCEPTED_AT_US.to_owned(), accepted.to_string().into_bytes())],
        ..record.producer_record()
    }
}
