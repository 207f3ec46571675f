//! Laws of the checkpoints: at no moment ahead of what is durable, never back, and at the end the end.

use std::collections::BTreeMap;

use super::log::{Fate, Log};
use super::{Law, Violation};
use crate::evidence::{CheckpointSample, Evidence};

/// What was durable was asked after the checkpoints, so it can only be more.
pub(super) fn prefix(evidence: &Evidence, log: &Log<'_>) -> Vec<Violation> {
    let ahead = evidence.checkpoints.iter().flat_map(|sample| {
        log.entries
            .iter()
            .filter(move |entry| is_lacking(sample, log, entry))
            .map(move |entry| (sample, entry))
    });
    ahead
        .map(|(sample, entry)| {
            let next = sample
                .next
                .get(&entry.record.partition)
                .copied()
                .unwrap_or_default();
            let found = format!(
                "the checkpoint was {next} at {} ms, and this was not durable",
                sample.at_ms
            );
            Violation::new(Law::CheckpointIsPrefix, entry.name(), found)
        })
        .collect()
}

/// Whether the record lies below the checkpoint and was nowhere.
fn is_lacking(sample: &CheckpointSample, log: &Log<'_>, entry: &super::log::Entry<'_>) -> bool {
    let (partition, offset) = entry.place();
    if sample.next.get(&partition).is_none_or(|next| offset >= *next) {
        return false;
    }
    match (&entry.fate, entry.id) {
        (Fate::Letter(_) | Fate::Redriven(_), _) => sample
            .letters
            .as_ref()
            .is_some_and(|letters| !letters.contains(&(partition, offset))),
        (Fate::Row(_), Some(id)) => {
            let there = sample.stamps.get(&id).is_some_and(|stamp| *stamp >= entry.stamp);
            // A deletion that was appended after the look explains nothing.
            !there && !log.is_deleted_after(id, entry.stamp, sample.read_by)
        }
        (Fate::Gone, Some(id)) => sample.stamps.get(&id).is_some_and(|stamp| *stamp < entry.stamp),
        (_, None) => false,
    }
}

pub(super) fn rising(evidence: &Evidence) -> Vec<Violation> {
    let mut highest: BTreeMap<i32, i64> = BTreeMap::new();
    let mut found = Vec::new();
    for sample in &evidence.checkpoints {
        if sample.anew {
            highest.clear();
        }
        for (partition, next) in &sample.next {
            let before = highest.entry(*partition).or_insert(*next);
            if next < before {
                let told = format!("{next} after {before}, at {} ms", sample.at_ms);
                found.push(Violation::new(
                    Law::CheckpointOnlyRises,
                    format!("partition {partition}"),
                    told,
                ));
            }
            *before = (*before).max(*next);
        }
    }
    found
}

pub(super) fn end(evidence: &Evidence) -> Vec<Violation> {
    let last = evidence.checkpoints.last();
    let wrong = evidence.ends.iter().filter_map(|(partition, end)| {
        let next = last.and_then(|sample| sample.next.get(partition)).copied();
        (next != Some(*end)).then(|| {
            let told = format!("{next:?}, the end is {end}");
            Violation::new(Law::CheckpointIsEnd, format!("partition {partition}"), told)
        })
    });
    wrong.collect()
}
