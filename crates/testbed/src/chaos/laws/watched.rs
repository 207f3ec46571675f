//! Laws of what could be watched: readiness, liveness, memory, signs of the faults, and whether there was anything to see.

use std::collections::BTreeMap;

use super::log::Log;
use super::{Law, Violation};
use crate::chaos::evidence::{Evidence, Incident, LateEnd, Look, Sign, Who};

/// How many seconds readiness may take to turn, and how many a fresh record may take.
pub const PATIENCE: (f64, f64) = (10.0, 30.0);

/// The most resident memory of each service, in bytes: twice what its issue allows it under full load, for what matters
/// here is that an outage makes it grow no further.
pub const MEMORY_BOUNDS: [(&str, f64); 3] = [
    ("ingester", 96.0 * MIB),
    ("publisher", 192.0 * MIB),
    ("streamer", 96.0 * MIB),
];

const MIB: f64 = 1_048_576.0;

/// Between two looks, and for one that waits: a turn may be seen so much later than it came.
const BLUR: f64 = 1.5;

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

pub(super) fn signs(evidence: &Evidence) -> Vec<Violation> {
    let hidden = evidence.incidents.iter().filter(|incident| {
        let due = !incident.signs.is_empty() && (!incident.faint || is_alone(evidence, incident));
        due && !incident.signs.iter().any(|sign| shows(sign, incident, evidence))
    });
    hidden
        .map(|incident| {
            Violation::new(
                Law::FaultShows,
                &incident.fault,
                format!("none of {:?} was seen", incident.signs),
            )
        })
        .collect()
}

/// Whether nothing else is broken, or has just been mended, while it lasts.
fn is_alone(evidence: &Evidence, incident: &Incident) -> bool {
    evidence.incidents.iter().all(|other| {
        std::ptr::eq(other, incident)
            || other.began > incident.ended + PATIENCE.0
            || other.ended + PATIENCE.0 < incident.began
    })
}

fn shows(sign: &Sign, incident: &Incident, evidence: &Evidence) -> bool {
    let until = incident.ended + PATIENCE.0;
    let during = |look: &&Look| look.at >= incident.began && look.at <= until;
    let looks_of = |who: &Who| evidence.looks.get(who).into_iter().flatten();
    match sign {
        Sign::Silent(who) => looks_of(who).filter(during).any(|look| !look.answered()),
        Sign::Restarted(who) => {
            let start = |look: &Look| look.metrics.get("process_start_time_seconds").copied();
            let before = looks_of(who)
                .take_while(|look| look.at < incident.began)
                .filter_map(start)
                .last();
            looks_of(who)
                .filter(during)
                .any(|look| !look.answered() || start(look) != before)
        }
        Sign::Rose(metric) => evidence.looks.values().any(|looks| {
            let value = |look: &Look| look.metrics.get(*metric).copied();
            let before = looks
                .iter()
                .take_while(|look| look.at < incident.began)
                .filter_map(value)
                .last();
            let during = looks.iter().filter(during).filter_map(value);
            during.into_iter().any(|value| value > before.unwrap_or(0.0))
        }),
        Sign::Fell(metric) => evidence.looks.values().any(|looks| {
            let start = |look: &Look| look.metrics.get("process_start_time_seconds").copied();
            let value = |look: &Look| look.metrics.get(*metric).copied();
            let known: Vec<_> = looks.iter().filter(|look| value(look).is_some()).collect();
            known.windows(2).any(|pair| {
                during(&pair[1]) && start(pair[0]) == start(pair[1]) && value(pair[1]) < value(pair[0])
            })
        }),
        Sign::Slower(metric, by) => evidence.looks.values().any(|looks| {
            let usual = mean(looks, metric, 0.0, incident.began).unwrap_or(0.0);
            looks
                .windows(2)
                .filter(|pair| during(&&pair[1]))
                .filter_map(|pair| mean(pair, metric, pair[0].at, pair[1].at))
                .any(|mean| mean >= usual + by)
        }),
        Sign::InTheEnd(metric, least) => {
            let last = |looks: &Vec<Look>| {
                let found = looks.iter().rev().find_map(|look| look.metrics.get(*metric));
                found.copied().unwrap_or(0.0)
            };
            evidence.looks.values().map(last).sum::<f64>() >= *least
        }
        Sign::Missed(dependency) => evidence
            .looks
            .values()
            .flatten()
            .filter(during)
            .any(|look| look.missing.iter().any(|missing| missing == dependency)),
    }
}

/// What a histogram measured on the average between two moments; none, when it measured nothing.
fn mean(looks: &[Look], metric: &str, from: f64, until: f64) -> Option<f64> {
    let value = |look: &Look, part: &str| look.metrics.get(&format!("{metric}_{part}")).copied();
    let within = looks.iter().filter(|look| (from..=until).contains(&look.at));
    let mut known = within.filter(|look| value(look, "count").is_some());
    let first = known.next()?;
    let last = known.next_back()?;
    let count = value(last, "count")? - value(first, "count")?;
    let sum = value(last, "sum")? - value(first, "sum")?;
    (count > 0.0).then(|| sum / count)
}

/// Each loss that lasts is told by everybody whose dependency it is, and its end, too.
pub(super) fn readiness(evidence: &Evidence) -> Vec<Violation> {
    let mut found = Vec::new();
    for incident in &evidence.incidents {
        let Some(loss) = &incident.loses else { continue };
        for who in &loss.of {
            let looks = evidence.looks.get(who).map_or(&[][..], Vec::as_slice);
            if is_due(evidence, incident, *who) {
                let told = looks.iter().any(|look| {
                    look.at >= incident.began
                        && look.at <= incident.began + PATIENCE.0 + BLUR
                        && look.ready == Some(false)
                        && look.missing.iter().any(|missing| missing == loss.dependency)
                });
                if !told {
                    let silence = format!(
                        "did not say within {} s that it misses {}",
                        PATIENCE.0, loss.dependency
                    );
                    found.push(Violation::new(
                        Law::ReadyTurnsFalse,
                        format!("{who}, {}", incident.fault),
                        silence,
                    ));
                }
            }
            if is_quiet(evidence, incident, *who) {
                let back = looks.iter().any(|look| {
                    look.at >= incident.ended
                        && look.at <= incident.ended + PATIENCE.0 + BLUR
                        && look.ready == Some(true)
                });
                if !back {
                    let late = format!("was not ready within {} s of the end", PATIENCE.0);
                    found.push(Violation::new(
                        Law::ReadyTurnsTrue,
                        format!("{who}, {}", incident.fault),
                        late,
                    ));
                }
            }
        }
    }
    found
}

/// Whether the loss lasts long enough to be told, and nothing keeps this process from telling it.
fn is_due(evidence: &Evidence, incident: &Incident, who: Who) -> bool {
    let until = incident.began + PATIENCE.0;
    incident.ended >= until && !is_excused(evidence, who, incident.began, until)
}

/// Whether nothing else is broken in the time in which readiness has to come back.
fn is_quiet(evidence: &Evidence, incident: &Incident, who: Who) -> bool {
    let until = incident.ended + PATIENCE.0;
    let lost_again = evidence.incidents.iter().any(|other| {
        !std::ptr::eq(other, incident)
            && other.loses.is_some()
            && other.began <= until
            && other.ended + PATIENCE.0 >= incident.ended
    });
    !lost_again && !is_excused(evidence, who, incident.ended - PATIENCE.0, until)
}

fn is_excused(evidence: &Evidence, who: Who, from: f64, until: f64) -> bool {
    evidence.incidents.iter().any(|other| {
        // A process that comes back has to start and join before it can be asked.
        other.excuses.contains(&who) && other.began <= until && other.ended + PATIENCE.0 >= from
    })
}

pub(super) fn liveness(evidence: &Evidence) -> Vec<Violation> {
    let dead = evidence.looks.iter().filter_map(|(who, looks)| {
        let look = looks.iter().find(|look| look.alive == Some(false))?;
        let told = format!("/healthz failed at {:.1} s", look.at);
        Some(Violation::new(Law::AliveThroughout, who.to_string(), told))
    });
    dead.collect()
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
        of(Law::NobodyWalksAround, &evidence.around),
    ]
    .concat()
}

/// Who can't finish within the grace because a dependency is away ends with 1, and nobody else does.
pub(super) fn ends(evidence: &Evidence) -> Vec<Violation> {
    let excused = |late: &LateEnd| {
        evidence.incidents.iter().any(|incident| {
            let loses = incident
                .loses
                .as_ref()
                .is_some_and(|loss| loss.of.contains(&late.who));
            loses && incident.began <= late.until && incident.ended + PATIENCE.0 >= late.from
        })
    };
    let late = evidence.late_ends.iter().filter(|late| !excused(late));
    late.map(|late| {
        let told = format!("ended with 1 after a SIGTERM at {:.1} s", late.from);
        Violation::new(Law::EndsOnlyWhenTold, late.who.to_string(), told)
    })
    .collect()
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
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a sum of counters"
    )]
    let sum = sum as usize;
    sum
}

/// How often the process that answered least often told of its memory.
fn fewest_looks(evidence: &Evidence) -> usize {
    let told = |looks: &Vec<Look>| {
        let known = |look: &&Look| look.metrics.contains_key("process_resident_memory_bytes");
        looks.iter().filter(known).count()
    };
    evidence.looks.values().map(told).min().unwrap_or(0)
}

pub(super) fn stress(evidence: &Evidence, log: &Log<'_>) -> Vec<Violation> {
    let demands = evidence.demands;
    let versions = log.of.values().map(|places| places.len() - 1).sum();
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
