//! Invariants of rows and dead letters.

use super::*;

#[test]
fn record_without_row_or_dead_letter_is_a_violation() {
    assert_eq!(broken(|it| it.dead_letters.clear()), [NoRecordSkipped]);
    let without_row = |it: &mut Evidence| drop(it.rows.remove(&row_id(2)));
    assert_eq!(broken(without_row), [NoRecordSkipped, RowIsLastRecord]);
}

#[test]
fn redriven_tombstone_is_a_dead_letter_and_keeps_its_order() {
    let [one, three] = [1, 3].map(|number| person(number).id);
    let round = correct_round(&Evidence {
        tombstones_redriven: true,
        log: vec![
            record(0, 0, &one, Some(version(1, 1))),
            record(0, 1, &one, None),
            record(0, 2, &one, Some(version(1, 2))),
            record(1, 0, &three, Some(version(3, 1))),
            record(1, 1, &three, None),
        ],
        ..Evidence::default()
    });
    assert_eq!(round.dead_letters.len(), 2);
    let broken = |change: &dyn Fn(&mut Evidence)| violated_after(&round, change);
    assert_eq!(broken(&|it| it.dead_letters.clear()), [NoRecordSkipped]);
    let last_row = |it: &mut Evidence| drop(it.rows.remove(&RowId::from(one)));
    assert_eq!(broken(&last_row), [NoRecordSkipped, RowIsLastRecord]);
    let not_redriven = |it: &mut Evidence| {
        let row = it.rows[&RowId::from(one)].clone();
        it.rows.insert(three.into(), row);
    };
    assert_eq!(broken(&not_redriven), [RowIsLastRecord]);
    assert_eq!(broken(&|it| it.tombstones_redriven = false), [DeadLetterIsValid]);
}

/// Two rows of one key, one of which expires.
#[test]
fn expired_row_is_deleted_and_its_sibling_is_kept() {
    const PROTO: &str = r#"
        syntax = "proto3";
        package test.v1;
        import "affluent/options/v1/options.proto";
        message Reading {
          option (affluent.options.v1.record) = { resource: "readings" key: "device" clustering: "number" };
          string device = 1 [(affluent.options.v1.rule).format = UUID];
          int32 number = 2;
          string text = 3;
        }"#;
    let contract = std::sync::Arc::new(model::Contract::from_source(PROTO).unwrap());
    let device = person(1).id;
    let reading = |number: u8, text: &str| {
        let json = format!(r#"{{"device":"{device}","number":{number},"text":"{text}"}}"#);
        Some(json.into_bytes())
    };
    let accepted = |mut record: TopicRecord, at_ms: i64| {
        let micros = (at_ms * 1_000).to_string().into_bytes();
        record.headers.insert(kafka::ACCEPTED_AT_US.to_owned(), micros);
        record
    };
    let hour = std::time::Duration::from_secs(3_600);
    let two_hours_ago = NOON - 7_200_000;
    let log = vec![
        accepted(record(0, 0, &device, reading(1, "old")), NOON),
        accepted(record(0, 1, &device, reading(2, "sibling")), NOON),
        accepted(record(0, 2, &device, reading(1, "expired")), two_hours_ago),
    ];
    let round = correct_round(&Evidence {
        contract: crate::evidence::RoundContract(contract),
        row_ttl: Some(hour),
        log,
        ..Evidence::default()
    });
    let ids: Vec<_> = round.rows.keys().map(ToString::to_string).collect();
    assert_eq!(ids, [format!("{device}/2")]);
    let broken = |change: &dyn Fn(&mut Evidence)| violated_after(&round, change);
    let sibling_deleted = |it: &mut Evidence| it.rows.clear();
    assert_eq!(broken(&sibling_deleted), [NoRecordSkipped, RowIsLastRecord]);
    let expired_row_kept = |it: &mut Evidence| {
        let (id, row) = it.rows.first_key_value().unwrap();
        let id = RowId {
            clustering: vec!["1".to_owned()],
            ..id.clone()
        };
        let row = row.clone();
        it.rows.insert(id, row);
    };
    assert_eq!(broken(&expired_row_kept), [RowIsLastRecord]);
    let not_yet_deleted = |it: &mut Evidence| {
        let id = RowId {
            clustering: vec!["1".to_owned()],
            ..RowId::from(device)
        };
        it.checkpoints[1].write_timestamps.insert(id, NOON * 1_000);
    };
    assert_eq!(broken(&not_yet_deleted), [CheckpointNotAhead]);
    assert_ne!(
        broken(&|it| it.row_ttl = None),
        [],
        "without expiry the row must exist"
    );
}

#[test]
fn outdated_or_mixed_row_is_a_violation() {
    let mixed = |evidence: &mut Evidence| {
        let row = evidence.rows.get_mut(&row_id(1)).unwrap();
        row.columns.insert("first_name".to_owned(), b"Version1".to_vec());
    };
    assert_eq!(broken(mixed), [RowIsLastRecord]);
    let not_deleted = |evidence: &mut Evidence| {
        let row = evidence.rows[&row_id(2)].clone();
        evidence.rows.insert(row_id(3), row);
    };
    assert_eq!(broken(not_deleted), [RowIsLastRecord]);
}

#[test]
fn write_timestamp_not_from_the_log_is_a_violation() {
    let later = |evidence: &mut Evidence| {
        let row = evidence.rows.get_mut(&row_id(1)).unwrap();
        row.stamps.insert("email".to_owned(), NOON * 1_000 + 77);
    };
    assert_eq!(broken(later), [WriteTimestampFromLog]);
}

#[test]
fn dead_letter_with_wrong_header_or_content_is_a_violation() {
    let header = |name: &'static str, value: &'static str| {
        move |evidence: &mut Evidence| {
            let letter = &mut evidence.dead_letters[0];
            letter.headers.insert(name.to_owned(), value.as_bytes().to_vec());
        }
    };
    let right = [DeadLetterIsValid];
    assert_eq!(broken(header(dead_letter::REASON, "malformed")), right);
    assert_eq!(broken(header(dead_letter::TOPIC, "others")), right);
    let other = "00000000-0000-0000-0000-00000000004e";
    assert_eq!(broken(header(dead_letter::TOPIC_ID, other)), right);
    assert_eq!(broken(header(dead_letter::AT, "yesterday")), right);
    let without_error = |evidence: &mut Evidence| {
        evidence.dead_letters[0].headers.remove(dead_letter::ERROR);
    };
    assert_eq!(broken(without_error), right);
    let duplicated = |evidence: &mut Evidence| {
        let mut other = evidence.dead_letters[0].clone();
        other
            .headers
            .insert(dead_letter::OFFSET.to_owned(), b"2".to_vec());
        evidence.dead_letters.push(other);
    };
    let found = broken(duplicated);
    assert!(
        found.contains(&DeadLetterIsValid),
        "a valid record was refused: {found:?}"
    );
    assert_eq!(
        broken(|it| it.dead_letters[0].value = Some(b"{ }".to_vec())),
        right
    );
    assert_eq!(
        broken(header(dead_letter::WRITE_TIMESTAMP, "1")),
        [WriteTimestampFromLog]
    );
}
