//! Invariants of recovery, memory and continued work, and violations recorded during the round.

use super::limits::RECOVERY_LIMIT;
use super::violation::{Invariant, InvariantViolation};
use crate::evidence::Evidence;
use crate::evidence::health::HealthSample;
use crate::evidence::incident::Incident;
use crate::service_id::MIB;

/// After this time, others have taken over the work of a lost server.
const FAILOVER: f64 = 15.0;
/// A shorter observation may fall into a pause of the traffic.
const MIN_OBSERVATION: f64 = 3.0;

pub(super) fn recovery(evidence: &Evidence) -> Vec<InvariantViolation> {
    let found = match evidence.recovery_seconds {
        Some(seconds) if seconds <= RECOVERY_LIMIT => return Vec::new(),
        Some(seconds) => format!("took {seconds:.1} s"),
        None => "never became a row".to_owned(),
    };
    let subject = "the first record after the last fault";
    vec![InvariantViolation::new(Invariant::RecoveryInTime, subject, found)]
}

pub(super) fn memory(evidence: &Evidence) -> Vec<InvariantViolation> {
    let exceeded = evidence.health.iter().filter_map(|(id, samples)| {
        let used = samples.iter().filter_map(HealthSample::resident_memory);
        let (max, limit) = (used.reduce(f64::max)?, id.memory_limit());
        let text = format!("{:.0} MiB, the limit is {:.0}", max / MIB, limit / MIB);
        (max > limit).then(|| InvariantViolation::new(Invariant::MemoryBounded, id.to_string(), text))
    });
    exceeded.collect()
}

/// Records are accepted and rows written while one of three servers is down.
pub(super) fn continued_work(evidence: &Evidence) -> Vec<InvariantViolation> {
    let mut found = Vec::new();
    let due = evidence.incidents.iter().filter(|incident| {
        let observed = incident.ended - incident.started - FAILOVER;
        incident.work_continues && observed >= MIN_OBSERVATION && is_only_fault(evidence, incident)
    });
    for incident in due {
        let (from, until) = (incident.started + FAILOVER, incident.ended);
        for metric in [
            "publisher_records_total{outcome=\"accepted\"}",
            "streamer_rows_total",
        ] {
            let mut services = evidence.health.values();
            if !services.any(|samples| rises(samples, metric, from, until)) {
                let text = format!("{metric} did not rise from {from:.1} to {until:.1} s");
                found.push(InvariantViolation::new(
                    Invariant::WorkContinues,
                    &incident.fault,
                    text,
                ));
            }
        }
    }
    found
}

fn is_only_fault(evidence: &Evidence, incident: &Incident) -> bool {
    let mut others = evidence
        .incidents
        .iter()
        .filter(|other| !std::ptr::eq(*other, incident));
    others.all(|other| other.started >= incident.ended || other.ended <= incident.started)
}

fn rises(samples: &[HealthSample], metric: &str, from: f64, until: f64) -> bool {
    let within = samples
        .iter()
        .filter(|sample| (from..=until).contains(&sample.at));
    let values: Vec<_> = within.filter_map(|sample| sample.metric(metric)).collect();
    values.windows(2).any(|pair| pair[1] > pair[0])
}

/// Violations that were recorded when they were seen.
pub(super) fn recorded(evidence: &Evidence) -> Vec<InvariantViolation> {
    let events = &evidence.events;
    [
        (Invariant::ResponseMatchesRequest, &evidence.wrong_responses),
        (Invariant::NoUnexpectedExit, &events.unexpected_exits),
        (Invariant::FaultObservable, &events.ineffective_faults),
        (Invariant::NoProxyBypass, &evidence.proxy_bypasses),
    ]
    .into_iter()
    .flat_map(|(invariant, found)| {
        found
            .iter()
            .map(move |text| InvariantViolation::new(invariant, "recorded", text))
    })
    .collect()
}
