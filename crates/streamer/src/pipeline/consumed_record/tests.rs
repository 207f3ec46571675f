//! Tests of the decoder: rows, tombstones, and rejected records.

use proptest::prelude::*;
use proptest::test_runner::TestRunner;

use super::*;
use crate::pipeline::raw_record::RawRecord;
use crate::pipeline::row::tests::{order, orders};
use crate::pipeline::row::values;

/// The partition of customer 9 among 6.
fn home() -> i32 {
    Key::Bigint(9).partition(6).unwrap()
}

fn decoder() -> Decoder {
    Decoder {
        contract: orders(),
        shape: TableShape::default(),
        tombstones: Tombstones::Delete,
        partitions: 6,
    }
}

fn record<'a>(key: Option<&'a [u8]>, value: Option<&'a [u8]>) -> ConsumedRecord<'a> {
    ConsumedRecord {
        partition: home(),
        timestamp: 1_000,
        key,
        value,
    }
}

fn decode(record: &ConsumedRecord<'_>) -> (Change, Irregularities) {
    decoder().decode(record, std::iter::empty())
}

fn row((change, irregularities): (Change, Irregularities)) -> (Row, Irregularities) {
    let Change::Upsert(row) = change else {
        panic!("{change:?}")
    };
    (row, irregularities)
}

/// An order with a field that the contract lacks.
fn order_with_unknown_field() -> Vec<u8> {
    let json = String::from_utf8(order(9, "hi")).unwrap();
    json.replacen('{', r#"{"later":[1],"#, 1).into_bytes()
}

#[test]
fn record_of_another_producer_is_a_row() {
    let value = order_with_unknown_field();
    let (row, irregularities) = row(decode(&record(None, Some(&value))));
    assert_eq!(
        values(row.wire()).next(),
        Some(Some(9_i64.to_be_bytes().as_slice()))
    );
    assert_eq!(
        row.ingested_at(),
        1_000,
        "accepted-at falls back to Kafka's timestamp"
    );
    let expected = Irregularities {
        key: true,
        ..Irregularities::default()
    };
    assert_eq!(irregularities, expected);
}

#[test]
fn invalid_accepted_at_header_is_ignored() {
    let value = order(9, "hi");
    let record = record(Some(b"9"), Some(&value));
    for (header, expected) in [
        ("5000999", 5_000),
        ("soon", 1_000),
        ("-1", 1_000),
        ("253402300799999999", 253_402_300_799_999),
        // In nanoseconds, it is in the year 58,000, which no reader in Python can read.
        ("1795838693332000000", 1_000),
    ] {
        let headers = [
            (b"\xe9".as_slice(), None),
            (headers::kafka::ACCEPTED_AT_US.as_bytes(), Some(header.as_bytes())),
        ];
        let (row, irregularities) = row(decoder().decode(&record, headers.into_iter()));
        assert_eq!(row.ingested_at(), expected);
        assert_eq!(irregularities, Irregularities::default());
    }
}

#[test]
fn record_timestamp_of_no_calendar_is_1970() {
    let value = order(9, "hi");
    for timestamp in [-1, i64::MIN, 253_402_300_800_000, i64::MAX] {
        let record = ConsumedRecord {
            timestamp,
            ..record(Some(b"9"), Some(&value))
        };
        assert_eq!(row(decode(&record)).0.ingested_at(), 0, "{timestamp}");
    }
}

#[test]
fn record_in_another_partition_is_a_row_and_counted() {
    let value = order(9, "hi");
    let misplaced = ConsumedRecord {
        partition: home() + 1,
        ..record(Some(b"9"), Some(&value))
    };
    let (_, irregularities) = row(decode(&misplaced));
    let expected = Irregularities {
        partition: true,
        ..Irregularities::default()
    };
    assert_eq!(irregularities, expected);
}

#[test]
fn key_in_another_form_is_counted() {
    let value = order(9, "hi");
    for key in [b"09".as_slice(), &9_i64.to_be_bytes()] {
        assert!(row(decode(&record(Some(key), Some(&value)))).1.key);
    }
    let (change, irregularities) = decode(&record(Some(b"009"), None));
    assert_eq!(change, Change::DeletePartition(Key::Bigint(9)));
    assert!(irregularities.key && !irregularities.partition);
    let users = Decoder {
        contract: Contract::user(),
        ..decoder()
    };
    let key = "0195D0B1-7A4C-7F3E-9B1A-2C3D4E5F6071";
    let (change, irregularities) = users.decode(&record(Some(key.as_bytes()), None), std::iter::empty());
    assert!(
        matches!(change, Change::DeletePartition(Key::Uuid(_))),
        "{change:?}"
    );
    assert!(irregularities.key);
}

#[test]
fn unknown_fields_of_another_contract_are_counted() {
    let (known, unknown) = (order(9, "hi"), order_with_unknown_field());
    let ours = orders().hash().to_owned();
    for (value, hash, counted) in [
        (&unknown, Some("another"), true),
        (&unknown, Some(ours.as_str()), false),
        (&unknown, None, false),
        (&known, Some("another"), false),
    ] {
        let headers = hash.map(|hash| (headers::kafka::SCHEMA_HASH.as_bytes(), Some(hash.as_bytes())));
        let decoded = decoder().decode(&record(Some(b"9"), Some(value)), headers.into_iter());
        assert_eq!(row(decoded).1.unknown_fields, counted, "{hash:?}");
    }
}

#[test]
fn tombstone_deletes_the_rows_of_its_key() {
    let (change, irregularities) = decode(&record(Some(b"9"), None));
    assert_eq!(change, Change::DeletePartition(Key::Bigint(9)));
    assert_eq!(irregularities, Irregularities::default());
    let value = order(9, "hi");
    let (row, _) = row(decode(&record(Some(b"9"), Some(&value))));
    assert!(row.key().is_in(&change.row_key().unwrap()));
}

#[test]
fn tombstone_without_id_or_disabled_is_rejected() {
    for key in [None, Some(b"orders".as_slice()), Some(&9_i64.to_be_bytes())] {
        let (change, _) = decode(&record(key, None));
        assert!(
            matches!(
                change,
                Change::Reject(Rejection {
                    reason: "tombstone_without_id",
                    ..
                })
            ),
            "{change:?}"
        );
    }
    let decoder = Decoder {
        tombstones: Tombstones::DeadLetter,
        ..decoder()
    };
    let (change, _) = decoder.decode(&record(Some(b"9"), None), std::iter::empty());
    assert!(matches!(
        change,
        Change::Reject(Rejection {
            reason: "tombstone",
            ..
        })
    ));
}

#[test]
fn invalid_record_is_rejected_without_quoting_it() {
    for garbage in [b"\xff\xfe".as_slice(), b"", b"[]", b"{\"note\":\"secret\"}"] {
        let (change, _) = decode(&record(None, Some(garbage)));
        let Change::Reject(rejection) = change else {
            panic!("{change:?}")
        };
        assert!(!rejection.error.contains("secret") && !rejection.reason.is_empty());
    }
}

/// Values that are records, nearly records, or garbage.
fn any_value() -> impl Strategy<Value = Option<Vec<u8>>> {
    let mutated = (0..1_000_usize, any::<u8>()).prop_map(|(index, byte)| {
        let mut value = order(9, "hi");
        let index = index % value.len();
        value[index] = byte;
        value
    });
    prop::option::of(prop_oneof![
        Just(order(9, "hi")),
        mutated,
        prop::collection::vec(any::<u8>(), 0..80)
    ])
}

fn bytes() -> impl Strategy<Value = Vec<u8>> {
    prop::collection::vec(any::<u8>(), 0..24)
}

#[test]
fn no_record_is_a_panic() {
    let names = prop_oneof![
        bytes(),
        Just(headers::kafka::ACCEPTED_AT_US.as_bytes().to_vec()),
        Just(headers::kafka::SCHEMA_HASH.as_bytes().to_vec()),
    ];
    let values = prop_oneof![
        bytes(),
        any::<i64>().prop_map(|number| number.to_string().into_bytes())
    ];
    let headers = prop::collection::vec((names, prop::option::of(values)), 0..4);
    let key = prop::option::of(prop_oneof![bytes(), Just(b"9".to_vec())]);
    let inputs = (key, any_value(), headers, any::<i64>(), any::<i32>());
    let cases = if std::env::var_os("AFFLUENT_TEST_FULL").is_some() {
        10_000_000
    } else {
        20_000
    };
    let mut runner = TestRunner::new(ProptestConfig::with_cases(cases));
    let decoder = decoder();
    let decoded = runner.run(&inputs, |(key, value, headers, timestamp, partition)| {
        let record = ConsumedRecord {
            partition,
            timestamp,
            key: key.as_deref(),
            value: value.as_deref(),
        };
        let headers = || {
            headers
                .iter()
                .map(|(name, value)| (name.as_slice(), value.as_deref()))
        };
        let (change, _) = decoder.decode(&record, headers());
        if let Change::Upsert(row) = change {
            prop_assert!(Instant::from_millis(row.ingested_at()).is_ok());
        }
        let raw = RawRecord::copy(record.key, record.value, headers());
        prop_assert!(raw.headers().eq(headers()));
        Ok(())
    });
    decoded.unwrap();
}
