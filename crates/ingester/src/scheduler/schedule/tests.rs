//! Tests of the schedule: missed starts, overlapping starts, retries and clock steps.

use proptest::prelude::*;

use super::*;

fn settings() -> ScheduleSettings {
    ScheduleSettings {
        interval: Duration::from_secs(100),
        ..ScheduleSettings::default()
    }
}

fn schedule(change: impl FnOnce(&mut ScheduleSettings)) -> Schedule {
    let mut settings = settings();
    change(&mut settings);
    Schedule::new(&settings, 7)
}

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

fn runs(due: &DueStarts) -> Vec<(i64, Trigger)> {
    due.runs
        .iter()
        .map(|(start, trigger)| (start.as_second(), *trigger))
        .collect()
}

fn not_run(due: &DueStarts) -> Vec<(i64, SkipReason)> {
    due.not_run
        .iter()
        .map(|(start, why)| (start.as_second(), *why))
        .collect()
}

#[test]
fn disabled_schedule_has_no_start_and_still_retries() {
    let schedule = schedule(|settings| settings.enabled = false);
    let origin = schedule.origin(at(1_000));
    assert_eq!(schedule.due(origin, &[], at(9_000_000)), DueStarts::default());
    assert!(schedule.upcoming(origin, at(1_000), 5).is_empty());
    let retry = schedule.retry(0, at(2_000), origin, at(2_000));
    assert_eq!(retry, Some(at(2_000 + 300)));
}

#[test]
fn interval_starts_at_once_and_counts_from_start_to_start() {
    let schedule = schedule(|_| {});
    let origin = schedule.origin(at(1_000));
    let due = schedule.due(origin, &[], at(1_000));
    assert_eq!(runs(&due), [(1_000, Trigger::Schedule)]);
    assert_eq!(schedule.next(due.up_to.unwrap(), at(1_030)), Some(at(1_100)));
    assert_eq!(schedule.due(at(1_000), &[], at(1_099)), DueStarts::default());
    assert_eq!(
        runs(&schedule.due(at(1_000), &[], at(1_107))),
        [(1_100, Trigger::Schedule)]
    );
}

#[test]
fn cron_expression_waits_for_its_first_match() {
    let schedule = schedule(|settings| settings.cron = Some("0 6 * * *".parse().unwrap()));
    let now = "2026-03-01T05:00:00Z".parse().unwrap();
    let origin = schedule.origin(now);
    assert_eq!(schedule.due(origin, &[], now), DueStarts::default());
    assert_eq!(
        schedule.next(origin, now),
        Some("2026-03-01T06:00:00Z".parse().unwrap())
    );
}

#[test]
fn missed_starts_follow_the_catch_up_setting() {
    let due = |catch_up| schedule(|settings| settings.catch_up = catch_up).due(at(0), &[], at(390));
    let none = due(CatchUp::None);
    assert_eq!((runs(&none), none.missed), (vec![], 3));
    assert_eq!(
        not_run(&none),
        [
            (100, SkipReason::Missed),
            (200, SkipReason::Missed),
            (300, SkipReason::Missed)
        ]
    );
    let latest = due(CatchUp::Latest);
    assert_eq!((runs(&latest), latest.missed), (vec![(300, Trigger::CatchUp)], 2));
    let all = due(CatchUp::All);
    assert_eq!(
        runs(&all),
        [
            (100, Trigger::CatchUp),
            (200, Trigger::CatchUp),
            (300, Trigger::CatchUp)
        ]
    );
    assert_eq!((all.missed, all.up_to), (0, Some(at(300))));
    let bounded = schedule(|settings| {
        settings.catch_up = CatchUp::All;
        settings.max_catchup_runs = 2;
    });
    let bounded = bounded.due(at(0), &[], at(390));
    assert_eq!(
        (runs(&bounded).len(), not_run(&bounded)),
        (2, vec![(100, SkipReason::Missed)])
    );
}

#[test]
fn start_on_time_replaces_the_latest_missed_one() {
    let schedule = schedule(|settings| settings.catch_up = CatchUp::Latest);
    let due = schedule.due(at(0), &[], at(310));
    assert_eq!((runs(&due), due.missed), (vec![(300, Trigger::Schedule)], 2));
}

#[test]
fn overlapping_starts_follow_the_concurrency_policy() {
    let active = &[RunPeriod {
        from: at(100),
        until: at(390),
        is_scheduled: true,
    }];
    let due = |concurrency_policy| {
        schedule(|settings| settings.concurrency_policy = concurrency_policy).due(at(100), active, at(391))
    };
    let skip = due(ConcurrencyPolicy::Skip);
    assert_eq!((runs(&skip), skip.skipped, skip.missed), (vec![], 2, 0));
    assert_eq!(
        not_run(&skip),
        [(200, SkipReason::Overlap), (300, SkipReason::Overlap)]
    );
    let queue = due(ConcurrencyPolicy::Queue);
    assert_eq!((runs(&queue), queue.skipped), (vec![(300, Trigger::Schedule)], 1));
    let met = schedule(|settings| settings.concurrency_policy = ConcurrencyPolicy::Queue).due(
        at(100),
        active,
        at(402),
    );
    assert_eq!(
        (runs(&met), met.skipped),
        (vec![(400, Trigger::Schedule)], 2),
        "the next start replaces a queued one"
    );
}

#[test]
fn requested_run_delays_a_start_and_does_not_skip_it() {
    let period = |from, until, is_scheduled| RunPeriod {
        from: at(from),
        until: at(until),
        is_scheduled,
    };
    for policy in [ConcurrencyPolicy::Skip, ConcurrencyPolicy::Queue] {
        let schedule = schedule(|settings| settings.concurrency_policy = policy);
        let long = schedule.due(at(100), &[period(150, 391, false)], at(391));
        assert_eq!(
            (runs(&long), long.missed),
            (vec![(300, Trigger::Schedule)], 0),
            "{policy:?}"
        );
        assert_eq!(
            not_run(&long),
            [(200, SkipReason::Overlap)],
            "one start replaces the other"
        );
        let met = schedule.due(at(100), &[period(150, 250, false)], at(301));
        assert_eq!(runs(&met), [(300, Trigger::Schedule)], "{policy:?}");
    }
    let skip = schedule(|_| {});
    let both = skip.due(
        at(100),
        &[period(150, 250, false), period(250, 391, true)],
        at(391),
    );
    assert_eq!(
        (runs(&both), not_run(&both)),
        (vec![(200, Trigger::Schedule)], vec![(300, SkipReason::Overlap)])
    );
}

#[test]
fn paused_schedule_skips_each_start() {
    let all = schedule(|settings| settings.catch_up = CatchUp::All).due(at(0), &[], at(390));
    let paused = all.paused();
    assert_eq!((runs(&paused), paused.missed, paused.skipped), (vec![], 0, 3));
    let expected = [100, 200, 300].map(|start| (start, SkipReason::Paused));
    assert_eq!(
        (not_run(&paused), paused.up_to),
        (expected.to_vec(), Some(at(300)))
    );
    let none = schedule(|settings| settings.catch_up = CatchUp::None).due(at(0), &[], at(310));
    assert_eq!(none.paused().skipped, 3);
}

#[test]
fn upcoming_starts_follow_each_other() {
    let schedule = schedule(|settings| settings.cron = Some("0 6,18 * * *".parse().unwrap()));
    let now = "2026-03-01T07:00:00Z".parse().unwrap();
    let starts: Vec<_> = schedule
        .upcoming(now, now, 3)
        .iter()
        .map(ToString::to_string)
        .collect();
    assert_eq!(
        starts,
        [
            "2026-03-01T18:00:00Z",
            "2026-03-02T06:00:00Z",
            "2026-03-02T18:00:00Z"
        ]
    );
}

#[test]
fn backward_clock_step_does_not_stop_runs() {
    assert_eq!(schedule(|_| {}).next(at(1_000), at(10)), Some(at(110)));
    let cron = schedule(|settings| settings.cron = Some("*/10 * * * *".parse().unwrap()));
    assert_eq!(
        cron.next(at(6_000), at(5_000)),
        Some(at(6_600)),
        "no start repeats"
    );
    assert_eq!(
        cron.next(at(600_000), at(5_000)),
        Some(at(5_400)),
        "a larger step restarts the schedule"
    );
}

#[test]
fn next_start_holds_after_a_clock_step_of_days() {
    let cron = schedule(|settings| settings.cron = Some("*/10 * * * *".parse().unwrap()));
    for schedule in [schedule(|_| {}), cron] {
        let (done, now) = (at(900_000), at(600_030));
        let set_back = schedule.due(done, &[], now);
        assert_eq!((runs(&set_back), set_back.up_to), (vec![], Some(now)));
        let next = schedule.next(now, now).unwrap();
        let due = schedule.due(now, &[], next);
        assert_eq!(due.runs, [(next, Trigger::Schedule)]);
    }
}

#[test]
fn downtime_of_a_week_or_a_decade_is_handled_at_once() {
    let second = |catch_up| {
        schedule(|settings| {
            settings.cron = Some("* * * * * *".parse().unwrap());
            settings.catch_up = catch_up;
        })
    };
    let week = 7 * 86_400;
    let due = second(CatchUp::None).due(at(1_000_000), &[], at(1_000_000 + week));
    assert_eq!(runs(&due), [(1_000_000 + week, Trigger::Schedule)]);
    assert_eq!((due.not_run.len(), due.missed), (MAX_RECORDED, 604_799));
    let all = second(CatchUp::All).due(at(1_000_000), &[], at(1_000_000 + week));
    assert_eq!(runs(&all).len(), settings().max_catchup_runs + 1);
    let decade = schedule(|_| {}).due(at(0), &[], at(315_360_050));
    assert_eq!(
        (runs(&decade), decade.missed),
        (vec![(315_360_000, Trigger::Schedule)], 3_153_599)
    );
}

#[test]
fn jitter_delays_each_start_deterministically() {
    let late = |salt| {
        let settings = ScheduleSettings {
            jitter: Duration::from_secs(50),
            ..settings()
        };
        let next = Schedule::new(&settings, salt).next(at(0), at(0)).unwrap();
        assert!((at(100)..at(150)).contains(&next));
        next
    };
    assert_eq!(late(1), late(1));
    assert_ne!(late(1), late(2));
}

#[test]
fn failed_run_is_retried_unless_a_start_comes_first() {
    let schedule = schedule(|settings| {
        settings.interval = Duration::from_secs(100);
        settings.retries = 1;
        settings.retry_delay = Duration::from_secs(10);
    });
    let retry = |retried, failed, now| schedule.retry(retried, at(failed), at(1_000), at(now));
    assert_eq!(retry(0, 1_005, 1_005), Some(at(1_015)));
    assert_eq!(retry(1, 1_020, 1_020), None, "one is allowed");
    assert_eq!(retry(0, 1_095, 1_095), None, "the next start is at 1,100");
}

#[test]
fn retry_time_survives_restart_and_clock_steps() {
    let schedule = schedule(|settings| {
        settings.interval = Duration::from_secs(100);
        settings.retry_delay = Duration::from_secs(10);
    });
    let retry = |done, now| schedule.retry(0, at(1_005), at(done), at(now));
    assert_eq!(retry(1_000, 1_008), Some(at(1_015)), "checked again later");
    assert_eq!(
        retry(1_000, 9_000),
        Some(at(1_015)),
        "due while the scheduler was not running"
    );
    assert_eq!(
        retry(1_100, 1_101),
        None,
        "the start after the failure was handled"
    );
    assert_eq!(retry(1_000, 900), Some(at(900)), "after a backward clock step");
}

/// Recurrences and time zones with leap days and daylight-saving transitions.
const RECURRENCES: [(&str, &str); 7] = [
    ("interval", "UTC"),
    ("*/15 * * * *", "Europe/Berlin"),
    ("30 2 * * *", "Europe/Berlin"),
    ("10 2 * * *", "Australia/Lord_Howe"),
    ("0 */6 * * *", "Africa/Casablanca"),
    ("15 3 * * SUN", "America/New_York"),
    ("0 0 29 2 *", "Pacific/Apia"),
];

fn recurrence(index: usize, change: impl FnOnce(&mut ScheduleSettings)) -> Schedule {
    let (rule, zone) = RECURRENCES[index];
    schedule(|settings| {
        settings.interval = Duration::from_secs(600);
        if rule != "interval" {
            settings.cron = Some(rule.parse().unwrap());
            settings.time_zone = zone.parse().unwrap();
        }
        change(settings);
    })
}

/// Returns every start between two times.
fn calendar(schedule: &Schedule, after: Timestamp, until: Timestamp) -> Vec<Timestamp> {
    let later = |start: &Timestamp| schedule.after(*start);
    let starts = std::iter::successors(schedule.after(after), later);
    starts
        .take_while(|start| *start <= until)
        .take(MAX_STARTS + 1)
        .collect()
}

const HOUR: i64 = 3_600;
const WEEK: i64 = 7 * 24 * HOUR;

/// A quarter of the cases of other properties, whose number `PROPTEST_CASES` sets.
fn fewer_cases() -> ProptestConfig {
    let usual = ProptestConfig::default();
    ProptestConfig {
        cases: usual.cases / 4,
        ..usual
    }
}

proptest! {
    // A case looks for thousands of starts.
    #![proptest_config(fewer_cases())]

    /// The clock steps forward and back, from a second to weeks. Each start is handled once, no start repeats after a
    /// backward step of up to an hour, and the next start is in the future.
    #[test]
    fn each_start_is_handled_once_despite_clock_steps(
        index in 0..RECURRENCES.len(), begin in 1_200_000_000_i64..2_500_000_000, catch_up in 0..3_usize,
        steps in prop::collection::vec(
            prop_oneof![
                8 => 0..HOUR, 8 => -HOUR..0, 4 => -2 * WEEK..2 * WEEK, 2 => Just(WEEK), 2 => Just(-WEEK), 1 => Just(53 * WEEK)
            ],
            1..30
        ),
    ) {
        let schedule = recurrence(index, |settings| {
            settings.catch_up = [CatchUp::None, CatchUp::Latest, CatchUp::All][catch_up];
        });
        let (mut now, mut done, mut reported) = (begin, at(begin), Vec::<Timestamp>::new());
        for step in steps {
            now += step;
            let clock = at(now);
            let set_back = since(clock, done);
            let tolerated = if index == 0 { Duration::ZERO } else { MAX_CLOCK_STEP };
            let from = if set_back > tolerated { reported.clear(); clock } else { done };
            let due = schedule.due(done, &[], clock);
            let not_run = calendar(&schedule, from, clock);
            let handled = count(due.runs.len()) + due.missed + due.skipped;
            // The number of further starts is estimated.
            if not_run.len() <= MAX_STARTS {
                prop_assert_eq!(handled, count(not_run.len()));
                let reset = (from != done).then_some(from);
                prop_assert_eq!(due.up_to, not_run.last().copied().or(reset));
            }
            prop_assert!(due.runs.len() <= settings().max_catchup_runs + 1 && due.not_run.len() <= MAX_RECORDED);
            let mut named: Vec<_> = due.runs.iter().map(|(start, _)| *start).collect();
            named.extend(due.not_run.iter().map(|(start, _)| *start));
            named.sort();
            for start in named {
                prop_assert!(from < start && start <= clock, "{start} is not due");
                prop_assert!(reported.last().is_none_or(|last| *last < start), "{start} repeats");
                reported.push(start);
            }
            done = due.up_to.unwrap_or(done);
            let next = schedule.next(done, clock).unwrap();
            prop_assert!(next > clock && calendar(&schedule, done, next) == [next], "{next} after {clock}");
            let due = schedule.due(done, &[], next);
            prop_assert_eq!(due.runs.last(), Some(&(next, Trigger::Schedule)), "it is due at the announced time");
        }
    }

    /// Every start is handled once despite restarts and clock steps.
    #[test]
    fn every_start_runs_or_is_counted_exactly_once(
        steps in prop::collection::vec((0_i64..5_000, any::<bool>(), any::<bool>()), 1..40),
        catch_up_index in 0..3_usize, queue: bool, jitter in 0_u64..90,
    ) {
        let schedule = schedule(|settings| {
            settings.catch_up = [CatchUp::None, CatchUp::Latest, CatchUp::All][catch_up_index];
            settings.concurrency_policy = if queue { ConcurrencyPolicy::Queue } else { ConcurrencyPolicy::Skip };
            settings.jitter = Duration::from_secs(jitter);
        });
        let (mut now, mut done, mut handled) = (at(0), at(0), 0);
        for (step, active, is_scheduled) in steps {
            let from = now;
            now += jiff::SignedDuration::from_secs(step);
            let due = schedule.due(done, active.then_some(RunPeriod { from, until: now, is_scheduled }).as_slice(), now);
            handled += count(due.runs.len()) + due.missed + due.skipped;
            done = due.up_to.unwrap_or(done);
            prop_assert!(due.runs.windows(2).all(|two| two[0].0 < two[1].0));
            let next = schedule.next(done, now).unwrap();
            prop_assert!(next > now && since(now, next) <= Duration::from_secs(100 + jitter));
        }
        prop_assert_eq!(u64::try_from(done.as_second()).unwrap() / 100, handled);
    }

    /// The next start is at most one interval away after any clock step, plus the tolerated backward step.
    #[test]
    fn next_start_is_at_most_one_interval_away(done in 0_i64..4_000_000_000, now in 0_i64..4_000_000_000) {
        let (done, now) = (at(done), at(now));
        let every = schedule(|_| {});
        prop_assert!(every.next(done.max(every.due(done, &[], now).up_to.unwrap_or(done)), now).unwrap() <= now + Duration::from_secs(100));
        let cron = schedule(|settings| settings.cron = Some("0 * * * *".parse().unwrap()));
        let done = cron.due(done, &[], now).up_to.unwrap_or(done);
        prop_assert!(cron.next(done, now).unwrap() <= now + Duration::from_secs(7_200));
    }
}
