//! What is no record: bodies that the publisher must refuse, and records of other producers that must become dead letters,
//! or that are odd and yet are rows.

use rand::RngExt as _;
use rand::rngs::StdRng;

use testkit::kafka_client::ProducerRecord;
use testkit::people::Person;

/// A line of NDJSON that is no valid record; each breaks one rule of the contract.
pub(super) fn body(chance: &mut StdRng) -> String {
    let person = Person::new(chance.random(), 0);
    let good = String::from_utf8_lossy(&person.json()).into_owned();
    let (id, name) = (person.id.to_string(), &person.texts[0]);
    match chance.random_range(0..12) {
        0 => "{".to_owned(),
        1 => "[1]".to_owned(),
        2 => good.replace(&id, "00000000-0000-0000-0000-000000000000"),
        3 => good.replace(&id, "no-uuid"),
        4 => good.replace('@', "-at-"),
        5 => good.replace(&format!("\"{name}\""), "\"  \""),
        6 => good.replace(&format!("\"{name}\""), &format!("\"{}\"", "x".repeat(513))),
        7 => good.replace(&format!("\"{name}\""), "\"a\\u0000b\""),
        8 => good.replace(&format!("\"{name}\""), "null"),
        9 => good.replace("\"gender\":\"female\",", ""),
        10 => good.replacen("\"dob\":\"", "\"dob\":\"x", 1),
        _ => good.replace("\"gender\"", "\"first_name\":\"twice\",\"gender\""),
    }
}

/// A record as another producer may write it.
pub(super) fn record(chance: &mut StdRng) -> ProducerRecord {
    let value = match chance.random_range(0..6) {
        0 => Some(vec![0xff, 0xfe, 0x00]),
        1 => Some(Vec::new()),
        // A deletion of nobody.
        2 => None,
        _ => Some(body(chance).into_bytes()),
    };
    ProducerRecord {
        key: chance.random_bool(0.5).then(|| b"nobody".to_vec()),
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
    fn no_body_is_a_record_either_way_it_is_read() {
        let mut chance = StdRng::seed_from_u64(1);
        for _ in 0..500 {
            let body = body(&mut chance);
            assert!(model::User::parse_strict(body.as_bytes()).is_err(), "{body}");
            assert!(model::User::parse_lenient(body.as_bytes()).is_err(), "{body}");
        }
    }
}
