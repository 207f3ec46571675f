//! Invariants of health samples, signals, exits and recovery.

use super::*;
use crate::evidence::health::LateExit;
use crate::evidence::incident::ExpectedSignal::{self, *};

fn with_samples(change: impl Fn(&mut HealthSample)) -> impl FnOnce(&mut Evidence) {
    move |evidence| evidence.health.values_mut().flatten().for_each(change)
}

#[test]
fn memory_above_the_limit_is_a_violation() {
    let much = with_samples(|sample| {
        sample
            .metrics
            .insert("process_resident_memory_bytes".to_owned(), 3e8);
    });
    assert_eq!(broken(much), [MemoryBounded]);
}

#[test]
fn fault_without_a_signal_is_a_violation() {
    for sign in [
        Restarted(ServiceId::Publisher),
        Unresponsive(ServiceId::Publisher),
        Rose("streamer_retries_total"),
        Missing("cassandra"),
        Fell("publisher_kafka_up"),
        Slower("publisher_delivery_duration_seconds", 0.1),
        FinalSum("publisher_kafka_up", 1.0),
    ] {
        assert_eq!(
            broken(|it| it.incidents[0].signals = vec![sign]),
            [FaultObservable]
        );
    }
}

#[test]
fn each_signal_is_recognised() {
    let shown = |sign: ExpectedSignal, change: fn(&mut HealthSample)| {
        broken(|evidence| {
            evidence.incidents[0].signals = vec![sign];
            let samples = evidence.health.values_mut().flatten();
            samples
                .filter(|sample| (9.0..14.0).contains(&sample.at))
                .skip(2)
                .for_each(change);
        })
    };
    let restarted = |sample: &mut HealthSample| {
        sample
            .metrics
            .insert("process_start_time_seconds".to_owned(), 6.0);
    };
    assert_eq!(shown(Restarted(ServiceId::Publisher), restarted), []);
    let silent = |sample: &mut HealthSample| {
        *sample = HealthSample {
            at: sample.at,
            ..HealthSample::default()
        }
    };
    assert_eq!(shown(Unresponsive(ServiceId::Publisher), silent), []);
    let rose = |sample: &mut HealthSample| {
        sample.metrics.insert("publisher_x_total".to_owned(), 1.0);
    };
    assert_eq!(shown(Rose("publisher_x_total"), rose), []);
    // The counter of an earlier process was higher.
    let rose_after_restart = |evidence: &mut Evidence| {
        evidence.incidents[0].signals = vec![Rose("publisher_x_total")];
        evidence.incidents[0].started = 4.0;
        for sample in evidence.health.values_mut().flatten() {
            let (started, count) = if sample.at < 4.0 {
                (5.0, 4.0)
            } else if sample.at < 8.0 {
                (6.0, 0.0)
            } else {
                (6.0, 1.0)
            };
            let metrics = [
                ("process_start_time_seconds", started),
                ("publisher_x_total", count),
            ];
            sample
                .metrics
                .extend(metrics.map(|(name, value)| (name.to_owned(), value)));
        }
    };
    assert_eq!(broken(rose_after_restart), []);
    let fell = |sample: &mut HealthSample| {
        sample
            .metrics
            .insert("process_start_time_seconds".to_owned(), 5.0);
        let up = if sample.at < 12.0 { 1.0 } else { 0.0 };
        sample.metrics.insert("publisher_kafka_up".to_owned(), up);
    };
    assert_eq!(shown(Fell("publisher_kafka_up"), fell), []);
    let took = |sample: &mut HealthSample| {
        // One observation a second, and each takes longer than the one before.
        sample
            .metrics
            .insert("publisher_delivery_duration_seconds_count".to_owned(), sample.at);
        let sum = sample.at * sample.at / 2.0;
        sample
            .metrics
            .insert("publisher_delivery_duration_seconds_sum".to_owned(), sum);
    };
    let slower = Slower("publisher_delivery_duration_seconds", 10.0);
    assert_eq!(shown(slower, took), []);
    let faster = Slower("publisher_delivery_duration_seconds", 13.0);
    assert_eq!(shown(faster, took), [FaultObservable]);
}

#[test]
fn signal_of_a_lone_fault_is_required_only_then() {
    let only_if_alone = |others: usize| {
        move |evidence: &mut Evidence| {
            let signals = vec![Rose("streamer_retries_total")];
            let only_if_alone = true;
            evidence.incidents = vec![Incident {
                signals,
                only_if_alone,
                ..outage()
            }];
            let signals = Vec::new();
            evidence
                .incidents
                .extend(vec![Incident { signals, ..outage() }; others]);
        }
    };
    assert_eq!(broken(only_if_alone(0)), [FaultObservable]);
    assert_eq!(broken(only_if_alone(1)), []);
}

#[test]
fn late_or_missing_readiness_change_is_a_violation() {
    let unready = |intervals: &'static [(f64, f64)]| {
        move |evidence: &mut Evidence| {
            evidence.incidents[0].signals.clear();
            evidence.health.insert(ServiceId::Publisher, samples(intervals));
        }
    };
    assert_eq!(broken(unready(&[(14.0, 16.0)])), [NotReadyAfterLoss]);
    assert_eq!(broken(unready(&[])), [NotReadyAfterLoss]);
    assert_eq!(broken(unready(&[(3.0, 28.0)])), [ReadyAfterRecovery]);
    assert_eq!(broken(unready(&[(3.0, 15.0), (18.0, 22.0)])), []);
    assert_eq!(
        broken(unready(&[(3.0, 15.0), (18.0, 29.0)])),
        [ReadyAfterRecovery],
        "it had not noticed the loss when it reported ready"
    );
    let excused = |evidence: &mut Evidence| {
        unready(&[(3.0, 28.0)])(evidence);
        let killed = Incident {
            loss: None,
            excused: vec![ServiceId::Publisher],
            started: 15.0,
            ended: 17.0,
            ..outage()
        };
        evidence.incidents.push(Incident {
            signals: Vec::new(),
            ..killed
        });
    };
    assert_eq!(broken(excused), [], "it was killed in this time");
}

#[test]
fn ingester_is_excused_while_the_publisher_is_down() {
    let cut = |publisher_killed: bool| {
        move |evidence: &mut Evidence| {
            let loss = DependencyLoss {
                dependency: "publisher",
                of: vec![ServiceId::Ingester],
            };
            evidence.incidents[0].loss = Some(loss);
            evidence.incidents[0].signals.clear();
            evidence
                .health
                .insert(ServiceId::Ingester, samples(&[(3.0, 29.0)]));
            if publisher_killed {
                evidence.incidents.push(killed(ServiceId::Publisher, 1.0, 17.0));
            }
        }
    };
    let both = [NotReadyAfterLoss, ReadyAfterRecovery];
    assert_eq!(
        broken(cut(false)),
        both,
        "kafka is missing, and not the publisher"
    );
    assert_eq!(broken(cut(true)), []);
}

#[test]
fn cut_without_a_running_observer_needs_no_signal() {
    let cut = |until: f64| {
        move |evidence: &mut Evidence| {
            evidence.incidents[0].signals = vec![Missing("cassandra")];
            evidence
                .incidents
                .insert(0, killed(ServiceId::Publisher, 1.0, until));
        }
    };
    assert_eq!(broken(cut(17.0)), []);
    assert_eq!(broken(cut(2.0)), [FaultObservable], "it restarted early");
}

fn killed(id: ServiceId, started: f64, ended: f64) -> Incident {
    Incident {
        fault: format!("{id} killed"),
        started,
        ended,
        loss: None,
        excused: vec![id],
        signals: Vec::new(),
        ..outage()
    }
}

#[test]
fn failed_liveness_is_a_violation() {
    assert_eq!(
        broken(with_samples(|sample| sample.alive = Some(false))),
        [AlwaysAlive]
    );
}

#[test]
fn hanging_process_is_a_violation_unless_excused() {
    let hangs = |until: f64| {
        move |evidence: &mut Evidence| {
            let samples = evidence.health.values_mut().flatten();
            samples
                .filter(|sample| (20.0..=until).contains(&sample.at))
                .for_each(|sample| sample.alive = None);
        }
    };
    assert_eq!(broken(hangs(25.0)), [], "too short");
    assert_eq!(broken(hangs(26.0)), [AlwaysAlive]);
    let frozen = |evidence: &mut Evidence| {
        hangs(26.0)(evidence);
        evidence.incidents.push(killed(ServiceId::Publisher, 19.0, 20.0));
    };
    assert_eq!(broken(frozen), []);
}

#[test]
fn stopped_work_with_one_of_three_down_is_a_violation() {
    let one_down = |grows_until: f64| {
        move |evidence: &mut Evidence| {
            let incident = &mut evidence.incidents[0];
            (incident.started, incident.ended) = (2.0, 25.0);
            (incident.loss, incident.work_continues) = (None, true);
            incident.signals.clear();
            for sample in evidence.health.values_mut().flatten() {
                let done = sample.at.min(grows_until);
                for metric in [
                    "publisher_records_total{outcome=\"accepted\"}",
                    "streamer_rows_total",
                ] {
                    sample.metrics.insert(metric.to_owned(), done);
                }
            }
        }
    };
    assert_eq!(broken(one_down(30.0)), []);
    assert_eq!(broken(one_down(16.0)), [WorkContinues]);
    let not_alone = |evidence: &mut Evidence| {
        one_down(16.0)(evidence);
        evidence.incidents.push(killed(ServiceId::Publisher, 10.0, 20.0));
    };
    assert_eq!(broken(not_alone), []);
}

#[test]
fn reread_records_sum_over_restarts() {
    let mut evidence = small();
    let streamer = |at: f64, start: f64, read: f64| HealthSample {
        at,
        metrics: BTreeMap::from([
            ("process_start_time_seconds".to_owned(), start),
            ("streamer_records_total".to_owned(), read),
        ]),
        ..HealthSample::default()
    };
    let samples = vec![
        streamer(1.0, 1.0, 3.0),
        streamer(2.0, 1.0, 5.0),
        streamer(4.0, 3.0, 4.0),
    ];
    evidence.health.insert(ServiceId::Streamer(1), samples);
    assert_eq!(reread_records(&evidence), 3);
}

#[test]
fn late_exit_is_a_violation_unless_a_dependency_is_down() {
    let late = |id, from| {
        move |evidence: &mut Evidence| {
            let until = from + 25.0;
            evidence.events.late_exits.push(LateExit { id, from, until });
        }
    };
    assert_eq!(broken(late(ServiceId::Publisher, 3.0)), []);
    assert_eq!(broken(late(ServiceId::Publisher, 40.0)), [NoUnexpectedExit]);
    assert_eq!(broken(late(ServiceId::Ingester, 3.0)), [NoUnexpectedExit]);
}

#[test]
fn late_or_missing_recovery_is_a_violation() {
    assert_eq!(broken(|it| it.recovery_seconds = Some(30.5)), [RecoveryInTime]);
    assert_eq!(broken(|it| it.recovery_seconds = None), [RecoveryInTime]);
}

#[test]
fn recorded_events_are_violations() {
    let recorded = || vec!["seen".to_owned()];
    assert_eq!(
        broken(|it| it.wrong_responses = recorded()),
        [ResponseMatchesRequest]
    );
    assert_eq!(
        broken(|it| it.events.unexpected_exits = recorded()),
        [NoUnexpectedExit]
    );
    assert_eq!(broken(|it| it.proxy_bypasses = recorded()), [NoProxyBypass]);
    assert_eq!(
        broken(|it| it.events.ineffective_faults = recorded()),
        [FaultObservable]
    );
}
