//! Tests of the generated records: valid, invalid, in several versions, and tombstones.

use std::collections::BTreeSet;

use model::CqlType;

use super::*;
use crate::record_type::RecordType;
use crate::rows::row;

/// Every type, in every presence that it may have.
const EVERYTHING: &str = r#"
    syntax = "proto3";
    package test.v1;
    import "affluent/options/v1/options.proto";
    import "google/protobuf/timestamp.proto";
    enum Level { LEVEL_LOW = 0; LEVEL_HIGH = 1; }
    message Everything {
      option (affluent.options.v1.record) = { resource: "things" key: "name" clustering: ["number", "at", "level"] };
      string name = 1 [(affluent.options.v1.rule).max_length = 20];
      int32 number = 2;
      google.protobuf.Timestamp at = 3;
      Level level = 4;
      string code = 5 [(affluent.options.v1.rule).max_length = 1];
      string mail = 6 [(affluent.options.v1.rule).format = EMAIL];
      optional bool flag = 7;
      uint32 count = 8;
      int64 long = 9;
      float narrow = 10;
      double wide = 11;
      bytes raw = 12;
      optional string id = 13 [(affluent.options.v1.rule).format = UUID];
      repeated float floats = 14;
      repeated Level levels = 15;
      map<string, bytes> blobs = 16;
      map<string, google.protobuf.Timestamp> times = 17;
      repeated string texts = 18;
    }"#;

fn contracts() -> Vec<Arc<Contract>> {
    vec![
        Contract::user(),
        RecordType::load("orders").unwrap().contract().clone(),
        Arc::new(Contract::from_source(EVERYTHING).unwrap()),
    ]
}

#[test]
fn records_are_valid_and_reproducible() {
    for contract in contracts() {
        let generator = Generator::new(contract.clone(), 7);
        let mut canonical = 0;
        for number in 0..300 {
            let record = generator.record(number, number % 3);
            assert_eq!(
                record,
                Generator::new(contract.clone(), 7).record(number, number % 3)
            );
            let parsed = contract.parse_lenient(&record.json).unwrap();
            assert!(!parsed.has_unknown_fields() && record.json.len() < 64 << 10);
            assert!(!record.json.contains(&b'\n'), "a record is a line of NDJSON");
            canonical += usize::from(parsed.is_canonical(&record.json));
        }
        assert!(
            (150..290).contains(&canonical),
            "{canonical} of 300 are canonical"
        );
    }
}

#[test]
fn versions_have_one_primary_key_and_different_texts() {
    for contract in contracts() {
        let generator = Generator::new(contract.clone(), 7);
        let texts: Vec<_> = contract
            .fields()
            .iter()
            .filter(|field| field.is_required() && field.cql() == CqlType::Text && field.max_length() > 8)
            .filter(|field| {
                contract
                    .primary_key()
                    .all(|slot| contract.fields()[slot].name() != field.name())
            })
            .collect();
        for number in 0..50 {
            let [one, other] = [1, 2].map(|version| generator.record(number, version));
            assert_eq!(one.id, other.id);
            let rows = [&one, &other].map(|it| row(&contract.parse_strict(&it.json).unwrap()));
            for field in &texts {
                let is_enum = matches!(field.scalar(), model::Scalar::Enum(_));
                assert!(
                    is_enum || rows[0][field.name()] != rows[1][field.name()],
                    "{}",
                    field.name()
                );
            }
        }
    }
}

#[test]
fn clustered_records_share_keys_and_others_do_not() {
    for contract in contracts() {
        let generator = Generator::new(contract.clone(), 7);
        let ids: BTreeSet<_> = (0..40).map(|number| generator.record(number, 0).id).collect();
        let keys: BTreeSet<_> = ids.iter().map(|id| id.key.clone()).collect();
        assert_eq!(ids.len(), 40);
        assert_eq!(keys.len(), if contract.clustering().is_empty() { 40 } else { 10 });
        assert_eq!(generator.key(39), generator.record(39, 5).id.key);
        let other = Generator::new(contract.clone(), 8);
        assert!(!keys.contains(&other.key(0)));
    }
}

#[test]
fn both_readers_refuse_invalid_records() {
    for contract in contracts() {
        let generator = Generator::new(contract.clone(), 7);
        let mut rng = StdRng::seed_from_u64(1);
        let mut reasons = BTreeSet::new();
        for _ in 0..3_000 {
            let line = generator.invalid(&mut rng);
            let text = String::from_utf8_lossy(&line);
            let refused = contract.parse_lenient(&line);
            reasons.extend(refused.as_ref().err().map(|invalid| invalid.reason().label()));
            assert!(refused.is_err(), "{}: {text}", contract.name());
            assert!(
                contract.parse_strict(&line).is_err(),
                "{}: {text}",
                contract.name()
            );
        }
        for reason in [
            "malformed",
            "not_an_object",
            "missing",
            "wrong_type",
            "duplicate_field",
            "blank",
            "too_long",
        ] {
            assert!(reasons.contains(reason), "{}: {reasons:?}", contract.name());
        }
    }
}

#[test]
fn tombstone_has_the_text_of_the_key() {
    let generator = Generator::new(Contract::user(), 7);
    let record = generator.record(3, 1);
    let tombstone = tombstone(&record.id.key);
    assert_eq!(
        (&tombstone.value, &tombstone.key),
        (&None, &record.producer_record().key)
    );
    assert_eq!(
        Contract::user().parse_key_strict(&tombstone.key.unwrap()),
        Ok(record.id.key)
    );
}
