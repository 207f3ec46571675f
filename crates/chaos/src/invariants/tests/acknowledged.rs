//! Invariants of acknowledged records and of the run history.

use model::Key;

use super::*;

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
