//! A cron expression in a time zone. What matches a calendar is `croner`'s; what daylight-saving changes do to it is
//! decided here. Pure: it knows no clock.
//!
//! A clock that is put forward leaves out local times. An expression for fixed times of day (`30 2 * * *`) starts right
//! after the gap that swallowed it; one that repeats within the day (`*/15 * * * *`) has no start in the gap. A clock that is
//! put back repeats local times: fixed times start the first time only, repeating ones both times.

use std::fmt;
use std::str::FromStr;

use chrono::{DateTime, Utc};
use croner::parser::CronParser;
use croner::{Cron as Pattern, JobType};
use jiff::Timestamp;
use jiff::tz::TimeZone;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// More changes of a zone's offset than lie between two starts of any expression that has starts at all.
const MAX_TRANSITIONS: usize = 1_000;

/// A cron expression: five fields, or six with seconds in front.
#[derive(Clone, Debug)]
pub struct Cron {
    text: String,
    pattern: Pattern,
    fixed: bool,
}

impl FromStr for Cron {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let pattern = CronParser::new().parse(text).map_err(|error| error.to_string())?;
        let fixed = pattern.determine_job_type() == JobType::FixedTime;
        let cron = Self {
            text: text.to_owned(),
            pattern,
            fixed,
        };
        if cron.civil_match(0, true).is_none() {
            return Err("never comes".to_owned());
        }
        Ok(cron)
    }
}

impl Cron {
    /// The first start after `time` by the clocks of `zone`; none when the calendar ends first.
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
        // `preceding` is exclusive, and a change at this very second counts as past.
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
            // What the clock would have shown at the change, had it not been put.
            let would = change + before;
            let swallowed = self.fixed && found + before < change + after;
            if swallowed {
                return Timestamp::from_second(change).ok();
            }
            here = after;
            from = if self.fixed {
                would.max(change + after)
            } else {
                change + after
            };
            inclusive = true;
        }
        None
    }

    /// The first match after, or at, a local time in seconds since 1970; as if every day had 24 hours.
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
            de::Error::custom(format_args!("schedule.cron is no cron expression: {reason}"))
        })
    }
}

/// A time zone by its IANA name.
#[derive(Clone, Debug, PartialEq)]
pub struct Zone(TimeZone);

impl Zone {
    /// UTC.
    #[must_use]
    pub fn utc() -> Self {
        Self(TimeZone::UTC)
    }

    /// Its rules.
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
        text.parse()
            .map_err(|reason| de::Error::custom(format_args!("schedule.time_zone is no time zone: {reason}")))
    }
}

#[cfg(test)]
#[path = "cron/tests.rs"]
mod tests;
