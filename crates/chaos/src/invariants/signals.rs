//! The invariant that every fault shows in metrics or health endpoints.

use super::health::is_excused_throughout;
use super::limits::READINESS_LIMIT;
use super::violation::{Invariant, InvariantViolation};
use crate::evidence::Evidence;
use crate::evidence::health::HealthSample;
use crate::evidence::incident::{ExpectedSignal, Incident};
use crate::service_id::ServiceId;

pub(super) fn signals(evidence: &Evidence) -> Vec<InvariantViolation> {
    let hidden = evidence.incidents.iter().filter(|incident| {
        let due = !incident.signals.is_empty()
            && (!incident.only_if_alone || is_alone(evidence, incident))
            && !cannot_be_seen(evidence, incident);
        due && !incident
            .signals
            .iter()
            .any(|signal| shows(signal, incident, evidence))
    });
    hidden
        .map(|incident| {
            let text = format!("none of {:?} was seen", incident.signals);
            InvariantViolation::new(Invariant::FaultObservable, &incident.fault, text)
        })
        .collect()
}

/// Whether no other fault is active or has just ended.
fn is_alone(evidence: &Evidence, incident: &Incident) -> bool {
    evidence.incidents.iter().all(|other| {
        std::ptr::eq(other, incident)
            || other.started > incident.ended + READINESS_LIMIT
            || other.ended + READINESS_LIMIT < incident.started
    })
}

/// Whether all services that would report the loss are excused for all of its time.
fn cannot_be_seen(evidence: &Evidence, incident: &Incident) -> bool {
    incident.loss.as_ref().is_some_and(|loss| {
        let mut of = loss.of.iter();
        of.all(|id| is_excused_throughout(evidence, *id, incident.started, incident.ended))
    })
}

fn shows(signal: &ExpectedSignal, incident: &Incident, evidence: &Evidence) -> bool {
    let until = incident.ended + READINESS_LIMIT;
    let during = |sample: &&HealthSample| sample.at >= incident.started && sample.at <= until;
    let samples_of = |id: &ServiceId| evidence.health.get(id).map_or(&[][..], Vec::as_slice);
    // The last value before the fault.
    let before = |samples: &[HealthSample], value: &dyn Fn(&HealthSample) -> Option<f64>| {
        let earlier = samples.iter().take_while(|sample| sample.at < incident.started);
        earlier.filter_map(value).last()
    };
    let mut services = evidence.health.values();
    match signal {
        ExpectedSignal::Unresponsive(id) => samples_of(id)
            .iter()
            .filter(during)
            .any(|sample| !sample.responded()),
        ExpectedSignal::Restarted(id) => {
            let samples = samples_of(id);
            let before = before(samples, &HealthSample::start_time);
            samples
                .iter()
                .filter(during)
                .any(|sample| !sample.responded() || sample.start_time() != before)
        }
        ExpectedSignal::Rose(metric) => services.any(|samples| {
            // A counter restarts with its process.
            samples.iter().filter(during).any(|sample| {
                let of_process = |earlier: &HealthSample| {
                    let is_same = earlier.start_time() == sample.start_time();
                    is_same.then(|| earlier.metric(metric)).flatten()
                };
                let before = before(samples, &of_process).unwrap_or(0.0);
                sample.metric(metric).is_some_and(|value| value > before)
            })
        }),
        ExpectedSignal::Fell(metric) => services.any(|samples| {
            let value = |sample: &HealthSample| sample.metric(metric);
            let known: Vec<_> = samples.iter().filter(|sample| value(sample).is_some()).collect();
            known.windows(2).any(|pair| {
                during(&pair[1])
                    && pair[0].start_time() == pair[1].start_time()
                    && value(pair[1]) < value(pair[0])
            })
        }),
        ExpectedSignal::Slower(metric, by) => services.any(|samples| {
            let usual = mean(samples, metric, 0.0, incident.started).unwrap_or(0.0);
            samples
                .windows(2)
                .filter(|pair| during(&&pair[1]))
                .filter_map(|pair| mean(pair, metric, pair[0].at, pair[1].at))
                .any(|mean| mean >= usual + by)
        }),
        ExpectedSignal::FinalSum(metric, least) => {
            let last = |samples: &Vec<HealthSample>| {
                let mut latest = samples.iter().rev();
                latest.find_map(|sample| sample.metric(metric)).unwrap_or(0.0)
            };
            services.map(last).sum::<f64>() >= *least
        }
        ExpectedSignal::Missing(dependency) => services
            .flatten()
            .filter(during)
            .any(|sample| sample.missing.iter().any(|missing| missing == dependency)),
    }
}

/// The mean of a histogram's observations in this time, if there are any.
fn mean(samples: &[HealthSample], metric: &str, from: f64, until: f64) -> Option<f64> {
    let value = |sample: &HealthSample, part: &str| sample.metric(&format!("{metric}_{part}"));
    let within = samples
        .iter()
        .filter(|sample| (from..=until).contains(&sample.at));
    let mut known = within.filter(|sample| value(sample, "count").is_some());
    let first = known.next()?;
    let last = known.next_back()?;
    let count = value(last, "count")? - value(first, "count")?;
    let sum = value(last, "sum")? - value(first, "sum")?;
    (count > 0.0).then(|| sum / count)
}
