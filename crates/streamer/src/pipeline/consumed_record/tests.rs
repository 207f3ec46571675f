use super::*;
use crate::pipeline::row::bind_i64;

const ID: &str = "0195d0b1-7a4c-7f3e-9b1a-2c3d4e5f6071";
const DECODER: Decoder = Decoder {
    types: ColumnTypes {
        dob_is_text: false,
        registered_date_is_text: false,
    },
    tombstones: Tombstones::Delete,
    partitions: 6,
};

fn value(post_code: &str) -> Vec<u8> {
    format!(
        r#"{{"id":"{ID}","first_name":"Ada","last_name":"L","gender":"f","address":"a","post_code":{post_code},"email":"a@b","username":"u","dob":"1970-01-01T00:00:00.000Z","registered_date":"1970-01-01T00:00:00.000Z","phone":"1","picture":"p","later":[1]}}"#
    )
    .into_bytes()
}

fn home() -> i32 {
    ID.parse::<UserId>().unwrap().partition(6).unwrap()
}

fn record<'a>(key: Option<&'a [u8]>, value: Option<&'a [u8]>) -> ConsumedRecord<'a> {
    ConsumedRecord {
        partition: home(),
        timestamp: 1_000,
        key,
        value,
    }
}

fn decode(record: &ConsumedRecord<'_>) -> (Change, PartitionMismatch) {
    DECODER.decode(record, std::iter::empty())
}

#[test]
fn record_of_another_producer_is_a_row() {
    let value = value("12345");
    let (change, mismatch) = decode(&record(None, Some(&value)));
    let Change::Upsert(row) = change else {
        panic!("{change:?}")
    };
    let values = row.values();
    assert_eq!(
        values[5],
        cdrs_tokio::types::value::Value::Some(b"12345".to_vec())
    );
    assert_eq!(
        values[12],
        bind_i64(1_000),
        "accepted-at falls back to Kafka's timestamp"
    );
    assert_eq!(
        mismatch,
        PartitionMismatch {
            key: true,
            partition: false
        }
    );
}

#[test]
fn invalid_accepted_at_header_is_ignored() {
    let value = value("\"1\"");
    let record = record(Some(ID.as_bytes()), Some(&value));
    for (header, expected) in [("5000999", 5_000), ("soon", 1_000), ("-1", 1_000)] {
        let headers = [
            ("x", None),
            (headers::kafka::ACCEPTED_AT_US, Some(header.as_bytes())),
        ];
        let (change, mismatch) = DECODER.decode(&record, headers.into_iter());
        let Change::Upsert(row) = change else {
            panic!("{change:?}")
        };
        let values = row.values();
        assert_eq!(values[12], bind_i64(expected));
        assert_eq!(mismatch, PartitionMismatch::default());
    }
}

#[test]
fn record_in_another_partition_is_a_row_and_counted() {
    let value = value("\"1\"");
    let stray = ConsumedRecord {
        partition: home() + 1,
        ..record(Some(ID.as_bytes()), Some(&value))
    };
    let (change, mismatch) = decode(&stray);
    assert!(matches!(change, Change::Upsert(_)));
    assert!(mismatch.partition);
}

#[test]
fn tombstone_deletes_the_user_of_its_key() {
    let (change, _) = decode(&record(Some(ID.as_bytes()), None));
    assert_eq!(change, Change::Delete(ID.parse().unwrap()));
}

#[test]
fn tombstone_without_id_or_disabled_is_rejected() {
    for key in [None, Some(b"users".as_slice())] {
        let (change, _) = decode(&record(key, None));
        assert!(matches!(
            change,
            Change::Reject(Rejection {
                reason: "tombstone_without_id",
                ..
            })
        ));
    }
    let decoder = Decoder {
        tombstones: Tombstones::DeadLetter,
        ..DECODER
    };
    let (change, _) = decoder.decode(&record(Some(ID.as_bytes()), None), std::iter::empty());
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
    for garbage in [b"\xff\xfe".as_slice(), b"", b"[]", b"{\"id\":\"secret\"}"] {
        let (change, _) = decode(&record(None, Some(garbage)));
        let Change::Reject(rejection) = change else {
            panic!("{change:?}")
        };
        assert!(!rejection.error.contains("secret") && !rejection.reason.is_empty());
    }
}
