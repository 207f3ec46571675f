//! Invariants of readiness, liveness and exits.

use super::limits::READINESS_LIMIT;
use super::violation::{Invariant, InvariantViolation};
use crate::evidence::Evidence;
use crate::evidence::health::{HealthSample, LateExit};
use crate::evidence::incident::{DependencyLoss, Incident};
use crate::service_id::ServiceId;

/// The delay between a change of readiness and the sample that shows it.
const SAMPLING_DELAY: f64 = 1.5;
/// For this long after its return a dependency stays ready, without another fault.
const STABLE_FOR: f64 = 20.0;
/// A `/healthz` without a response for longer means a hanging process, which an orchestrator would restart.
const UNRESPONSIVE_LIMIT: f64 = 5.0;

/// Every service reports the loss and the return of its dependencies.
pub(super) fn readiness(evidence: &Evidence) -> Vec<InvariantViolation> {
    let mut found = Vec::new();
    for incident in &evidence.incidents {
        let Some(loss) = &incident.loss else { continue };
        for id in &loss.of {
            let samples = evidence.health.get(id).map_or(&[][..], Vec::as_slice);
            let subject = || format!("{id}, {}", incident.fault);
            if must_report_loss(evidence, incident, *id) && !reports_loss(samples, incident, loss) {
                let missing = &loss.dependency;
                let text = format!("did not report within {READINESS_LIMIT} s that {missing} is missing");
                found.push(InvariantViolation::new(
                    Invariant::NotReadyAfterLoss,
                    subject(),
                    text,
                ));
            }
            if must_recover(evidence, incident, *id) && !recovers(evidence, samples, incident) {
                let text = format!("was not lastingly ready within {READINESS_LIMIT} s of the end");
                found.push(InvariantViolation::new(
                    Invariant::ReadyAfterRecovery,
                    subject(),
                    text,
                ));
            }
        }
    }
    found
}

fn reports_loss(samples: &[HealthSample], incident: &Incident, loss: &DependencyLoss) -> bool {
    samples.iter().any(|sample| {
        sample.at >= incident.started
            && sample.at <= incident.started + READINESS_LIMIT + SAMPLING_DELAY
            && sample.ready == Some(false)
            && sample.missing.iter().any(|missing| missing == loss.dependency)
    })
}

/// Whether the service was ready in time and stayed ready until another fault. A service that has not noticed a short loss
/// yet still reports ready.
fn recovers(evidence: &Evidence, samples: &[HealthSample], incident: &Incident) -> bool {
    let (from, due) = (incident.ended, incident.ended + READINESS_LIMIT + SAMPLING_DELAY);
    let others = evidence
        .incidents
        .iter()
        .filter(|other| !std::ptr::eq(*other, incident) && other.ended > from);
    let until = others
        .map(|other| other.started.max(from))
        .fold(from + STABLE_FOR, f64::min);
    let responses: Vec<_> = samples
        .iter()
        .filter(|sample| sample.at >= from && sample.responded())
        .collect();
    // A fault before the limit leaves open whether the service would have stayed ready.
    let stable = |since: f64| {
        until < due
            || responses
                .iter()
                .all(|sample| sample.at < since || sample.at > until || sample.ready == Some(true))
    };
    responses
        .iter()
        .any(|sample| sample.at <= due && sample.ready == Some(true) && stable(sample.at))
}

/// Whether the loss lasts long enough, and nothing keeps this service from reporting it.
fn must_report_loss(evidence: &Evidence, incident: &Incident, id: ServiceId) -> bool {
    let until = incident.started + READINESS_LIMIT;
    incident.ended >= until && !cannot_report(evidence, id, incident.started, until)
}

/// Whether there is no other fault while readiness must return.
fn must_recover(evidence: &Evidence, incident: &Incident, id: ServiceId) -> bool {
    let until = incident.ended + READINESS_LIMIT;
    let lost_again = evidence.incidents.iter().any(|other| {
        !std::ptr::eq(other, incident)
            && other.loss.is_some()
            && other.started <= until
            && other.ended + READINESS_LIMIT >= incident.ended
    });
    !lost_again && !cannot_report(evidence, id, incident.ended - READINESS_LIMIT, until)
}

/// Whether the service is excused, or the publisher, whose readiness the ingester reports.
fn cannot_report(evidence: &Evidence, id: ServiceId, from: f64, until: f64) -> bool {
    let depends_on_publisher = id == ServiceId::Ingester;
    is_excused(evidence, id, from, until)
        || depends_on_publisher && is_excused(evidence, ServiceId::Publisher, from, until)
}

/// Whether a fault excuses the service within this time, including its restart.
fn is_excused(evidence: &Evidence, id: ServiceId, from: f64, until: f64) -> bool {
    evidence.incidents.iter().any(|other| {
        other.excused.contains(&id) && other.started <= until && other.ended + READINESS_LIMIT >= from
    })
}

/// Whether one or several faults excuse the service for all of this time.
pub(super) fn is_excused_throughout(evidence: &Evidence, id: ServiceId, from: f64, until: f64) -> bool {
    let mut excused_until = from;
    // Ordered by start.
    for other in &evidence.incidents {
        if other.excused.contains(&id) && other.started <= excused_until {
            excused_until = excused_until.max(other.ended + READINESS_LIMIT);
        }
    }
    excused_until >= until
}

/// No process reports that it needs a restart, and none hangs except by a fault.
pub(super) fn liveness(evidence: &Evidence) -> Vec<InvariantViolation> {
    let failed = evidence.health.iter().filter_map(|(id, samples)| {
        let dead = samples.iter().find(|sample| sample.alive == Some(false));
        let text = match dead {
            Some(sample) => format!("/healthz failed at {:.1} s", sample.at),
            None => {
                let (from, until) = gaps(samples).into_iter().find(|(from, until)| {
                    until - from > UNRESPONSIVE_LIMIT && !is_excused(evidence, *id, *from, *until)
                })?;
                format!("/healthz did not respond from {from:.1} to {until:.1} s")
            }
        };
        Some(InvariantViolation::new(
            Invariant::AlwaysAlive,
            id.to_string(),
            text,
        ))
    });
    failed.collect()
}

/// First and last sample of each series without a response from `/healthz`.
fn gaps(samples: &[HealthSample]) -> Vec<(f64, f64)> {
    let series = samples.chunk_by(|one, next| one.alive.is_some() == next.alive.is_some());
    let silent = series.filter(|series| series[0].alive.is_none());
    silent
        .map(|series| (series[0].at, series[series.len() - 1].at))
        .collect()
}

/// Only a service with a missing dependency may exceed its shutdown grace.
pub(super) fn exits(evidence: &Evidence) -> Vec<InvariantViolation> {
    let excused = |late: &LateExit| {
        evidence.incidents.iter().any(|incident| {
            let loss = incident.loss.as_ref();
            loss.is_some_and(|loss| loss.of.contains(&late.id))
                && incident.started <= late.until
                && incident.ended + READINESS_LIMIT >= late.from
        })
    };
    let late = evidence.events.late_exits.iter().filter(|late| !excused(late));
    late.map(|late| {
        let text = format!("exited with 1 after SIGTERM at {:.1} s", late.from);
        InvariantViolation::new(Invariant::NoUnexpectedExit, late.id.to_string(), text)
    })
    .collect()
}
