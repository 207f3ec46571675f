//! How long dead letters are kept: as `dead_letters.retention` says, and not shorter than their records. Pure.

use std::time::Duration;

use ::kafka::TopicRetention;
use thiserror::Error;

/// The records are kept longer than their dead letters would be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error(
    "dead_letters.retention ({setting:?}) is below the retention of the records' topic ({records:?}): `streamer verify` \
     would miss the dead letters of records that it reads. Set dead_letters.retention to at least {records:?}"
)]
pub struct RetentionTooShort {
    /// `dead_letters.retention`.
    pub setting: Duration,
    /// The retention of the records' topic.
    pub records: Duration,
}

/// Returns the retention of the dead-letter topic; none: for ever, because the records are kept for ever. The retention of
/// the records is not known to a client that may not describe their topic.
///
/// # Errors
/// [`RetentionTooShort`].
pub fn dead_letter_retention(
    setting: Duration,
    records: Option<TopicRetention>,
) -> Result<Option<Duration>, RetentionTooShort> {
    match records.map(|records| records.retention) {
        None => Ok(Some(setting)),
        Some(None) => Ok(None),
        Some(Some(records)) if records > setting => Err(RetentionTooShort { setting, records }),
        Some(Some(_)) => Ok(Some(setting)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dead_letters_are_kept_at_least_as_long_as_records() {
        let day = Duration::from_secs(86_400);
        let records = |retention| {
            Some(TopicRetention {
                retention,
                segment: day,
                delete_delay: Duration::ZERO,
                is_compacted: false,
            })
        };
        assert_eq!(dead_letter_retention(day, None), Ok(Some(day)));
        assert_eq!(dead_letter_retention(day, records(Some(day))), Ok(Some(day)));
        assert_eq!(dead_letter_retention(day, records(None)), Ok(None));
        let refused = dead_letter_retention(day, records(Some(2 * day))).unwrap_err();
        assert!(refused.to_string().contains("at least 172800s"), "{refused}");
    }
}
