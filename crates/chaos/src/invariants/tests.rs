//! A small round without violations, and the invariants that single changes of it violate.

mod acknowledged;
mod checkpoints;
mod conserved;
mod runtime;
mod stored;

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
use crate::evidence::{CheckpointSample, RequiredCoverage};
use crate::scenario::fault::FaultClass;
use crate::service_id::ServiceId;
use model::Contract;
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
    violated_after(&small(), change)
}

/// The invariants that a correct round violates after a change.
fn violated_after(round: &Evidence, change: impl FnOnce(&mut Evidence)) -> Vec<Invariant> {
    assert_eq!(check(round), Vec::new());
    let mut changed = round.clone();
    change(&mut changed);
    violated(&changed)
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
