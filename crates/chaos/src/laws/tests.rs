//! A small round that holds every law, and what each law says when one thing in it is wrong.

mod watched;

use std::collections::{BTreeMap, BTreeSet};

use model::headers::{dead_letter, kafka};
use proptest::prelude::*;
use uuid::Uuid;

use super::log::{Fate, Log};
use super::*;
use crate::evidence::{CheckpointSample, Demands, Incident, Look, Loss, Obligation, Run, Sign, Who};
use testkit::cassandra_client::StampedRow;
use testkit::kafka_client::TopicRecord;
use testkit::people::Person;

const NOON: i64 = 1_800_000_000_000;
const TOPIC_ID: Uuid = Uuid::from_u128(77);

fn person(number: u64) -> Person {
    Person::new(7, number)
}

fn record(partition: i32, offset: i64, key: &Uuid, value: Option<Vec<u8>>) -> TopicRecord {
    let headers = [
        (kafka::ACCEPTED_AT_US, "1700000000123456"),
        (kafka::RUN_ID, "run-1"),
    ];
    let number = format!("{partition}-{offset}");
    TopicRecord {
        partition,
        offset,
        // Several records share a millisecond.
        timestamp: Some(NOON + offset / 3),
        key: Some(key.to_string().into_bytes()),
        value,
        headers: headers
            .into_iter()
            .chain([(kafka::RUN_SEQ, number.as_str())])
            .map(|(name, value)| (name.to_owned(), value.as_bytes().to_vec()))
            .collect(),
    }
}

/// What a user's record says in its version: a user never changes id.
fn version(number: u64, version: u64) -> Vec<u8> {
    let mut person = person(number);
    person.texts[0] = format!("Version{version}");
    person.json()
}

fn letter(of: &TopicRecord, reason: &str, stamp: i64, offset: i64) -> TopicRecord {
    let added = [
        (dead_letter::REASON, reason.to_owned()),
        (dead_letter::TOPIC, "users".to_owned()),
        (dead_letter::PARTITION, of.partition.to_string()),
        (dead_letter::OFFSET, of.offset.to_string()),
        (dead_letter::WRITE_TIMESTAMP, stamp.to_string()),
        (dead_letter::TOPIC_ID, TOPIC_ID.to_string()),
        (dead_letter::ERROR, "it is no record".to_owned()),
        (dead_letter::AT, "2027-01-15T08:00:00Z".to_owned()),
    ];
    let mut letter = TopicRecord { offset, ..of.clone() };
    letter
        .headers
        .extend(added.map(|(name, value)| (name.to_owned(), value.into_bytes())));
    letter
}

/// The round in which a correct chain took exactly this log.
fn kept(log: Vec<TopicRecord>) -> Evidence {
    kept_as(&Evidence {
        log,
        ..Evidence::default()
    })
}

/// The same for a round that says how it is to be read.
fn kept_as(round: &Evidence) -> Evidence {
    let read = Log::of(round);
    let mut evidence = Evidence {
        topic: "users".to_owned(),
        topic_id: Some(TOPIC_ID),
        fresh_seconds: Some(0.2),
        ..round.clone()
    };
    for entry in &read.entries {
        evidence.obligations.push(Obligation {
            id: entry.id,
            value: entry.record.value.clone(),
            place: Some(entry.place()),
        });
        evidence.minted.extend(entry.id);
        evidence.sent.insert(print(entry.record.value.as_deref()));
        if let Some(reason) = entry.fate.letter() {
            let offset = i64::try_from(evidence.letters.len()).unwrap();
            evidence
                .letters
                .push(letter(entry.record, reason, entry.stamp, offset));
        }
        let end = evidence.ends.entry(entry.record.partition).or_default();
        *end = (*end).max(entry.record.offset + 1);
    }
    for (id, entry) in read.last() {
        if let Fate::Row(columns) = &entry.fate {
            let stamps = columns.keys().map(|column| (*column, entry.stamp)).collect();
            let columns = columns.clone();
            evidence.rows.insert(id, StampedRow { columns, stamps });
        }
    }
    let accepted = evidence.log.len() as u64;
    evidence.runs.push(Run {
        id: "run-1".to_owned(),
        state: "complete".to_owned(),
        accepted,
    });
    evidence.checkpoints = vec![CheckpointSample::default(), at_the_end(&evidence)];
    evidence
}

fn at_the_end(evidence: &Evidence) -> CheckpointSample {
    CheckpointSample {
        at_ms: 9_000,
        read_by: i64::MAX,
        anew: false,
        next: evidence.ends.clone(),
        stamps: evidence
            .rows
            .iter()
            .map(|(id, row)| (*id, row.stamps["first_name"]))
            .collect(),
        letters: Some(
            evidence
                .letters
                .iter()
                .filter_map(stored::place_of)
                .map(|(_, place)| place)
                .collect(),
        ),
    }
}

/// Two users, one of two versions; one user who came and went; one bad record.
fn small() -> Evidence {
    let [one, two, three] = [1, 2, 3].map(|number| person(number).id);
    let mut evidence = kept(vec![
        record(0, 0, &one, Some(version(1, 1))),
        record(0, 1, &one, Some(b"{}".to_vec())),
        record(0, 2, &one, Some(version(1, 2))),
        record(1, 0, &two, Some(version(2, 1))),
        record(1, 1, &three, Some(version(3, 1))),
        record(1, 2, &three, None),
    ]);
    evidence.runs[0].accepted = 6;
    evidence.incidents.push(outage());
    evidence.looks.insert(Who::Publisher, looks(&[(9.0, 15.0)]));
    evidence.demands = Demands {
        acknowledged: 6,
        versions: 2,
        letters: 1,
        faults: 1,
        rebalances: 0,
        runs: 1,
        samples: 2,
        lettered_samples: 1,
        all_read: false,
        looks: 20,
        connections: 4,
    };
    evidence.connections = 4;
    evidence
}

fn outage() -> Incident {
    Incident {
        fault: "kafka-1 killed for 14 s".to_owned(),
        class: 2,
        began: 2.0,
        ended: 16.0,
        loses: Some(Loss {
            dependency: "kafka",
            of: vec![Who::Publisher],
        }),
        excuses: Vec::new(),
        signs: vec![Sign::Missed("kafka")],
        faint: false,
        goes_on: false,
    }
}

/// A look each second for half a minute; not ready within these spans.
fn looks(unready: &[(f64, f64)]) -> Vec<Look> {
    let at = |second: u32| {
        let at = f64::from(second);
        let missing = unready.iter().any(|(from, until)| (*from..*until).contains(&at));
        Look {
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

fn laws(evidence: &Evidence) -> BTreeSet<Law> {
    judge(evidence).iter().map(|violation| violation.law).collect()
}

/// What is said of the small round once `harm` has been done to it.
fn broken(harm: impl FnOnce(&mut Evidence)) -> BTreeSet<Law> {
    let mut evidence = small();
    assert_eq!(judge(&evidence), Vec::new());
    harm(&mut evidence);
    laws(&evidence)
}

fn only(law: Law) -> BTreeSet<Law> {
    BTreeSet::from([law])
}

#[test]
fn an_acknowledged_record_that_is_not_in_the_topic_is_told() {
    let lost = |evidence: &mut Evidence| {
        let id = Some(person(9).id);
        let value = Some(version(9, 1));
        evidence.obligations.push(Obligation {
            id,
            value,
            place: None,
        });
    };
    assert_eq!(broken(lost), only(Law::AcknowledgedIsInTopic));
    let elsewhere = |evidence: &mut Evidence| evidence.obligations[0].place = Some((0, 2));
    assert_eq!(broken(elsewhere), only(Law::AcknowledgedIsInTopic));
}

#[test]
fn two_acknowledged_deletions_of_which_the_topic_holds_one_are_told() {
    let deleted = |times: usize| {
        move |evidence: &mut Evidence| {
            let deletion = Obligation {
                id: Some(person(3).id),
                value: None,
                place: None,
            };
            evidence.obligations.extend(vec![deletion; times]);
        }
    };
    assert_eq!(broken(deleted(1)), BTreeSet::new());
    assert_eq!(broken(deleted(2)), only(Law::AcknowledgedIsInTopic));
}

#[test]
fn what_the_topic_lost_before_anybody_read_it_was_in_the_topic_and_is_no_row() {
    let lost = |evidence: &mut Evidence| {
        let (id, value) = (person(9).id, Some(version(9, 1)));
        evidence.gone.unread.push(record(1, 3, &id, value.clone()));
        evidence.obligations.push(Obligation {
            id: Some(id),
            value,
            place: Some((1, 3)),
        });
    };
    assert_eq!(broken(lost), BTreeSet::new());
}

#[test]
fn a_history_that_says_more_than_the_topic_holds_is_told() {
    assert_eq!(broken(|it| it.runs[0].accepted = 7), only(Law::HistoryIsInTopic));
}

#[test]
fn a_record_that_became_nothing_is_told() {
    let letterless = |evidence: &mut Evidence| {
        evidence.letters.clear();
        // It was there while the checkpoints were looked at.
    };
    assert_eq!(broken(letterless), only(Law::NothingIsSkipped));
    let rowless = |evidence: &mut Evidence| {
        evidence.rows.remove(&person(2).id);
    };
    assert_eq!(
        broken(rowless),
        BTreeSet::from([Law::NothingIsSkipped, Law::LastRecordIsRow])
    );
}

#[test]
fn a_deletion_that_is_redriven_is_a_dead_letter_and_keeps_its_place() {
    let [one, three] = [1, 3].map(|number| person(number).id);
    let round = kept_as(&Evidence {
        deletions_are_redriven: true,
        log: vec![
            record(0, 0, &one, Some(version(1, 1))),
            record(0, 1, &one, None),
            record(0, 2, &one, Some(version(1, 2))),
            record(1, 0, &three, Some(version(3, 1))),
            record(1, 1, &three, None),
        ],
        ..Evidence::default()
    });
    assert_eq!(round.letters.len(), 2);
    assert_eq!(judge(&round), Vec::new());
    let broken = |harm: &dyn Fn(&mut Evidence)| {
        let mut round = round.clone();
        harm(&mut round);
        laws(&round)
    };
    assert_eq!(broken(&|it| it.letters.clear()), only(Law::NothingIsSkipped));
    let last_word = |it: &mut Evidence| drop(it.rows.remove(&one));
    assert_eq!(
        broken(&last_word),
        BTreeSet::from([Law::NothingIsSkipped, Law::LastRecordIsRow])
    );
    let not_redriven = |it: &mut Evidence| {
        let row = it.rows[&one].clone();
        it.rows.insert(three, row);
    };
    assert_eq!(broken(&not_redriven), only(Law::LastRecordIsRow));
    assert_eq!(
        broken(&|it| it.deletions_are_redriven = false),
        only(Law::LettersAreRight)
    );
}

#[test]
fn an_older_version_and_a_mixed_row_are_told() {
    let mixed = |evidence: &mut Evidence| {
        let row = evidence.rows.get_mut(&person(1).id).unwrap();
        row.columns.insert("first_name", "Version1".to_owned());
    };
    assert_eq!(broken(mixed), only(Law::LastRecordIsRow));
    let undead = |evidence: &mut Evidence| {
        let row = evidence.rows[&person(2).id].clone();
        evidence.rows.insert(person(3).id, row);
    };
    assert_eq!(broken(undead), only(Law::LastRecordIsRow));
}

#[test]
fn a_write_timestamp_that_is_not_the_logs_is_told() {
    let later = |evidence: &mut Evidence| {
        let row = evidence.rows.get_mut(&person(1).id).unwrap();
        row.stamps.insert("email", NOON * 1_000 + 77);
    };
    assert_eq!(broken(later), only(Law::LogDecidesStamp));
}

#[test]
fn what_nobody_sent_is_told() {
    let row = |evidence: &mut Evidence| {
        let row = evidence.rows[&person(1).id].clone();
        evidence.rows.insert(Uuid::from_u128(5), row);
    };
    assert_eq!(broken(row), only(Law::NothingFromNowhere));
    let record = |evidence: &mut Evidence| {
        evidence.runs.clear();
    };
    let strange = |evidence: &mut Evidence| {
        // Posted by itself, not by the run.
        evidence.log[3].headers.remove(kafka::RUN_ID);
        evidence.runs[0].accepted = 5;
    };
    assert_eq!(broken(strange), BTreeSet::new(), "it was sent by somebody");
    let altered = |evidence: &mut Evidence| {
        strange(evidence);
        evidence.sent.remove(&print(Some(&version(2, 1))));
    };
    assert_eq!(broken(altered), only(Law::NothingFromNowhere));
    let no_run = BTreeSet::from([Law::NothingFromNowhere, Law::NotVacuous]);
    assert_eq!(broken(record), no_run);
}

#[test]
fn a_letter_of_another_place_reason_or_content_is_told() {
    let header = |name: &'static str, value: &'static str| {
        move |evidence: &mut Evidence| {
            let letter = &mut evidence.letters[0];
            letter.headers.insert(name.to_owned(), value.as_bytes().to_vec());
        }
    };
    let right = only(Law::LettersAreRight);
    assert_eq!(broken(header(dead_letter::REASON, "malformed")), right);
    assert_eq!(broken(header(dead_letter::TOPIC, "others")), right);
    let other = "00000000-0000-0000-0000-00000000004e";
    assert_eq!(broken(header(dead_letter::TOPIC_ID, other)), right);
    assert_eq!(broken(header(dead_letter::AT, "yesterday")), right);
    let silent = |evidence: &mut Evidence| {
        evidence.letters[0].headers.remove(dead_letter::ERROR);
    };
    assert_eq!(broken(silent), right);
    let doubled = |evidence: &mut Evidence| {
        let mut other = evidence.letters[0].clone();
        other
            .headers
            .insert(dead_letter::OFFSET.to_owned(), b"2".to_vec());
        evidence.letters.push(other);
    };
    let found = broken(doubled);
    assert!(
        found.contains(&Law::LettersAreRight),
        "a valid record was refused: {found:?}"
    );
    assert_eq!(broken(|it| it.letters[0].value = Some(b"{ }".to_vec())), right);
    assert_eq!(
        broken(header(dead_letter::WRITE_TIMESTAMP, "1")),
        only(Law::LogDecidesStamp)
    );
}

#[test]
fn a_checkpoint_ahead_of_a_row_a_deletion_or_a_letter_is_told() {
    let sample = |change: fn(&mut CheckpointSample)| {
        move |evidence: &mut Evidence| {
            let mut sample = at_the_end(evidence);
            change(&mut sample);
            evidence.checkpoints.insert(0, sample);
        }
    };
    let ahead = only(Law::CheckpointIsPrefix);
    assert_eq!(
        broken(sample(|it| {
            it.stamps.remove(&person(1).id);
        })),
        ahead
    );
    assert_eq!(broken(sample(|it| it.letters = Some(BTreeSet::new()))), ahead);
    let old = |it: &mut CheckpointSample| {
        it.stamps.insert(person(3).id, NOON * 1_000 + 1);
    };
    assert_eq!(broken(sample(old)), ahead, "the deletion is not there yet");
    let before_the_deletion = |it: &mut CheckpointSample| {
        // Its user's first record lies below, the deletion is not appended yet.
        it.next.insert(1, 2);
        it.read_by = NOON - 1;
    };
    assert_eq!(
        broken(sample(before_the_deletion)),
        ahead,
        "a deletion that came later explains nothing"
    );
    assert_eq!(
        broken(sample(|it| it.letters = None)),
        BTreeSet::new(),
        "nobody could be asked"
    );
}

#[test]
fn a_checkpoint_that_moves_back_or_is_not_the_end_is_told() {
    let back = |evidence: &mut Evidence| {
        let mut lower = at_the_end(evidence);
        lower.next.insert(1, 2);
        evidence.checkpoints.push(lower);
        evidence.checkpoints.push(at_the_end(evidence));
    };
    assert_eq!(broken(back), only(Law::CheckpointOnlyRises));
    let by_hand = |evidence: &mut Evidence| {
        back(evidence);
        let last = evidence.checkpoints.len() - 2;
        evidence.checkpoints[last].anew = true;
    };
    assert_eq!(broken(by_hand), BTreeSet::new());
    assert_eq!(
        broken(|it| {
            it.ends.insert(2, 1);
        }),
        only(Law::CheckpointIsEnd)
    );
}

#[test]
fn a_chain_that_flows_late_or_never_again_is_told() {
    assert_eq!(
        broken(|it| it.fresh_seconds = Some(30.5)),
        only(Law::FreshRecordFlows)
    );
    assert_eq!(broken(|it| it.fresh_seconds = None), only(Law::FreshRecordFlows));
}

#[test]
fn what_was_noted_on_the_way_is_told() {
    let note = || vec!["seen".to_owned()];
    assert_eq!(broken(|it| it.untrue_answers = note()), only(Law::AnswersAreTrue));
    assert_eq!(broken(|it| it.odd_ends = note()), only(Law::EndsOnlyWhenTold));
    assert_eq!(broken(|it| it.around = note()), only(Law::NobodyWalksAround));
    assert_eq!(broken(|it| it.without_effect = note()), only(Law::FaultShows));
}

#[test]
fn a_round_that_stressed_nothing_is_told() {
    for demand in [
        |it: &mut Demands| it.acknowledged = 7,
        |it: &mut Demands| it.versions = 3,
        |it: &mut Demands| it.letters = 2,
        |it: &mut Demands| it.faults = 2,
        |it: &mut Demands| it.rebalances = 1,
        |it: &mut Demands| it.runs = 2,
        |it: &mut Demands| it.samples = 3,
        |it: &mut Demands| it.lettered_samples = 2,
        |it: &mut Demands| it.all_read = true,
        |it: &mut Demands| it.looks = 31,
        |it: &mut Demands| it.connections = 5,
    ] {
        assert_eq!(broken(|it| demand(&mut it.demands)), only(Law::NotVacuous));
    }
}

proptest! {
    #[test]
    fn whatever_the_log_a_chain_that_kept_it_is_right_and_one_that_lost_a_row_is_not(
        // A user, and what comes of it: a version, a deletion or something bad; its partition follows from the user.
        events in proptest::collection::vec((0_u64..12, 0_u64..8), 1..80),
        lost in any::<prop::sample::Index>(),
    ) {
        let mut ends = [0_i64; 3];
        let mut log = Vec::new();
        for (place, (user, what)) in events.iter().enumerate() {
            let partition = usize::try_from(user % 3).unwrap();
            let value = match what {
                0 => None,
                1 => Some(b"bad".to_vec()),
                _ => Some(version(*user, u64::try_from(place).unwrap())),
            };
            let (number, id) = (i32::try_from(partition).unwrap(), person(*user).id);
            log.push(record(number, ends[partition], &id, value));
            ends[partition] += 1;
        }
        log.sort_by_key(|record| (record.partition, record.offset));
        let mut evidence = kept(log);
        prop_assert_eq!(judge(&evidence), vec![]);
        if evidence.rows.is_empty() {
            return Ok(());
        }
        let id = *evidence.rows.keys().nth(lost.index(evidence.rows.len())).unwrap();
        evidence.rows.remove(&id);
        prop_assert!(laws(&evidence).contains(&Law::LastRecordIsRow));
    }
}
