//! Durations in settings, such as `30s`, `1h 30m` or ISO 8601's `PT30S`: `#[serde(with = "service::duration")]`.

use std::time::Duration;

use jiff::fmt::serde::unsigned_duration::friendly::compact;
use serde::de::{Error as _, IntoDeserializer as _, value};
use serde::{Deserialize as _, Deserializer, Serializer};

/// Formats a duration for people, such as `4h 5m`.
pub fn format(duration: Duration) -> String {
    jiff::SignedDuration::try_from(duration)
        .map_or_else(|_| format!("{duration:?}"), |duration| format!("{duration:#}"))
}

/// Serializes a duration as [`format()`] does.
///
/// # Errors
/// As the serializer.
pub fn serialize<S: Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    compact::required::serialize(duration, serializer)
}

/// Deserializes a text.
///
/// # Errors
/// When the text is not a duration, with an example.
pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    parse(&String::deserialize(deserializer)?).map_err(D::Error::custom)
}

/// A text is not a duration.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a duration, such as `30s` or `1h 30m`")]
pub struct NotADuration;

/// Parses a text.
///
/// # Errors
/// [`NotADuration`]; jiff's own error would explain its parser.
pub fn parse(text: &str) -> Result<Duration, NotADuration> {
    compact::required::deserialize(text.into_deserializer()).map_err(|_: value::Error| NotADuration)
}

/// Durations that may be missing: `#[serde(with = "service::duration::optional")]`.
pub mod optional {
    use serde::Deserialize as _;
    use serde::de::Error as _;

    use super::{Deserializer, Duration, Serializer, compact, parse};

    /// Serializes a duration, if there is one.
    ///
    /// # Errors
    /// As the serializer.
    pub fn serialize<S: Serializer>(duration: &Option<Duration>, serializer: S) -> Result<S::Ok, S::Error> {
        compact::optional::serialize(duration, serializer)
    }

    /// Deserializes a text, if there is one.
    ///
    /// # Errors
    /// As [`deserialize`](super::deserialize).
    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Duration>, D::Error> {
        let text = Option::<String>::deserialize(deserializer)?;
        text.map(|text| parse(&text).map_err(D::Error::custom))
            .transpose()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_of_people_and_of_iso_8601_are_durations() {
        for text in ["65s", "1m 5s", "PT1M5S", "1 minute 5 seconds"] {
            assert_eq!(parse(text), Ok(Duration::from_secs(65)), "{text}");
        }
        for text in ["soon", "-3s", "30", "", "P1Y"] {
            assert_eq!(parse(text), Err(NotADuration), "{text}");
        }
    }

    #[test]
    fn formatted_durations_are_parsed() {
        for seconds in [1, 65, 14_700, 604_800] {
            let duration = Duration::from_secs(seconds);
            assert_eq!(parse(&format(duration)), Ok(duration));
        }
    }
}
