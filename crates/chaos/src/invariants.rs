//! Invariants: evidence in, violations out. Pure, without I/O.
//!
//! The expected row, write timestamp and dead letter of each record are derived from the log alone (`expected`), without
//! the streamer's code.

mod checkpoints;
mod conserved;
mod coverage;
mod expected;
mod health;
mod limits;
mod runtime;
mod signals;
mod stored;
mod violation;

use std::collections::BTreeMap;

use self::expected::ExpectedLog;
use crate::evidence::Evidence;

pub(crate) use self::coverage::rebalances;
pub(crate) use self::violation::Invariant;
pub use self::violation::InvariantViolation;

/// Reported violations of one invariant; a lost topic would fill the report.
const MAX_REPORTED: usize = 5;

/// Records of the log that must be dead letters.
pub(crate) fn expected_dead_letters(evidence: &Evidence) -> usize {
    ExpectedLog::of(evidence).dead_letters()
}

/// Records that the streamers read after they, or others, had read them before.
pub(crate) fn reread_records(evidence: &Evidence) -> usize {
    coverage::records_read(evidence).saturating_sub(evidence.log.len())
}

/// Checks every invariant.
pub(crate) fn check(evidence: &Evidence) -> Vec<InvariantViolation> {
    let log = ExpectedLog::of(evidence);
    let found = [
        stored::acknowledged(evidence),
        stored::run_history(evidence),
        stored::records(evidence, &log),
        stored::rows(evidence, &log),
        stored::dead_letters(evidence, &log),
        conserved::conserved(evidence, &log),
        checkpoints::not_ahead(evidence, &log),
        checkpoints::monotonic(evidence),
        checkpoints::at_end(evidence),
        runtime::recovery(evidence),
        runtime::memory(evidence),
        runtime::continued_work(evidence),
        runtime::recorded(evidence),
        signals::signals(evidence),
        health::readiness(evidence),
        health::liveness(evidence),
        health::exits(evidence),
        coverage::coverage(evidence, &log),
    ];
    let mut counts = BTreeMap::new();
    found
        .into_iter()
        .flatten()
        .filter(|violation| {
            let count = counts.entry(violation.invariant).or_insert(0);
            *count += 1;
            *count <= MAX_REPORTED
        })
        .collect()
}

#[cfg(test)]
mod tests;
