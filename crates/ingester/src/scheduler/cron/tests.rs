//! Tests of cron expressions: transitions of daylight-saving time, and a calendar to compare with.

use jiff::civil::Date;
use jiff::tz::AmbiguousOffset;
use jiff::{ToSpan as _, Zoned};
use proptest::prelude::*;

use super::*;

fn zone(name: &str) -> TimeZone {
    name.parse::<Zone>().unwrap().0
}

/// Returns the next `count` starts after a time, as local times with offset.
fn starts(cron: &str, name: &str, after: &str, count: usize) -> Vec<String> {
    let (cron, zone) = (cron.parse::<Cron>().unwrap(), zone(name));
    let mut at: Timestamp = after.parse().unwrap();
    let mut starts = Vec::new();
    for _ in 0..count {
        at = cron.after(at, &zone).unwrap();
        starts.push(Zoned::new(at, zone.clone()).strftime("%F %T %:z").to_string());
    }
    starts
}

#[test]
fn seconds_are_optional() {
    let every_day = starts("30 6 * * *", "UTC", "2026-03-01T06:30:00Z", 2);
    assert_eq!(
        every_day,
        ["2026-03-02 06:30:00 +00:00", "2026-03-03 06:30:00 +00:00"]
    );
    let seconds = starts("*/20 * * * * *", "UTC", "2026-03-01T06:30:39.999Z", 2);
    assert_eq!(
        seconds,
        ["2026-03-01 06:30:40 +00:00", "2026-03-01 06:31:00 +00:00"]
    );
}

#[test]
fn fixed_time_in_a_dst_gap_starts_after_the_gap() {
    let berlin = starts("30 2 * * *", "Europe/Berlin", "2026-03-28T12:00:00Z", 2);
    assert_eq!(
        berlin,
        ["2026-03-29 03:00:00 +02:00", "2026-03-30 02:30:00 +02:00"]
    );
}

#[test]
fn fixed_time_repeated_by_dst_starts_once() {
    let berlin = starts("30 2 * * *", "Europe/Berlin", "2026-10-24T12:00:00Z", 2);
    assert_eq!(
        berlin,
        ["2026-10-25 02:30:00 +02:00", "2026-10-26 02:30:00 +01:00"]
    );
    let in_between = starts("30 2 * * *", "Europe/Berlin", "2026-10-25T01:10:00Z", 1);
    assert_eq!(in_between, ["2026-10-26 02:30:00 +01:00"]);
    let three = starts("0 3 * * *", "Europe/Berlin", "2026-10-25T01:10:00Z", 1);
    assert_eq!(three, ["2026-10-25 03:00:00 +01:00"]);
}

#[test]
fn repeating_expression_continues_through_dst_changes() {
    let spring = starts("0 * * * *", "Europe/Berlin", "2026-03-29T00:00:00Z", 2);
    assert_eq!(
        spring,
        ["2026-03-29 03:00:00 +02:00", "2026-03-29 04:00:00 +02:00"]
    );
    let autumn = starts("*/30 * * * *", "Europe/Berlin", "2026-10-25T00:00:00Z", 4);
    let expected = [
        "02:30:00 +02:00",
        "02:00:00 +01:00",
        "02:30:00 +01:00",
        "03:00:00 +01:00",
    ];
    assert_eq!(autumn, expected.map(|time| format!("2026-10-25 {time}")));
}

#[test]
fn half_hour_and_whole_day_transitions_are_handled() {
    let lord_howe = starts("10 2 * * *", "Australia/Lord_Howe", "2026-10-03T00:00:00Z", 1);
    assert_eq!(lord_howe, ["2026-10-04 02:30:00 +11:00"]);
    let samoa = starts("0 12 * * *", "Pacific/Apia", "2011-12-30T00:00:00Z", 2);
    assert_eq!(
        samoa,
        ["2011-12-31 00:00:00 +14:00", "2011-12-31 12:00:00 +14:00"]
    );
}

#[test]
fn each_time_of_a_list_is_fixed() {
    let twice_a_day = |after, count| starts("30 2,14 * * *", "Europe/Berlin", after, count);
    assert_eq!(
        twice_a_day("2027-03-27T12:00:00Z", 3),
        [
            "2027-03-27 14:30:00 +01:00",
            "2027-03-28 03:00:00 +02:00",
            "2027-03-28 14:30:00 +02:00"
        ]
    );
    assert_eq!(
        twice_a_day("2027-10-30T20:00:00Z", 3),
        [
            "2027-10-31 02:30:00 +02:00",
            "2027-10-31 14:30:00 +01:00",
            "2027-11-01 02:30:00 +01:00"
        ]
    );
    let range = starts("0 1-3 * * *", "Europe/Berlin", "2027-03-27T20:00:00Z", 3);
    assert_eq!(
        range,
        [
            "2027-03-28 01:00:00 +01:00",
            "2027-03-28 03:00:00 +02:00",
            "2027-03-29 01:00:00 +02:00"
        ],
        "02:00 and 03:00 are one start"
    );
}

#[test]
fn expression_with_a_wildcard_or_step_is_repeating() {
    for fixed in [
        "30 2 * * *",
        "0,30 2,14 * * MON-FRI",
        "0-10 1-3 1 * *",
        "15 30 2 * * *",
        "@daily",
        " @weekly ",
    ] {
        assert!(fixed.parse::<Cron>().unwrap().fixed, "{fixed}");
    }
    for repeating in [
        "* 2 * * *",
        "30 * * * *",
        "*/15 2 * * *",
        "0 1-5/2 * * *",
        "* 30 2 * * *",
        "0/20 30 2 * * *",
        "@hourly",
        "0 0,*/6 * * *",
    ] {
        assert!(!repeating.parse::<Cron>().unwrap().fixed, "{repeating}");
    }
}

#[test]
fn february_29_matches_in_leap_years_only() {
    let leap = starts("0 0 29 2 *", "America/New_York", "2096-01-01T00:00:00Z", 2);
    assert_eq!(leap, ["2096-02-29 00:00:00 -05:00", "2104-02-29 00:00:00 -05:00"]);
}

#[test]
fn invalid_and_never_matching_expressions_are_rejected() {
    for text in ["", "* * *", "61 * * * *", "0 0 30 2 *", "every day"] {
        assert!(text.parse::<Cron>().is_err(), "{text}");
    }
    assert!("Mars/Olympus".parse::<Zone>().is_err());
}

/// Zones with transitions of half an hour (Lord Howe) and of a day (Apia), at midnight (Sao Paulo, Azores), and of quarters
/// of an hour off UTC (Chatham).
const ZONES: [&str; 9] = [
    "UTC",
    "Europe/Berlin",
    "America/New_York",
    "Australia/Lord_Howe",
    "Pacific/Apia",
    "Africa/Casablanca",
    "America/Sao_Paulo",
    "Atlantic/Azores",
    "Pacific/Chatham",
];
const CRONS: [&str; 8] = [
    "30 2 * * *",
    "30 2,14 * * *",
    "0 1-4 * * *",
    "*/15 * * * *",
    "0 0 29 2 *",
    "15 3 * * SUN",
    "*/7 * 1-3 * * *",
    "59 23 31 * *",
];

/// The minute or hour of an expression.
#[derive(Clone, Debug)]
enum TimeField {
    List(Vec<i8>),
    Range(i8, i8),
    Any,
    Step(i8),
}

impl TimeField {
    fn any_below(end: i8) -> impl Strategy<Value = Self> {
        prop_oneof![
            4 => prop::collection::vec(0..end, 1..4).prop_map(Self::List),
            2 => (0..end, 0..end).prop_map(|(one, other)| Self::Range(one.min(other), one.max(other))),
            1 => Just(Self::Any),
            1 => (2..end).prop_map(Self::Step),
        ]
    }

    fn text(&self) -> String {
        match self {
            Self::List(values) => values
                .iter()
                .map(ToString::to_string)
                .collect::<Vec<_>>()
                .join(","),
            Self::Range(first, last) => format!("{first}-{last}"),
            Self::Any => "*".to_owned(),
            Self::Step(step) => format!("*/{step}"),
        }
    }

    fn matches(&self, value: i8) -> bool {
        match self {
            Self::List(values) => values.contains(&value),
            Self::Range(first, last) => (first..=last).contains(&&value),
            Self::Any => true,
            Self::Step(step) => value % step == 0,
        }
    }

    fn is_fixed(&self) -> bool {
        matches!(self, Self::List(_) | Self::Range(..))
    }
}

/// Returns the starts of a minute and an hour on the days from `first` to `last`. Independent of [`Cron::after`]: it
/// enumerates local times and lets the zone say which instants they are.
fn calendar(
    minute: &TimeField,
    hour: &TimeField,
    zone: &TimeZone,
    first: Date,
    last: Date,
) -> Vec<Timestamp> {
    let fixed = minute.is_fixed() && hour.is_fixed();
    let mut starts = Vec::new();
    for date in first.series(1.day()).take_while(|date| *date <= last) {
        for time in (0..24 * 60).map(|number| (number / 60, number % 60)) {
            let (h, m) = (i8::try_from(time.0).unwrap(), i8::try_from(time.1).unwrap());
            if !hour.matches(h) || !minute.matches(m) {
                continue;
            }
            let local = date.at(h, m, 0, 0);
            match zone.to_ambiguous_timestamp(local).offset() {
                AmbiguousOffset::Unambiguous { offset } => starts.push(offset.to_timestamp(local).unwrap()),
                AmbiguousOffset::Fold { before, .. } if fixed => {
                    starts.push(before.to_timestamp(local).unwrap())
                }
                AmbiguousOffset::Fold { before, after } => {
                    starts.extend([before, after].map(|offset| offset.to_timestamp(local).unwrap()));
                }
                AmbiguousOffset::Gap { after, .. } if fixed => {
                    let before_the_change = after.to_timestamp(local).unwrap();
                    starts.push(zone.following(before_the_change).next().unwrap().timestamp());
                }
                AmbiguousOffset::Gap { .. } => {}
            }
        }
    }
    starts.sort();
    starts.dedup();
    starts
}

fn assert_starts_match_the_calendar(
    minute: &TimeField,
    hour: &TimeField,
    zone: &TimeZone,
    around: Timestamp,
) {
    let text = format!("{} {} * * *", minute.text(), hour.text());
    let cron: Cron = text.parse().unwrap();
    let (from, until) = (around - 36.hours(), around + 36.hours());
    let date = |at: Timestamp| Zoned::new(at, zone.clone()).date();
    let expected: Vec<_> = calendar(minute, hour, zone, date(from) - 2.days(), date(until) + 2.days())
        .into_iter()
        .filter(|start| from < *start && *start <= until)
        .collect();
    let starts = std::iter::successors(cron.after(from, zone), |start| cron.after(*start, zone));
    let starts: Vec<_> = starts.take_while(|start| *start <= until).collect();
    assert_eq!(
        starts,
        expected,
        "{text} around {around} in {}",
        zone.iana_name().unwrap()
    );
}

#[test]
fn day_that_apia_skipped_has_one_start() {
    let apia = zone("Pacific/Apia");
    let change: Timestamp = "2011-12-30T10:00:00Z".parse().unwrap();
    for hours in [vec![12], vec![0], vec![6, 12, 18], vec![23]] {
        assert_starts_match_the_calendar(&TimeField::List(vec![0]), &TimeField::List(hours), &apia, change);
    }
    assert_starts_match_the_calendar(&TimeField::Step(30), &TimeField::Any, &apia, change);
    assert_eq!(
        starts("0 6,12,18 * * *", "Pacific/Apia", "2011-12-30T05:00:00Z", 2),
        ["2011-12-31 00:00:00 +14:00", "2011-12-31 06:00:00 +14:00"]
    );
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    /// Lists, ranges, wildcards and steps, around a transition of the zone.
    #[test]
    fn starts_around_a_transition_match_the_calendar(
        second in 1_200_000_000_i64..2_000_000_000, zone_index in 0..ZONES.len(),
        minute in TimeField::any_below(60), hour in TimeField::any_below(24),
    ) {
        let (zone, time) = (zone(ZONES[zone_index]), Timestamp::from_second(second).unwrap());
        let around = zone.following(time).next().map_or(time, |change| change.timestamp());
        assert_starts_match_the_calendar(&minute, &hour, &zone, around);
    }

    /// The next start is in the future, matches the expression or ends a gap, and no earlier start exists.
    #[test]
    fn next_start_is_in_the_future_and_none_is_skipped(
        second in 1_200_000_000_i64..2_500_000_000, zone_index in 0..ZONES.len(), cron_index in 0..CRONS.len(),
        part in 0.0..1.0_f64,
    ) {
        let (zone, cron) = (zone(ZONES[zone_index]), CRONS[cron_index].parse::<Cron>().unwrap());
        let time = Timestamp::from_second(second).unwrap();
        let next = cron.after(time, &zone).unwrap();
        prop_assert!(next > time);
        #[allow(clippy::cast_possible_truncation, clippy::cast_precision_loss)]
        let between = second + ((next.as_second() - 1 - second) as f64 * part) as i64;
        prop_assert_eq!(cron.after(Timestamp::from_second(between).unwrap(), &zone), Some(next));
        let local = next.as_second() + i64::from(zone.to_offset(next).seconds());
        let after_a_gap = zone.preceding(Timestamp::from_second(next.as_second() + 1).unwrap()).next()
            .is_some_and(|change| change.timestamp() == next);
        prop_assert!(after_a_gap || cron.civil_match(local, true) == Some(local));
    }
}
