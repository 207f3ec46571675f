use super::*;
use crate::row::bind_i64;

const ID: &str = "0195d0b1-7a4c-7f3e-9b1a-2c3d4e5f6071";
const DECODER: Decoder = Decoder {
    shape: Shape {
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

fn incoming<'a>(key: Option<&'a [u8]>, value: Option<&'a [u8]>) -> Incoming<'a> {
    Incoming {
        partition: home(),
        timestamp: 1_000,
        key,
        value,
    }
}

fn decode(incoming: &Incoming<'_>) -> (Change, Misplaced) {
    DECODER.decode(incoming, std::iter::empty())
}

#[test]
fn a_record_of_another_producer_is_a_row() {
    let value = value("12345");
    let (change, misplaced) = decode(&incoming(None, Some(&value)));
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
        misplaced,
        Misplaced {
            key: true,
            partition: false
        }
    );
}

#[test]
fn accepted_at_comes_from_the_header_and_nonsense_in_it_is_passed_over() {
    let value = value("\"1\"");
    let incoming = incoming(Some(ID.as_bytes()), Some(&value));
    for (header, expected) in [("5000999", 5_000), ("soon", 1_000), ("-1", 1_000)] {
        let headers = [
            ("x", None),
            (headers::kafka::ACCEPTED_AT_US, Some(header.as_bytes())),
        ];
        let (change, misplaced) = DECODER.decode(&incoming, headers.into_iter());
        let Change::Upsert(row) = change else {
            panic!("{change:?}")
        };
        let values = row.values();
        assert_eq!(values[12], bind_i64(expected));
        assert_eq!(misplaced, Misplaced::default());
    }
}

#[test]
fn a_record_in_a_foreign_partition_is_stored_and_counted() {
    let value = value("\"1\"");
    let stray = Incoming {
        partition: home() + 1,
        ..incoming(Some(ID.as_bytes()), Some(&value))
    };
    let (change, misplaced) = decode(&stray);
    assert!(matches!(change, Change::Upsert(_)));
    assert!(misplaced.partition);
}

#[test]
fn a_tombstone_deletes_the_user_of_its_key() {
    let (change, _) = decode(&incoming(Some(ID.as_bytes()), None));
    assert_eq!(change, Change::Delete(ID.parse().unwrap()));
}

#[test]
fn a_tombstone_without_an_id_or_against_the_configuration_is_refused() {
    for key in [None, Some(b"users".as_slice())] {
        let (change, _) = decode(&incoming(key, None));
        assert!(matches!(
            change,
            Change::Refuse(Refusal {
                reason: "tombstone_without_id",
                ..
            })
        ));
    }
    let decoder = Decoder {
        tombstones: Tombstones::DeadLetter,
        ..DECODER
    };
    let (change, _) = decoder.decode(&incoming(Some(ID.as_bytes()), None), std::iter::empty());
    assert!(matches!(
        change,
        Change::Refuse(Refusal {
            reason: "tombstone",
            ..
        })
    ));
}

#[test]
fn garbage_is_refused_with_a_reason_that_quotes_nothing() {
    for garbage in [b"\xff\xfe".as_slice(), b"", b"[]", b"{\"id\":\"secret\"}"] {
        let (change, _) = decode(&incoming(None, Some(garbage)));
        let Change::Refuse(refusal) = change else {
            panic!("{change:?}")
        };
        assert!(!refusal.error.contains("secret") && !refusal.reason.is_empty());
    }
}
