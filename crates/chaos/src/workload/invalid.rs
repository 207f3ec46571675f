//! Invalid bodies, which the publisher must reject, and invalid records, which must become dead letters.

use rand::RngExt as _;
use rand::rngs::StdRng;

use testkit::kafka_client::ProducerRecord;
use testkit::people::Person;

/// A line of NDJSON that breaks one rule of the record contract.
pub(super) fn body(rng: &mut StdRng) -> String {
    let person = Person::new(rng.random(), 0);
    let valid = String::from_utf8_lossy(&person.json()).into_owned();
    let (id, name) = (person.id.to_string(), &person.texts[0]);
    match rng.random_range(0..12) {
        0 => "{".to_owned(),
        1 => "[1]".to_owned(),
        2 => valid.replace(&id, "00000000-0000-0000-0000-000000000000"),
        3 => valid.replace(&id, "no-uuid"),
        4 => valid.replace('@', "-at-"),
        5 => valid.replace(&format!("\"{name}\""), "\"  \""),
        6 => valid.replace(&format!("\"{name}\""), &format!("\"{}\"", "x".repeat(513))),
        7 => valid.replace(&format!("\"{name}\""), "\"a\\u0000b\""),
        8 => valid.replace(&format!("\"{name}\""), "null"),
        9 => valid.replace("\"gender\":\"female\",", ""),
        10 => valid.replacen("\"dob\":\"", "\"dob\":\"x", 1),
        _ => valid.replace("\"gender\"", "\"first_name\":\"twice\",\"gender\""),
    }
}

/// A record of another producer.
pub(super) fn record(rng: &mut StdRng) -> ProducerRecord {
    let value = match rng.random_range(0..6) {
        0 => Some(vec![0xff, 0xfe, 0x00]),
        1 => Some(Vec::new()),
        // A tombstone without a user.
        2 => None,
        _ => Some(body(rng).into_bytes()),
    };
    ProducerRecord {
        key: rng.random_bool(0.5).then(|| b"nobody".to_vec()),
        value,
        headers: vec![("origin".to_owned(), b"elsewhere".to_vec())],
        ..ProducerRecord::default()
    }
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng as _;

    use super::*;

    #[test]
    fn both_parsers_reject_invalid_bodies() {
        let mut rng = StdRng::seed_from_u64(1);
        for _ in 0..500 {
            let body = body(&mut rng);
            assert!(model::User::parse_strict(body.as_bytes()).is_err(), "{body}");
            assert!(model::User::parse_lenient(body.as_bytes()).is_err(), "{body}");
        }
    }
}
