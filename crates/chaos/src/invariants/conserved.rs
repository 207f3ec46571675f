//! Invariant of the run ledger: it has each record of a run, and no other.

use std::collections::{BTreeMap, BTreeSet};

use model::headers::kafka;
use testkit::kafka_client::TopicRecord;
use uuid::Uuid;

use super::expected::{ExpectedLog, ExpectedOutcome};
use super::violation::{Invariant, InvariantViolation};
use crate::evidence::Evidence;
use crate::evidence::run_ledger::{LedgerRanges, numbers};

/// The numbers of a run by what its records must have become. A number may have several records.
#[derive(Debug, Default)]
struct ExpectedRun {
    /// Rows and deletions.
    stored: BTreeSet<u64>,
    dead_lettered: BTreeSet<u64>,
    /// Records that the topic lost. The streamers may have read them.
    unread: BTreeSet<u64>,
}

/// The records of runs, counted from the log alone.
fn expected(evidence: &Evidence, log: &ExpectedLog<'_>) -> BTreeMap<Uuid, ExpectedRun> {
    let mut runs: BTreeMap<Uuid, ExpectedRun> = BTreeMap::new();
    for entry in &log.entries {
        if let Some((run, number)) = run_number(entry.record) {
            let run = runs.entry(run).or_default();
            let numbers = match entry.outcome {
                ExpectedOutcome::DeadLetter(_) => &mut run.dead_lettered,
                ExpectedOutcome::Row(..)
                | ExpectedOutcome::Expired(_)
                | ExpectedOutcome::Deleted
                | ExpectedOutcome::Redriven(_) => &mut run.stored,
            };
            numbers.insert(number);
        }
    }
    for (run, number) in evidence.lost.unread.iter().filter_map(run_number) {
        runs.entry(run).or_default().unread.insert(number);
    }
    for run in runs.values_mut() {
        run.dead_lettered.retain(|number| !run.stored.contains(number));
    }
    runs
}

fn run_number(record: &TopicRecord) -> Option<(Uuid, u64)> {
    let run = record.header(kafka::RUN_ID)?.parse().ok()?;
    Some((run, record.header(kafka::RUN_SEQ)?.parse().ok()?))
}

/// The numbers in the log that belong to a run.
pub(super) fn numbered_records(log: &ExpectedLog<'_>) -> usize {
    let numbers = log.entries.iter().filter_map(|entry| run_number(entry.record));
    numbers.count()
}

/// Compares the ledger with the log, and the ingester's verdicts with both. The first release had no ledger, so beside it the
/// ledger is not complete.
pub(super) fn conserved(evidence: &Evidence, log: &ExpectedLog<'_>) -> Vec<InvariantViolation> {
    if evidence.is_mixed {
        return Vec::new();
    }
    let runs = expected(evidence, log);
    let mut found = Vec::new();
    for (id, run) in &runs {
        let differences = match evidence.run_ledgers.get(id) {
            Some(ledger) => differences(run, ledger),
            // The ledger of a run whose records were all lost is not requested.
            None if run.stored.is_empty() && run.dead_lettered.is_empty() => Vec::new(),
            None => vec!["no streamer responded".to_owned()],
        };
        let subject = format!("run {id}");
        let violations = differences.into_iter();
        found.extend(violations.map(|text| InvariantViolation::new(Invariant::RunConserved, &subject, text)));
    }
    for run in &evidence.runs {
        let id = run.id.parse().ok();
        let has_lost_records = id
            .and_then(|id: Uuid| runs.get(&id))
            .is_some_and(|run| !run.unread.is_empty());
        if run.verdict.as_deref() != Some("conserved") && !has_lost_records {
            let subject = format!("run {}, {}", run.id, run.state);
            let text = format!("the ingester's verdict is {:?}", run.verdict);
            found.push(InvariantViolation::new(Invariant::RunConserved, subject, text));
        }
    }
    found
}

fn differences(run: &ExpectedRun, ledger: &LedgerRanges) -> Vec<String> {
    let sets = [
        ("stored", &run.stored, numbers(&ledger.stored)),
        (
            "dead-lettered",
            &run.dead_lettered,
            numbers(&ledger.dead_lettered),
        ),
        ("lost", &BTreeSet::new(), numbers(&ledger.lost)),
    ];
    let mut found = Vec::new();
    for (name, expected, in_ledger) in sets {
        let missing: Vec<_> = expected.difference(&in_ledger).collect();
        if let Some(first) = missing.first() {
            found.push(format!(
                "{} {name} records are missing, {first} first",
                missing.len()
            ));
        }
        let surplus = in_ledger.difference(expected);
        let surplus: Vec<_> = surplus.filter(|number| !run.unread.contains(number)).collect();
        if let Some(first) = surplus.first() {
            found.push(format!(
                "{} {name} records too many, {first} first",
                surplus.len()
            ));
        }
    }
    found
}

/// The ledgers of a correct streamer.
#[cfg(test)]
pub(super) fn correct_ledgers(evidence: &Evidence, log: &ExpectedLog<'_>) -> BTreeMap<Uuid, LedgerRanges> {
    let runs = expected(evidence, log).into_iter();
    let ledgers = runs.map(|(id, run)| {
        let ledger = LedgerRanges {
            stored: crate::evidence::run_ledger::ranges(&run.stored),
            dead_lettered: crate::evidence::run_ledger::ranges(&run.dead_lettered),
            lost: Vec::new(),
        };
        (id, ledger)
    });
    ledgers.collect()
}
