//! How long a topic keeps its records, and by when it has deleted one. Pure.
//!
//! Kafka deletes whole segments, after their newest record has expired, when it checks them next. A moment later it
//! removes the files.

use std::time::Duration;

use rdkafka::admin::ConfigResource;

pub(crate) const RETENTION_MS: &str = "retention.ms";
pub(crate) const SEGMENT_MS: &str = "segment.ms";

/// The longest segment of a created topic.
pub const MAX_SEGMENT: Duration = Duration::from_secs(24 * 3_600);

/// Kafka's default of `log.retention.check.interval.ms`, a setting of the brokers.
pub const CHECK_INTERVAL: Duration = Duration::from_secs(300);

/// Kafka's default of `file.delete.delay.ms`.
const DELETE_DELAY: Duration = Duration::from_secs(60);

/// The settings of a topic that decide how long it keeps records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TopicRetention {
    /// `retention.ms`, unless `cleanup.policy` does not have `delete`; none: for ever.
    pub retention: Option<Duration>,
    /// `segment.ms`: the oldest and the newest record of a segment are at most this far apart.
    pub segment: Duration,
    /// `file.delete.delay.ms`: how long the files of a deleted segment remain.
    pub delete_delay: Duration,
    /// `cleanup.policy` has `compact`, so the last record of a key may remain, and earlier ones disappear.
    pub is_compacted: bool,
}

impl TopicRetention {
    /// Reads the settings; none if one is missing.
    pub(crate) fn of(config: &ConfigResource) -> Option<Self> {
        Self::read(|name| config.get(name)?.value.as_deref())
    }

    fn read<'a>(value: impl Fn(&str) -> Option<&'a str>) -> Option<Self> {
        let millis = |name| Some(Duration::from_millis(value(name)?.parse().ok()?));
        let policy = value("cleanup.policy")?;
        let has = |wanted| policy.split(',').any(|policy| policy.trim() == wanted);
        let is_unlimited = value(RETENTION_MS)?.starts_with('-') || !has("delete");
        Some(Self {
            retention: if is_unlimited {
                None
            } else {
                Some(millis(RETENTION_MS)?)
            },
            segment: millis(SEGMENT_MS)?,
            // Brokers other than Kafka's may not have it.
            delete_delay: millis("file.delete.delay.ms").unwrap_or(DELETE_DELAY),
            is_compacted: has("compact"),
        })
    }

    /// How long after its timestamp a record has been deleted at the latest; none: never by its age. It holds for
    /// timestamps of the brokers (`LogAppendTime`) and brokers with the default [`CHECK_INTERVAL`].
    #[must_use]
    pub fn deleted_after(&self) -> Option<Duration> {
        let retention = self.retention?;
        Some(retention + self.segment + self.delete_delay + CHECK_INTERVAL)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(policy: &str, retention: &str) -> Option<TopicRetention> {
        TopicRetention::read(|name| match name {
            "cleanup.policy" => Some(policy),
            RETENTION_MS => Some(retention),
            SEGMENT_MS => Some("86400000"),
            _ => None,
        })
        .inspect(|read| {
            let has_date = read.deleted_after().is_some();
            assert_eq!(has_date, read.retention.is_some(), "{policy} {retention}");
        })
    }

    #[test]
    fn record_is_deleted_after_retention_segment_check_and_delay() {
        let week = read("delete", "604800000").unwrap();
        assert_eq!(week.deleted_after(), Some(Duration::from_secs(8 * 86_400 + 360)));
        assert!(!week.is_compacted);
    }

    #[test]
    fn compacted_or_unlimited_topic_keeps_records_for_ever() {
        assert_eq!(read("compact", "604800000").unwrap().retention, None);
        assert_eq!(read("delete", "-1").unwrap().retention, None);
        let both = read("compact,delete", "604800000").unwrap();
        assert!(both.is_compacted && both.deleted_after().is_some());
        assert_eq!(TopicRetention::read(|_| None), None);
    }
}
