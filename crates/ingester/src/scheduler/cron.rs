//! Cron expressions in a time zone. `croner` matches the calendar; this module handles daylight-saving transitions.
//! Pure: time is an argument.
//!
//! A forward transition skips local times. A fixed time of day (`30 2,14 * * *`) in the gap starts right after it. A
//! repeating expression (`*/15 * * * *`) has no start in the gap. A backward transition repeats local times. A fixed time
//! starts the first time only, a repeating expression both times.
//!
//! An expression is fixed if second, minute and hour have no wildcard and no step. They may be lists and ranges.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use chrono::{DateTime, Utc};
use croner::Cron as Pattern;
use croner::parser::CronParser;
use jiff::Timestamp;
use jiff::tz::TimeZone;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// Maximum number of zone transitions between two starts; no valid expression needs more.
const MAX_TRANSITIONS: usize = 1_000;

/// A cron expression of five fields, or six with leading seconds.
#[derive(Clone, Debug)]
pub struct Cron {
    text: String,
    pattern: Pattern,
    /// Whether it names times of day, rather than an interval.
    fixed: bool,
}

impl FromStr for Cron {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let pattern = CronParser::new().parse(text).map_err(|error| error.to_string())?;
        let cron = Self {
            text: text.to_owned(),
            pattern,
            fixed: is_fixed(text),
        };
        if cron.civil_match(0, true).is_none() {
            return Err("it never matches".to_owned());
        }
        Ok(cron)
    }
}

/// Whether second, minute and hour have no wildcard and no step. `text` is a valid expression.
fn is_fixed(text: &str) -> bool {
    let fields: Vec<_> = text.split_whitespace().collect();
    let times = match fields[..] {
        [name] => return !name.eq_ignore_ascii_case("@hourly"),
        [minute, hour, _, _, _] => vec![minute, hour],
        _ => fields.into_iter().take(3).collect(),
    };
    times.iter().all(|field| !field.contains(['*', '?', '/']))
}

impl Cron {
    /// Returns the first start after `time` in `zone`, or `None` past the end of the calendar.
    #[must_use]
    pub fn after(&self, time: Timestamp, zone: &TimeZone) -> Option<Timestamp> {
        let now = time.as_second() - i64::from(time.subsec_nanosecond() < 0);
        let offset = |second: i64| {
            Some(i64::from(
                zone.to_offset(Timestamp::from_second(second).ok()?).seconds(),
            ))
        };
        let begin = |at: Timestamp| {
            zone.preceding(at)
                .next()
                .map(|change| change.timestamp().as_second())
        };
        // `preceding` is exclusive, and a transition at this very second counts as past.
        let began = begin(Timestamp::from_second(now.checked_add(1)?).ok()?);
        let mut here = offset(now)?;
        let mut from = now + here;
        let mut inclusive = false;
        if let Some((began, before)) = began.and_then(|began| Some((began, offset(began - 1)?))) {
            let repeated_until = began + before;
            if self.fixed && before > here && from < repeated_until {
                (from, inclusive) = (repeated_until, true);
            }
        }
        let mut changes = zone.following(Timestamp::from_second(now).ok()?);
        for _ in 0..MAX_TRANSITIONS {
            let found = self.civil_match(from, inclusive)? - here;
            let change = changes.next().map(|change| change.timestamp().as_second());
            let Some(change) = change.filter(|change| *change <= found) else {
                return Timestamp::from_second(found).ok();
            };
            let (before, after) = (here, offset(change)?);
            // The local time at the transition under the old offset.
            let old_local = change + before;
            let in_gap = self.fixed && found + before < change + after;
            if in_gap {
                return Timestamp::from_second(change).ok();
            }
            here = after;
            from = if self.fixed {
                old_local.max(change + after)
            } else {
                change + after
            };
            inclusive = true;
        }
        None
    }

    /// Returns the shortest time between two of the first hundred starts from 2026 on.
    #[must_use]
    pub fn shortest_gap(&self, zone: &TimeZone) -> Duration {
        let begin = Timestamp::from_second(1_767_225_600).expect("2026 is in the range of timestamps");
        let starts = std::iter::successors(self.after(begin, zone), |start| self.after(*start, zone));
        let starts: Vec<_> = starts.take(100).collect();
        let gaps = starts
            .windows(2)
            .map(|two| two[1].duration_since(two[0]).unsigned_abs());
        gaps.min().unwrap_or(Duration::MAX)
    }

    /// Returns the first match after, or at, a local time in seconds since 1970, ignoring transitions.
    fn civil_match(&self, from: i64, inclusive: bool) -> Option<i64> {
        let from: DateTime<Utc> = DateTime::from_timestamp(from, 0)?;
        let found = self.pattern.find_next_occurrence(&from, inclusive);
        found.ok().map(|found| found.timestamp())
    }
}

impl PartialEq for Cron {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl fmt::Display for Cron {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.text.fmt(f)
    }
}

impl Serialize for Cron {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.text)
    }
}

impl<'de> Deserialize<'de> for Cron {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(|reason| {
            de::Error::custom(format_args!("invalid cron expression in schedule.cron: {reason}"))
        })
    }
}

/// A time zone, identified by its IANA name.
#[derive(Clone, Debug, PartialEq)]
pub struct Zone(TimeZone);

impl Zone {
    /// UTC.
    #[must_use]
    pub fn utc() -> Self {
        Self(TimeZone::UTC)
    }

    /// Returns the rules of the zone.
    #[must_use]
    pub fn rules(&self) -> &TimeZone {
        &self.0
    }
}

impl FromStr for Zone {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        TimeZone::get(text).map(Self).map_err(|error| error.to_string())
    }
}

impl Serialize for Zone {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.0.iana_name().unwrap_or("UTC"))
    }
}

impl<'de> Deserialize<'de> for Zone {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(|reason| {
            de::Error::custom(format_args!("invalid time zone in schedule.time_zone: {reason}"))
        })
    }
}

#[cfg(test)]
mod tests;
