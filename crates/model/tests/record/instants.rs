//! Instants: which texts are parsed or refused, and how they are formatted.

use model::{Instant, Reason};
use proptest::prelude::*;

use crate::any_record::any_instant;

fn canonical(text: &str) -> Result<String, Reason> {
    text.parse::<Instant>().map(|instant| instant.to_string())
}

#[test]
fn rfc_3339_is_parsed_and_truncated_to_milliseconds() {
    for (text, expected) in [
        ("2024-02-29T23:59:59Z", "2024-02-29T23:59:59.000Z"),
        ("2024-02-29t23:59:59z", "2024-02-29T23:59:59.000Z"),
        ("2024-02-29T23:59:59.1Z", "2024-02-29T23:59:59.100Z"),
        ("2024-02-29T23:59:59.12Z", "2024-02-29T23:59:59.120Z"),
        (
            "2024-02-29T23:59:59.9999999999999999999999Z",
            "2024-02-29T23:59:59.999Z",
        ),
        ("1969-12-31T23:59:59.9999Z", "1969-12-31T23:59:59.999Z"),
        ("2024-03-01T01:29:59+01:30", "2024-02-29T23:59:59.000Z"),
        ("2024-02-29T00:00:00-23:59", "2024-02-29T23:59:00.000Z"),
        ("2024-02-29T00:00:00-00:00", "2024-02-29T00:00:00.000Z"),
        ("0001-01-01T00:00:00Z", "0001-01-01T00:00:00.000Z"),
        ("0000-12-31T23:59:59-00:01", "0001-01-01T00:00:59.000Z"),
        ("9999-12-31T23:59:59.999Z", "9999-12-31T23:59:59.999Z"),
    ] {
        assert_eq!(canonical(text).as_deref(), Ok(expected), "{text}");
    }
}

#[test]
fn milliseconds_count_from_1970_and_are_negative_before() {
    for (text, millis) in [
        ("1970-01-01T00:00:00Z", 0),
        ("1969-12-31T23:59:59.999Z", -1),
        ("2001-09-09T01:46:40.123Z", 1_000_000_000_123),
        ("1900-03-01T00:00:00Z", -2_203_891_200_000),
        ("0001-01-01T00:00:00Z", -62_135_596_800_000),
        ("9999-12-31T23:59:59.999Z", 253_402_300_799_999),
    ] {
        assert_eq!(
            text.parse::<Instant>().map(Instant::as_millis),
            Ok(millis),
            "{text}"
        );
    }
}

#[test]
fn other_formats_are_refused() {
    for text in [
        "",
        "2024-02-29",
        "2024-02-29T23:59Z",
        "2024-02-29T23:59:59",
        "2024-02-29 23:59:59Z",
        "2024-02-29_23:59:59Z",
        "2024-02-29T23:59:59 Z",
        " 2024-02-29T23:59:59Z",
        "2024-02-29T23:59:59Z ",
        "2024-02-29T23:59:59Z\n",
        "2024-02-29T23:59:59+01:00[Europe/Berlin]",
        "2024-02-29T23:59:59Z[UTC]",
        "2024-02-29T23:59:59.Z",
        "2024-02-29T23:59:59,5Z",
        "2024-02-29T23:59:59.5",
        "2024-02-29T23:59:59.-5Z",
        "2024-02-29T23:59:59+0100",
        "2024-02-29T23:59:59+01",
        "2024-02-29T23:59:59+01:00:00",
        "2024-02-29T23:59:59+24:00",
        "2024-02-29T23:59:59+01:60",
        "2024-02-29T23:59:59\u{2212}01:00",
        "2024-02-29T24:00:00Z",
        "2024-02-29T23:60:00Z",
        "2024-02-29T23:59:60Z",
        "2023-02-29T00:00:00Z",
        "2024-13-01T00:00:00Z",
        "2024-00-01T00:00:00Z",
        "2024-01-00T00:00:00Z",
        "2024-04-31T00:00:00Z",
        "20240229T235959Z",
        "2024-W09-4T00:00:00Z",
        "+002024-02-29T23:59:59Z",
        "-2024-02-29T23:59:59Z",
        "٢٠٢٤-02-29T23:59:59Z",
        "1709251199",
    ] {
        assert_eq!(canonical(text), Err(Reason::NotAnInstant), "{text}");
    }
}

#[test]
fn year_outside_the_contracts_type_is_refused() {
    for text in [
        "0000-12-31T23:59:59.999Z",
        "0000-01-01T00:00:00Z",
        "0001-01-01T00:00:00+00:01",
        "9999-12-31T23:59:00-00:01",
    ] {
        assert_eq!(canonical(text), Err(Reason::OutOfRange), "{text}");
    }
    assert_eq!(Instant::from_millis(i64::MIN), Err(Reason::OutOfRange));
    assert_eq!(Instant::from_millis(i64::MAX), Err(Reason::OutOfRange));
}

proptest! {
    #[test]
    fn instant_round_trips(instant in any_instant()) {
        let text = instant.to_string();
        prop_assert_eq!(text.len(), 24);
        prop_assert_eq!(text.parse::<Instant>().unwrap().as_millis(), instant.as_millis());
    }

    #[test]
    fn parsing_never_panics(text in "[0-9TtZz:.+-]{18,30}|[0-9]{4}(-[0-9]{2}){2}T([0-9]{2}:){2}[0-9]{2}.{0,12}") {
        if let Ok(instant) = text.parse::<Instant>() {
            prop_assert_eq!(instant.to_string().parse::<Instant>().unwrap().as_millis(), instant.as_millis());
        }
    }

    /// jiff accepts more than RFC 3339, but parses equally what we accept (its last day is 9999-12-30).
    #[test]
    fn parsing_agrees_with_jiff(
        instant in any_instant().prop_filter("jiff's range", |instant| instant.as_millis() < 253_402_207_200_000),
        minutes in -1439_i64..=1439,
    ) {
        let local = Instant::from_millis(instant.as_millis() + minutes * 60_000);
        prop_assume!(local.is_ok());
        let sign = if minutes < 0 { '-' } else { '+' };
        let (hours, rest) = (minutes.abs() / 60, minutes.abs() % 60);
        let text = local.unwrap().to_string().replace('Z', &format!("{sign}{hours:02}:{rest:02}"));
        let theirs: jiff::Timestamp = text.parse().unwrap();
        prop_assert_eq!(text.parse::<Instant>().unwrap().as_millis(), theirs.as_millisecond());
    }
}
