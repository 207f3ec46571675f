//! The law that every fault shows: where it has to, and when it is there to be seen.

use super::health::is_excused_throughout;
use super::{Law, PATIENCE, Violation};
use crate::evidence::{Evidence, Incident, Look, Sign, Who};

pub(super) fn signs(evidence: &Evidence) -> Vec<Violation> {
    let hidden = evidence.incidents.iter().filter(|incident| {
        let due = !incident.signs.is_empty()
            && (!incident.faint || is_alone(evidence, incident))
            && !is_unseen(evidence, incident);
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

/// Whether nobody could tell of what is lost: whoever it is lost to was away himself for all of that time.
fn is_unseen(evidence: &Evidence, incident: &Incident) -> bool {
    incident.loses.as_ref().is_some_and(|loss| {
        let mut of = loss.of.iter();
        of.all(|who| is_excused_throughout(evidence, *who, incident.began, incident.ended))
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
