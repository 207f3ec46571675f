//! Invariants of the checkpoints: never ahead of durable data, never backwards, and finally at the end.

use std::collections::BTreeMap;

use super::expected::{ExpectedEntry, ExpectedLog, ExpectedOutcome};
use super::violation::{Invariant, InvariantViolation};
use crate::evidence::{CheckpointSample, Evidence};

/// The durable data was read after the checkpoints, so it can only be more.
pub(super) fn not_ahead(evidence: &Evidence, log: &ExpectedLog<'_>) -> Vec<InvariantViolation> {
    let mut found = Vec::new();
    for sample in &evidence.checkpoints {
        for entry in log
            .entries
            .iter()
            .filter(|entry| is_not_durable(sample, log, entry))
        {
            let (partition, _) = entry.position();
            let next = sample.next_offsets.get(&partition).copied().unwrap_or_default();
            let text = format!(
                "the checkpoint was {next} at {} ms, and this was not durable",
                sample.at_ms
            );
            found.push(InvariantViolation::new(
                Invariant::CheckpointNotAhead,
                entry.name(),
                text,
            ));
        }
    }
    found
}

/// Whether the record is below the checkpoint and was not stored.
fn is_not_durable(sample: &CheckpointSample, log: &ExpectedLog<'_>, entry: &ExpectedEntry<'_>) -> bool {
    let (partition, offset) = entry.position();
    let next = sample.next_offsets.get(&partition);
    if next.is_none_or(|next| offset >= *next) {
        return false;
    }
    match (&entry.outcome, &entry.key) {
        (ExpectedOutcome::DeadLetter(_) | ExpectedOutcome::Redriven(_), _) => sample
            .dead_letters
            .as_ref()
            .is_some_and(|letters| !letters.contains(&(partition, offset))),
        (ExpectedOutcome::Row(id, _), _) => {
            let timestamp = sample.write_timestamps.get(id);
            let stored = timestamp.is_some_and(|timestamp| *timestamp >= entry.timestamp);
            // A deletion appended after the sample does not explain a missing row.
            !stored && !log.is_deleted_after(id, entry.timestamp, sample.read_at_ms)
        }
        (ExpectedOutcome::Expired(id), _) => {
            let timestamp = sample.write_timestamps.get(id);
            timestamp.is_some_and(|timestamp| *timestamp < entry.timestamp)
        }
        (ExpectedOutcome::Deleted, Some(key)) => {
            let rows = sample.write_timestamps.iter();
            let mut of_key = rows.filter(|(id, _)| id.key == *key);
            of_key.any(|(_, timestamp)| *timestamp < entry.timestamp)
        }
        (ExpectedOutcome::Deleted, None) => false,
    }
}

pub(super) fn monotonic(evidence: &Evidence) -> Vec<InvariantViolation> {
    let mut highest: BTreeMap<i32, i64> = BTreeMap::new();
    let mut found = Vec::new();
    for sample in &evidence.checkpoints {
        if sample.reset {
            highest.clear();
        }
        for (partition, next) in &sample.next_offsets {
            let before = highest.entry(*partition).or_insert(*next);
            if next < before {
                let subject = format!("partition {partition}");
                let text = format!("{next} after {before}, at {} ms", sample.at_ms);
                found.push(InvariantViolation::new(
                    Invariant::CheckpointMonotonic,
                    subject,
                    text,
                ));
            }
            *before = (*before).max(*next);
        }
    }
    found
}

pub(super) fn at_end(evidence: &Evidence) -> Vec<InvariantViolation> {
    let last = evidence.checkpoints.last();
    let wrong = evidence.ends.iter().filter_map(|(partition, end)| {
        let next = last
            .and_then(|sample| sample.next_offsets.get(partition))
            .copied();
        (next != Some(*end)).then(|| {
            let subject = format!("partition {partition}");
            let text = format!("{next:?}, the end is {end}");
            InvariantViolation::new(Invariant::CheckpointAtEnd, subject, text)
        })
    });
    wrong.collect()
}
