//! A small round without violations, and the invariants that single changes of it violate.

mod runtime;

use std::collections::{BTreeMap, BTreeSet};

use model::headers::{dead_letter, kafka};
use proptest::prelude::*;
use uuid::Uuid;

use super::conserved::correct_ledgers;
use super::expected::{ExpectedLog, ExpectedOutcome};
use super::violation::Invariant::{self, *};
use super::*;
use crate::evidence::health::HealthSample;
use crate::evidence::incident::{DependencyLoss, ExpectedSignal, Incident};
use crate::evidence::records::{AckedRecord, IngesterRun, dead_letter_source, fingerprint};
use crate::evidence::run_ledger::LedgerRanges;
use crate::evidence::{CheckpointSample, RequiredCoverage};
use crate::scenario::fault::FaultClass;
use crate::service_id::ServiceId;
use model::{Contract, Key};
use testkit::kafka_client::TopicRecord;
use testkit::people::Person;
use testkit::rows::{RowId, StampedRow};

const NOON: i64 = 1_800_000_000_000;
const TOPIC_ID: Uuid = Uuid::from_u128(77);
const RUN: &str = "0195d0b1-7a4c-7f3e-9b1a-2c3d4e5f6071";

fn person(number: u64) -> Person {
    Person::new(7, number)
}

fn row_id(number: u64) -> RowId {
    person(number).id.into()
}

fn record(partition: i32, offset: i64, key: &Uuid, value: Option<Vec<u8>>) -> TopicRecord {
    let headers = [(kafka::ACCEPTED_AT_US, "1700000000123456"), (kafka::RUN_ID, RUN)];
    let number = (i64::from(partition) * 1_000 + offset).to_string();
    TopicRecord {
        partition,
        offset,
        // Several records share a millisecond.
        timestamp: Some(NOON + offset / 3),
        log_append_time: true,
        key: Some(key.to_string().into_bytes()),
        value,
        headers: headers
            .into_iter()
            .chain([(kafka::RUN_SEQ, number.as_str())])
            .map(|(name, value)| (name.to_owned(), value.as_bytes().to_vec()))
            .collect(),
    }
}

/// A version of a user.
fn version(number: u64, version: u64) -> Vec<u8> {
    let mut person = person(number);
    person.texts[0] = format!("Version{version}");
    person.json()
}

fn letter(of: &TopicRecord, reason: &str, timestamp: i64, offset: i64) -> TopicRecord {
    let added = [
        (dead_letter::REASON, reason.to_owned()),
        (dead_letter::TOPIC, "users".to_owned()),
        (dead_letter::PARTITION, of.partition.to_string()),
        (dead_letter::OFFSET, of.offset.to_string()),
        (dead_letter::WRITE_TIMESTAMP, timestamp.to_string()),
        (dead_letter::TOPIC_ID, TOPIC_ID.to_string()),
        (dead_letter::ERROR, "invalid".to_owned()),
        (dead_letter::AT, "2027-01-15T08:00:00Z".to_owned()),
    ];
    let mut letter = TopicRecord { offset, ..of.clone() };
    letter
        .headers
        .extend(added.map(|(name, value)| (name.to_owned(), value.into_bytes())));
    letter
}

/// The evidence of a correct pipeline with this log.
fn correct(log: Vec<TopicRecord>) -> Evidence {
    correct_round(&Evidence {
        log,
        ..Evidence::default()
    })
}

/// The evidence of a correct pipeline with the log and the flags of this round.
fn correct_round(round: &Evidence) -> Evidence {
    let read = ExpectedLog::of(round);
    let mut evidence = Evidence {
        topic: "users".to_owned(),
        topic_id: Some(TOPIC_ID),
        recovery_seconds: Some(0.2),
        ..round.clone()
    };
    for entry in &read.entries {
        evidence.acked.push(AckedRecord {
            key: entry.key.clone(),
            value: entry.record.value.clone(),
            position: Some(entry.position()),
        });
        evidence.sent_keys.extend(entry.key.clone());
        evidence
            .sent_fingerprints
            .insert(fingerprint(&Contract::user(), entry.record.value.as_deref()));
        if let Some(reason) = entry.outcome.dead_letter() {
            let offset = i64::try_from(evidence.dead_letters.len()).unwrap();
            evidence
                .dead_letters
                .push(letter(entry.record, reason, entry.timestamp, offset));
        }
        let end = evidence.ends.entry(entry.record.partition).or_default();
        *end = (*end).max(entry.record.offset + 1);
    }
    for (id, entry) in read.last() {
        if let ExpectedOutcome::Row(_, columns) = &entry.outcome {
            let written = columns.keys().filter(|column| *column != "id");
            let stamps = written.map(|column| (column.clone(), entry.timestamp)).collect();
            let columns = columns.clone();
            evidence.rows.insert(id.clone(), StampedRow { columns, stamps });
        }
    }
    let accepted = evidence.log.len() as u64;
    evidence.runs.push(IngesterRun {
        id: RUN.to_owned(),
        state: "complete".to_owned(),
        accepted,
        verdict: Some("conserved".to_owned()),
    });
    evidence.run_ledgers = correct_ledgers(round, &read);
    evidence.checkpoints = vec![CheckpointSample::default(), at_the_end(&evidence)];
    evidence
}

fn at_the_end(evidence: &Evidence) -> CheckpointSample {
    CheckpointSample {
        at_ms: 9_000,
        read_at_ms: i64::MAX,
        reset: false,
        next_offsets: evidence.ends.clone(),
        write_timestamps: evidence
            .rows
            .iter()
            .map(|(id, row)| (id.clone(), *row.stamps.values().min().unwrap()))
            .collect(),
        dead_letters: Some(
            evidence
                .dead_letters
                .iter()
                .filter_map(dead_letter_source)
                .map(|(_, position)| position)
                .collect(),
        ),
    }
}

/// Two users, one of them with two versions; a deleted user; an invalid record.
fn small() -> Evidence {
    let [one, two, three] = [1, 2, 3].map(|number| person(number).id);
    let mut evidence = correct(vec![
        record(0, 0, &one, Some(version(1, 1))),
        record(0, 1, &one, Some(b"{}".to_vec())),
        record(0, 2, &one, Some(version(1, 2))),
        record(1, 0, &two, Some(version(2, 1))),
        record(1, 1, &three, Some(version(3, 1))),
        record(1, 2, &three, None),
    ]);
    evidence.runs[0].accepted = 6;
    evidence.incidents.push(outage());
    evidence
        .health
        .insert(ServiceId::Publisher, samples(&[(9.0, 15.0)]));
    evidence.required = RequiredCoverage {
        acked: 6,
        versions: 2,
        dead_letters: 1,
        expired: 0,
        faults: 1,
        rebalances: 0,
        runs: 1,
        numbered: 6,
        checkpoint_samples: 2,
        dead_letter_samples: 1,
        all_read: false,
        health_samples: 20,
        proxy_connections: 4,
    };
    evidence.proxy_connections = 4;
    evidence
}

fn outage() -> Incident {
    Incident {
        fault: "kafka-1 killed for 14 s".to_owned(),
        class: FaultClass::Server,
        started: 2.0,
        ended: 16.0,
        loss: Some(DependencyLoss {
            dependency: "kafka",
            of: vec![ServiceId::Publisher],
        }),
        excused: Vec::new(),
        signals: vec![ExpectedSignal::Missing("kafka")],
        only_if_alone: false,
        work_continues: false,
    }
}

/// A sample each second for half a minute, not ready in these intervals.
fn samples(unready: &[(f64, f64)]) -> Vec<HealthSample> {
    let at = |second: u32| {
        let at = f64::from(second);
        let missing = unready.iter().any(|(from, until)| (*from..*until).contains(&at));
        HealthSample {
            at,
            ready: Some(!missing),
            missing: if missing {
                vec!["kafka".to_owned()]
            } else {
                Vec::new()
            },
            alive: Some(true),
            metrics: BTreeMap::from([
                ("process_resident_memory_bytes".to_owned(), 2e7),
                ("process_start_time_seconds".to_owned(), 5.0),
            ]),
        }
    };
    (0..30).map(at).collect()
}

fn violated(evidence: &Evidence) -> Vec<Invariant> {
    let violations = check(evidence);
    let violated: BTreeSet<_> = violations.iter().map(|it| it.invariant).collect();
    violated.into_iter().collect()
}

/// The invariants that the small round violates after a change.
fn broken(change: impl FnOnce(&mut Evidence)) -> Vec<Invariant> {
    let mut evidence = small();
    assert_eq!(check(&evidence), Vec::new());
    change(&mut evidence);
    violated(&evidence)
}

#[test]
fn acked_record_missing_in_topic_is_a_violation() {
    let lost = |evidence: &mut Evidence| {
        let key = Some(Key::Uuid(person(9).id));
        let value = Some(version(9, 1));
        evidence.acked.push(AckedRecord {
            key,
            value,
            position: None,
        });
    };
    assert_eq!(broken(lost), [AckedRecordInTopic]);
    let elsewhere = |evidence: &mut Evidence| evidence.acked[0].position = Some((0, 2));
    assert_eq!(broken(elsewhere), [AckedRecordInTopic]);
}

#[test]
fn two_acked_deletions_need_two_records() {
    let deleted = |times: usize| {
        move |evidence: &mut Evidence| {
            let deletion = AckedRecord {
                key: Some(Key::Uuid(person(3).id)),
                value: None,
                position: None,
            };
            evidence.acked.extend(vec![deletion; times]);
        }
    };
    assert_eq!(broken(deleted(1)), []);
    assert_eq!(broken(deleted(2)), [AckedRecordInTopic]);
}

#[test]
fn unread_lost_record_counts_as_stored_and_needs_no_row() {
    let lost = |evidence: &mut Evidence| {
        let (id, value) = (person(9).id, Some(version(9, 1)));
        evidence.lost.unread.push(record(1, 3, &id, value.clone()));
        evidence.acked.push(AckedRecord {
            key: Some(Key::Uuid(id)),
            value,
            position: Some((1, 3)),
        });
    };
    assert_eq!(broken(lost), []);
}

#[test]
fn run_history_beyond_the_topic_is_a_violation() {
    assert_eq!(broken(|it| it.runs[0].accepted = 7), [RunHistoryInTopic]);
}

#[test]
fn ledger_that_differs_from_the_log_is_a_violation() {
    fn ledger(evidence: &mut Evidence) -> &mut LedgerRanges {
        evidence.run_ledgers.values_mut().next().unwrap()
    }
    assert_eq!(broken(|it| ledger(it).stored.truncate(1)), [RunConserved]);
    assert_eq!(broken(|it| ledger(it).stored.push([7, 9])), [RunConserved]);
    assert_eq!(broken(|it| ledger(it).dead_lettered.clear()), [RunConserved]);
    assert_eq!(broken(|it| ledger(it).dead_lettered.push([0, 0])), [RunConserved]);
    assert_eq!(broken(|it| ledger(it).lost.push([0, 0])), [RunConserved]);
    assert_eq!(broken(|it| it.run_ledgers.clear()), [RunConserved]);
    for verdict in [None, Some("pending".to_owned()), Some("violated".to_owned())] {
        assert_eq!(broken(|it| it.runs[0].verdict = verdict), [RunConserved]);
    }
}

/// The streamers may have read a lost record or not, and the ingester can't tell it from a late one.
#[test]
fn run_with_lost_records_may_be_pending() {
    let lost = |in_ledger: bool| {
        move |evidence: &mut Evidence| {
            let (id, value) = (person(9).id, Some(version(9, 1)));
            evidence.lost.unread.push(record(1, 3, &id, value));
            evidence.runs[0].verdict = Some("pending".to_owned());
            if in_ledger {
                let ledger = evidence.run_ledgers.values_mut().next().unwrap();
                ledger.stored.push([1_003, 1_003]);
            }
        }
    };
    assert_eq!(broken(lost(false)), []);
    assert_eq!(broken(lost(true)), []);
}

#[test]
fn number_with_a_row_and_a_dead_letter_is_stored() {
    let id = person(1).id;
    let mut again = record(0, 1, &id, Some(b"{}".to_vec()));
    let number = again.headers.get_mut(kafka::RUN_SEQ).unwrap();
    *number = b"0".to_vec();
    let mut round = correct(vec![record(0, 0, &id, Some(version(1, 1))), again]);
    round.runs[0].accepted = 1;
    let ledger = round.run_ledgers.values().next().unwrap();
    assert_eq!((ledger.stored.len(), ledger.dead_lettered.len()), (1, 0));
    assert_eq!(check(&round), Vec::new());
}

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
    assert_eq!(check(&round), Vec::new());
    let broken = |change: &dyn Fn(&mut Evidence)| {
        let mut round = round.clone();
        change(&mut round);
        violated(&round)
    };
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
    assert_eq!(check(&round), Vec::new());
    let broken = |change: &dyn Fn(&mut Evidence)| {
        let mut round = round.clone();
        change(&mut round);
        violated(&round)
    };
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
fn unsent_row_or_record_is_a_violation() {
    let row = |evidence: &mut Evidence| {
        let row = evidence.rows[&row_id(1)].clone();
        evidence.rows.insert(Uuid::from_u128(5).into(), row);
    };
    assert_eq!(broken(row), [NoUnknownData]);
    let record = |evidence: &mut Evidence| {
        evidence.runs.clear();
        evidence.sent_fingerprints.clear();
    };
    let by_client = |evidence: &mut Evidence| {
        // Posted by a client, not by the run.
        evidence.log[3].headers.remove(kafka::RUN_ID);
        evidence.runs[0].accepted = 5;
        evidence.required.numbered = 5;
        evidence.run_ledgers = correct_ledgers(evidence, &ExpectedLog::of(evidence));
    };
    assert_eq!(broken(by_client), [], "a client sent it");
    let altered = |evidence: &mut Evidence| {
        by_client(evidence);
        evidence
            .sent_fingerprints
            .remove(&fingerprint(&Contract::user(), Some(&version(2, 1))));
    };
    assert_eq!(broken(altered), [NoUnknownData]);
    let no_run = [NoUnknownData, SufficientCoverage];
    assert_eq!(broken(record), no_run);
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

#[test]
fn checkpoint_ahead_of_durable_data_is_a_violation() {
    let sample = |change: fn(&mut CheckpointSample)| {
        move |evidence: &mut Evidence| {
            let mut sample = at_the_end(evidence);
            change(&mut sample);
            evidence.checkpoints.insert(0, sample);
        }
    };
    let ahead = [CheckpointNotAhead];
    assert_eq!(
        broken(sample(|it| {
            it.write_timestamps.remove(&row_id(1));
        })),
        ahead
    );
    assert_eq!(
        broken(sample(|it| it.dead_letters = Some(BTreeSet::new()))),
        ahead
    );
    let old = |it: &mut CheckpointSample| {
        it.write_timestamps.insert(row_id(3), NOON * 1_000 + 1);
    };
    assert_eq!(broken(sample(old)), ahead, "the deletion is not applied yet");
    let before_the_deletion = |it: &mut CheckpointSample| {
        // The checkpoint covers the user's first record; the deletion is not appended yet.
        it.next_offsets.insert(1, 2);
        it.read_at_ms = NOON - 1;
    };
    assert_eq!(
        broken(sample(before_the_deletion)),
        ahead,
        "a later deletion does not explain the missing row"
    );
    assert_eq!(
        broken(sample(|it| it.dead_letters = None)),
        [],
        "dead letters could not be read"
    );
}

#[test]
fn checkpoint_backwards_or_before_the_end_is_a_violation() {
    let back = |evidence: &mut Evidence| {
        let mut lower = at_the_end(evidence);
        lower.next_offsets.insert(1, 2);
        evidence.checkpoints.push(lower);
        evidence.checkpoints.push(at_the_end(evidence));
    };
    assert_eq!(broken(back), [CheckpointMonotonic]);
    let by_operator = |evidence: &mut Evidence| {
        back(evidence);
        let last = evidence.checkpoints.len() - 2;
        evidence.checkpoints[last].reset = true;
    };
    assert_eq!(broken(by_operator), []);
    assert_eq!(
        broken(|it| {
            it.ends.insert(2, 1);
        }),
        [CheckpointAtEnd]
    );
}

#[test]
fn late_or_missing_recovery_is_a_violation() {
    assert_eq!(broken(|it| it.recovery_seconds = Some(30.5)), [RecoveryInTime]);
    assert_eq!(broken(|it| it.recovery_seconds = None), [RecoveryInTime]);
}

#[test]
fn recorded_events_are_violations() {
    let recorded = || vec!["seen".to_owned()];
    assert_eq!(
        broken(|it| it.wrong_responses = recorded()),
        [ResponseMatchesRequest]
    );
    assert_eq!(
        broken(|it| it.events.unexpected_exits = recorded()),
        [NoUnexpectedExit]
    );
    assert_eq!(broken(|it| it.proxy_bypasses = recorded()), [NoProxyBypass]);
    assert_eq!(
        broken(|it| it.events.ineffective_faults = recorded()),
        [FaultObservable]
    );
}

#[test]
fn insufficient_coverage_is_a_violation() {
    for require in [
        |it: &mut RequiredCoverage| it.acked = 7,
        |it: &mut RequiredCoverage| it.versions = 3,
        |it: &mut RequiredCoverage| it.dead_letters = 2,
        |it: &mut RequiredCoverage| it.expired = 1,
        |it: &mut RequiredCoverage| it.faults = 2,
        |it: &mut RequiredCoverage| it.rebalances = 1,
        |it: &mut RequiredCoverage| it.runs = 2,
        |it: &mut RequiredCoverage| it.checkpoint_samples = 3,
        |it: &mut RequiredCoverage| it.dead_letter_samples = 2,
        |it: &mut RequiredCoverage| it.all_read = true,
        |it: &mut RequiredCoverage| it.health_samples = 31,
        |it: &mut RequiredCoverage| it.proxy_connections = 5,
    ] {
        assert_eq!(broken(|it| require(&mut it.required)), [SufficientCoverage]);
    }
}

proptest! {
    #[test]
    fn correct_pipeline_passes_and_lost_row_is_a_violation(
        // A user, and an event: a version, a deletion or an invalid value. The user determines the partition.
        events in proptest::collection::vec((0_u64..12, 0_u64..8), 1..80),
        lost in any::<prop::sample::Index>(),
    ) {
        let mut ends = [0_i64; 3];
        let mut log = Vec::new();
        for (number, (user, event)) in events.iter().enumerate() {
            let partition = usize::try_from(user % 3).unwrap();
            let value = match event {
                0 => None,
                1 => Some(b"bad".to_vec()),
                _ => Some(version(*user, u64::try_from(number).unwrap())),
            };
            let (partition_id, id) = (i32::try_from(partition).unwrap(), person(*user).id);
            log.push(record(partition_id, ends[partition], &id, value));
            ends[partition] += 1;
        }
        log.sort_by_key(|record| (record.partition, record.offset));
        let mut evidence = correct(log);
        prop_assert_eq!(check(&evidence), vec![]);
        if evidence.rows.is_empty() {
            return Ok(());
        }
        let id = evidence.rows.keys().nth(lost.index(evidence.rows.len())).unwrap().clone();
        evidence.rows.remove(&id);
        prop_assert!(violated(&evidence).contains(&RowIsLastRecord));
    }
}
