//! Laws of what each process says of its own health, and of its end.

use super::{Law, PATIENCE, Violation};
use crate::evidence::{Evidence, Incident, LateEnd, Look, Loss, Who};

/// Between two looks, and for one that waits: a turn may be seen so much later than it came.
const BLUR: f64 = 1.5;
/// For so long after its return a dependency has to stay ready, where nothing else happens.
const STAYS: f64 = 20.0;
/// So many seconds without an answer from `/healthz` are a process that hangs: whoever watches over it would restart it.
const HANGS: f64 = 5.0;

/// Each loss that lasts is told by everybody whose dependency it is, and its end, too.
pub(super) fn readiness(evidence: &Evidence) -> Vec<Violation> {
    let mut found = Vec::new();
    for incident in &evidence.incidents {
        let Some(loss) = &incident.loses else { continue };
        for who in &loss.of {
            let looks = evidence.looks.get(who).map_or(&[][..], Vec::as_slice);
            let of = || format!("{who}, {}", incident.fault);
            if is_due(evidence, incident, *who) && !tells(looks, incident, loss) {
                let silence = format!(
                    "did not say within {} s that it misses {}",
                    PATIENCE.0, loss.dependency
                );
                found.push(Violation::new(Law::ReadyTurnsFalse, of(), silence));
            }
            if is_quiet(evidence, incident, *who) && !returns(evidence, looks, incident) {
                let late = format!("was not ready, to stay so, within {} s of the end", PATIENCE.0);
                found.push(Violation::new(Law::ReadyTurnsTrue, of(), late));
            }
        }
    }
    found
}

fn tells(looks: &[Look], incident: &Incident, loss: &Loss) -> bool {
    looks.iter().any(|look| {
        look.at >= incident.began
            && look.at <= incident.began + PATIENCE.0 + BLUR
            && look.ready == Some(false)
            && look.missing.iter().any(|missing| missing == loss.dependency)
    })
}

/// Whether it was ready in time, and stayed so until something else happened: a service that has not noticed a short
/// loss yet still says that it is ready.
fn returns(evidence: &Evidence, looks: &[Look], incident: &Incident) -> bool {
    let (from, due) = (incident.ended, incident.ended + PATIENCE.0 + BLUR);
    let others = evidence
        .incidents
        .iter()
        .filter(|other| !std::ptr::eq(*other, incident) && other.ended > from);
    let until = others
        .map(|other| other.began.max(from))
        .fold(from + STAYS, f64::min);
    let answered: Vec<_> = looks
        .iter()
        .filter(|look| look.at >= from && look.answered())
        .collect();
    // Where something else happens before it is due, nobody can say whether it would have stayed.
    let stays = |since: f64| {
        until < due
            || answered
                .iter()
                .all(|look| look.at < since || look.at > until || look.ready == Some(true))
    };
    answered
        .iter()
        .any(|look| look.at <= due && look.ready == Some(true) && stays(look.at))
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

/// Whether something keeps it from telling the truth of its dependencies: it is away itself, or, for the ingester, the
/// publisher whom it asks.
fn is_excused(evidence: &Evidence, who: Who, from: f64, until: f64) -> bool {
    let asks_publisher = who == Who::Ingester;
    is_away(evidence, who, from, until) || asks_publisher && is_away(evidence, Who::Publisher, from, until)
}

/// A process that comes back has to start and join before it can be asked.
fn is_away(evidence: &Evidence, who: Who, from: f64, until: f64) -> bool {
    evidence
        .incidents
        .iter()
        .any(|other| other.excuses.contains(&who) && other.began <= until && other.ended + PATIENCE.0 >= from)
}

/// Whether it was away for all of that time, be it for one reason after the other.
pub(super) fn is_excused_throughout(evidence: &Evidence, who: Who, from: f64, until: f64) -> bool {
    let mut away = from;
    // They are in the order in which they began.
    for other in evidence
        .incidents
        .iter()
        .filter(|other| other.excuses.contains(&who))
    {
        if other.began <= away {
            away = away.max(other.ended + PATIENCE.0);
        }
    }
    away >= until
}

/// No process says that it is to be restarted, and none hangs unless it was told to stand still.
pub(super) fn liveness(evidence: &Evidence) -> Vec<Violation> {
    let ill = evidence.looks.iter().filter_map(|(who, looks)| {
        let dead = looks.iter().find(|look| look.alive == Some(false));
        let told = match dead {
            Some(look) => format!("/healthz failed at {:.1} s", look.at),
            None => {
                let (from, until) = silences(looks)
                    .into_iter()
                    .find(|(from, until)| until - from > HANGS && !is_away(evidence, *who, *from, *until))?;
                format!("/healthz gave no answer from {from:.1} to {until:.1} s")
            }
        };
        Some(Violation::new(Law::AliveThroughout, who.to_string(), told))
    });
    ill.collect()
}

/// From the first to the last of the looks in a row to which `/healthz` gave no answer.
fn silences(looks: &[Look]) -> Vec<(f64, f64)> {
    let rows = looks.chunk_by(|one, next| one.alive.is_some() == next.alive.is_some());
    let silent = rows.filter(|row| row[0].alive.is_none());
    silent.map(|row| (row[0].at, row[row.len() - 1].at)).collect()
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
