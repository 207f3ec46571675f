use jiff::Zoned;
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

const ZONES: [&str; 6] = [
    "UTC",
    "Europe/Berlin",
    "America/New_York",
    "Australia/Lord_Howe",
    "Pacific/Apia",
    "Africa/Casablanca",
];
const CRONS: [&str; 6] = [
    "30 2 * * *",
    "*/15 * * * *",
    "0 0 29 2 *",
    "15 3 * * SUN",
    "*/7 * 1-3 * * *",
    "59 23 31 * *",
];

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

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
