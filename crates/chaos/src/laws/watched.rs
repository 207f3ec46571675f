//! Laws of what could be watched: memory, work that goes on, and whether there was anything to see.

use std::collections::BTreeMap;

use super::log::Log;
use super::{Law, Violation};
use crate::evidence::{Evidence, Incident, Look, OPERATORS};

/// How many seconds readiness may take to turn, and how many a fresh record may take.
pub const PATIENCE: (f64, f64) = (10.0, 30.0);

/// The most resident memory of each service, in bytes. The goals under full load, which `scripts/bench` measures on a
/// quiet machine, are 48, 96 and 48 MB; these are twice as much. The margin is for what a round does besides: a backlog
/// after an outage, connections that wait, a build with moments to die at. What is held here is that no outage makes a
/// service grow without end, and not that it meets its goal.
pub const MEMORY_BOUNDS: [(&str, f64); 3] = [
    ("ingester", 96.0 * MIB),
    ("publisher", 192.0 * MIB),
    ("streamer", 96.0 * MIB),
];

const MIB: f64 = 1_048_576.0;

/// So long after one of three servers has gone, its part of the work must have found another.
const TAKEN_OVER: f64 = 15.0;
/// Work that is looked at for a shorter time may have had a pause.
const WORKS: f64 = 3.0;

pub(super) fn fresh(evidence: &Evidence) -> Vec<Violation> {
    let found = match evidence.fresh_seconds {
        Some(seconds) if seconds <= PATIENCE.1 => return Vec::new(),
        Some(seconds) => format!("took {seconds:.1} s"),
        None => "never became a row".to_owned(),
    };
    vec![Violation::new(
        Law::FreshRecordFlows,
        "the first record after the last fault",
        found,
    )]
}

pub(super) fn memory(evidence: &Evidence) -> Vec<Violation> {
    let over = evidence.looks.iter().filter_map(|(who, looks)| {
        let name = who.to_string();
        let (_, bound) = MEMORY_BOUNDS
            .iter()
            .find(|(service, _)| name.starts_with(service))?;
        let held = looks
            .iter()
            .filter_map(|look| look.metrics.get("process_resident_memory_bytes"));
        let most = held.copied().reduce(f64::max)?;
        let told = format!("{:.0} MiB, the bound is {:.0}", most / MIB, bound / MIB);
        (most > *bound).then(|| Violation::new(Law::MemoryIsBounded, name, told))
    });
    over.collect()
}

/// Records are accepted and rows written while one server of three is away.
pub(super) fn goes_on(evidence: &Evidence) -> Vec<Violation> {
    let mut found = Vec::new();
    let due = evidence.incidents.iter().filter(|incident| {
        let window = incident.ended - incident.began - TAKEN_OVER;
        incident.goes_on && window >= WORKS && is_single(evidence, incident)
    });
    for incident in due {
        let (from, until) = (incident.began + TAKEN_OVER, incident.ended);
        for metric in [
            "publisher_records_total{outcome=\"accepted\"}",
            "streamer_rows_total",
        ] {
            let grew = evidence
                .looks
                .values()
                .any(|looks| grows(looks, metric, from, until));
            if !grew {
                let still = format!("{metric} did not rise from {from:.1} to {until:.1} s");
                found.push(Violation::new(Law::WorkGoesOn, &incident.fault, still));
            }
        }
    }
    found
}

/// Whether nothing else is broken at the same time.
fn is_single(evidence: &Evidence, incident: &Incident) -> bool {
    let mut others = evidence
        .incidents
        .iter()
        .filter(|other| !std::ptr::eq(*other, incident));
    others.all(|other| other.began >= incident.ended || other.ended <= incident.began)
}

fn grows(looks: &[Look], metric: &str, from: f64, until: f64) -> bool {
    let within = looks.iter().filter(|look| (from..=until).contains(&look.at));
    let values: Vec<_> = within
        .filter_map(|look| look.metrics.get(metric).copied())
        .collect();
    values.windows(2).any(|pair| pair[1] > pair[0])
}

/// What was a violation already when it was seen.
pub(super) fn noted(evidence: &Evidence) -> Vec<Violation> {
    let of = |law, found: &[String]| -> Vec<_> {
        found
            .iter()
            .map(|text| Violation::new(law, "noted", text))
            .collect()
    };
    [
        of(Law::AnswersAreTrue, &evidence.untrue_answers),
        of(Law::EndsOnlyWhenTold, &evidence.odd_ends),
        of(Law::FaultShows, &evidence.without_effect),
        of(Law::NobodyWalksAround, &evidence.around),
    ]
    .concat()
}

/// The rebalances that processes have counted while they were watched; each counter starts anew with its process.
pub(super) fn rebalances(evidence: &Evidence) -> usize {
    let mut sum = 0.0;
    for looks in evidence.looks.values() {
        let counts: Vec<f64> = looks
            .iter()
            .filter_map(|look| look.metrics.get("streamer_rebalances_total").copied())
            .collect();
        for pair in counts.windows(2) {
            sum += if pair[1] < pair[0] {
                pair[1]
            } else {
                pair[1] - pair[0]
            };
        }
    }
    counted(sum)
}

/// The records that the streamers have read by their own count, over all of their lives.
pub(super) fn records_read(evidence: &Evidence) -> usize {
    let mut sum = 0.0;
    for looks in evidence.looks.values() {
        let counts = looks.iter().filter_map(|look| {
            let value = |name: &str| look.metrics.get(name).copied();
            Some((
                value("process_start_time_seconds"),
                value("streamer_records_total")?,
            ))
        });
        let counts: Vec<_> = counts.collect();
        // Each life ends with the most that it told of.
        let lives = counts.chunk_by(|one, next| one.0 == next.0 && one.1 <= next.1);
        sum += lives
            .filter_map(|life| life.last())
            .map(|(_, count)| count)
            .sum::<f64>();
    }
    counted(sum)
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a sum of counters"
)]
fn counted(sum: f64) -> usize {
    sum as usize
}

/// How often the process that answered least often told of its memory; one that an operator starts for a moment is not asked
/// for.
fn fewest_looks(evidence: &Evidence) -> usize {
    let told = |looks: &Vec<Look>| {
        let known = |look: &&Look| look.metrics.contains_key("process_resident_memory_bytes");
        looks.iter().filter(known).count()
    };
    let ours = evidence.looks.iter().filter(|(who, _)| **who != OPERATORS);
    ours.map(|(_, looks)| told(looks)).min().unwrap_or(0)
}

pub(super) fn stress(evidence: &Evidence, log: &Log<'_>) -> Vec<Violation> {
    let demands = evidence.demands;
    let versions = log.by_user.values().map(|places| places.len() - 1).sum();
    let letters = log.letters();
    let found = BTreeMap::from([
        (
            "acknowledged records",
            (evidence.obligations.len(), demands.acknowledged),
        ),
        ("overtaken records", (versions, demands.versions)),
        ("invalid records", (letters, demands.letters)),
        ("faults", (evidence.incidents.len(), demands.faults)),
        ("rebalances", (rebalances(evidence), demands.rebalances)),
        (
            "runs",
            (
                evidence.runs.iter().filter(|run| run.accepted > 0).count(),
                demands.runs,
            ),
        ),
        ("samples", (evidence.checkpoints.len(), demands.samples)),
        (
            "samples with dead letters",
            (
                evidence
                    .checkpoints
                    .iter()
                    .filter(|sample| sample.letters.is_some())
                    .count(),
                demands.lettered_samples,
            ),
        ),
        (
            "records that the streamers read",
            (
                records_read(evidence),
                if demands.all_read { evidence.log.len() } else { 0 },
            ),
        ),
        ("looks at a process", (fewest_looks(evidence), demands.looks)),
        (
            "connections to proxies",
            (evidence.connections, demands.connections),
        ),
    ]);
    let short = found
        .into_iter()
        .filter(|(_, (found, demanded))| found < demanded);
    short
        .map(|(what, (found, demanded))| {
            Violation::new(Law::NotVacuous, what, format!("{found}, fewer than {demanded}"))
        })
        .collect()
}
