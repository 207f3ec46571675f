//! The invariant that a round did enough to count.

use super::conserved::numbered_records;
use super::expected::ExpectedLog;
use super::violation::{Invariant, InvariantViolation};
use crate::evidence::Evidence;
use crate::service_id::OPERATOR_STREAMER;

pub(super) fn coverage(evidence: &Evidence, log: &ExpectedLog<'_>) -> Vec<InvariantViolation> {
    let required = evidence.required;
    let versions = log.versions();
    let runs = evidence.runs.iter().filter(|run| run.accepted > 0).count();
    let samples = &evidence.checkpoints;
    let letter_samples = samples.iter().filter(|sample| sample.dead_letters.is_some());
    let all_read = if required.all_read { evidence.log.len() } else { 0 };
    let found = [
        ("acknowledged records", evidence.acked.len(), required.acked),
        ("replaced records", versions, required.versions),
        ("invalid records", log.dead_letters(), required.dead_letters),
        ("expired records", log.expired(), required.expired),
        ("faults", evidence.incidents.len(), required.faults),
        ("rebalances", rebalances(evidence), required.rebalances),
        ("runs", runs, required.runs),
        ("records of runs", numbered_records(log), required.numbered),
        ("checkpoint samples", samples.len(), required.checkpoint_samples),
        (
            "checkpoint samples with dead letters",
            letter_samples.count(),
            required.dead_letter_samples,
        ),
        ("records read by the streamers", records_read(evidence), all_read),
        (
            "health samples of a process",
            fewest_health_samples(evidence),
            required.health_samples,
        ),
        (
            "connections to proxies",
            evidence.proxy_connections,
            required.proxy_connections,
        ),
    ];
    let short = found.into_iter().filter(|(_, found, required)| found < required);
    short
        .map(|(what, found, required)| {
            let text = format!("{found}, fewer than {required}");
            InvariantViolation::new(Invariant::SufficientCoverage, what, text)
        })
        .collect()
}

/// Rebalances between the samples. A counter restarts with its process.
pub(crate) fn rebalances(evidence: &Evidence) -> usize {
    let mut sum = 0.0;
    for samples in evidence.health.values() {
        let counts = samples
            .iter()
            .filter_map(|sample| sample.metric("streamer_rebalances_total"));
        let counts: Vec<_> = counts.collect();
        for pair in counts.windows(2) {
            sum += if pair[1] < pair[0] {
                pair[1]
            } else {
                pair[1] - pair[0]
            };
        }
    }
    count(sum)
}

/// Records that the streamers read by their own counters, over all restarts.
pub(super) fn records_read(evidence: &Evidence) -> usize {
    let mut sum = 0.0;
    for samples in evidence.health.values() {
        let counts = samples
            .iter()
            .filter_map(|sample| Some((sample.start_time(), sample.metric("streamer_records_total")?)));
        let counts: Vec<_> = counts.collect();
        // The last count of each process counts.
        let processes = counts.chunk_by(|one, next| one.0 == next.0 && one.1 <= next.1);
        sum += processes
            .filter_map(|counts| counts.last())
            .map(|(_, count)| count)
            .sum::<f64>();
    }
    count(sum)
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a sum of counters"
)]
fn count(sum: f64) -> usize {
    sum as usize
}

/// Samples with metrics of the service with the fewest; the operator's short-lived streamer does not count.
fn fewest_health_samples(evidence: &Evidence) -> usize {
    let services = evidence.health.iter().filter(|(id, _)| **id != OPERATOR_STREAMER);
    let counts = services.map(|(_, samples)| {
        let with_metrics = samples.iter().filter(|sample| sample.resident_memory().is_some());
        with_metrics.count()
    });
    counts.min().unwrap_or(0)
}
