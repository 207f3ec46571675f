//! What the laws say of what was watched.

use super::*;
use crate::evidence::LateEnd;

fn with_looks(change: impl Fn(&mut Look)) -> impl FnOnce(&mut Evidence) {
    move |evidence| evidence.looks.values_mut().flatten().for_each(change)
}

#[test]
fn memory_above_its_bound_is_told() {
    let much = with_looks(|look| {
        look.metrics
            .insert("process_resident_memory_bytes".to_owned(), 3e8);
    });
    assert_eq!(broken(much), only(Law::MemoryIsBounded));
}

#[test]
fn a_fault_without_a_sign_is_told() {
    for sign in [
        Sign::Restarted(Who::Publisher),
        Sign::Silent(Who::Publisher),
        Sign::Rose("streamer_retries_total"),
        Sign::Missed("cassandra"),
        Sign::Fell("publisher_kafka_up"),
        Sign::Slower("publisher_delivery_duration_seconds", 0.1),
        Sign::InTheEnd("publisher_kafka_up", 1.0),
    ] {
        assert_eq!(
            broken(|it| it.incidents[0].signs = vec![sign]),
            only(Law::FaultShows)
        );
    }
}

#[test]
fn each_sign_is_seen_where_it_is() {
    let shown = |sign: Sign, change: fn(&mut Look)| {
        broken(|evidence| {
            evidence.incidents[0].signs = vec![sign];
            let looks = evidence.looks.values_mut().flatten();
            looks
                .filter(|look| (9.0..14.0).contains(&look.at))
                .skip(2)
                .for_each(change);
        })
    };
    let restarted = |look: &mut Look| {
        look.metrics.insert("process_start_time_seconds".to_owned(), 6.0);
    };
    assert_eq!(shown(Sign::Restarted(Who::Publisher), restarted), BTreeSet::new());
    let silent = |look: &mut Look| {
        *look = Look {
            at: look.at,
            ..Look::default()
        }
    };
    assert_eq!(shown(Sign::Silent(Who::Publisher), silent), BTreeSet::new());
    let rose = |look: &mut Look| {
        look.metrics.insert("publisher_x_total".to_owned(), 1.0);
    };
    assert_eq!(shown(Sign::Rose("publisher_x_total"), rose), BTreeSet::new());
    let fell = |look: &mut Look| {
        look.metrics.insert("process_start_time_seconds".to_owned(), 5.0);
        let up = if look.at < 12.0 { 1.0 } else { 0.0 };
        look.metrics.insert("publisher_kafka_up".to_owned(), up);
    };
    assert_eq!(shown(Sign::Fell("publisher_kafka_up"), fell), BTreeSet::new());
    let took = |look: &mut Look| {
        // One in each second, each of which takes as long as it is late.
        look.metrics
            .insert("publisher_delivery_duration_seconds_count".to_owned(), look.at);
        let sum = look.at * look.at / 2.0;
        look.metrics
            .insert("publisher_delivery_duration_seconds_sum".to_owned(), sum);
    };
    let slower = Sign::Slower("publisher_delivery_duration_seconds", 10.0);
    assert_eq!(shown(slower, took), BTreeSet::new());
    let faster = Sign::Slower("publisher_delivery_duration_seconds", 13.0);
    assert_eq!(shown(faster, took), only(Law::FaultShows));
}

#[test]
fn a_faint_sign_is_demanded_only_where_nothing_else_is_broken() {
    let faint = |others: usize| {
        move |evidence: &mut Evidence| {
            let signs = vec![Sign::Rose("streamer_retries_total")];
            let faint = true;
            evidence.incidents = vec![Incident {
                signs,
                faint,
                ..outage()
            }];
            let signs = Vec::new();
            evidence
                .incidents
                .extend(vec![Incident { signs, ..outage() }; others]);
        }
    };
    assert_eq!(broken(faint(0)), only(Law::FaultShows));
    assert_eq!(broken(faint(1)), BTreeSet::new());
}

#[test]
fn readiness_that_turns_late_or_not_at_all_is_told() {
    let turned = |spans: &'static [(f64, f64)]| {
        move |evidence: &mut Evidence| {
            evidence.incidents[0].signs.clear();
            evidence.looks.insert(Who::Publisher, looks(spans));
        }
    };
    assert_eq!(broken(turned(&[(14.0, 16.0)])), only(Law::ReadyTurnsFalse));
    assert_eq!(broken(turned(&[])), only(Law::ReadyTurnsFalse));
    assert_eq!(broken(turned(&[(3.0, 28.0)])), only(Law::ReadyTurnsTrue));
    assert_eq!(broken(turned(&[(3.0, 15.0), (18.0, 22.0)])), BTreeSet::new());
    assert_eq!(
        broken(turned(&[(3.0, 15.0), (18.0, 29.0)])),
        only(Law::ReadyTurnsTrue),
        "it had not noticed yet when it said that it is ready"
    );
    let excused = |evidence: &mut Evidence| {
        turned(&[(3.0, 28.0)])(evidence);
        let killed = Incident {
            loses: None,
            excuses: vec![Who::Publisher],
            began: 15.0,
            ended: 17.0,
            ..outage()
        };
        evidence.incidents.push(Incident {
            signs: Vec::new(),
            ..killed
        });
    };
    assert_eq!(broken(excused), BTreeSet::new(), "it was killed meanwhile");
}

#[test]
fn an_ingester_is_not_asked_for_a_publisher_that_is_away_itself() {
    let cut = |publisher_killed: bool| {
        move |evidence: &mut Evidence| {
            let loss = Loss {
                dependency: "publisher",
                of: vec![Who::Ingester],
            };
            evidence.incidents[0].loses = Some(loss);
            evidence.incidents[0].signs.clear();
            evidence.looks.insert(Who::Ingester, looks(&[(3.0, 29.0)]));
            if publisher_killed {
                evidence.incidents.push(killed(Who::Publisher, 1.0, 17.0));
            }
        }
    };
    let both = BTreeSet::from([Law::ReadyTurnsFalse, Law::ReadyTurnsTrue]);
    assert_eq!(broken(cut(false)), both, "it misses kafka, and not the publisher");
    assert_eq!(broken(cut(true)), BTreeSet::new());
}

#[test]
fn a_cut_that_nobody_was_there_to_see_needs_no_sign() {
    let cut = |until: f64| {
        move |evidence: &mut Evidence| {
            evidence.incidents[0].signs = vec![Sign::Missed("cassandra")];
            evidence.incidents.insert(0, killed(Who::Publisher, 1.0, until));
        }
    };
    assert_eq!(broken(cut(17.0)), BTreeSet::new());
    assert_eq!(broken(cut(2.0)), only(Law::FaultShows), "it was back soon");
}

fn killed(who: Who, began: f64, ended: f64) -> Incident {
    Incident {
        fault: format!("{who} killed"),
        began,
        ended,
        loses: None,
        excuses: vec![who],
        signs: Vec::new(),
        ..outage()
    }
}

#[test]
fn a_failed_liveness_is_told() {
    assert_eq!(
        broken(with_looks(|look| look.alive = Some(false))),
        only(Law::AliveThroughout)
    );
}

#[test]
fn a_process_that_hangs_is_told_unless_it_was_told_to() {
    let hangs = |until: f64| {
        move |evidence: &mut Evidence| {
            let looks = evidence.looks.values_mut().flatten();
            looks
                .filter(|look| (20.0..=until).contains(&look.at))
                .for_each(|look| look.alive = None);
        }
    };
    assert_eq!(broken(hangs(25.0)), BTreeSet::new(), "not for long");
    assert_eq!(broken(hangs(26.0)), only(Law::AliveThroughout));
    let frozen = |evidence: &mut Evidence| {
        hangs(26.0)(evidence);
        evidence.incidents.push(killed(Who::Publisher, 19.0, 20.0));
    };
    assert_eq!(broken(frozen), BTreeSet::new());
}

#[test]
fn work_that_stops_where_one_of_three_is_away_is_told() {
    let away = |grows_until: f64| {
        move |evidence: &mut Evidence| {
            let incident = &mut evidence.incidents[0];
            (incident.began, incident.ended) = (2.0, 25.0);
            (incident.loses, incident.goes_on) = (None, true);
            incident.signs.clear();
            for look in evidence.looks.values_mut().flatten() {
                let done = look.at.min(grows_until);
                for metric in [
                    "publisher_records_total{outcome=\"accepted\"}",
                    "streamer_rows_total",
                ] {
                    look.metrics.insert(metric.to_owned(), done);
                }
            }
        }
    };
    assert_eq!(broken(away(30.0)), BTreeSet::new());
    assert_eq!(broken(away(16.0)), only(Law::WorkGoesOn));
    let not_alone = |evidence: &mut Evidence| {
        away(16.0)(evidence);
        evidence.incidents.push(killed(Who::Publisher, 10.0, 20.0));
    };
    assert_eq!(broken(not_alone), BTreeSet::new());
}

#[test]
fn what_a_killed_streamer_had_read_counts_with_what_the_next_one_reads() {
    let mut evidence = small();
    let streamer = |at: f64, start: f64, read: f64| Look {
        at,
        metrics: BTreeMap::from([
            ("process_start_time_seconds".to_owned(), start),
            ("streamer_records_total".to_owned(), read),
        ]),
        ..Look::default()
    };
    let looks = vec![
        streamer(1.0, 1.0, 3.0),
        streamer(2.0, 1.0, 5.0),
        streamer(4.0, 3.0, 4.0),
    ];
    evidence.looks.insert(Who::Streamer(1), looks);
    assert_eq!(read_again_of(&evidence), 3);
}

#[test]
fn an_end_after_the_grace_is_told_unless_a_dependency_was_away() {
    let late = |who, from| {
        move |evidence: &mut Evidence| {
            let until = from + 25.0;
            evidence.late_ends.push(LateEnd { who, from, until });
        }
    };
    assert_eq!(broken(late(Who::Publisher, 3.0)), BTreeSet::new());
    assert_eq!(broken(late(Who::Publisher, 40.0)), only(Law::EndsOnlyWhenTold));
    assert_eq!(broken(late(Who::Ingester, 3.0)), only(Law::EndsOnlyWhenTold));
}
